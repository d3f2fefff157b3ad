"""The customer's own policy: which verified releases this endpoint may apply, and when. TOML bytes go in, values come out.

The file is ``policy.toml`` in the endpoint's directory; everything has a default that asks for nothing, and a file that is not there
is all defaults. Worked example::

    [release]
    minimum_age = "2d"              # a number and s, m, h, d or w; counted as coldchain.own_decision says
    pin = 42                        # nothing above release 42
    hold = true                     # nothing new at all

    [log]                           # on top of the log policy in force (coldchain.tlog.policy.Demands)
    witnesses = 2
    jurisdictions = 2
    rebuilders = 1
    [log.rebuilder]                 # one's own; without them those of the log policy are meant
    alice = "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"

    [approval]                      # coldchain.approval
    key = "security.example.com/fleet+…"
    url = "https://security.example.com/coldchain"

    [reports]                       # coldchain.outcome_report
    send = false                    # true: how taking each release went is reported, with nothing that tells who says it

    [network]                       # how servers are asked: read by the room that asks them
    [[engine]]                      # which engines load the sets, and what is tried on each set before: read by
    [corpora]                       # the room of engines

Nothing in it can make an endpoint take what it would refuse without it: every line takes away, or takes nothing away. Strict,
since a misspelt line is a line that does not protect: a key, a section or a kind of value that is not known is refused, with the
nearest one that is.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from coldchain.errors import ColdchainError, UsageError
from coldchain.keys import PublicKey
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.policy import Demands
from coldchain.tlog.vkey import Kind, NoteKey, parse_vkey

FILE_NAME: Final = "policy.toml"
SECTIONS: Final = {
    "release": ("minimum_age", "pin", "hold"),
    "log": ("witnesses", "jurisdictions", "rebuilders", "rebuilder"),
    "approval": ("key", "url"),
    "reports": ("send",),
}
ELSEWHERE: Final = ("network", "engine", "corpora")
"""Sections that other rooms read."""

MOST_RELEASE: Final = 10**15 - 1
MOST_COUNT: Final = 1000
MOST_URL: Final = 1024
MOST_AGE: Final = 3660 * 86400  # seconds
_AGE = re.compile(r"([0-9]{1,9})([smhdw])\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_KEY = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class ReleaseRules:
    """Section ``release``. ``pin`` is the highest release that may be applied, None for any."""

    minimum_age: timedelta = timedelta()
    pin: int | None = None
    hold: bool = False


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """Section ``approval``: whose approval every release needs; ``url`` is where it can be fetched, None for nowhere."""

    key: NoteKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class CustomerPolicy:
    """A policy file.

    Attributes:
        release: which releases, and when.
        demands: on top of the log policy in force.
        approval: None when no approval is asked for.
        reports: whether outcomes are reported.
        tables: the sections that other rooms read, as TOML gave them.
        digest: SHA-256 of the file, lower-case hexadecimal; empty when there is none.
    """

    release: ReleaseRules = field(default_factory=ReleaseRules)
    demands: Demands = field(default_factory=Demands)
    approval: ApprovalRules | None = None
    reports: bool = False
    tables: Mapping[str, object] = field(default_factory=dict)
    digest: str = ""

    def words(self) -> list[str]:
        """What it asks for, one demand per entry; empty when it asks for nothing."""
        out = []
        if self.release.hold:
            out.append("hold: no new release is applied")
        if self.release.pin is not None:
            out.append(f"pin: no release above {self.release.pin} is applied")
        if self.release.minimum_age:
            out.append(f"minimum age: {age_words(self.release.minimum_age)}")
        for count, one, many in (
            (self.demands.witnesses, "witness", "witnesses"),
            (self.demands.jurisdictions, "jurisdiction of witnesses", "jurisdictions of witnesses"),
            (self.demands.rebuilds, "rebuilder", "rebuilders"),
        ):
            if count:
                out.append(f"at least {count} {one if count == 1 else many}")
        if self.approval:
            out.append(f"approval by {self.approval.key.name}")
        return out


def age_words(age: timedelta) -> str:
    """A span of time as the file writes it: the largest unit that divides it (``48h`` is said as ``2d``)."""
    seconds = age // timedelta(seconds=1)
    unit = next((unit for unit in "wdhm" if seconds and seconds % _SECONDS[unit] == 0), "s")
    return f"{seconds // _SECONDS[unit]}{unit}"


def parse_customer_policy(data: bytes | None, limits: Limits = LIMITS) -> CustomerPolicy:
    """The policy of a file.

    Args:
        data: the file's bytes; None when there is no file.
        limits: bounds.

    Raises:
        UsageError: it is not as above; the message names the section and the key.
    """
    if data is None:
        return CustomerPolicy()
    if not data.strip():
        # an editor's or a disk's accident, and the loosest policy of all: whoever wants that removes the file
        raise _wrong("the file is empty", todo="remove it for a policy that asks for nothing, or write it again")
    if len(data) > limits.customer_policy_bytes:
        raise _wrong(f"longer than {limits.customer_policy_bytes} bytes")
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, and so is what int() refuses
        raise _wrong(f"not TOML: {str(error)[:200]}") from error
    known = [*SECTIONS, *ELSEWHERE]
    for name in table:
        if name not in known:
            raise _unknown(name, known)
    sections = {name: _Section(name, table.get(name, {})) for name in SECTIONS}
    return CustomerPolicy(
        release=_release(sections["release"]),
        demands=_demands(sections["log"], limits),
        approval=_approval(sections["approval"], limits) if "approval" in table else None,
        reports=sections["reports"].boolean("send"),
        tables={name: table[name] for name in ELSEWHERE if name in table},
        digest=hashlib.sha256(data).hexdigest(),
    )


def _wrong(what: str, todo: str = "mend the line; `docs/policy.md` shows every one") -> UsageError:
    return UsageError(f"{FILE_NAME}: {what}", kept="what is installed stays in use", todo=todo)


def _unknown(name: str, known: Iterable[str], section: str = "") -> UsageError:
    known = list(known)
    near = difflib.get_close_matches(name[:80], known, 1, 0.0)[0]
    what = "key" if section else "section"
    return _wrong(f"{section}{name[:80]!r} is no {what} here; the nearest one is {section}{near}")


class _Section:
    """One section's keys, each of its kind."""

    def __init__(self, name: str, value: object) -> None:
        if not isinstance(value, dict):
            raise _wrong(f"{name} is not a section: write [{name}] on a line of its own")
        self.name, self.values = name, value
        for key in value:
            if key not in SECTIONS[name]:
                raise _unknown(key, SECTIONS[name], f"{name}.")

    def number(self, key: str, most: int, least: int = 0) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= most:  # a bool is an int to isinstance
            raise _wrong(f"{self.name}.{key} is not a whole number from {least} to {most}")
        return value

    def boolean(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise _wrong(f"{self.name}.{key} is neither true nor false")
        return value

    def text(self, key: str, most: int) -> str | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
            raise _wrong(f"{self.name}.{key} is not text in quotation marks of 1 to {most} letters")
        return value


def _release(section: _Section) -> ReleaseRules:
    text, age = section.text("minimum_age", 16), timedelta()
    if text is not None:
        match = _AGE.match(text)
        seconds = int(match[1]) * _SECONDS[match[2]] if match else MOST_AGE + 1
        if seconds > MOST_AGE:
            raise _wrong(
                'release.minimum_age is not a span of time such as "6h" or "2d" (s, m, h, d, w), 10 years at most'
            )
        age = timedelta(seconds=seconds)
    return ReleaseRules(age, section.number("pin", MOST_RELEASE, least=1), section.boolean("hold"))


def _demands(section: _Section, limits: Limits) -> Demands:
    witnesses, jurisdictions, rebuilds = (
        section.number(key, MOST_COUNT) or 0 for key in ("witnesses", "jurisdictions", "rebuilders")
    )
    table = section.values.get("rebuilder", {})
    if not isinstance(table, dict) or len(table) > limits.rebuilders:
        raise _wrong(f"log.rebuilder is not a section of at most {limits.rebuilders} names with their keys")
    own: dict[str, PublicKey] = {}
    for name, text in table.items():
        what = f"log.rebuilder.{name[:80]}"
        if not _NAME.match(name) or not isinstance(text, str) or not _KEY.match(text):
            raise _wrong(f"{what} is not a plain name with an Ed25519 key of 64 lower-case hexadecimal digits")
        try:
            own[name] = PublicKey(bytes.fromhex(text))
        except ColdchainError as error:
            raise _wrong(f"{what}: {error.what}") from error
    if len({key.raw for key in own.values()}) < len(own):
        raise _wrong("log.rebuilder: one key stands under two names, and would count twice")
    if own and not 0 < rebuilds <= len(own):
        raise _wrong(f"log.rebuilders is not a number from 1 to {len(own)}, as many as [log.rebuilder] names")
    return Demands(witnesses, jurisdictions, rebuilds, own)


def _approval(section: _Section, limits: Limits) -> ApprovalRules:
    vkey = section.text("key", limits.vkey_bytes)
    if vkey is None:
        raise _wrong(
            "approval.key is missing: whose approval is asked for", todo="`coldchain approve --new-key` prints it"
        )
    try:
        key = parse_vkey(vkey, limits)
    except ColdchainError as error:
        raise _wrong(f"approval.key: {error.what}") from error
    if key is None or key.kind is not Kind.ED25519:
        raise _wrong("approval.key is not a plain Ed25519 key (vkey of kind 1)")
    return ApprovalRules(key, section.text("url", MOST_URL))
