"""An outcome report: how taking a release went on one endpoint that was told to say so. Bytes go in, values come out.

Canonical JSON in one line; this is all of it, 128 bytes, and there is nothing else::

    {"channel":"stable","client":"0.1.0","code":0,"format":"coldchain-report-1","from":41,"outcome":"applied","region":"us","to":42}

============  =========================================================================================
member        what it says
============  =========================================================================================
``region``    that the endpoint follows, and ``channel``
``from``      the release that was installed before; 0 for none
``to``        the release that the report is about, above ``from``
``outcome``   ``applied``: installed, and every configured engine runs it
              ``refused``: signed, and its bytes, evidence or format were not as they must be
              ``engine-failed``: installed, and an engine refused it or did not survive it
``code``      the exit code with which such an update ends (docs/exit-codes.md); 0 for ``applied`` only
``client``    the version of the client
============  =========================================================================================

No identifier, no time, no address, no word of an error: two endpoints of one region that went the same way say the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from coldchain import canonical
from coldchain.bundle.description import check_token
from coldchain.canonical import Fields
from coldchain.errors import MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits

PATH: Final = "v1/reports"
FORMAT: Final = "coldchain-report-1"
NAME: Final = "an outcome report"
MOST_RELEASE: Final = 10**15 - 1
MOST_CODE: Final = 99
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+-]{0,31}\Z")

ReportOutcome = Literal["applied", "refused", "engine-failed"]
OUTCOMES: Final[tuple[ReportOutcome, ...]] = get_args(ReportOutcome)


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """One report; the module says what each member means. ``source`` is ``from``, ``release`` is ``to``."""

    region: str
    channel: str
    source: int
    release: int
    outcome: ReportOutcome
    code: int
    client: str

    def encode(self) -> bytes:
        """Its bytes."""
        return canonical.encode(
            {
                "format": FORMAT,
                "region": self.region,
                "channel": self.channel,
                "from": self.source,
                "to": self.release,
                "outcome": self.outcome,
                "code": self.code,
                "client": self.client,
            }
        )


def parse_report(data: bytes, limits: Limits = LIMITS) -> OutcomeReport:
    """A report from its bytes.

    Args:
        data: the body.
        limits: bounds.

    Raises:
        MalformedError: not as :meth:`OutcomeReport.encode` writes it.
        NewerFormatError: a later version of the format.
    """
    if len(data) > limits.report_bytes:
        raise MalformedError(f"{NAME}: longer than {limits.report_bytes} bytes")
    fields = Fields(canonical.read_canonical(data, NAME), NAME)
    check_format(fields, FORMAT, NAME)
    report = OutcomeReport(check_token(fields.text("region"), "region"), *report_members(fields, NAME))
    fields.done()
    if report.encode() != data:
        raise MalformedError(f"{NAME}: not as this program writes it")
    return report


def report_members(fields: Fields, what: str) -> tuple[str, int, int, ReportOutcome, int, str]:
    """Channel, source, release, outcome, code and client of a report or of a count of equal ones.

    Raises:
        MalformedError: one is missing, or they do not fit together.
    """
    channel = check_token(fields.text("channel"), "channel")
    release = fields.integer("to", least=1, most=MOST_RELEASE)
    source = fields.integer("from", most=release - 1)
    outcome, client = fields.text("outcome", 16), fields.text("client", 32)
    code = fields.integer("code", most=MOST_CODE)
    if outcome not in OUTCOMES or (code == 0) != (outcome == "applied"):
        raise MalformedError(f"{what}: {outcome[:16]!r} with code {code} is no outcome")
    if not _VERSION.match(client):
        raise MalformedError(f"{what}: {client!r} is no version of a client")
    return channel, source, release, outcome, code, client


def check_format(fields: Fields, expected: str, what: str) -> None:
    """Raises NewerFormatError for a later version of ``expected``, and MalformedError for any other format."""
    found = fields.text("format", 64)
    if found != expected and found.startswith(expected.rstrip("0123456789")):
        raise NewerFormatError(f"{what} has format {found!r}", todo="install a newer version")
    fields.constant("format", expected)
