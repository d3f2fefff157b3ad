"""What an edge sends on: counted reports of one region, with a number that makes a batch which comes twice count once.

``POST /v1/reports`` with ``Authorization: Bearer <the edge's token>``. Canonical JSON, shown with line breaks::

    {"counts":[{"channel":"stable","client":"0.1.0","code":0,"count":12,"from":41,"hour":"2026-06-01T09:00:00Z",
                "outcome":"applied","to":42}],
     "format":"coldchain-report-batch-1","number":1780304401,"region":"us"}

Members of a count are a report's (:mod:`coldchain.outcome_report`), with the hour in which the edge took them and how many said the
same; ``counts`` are in order, each of them once. Numbers of a region's batches grow, from the edge's clock on when its directory is
new, so that one that lost its memory is not taken for one that repeats itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coldchain import canonical
from coldchain.bundle.description import check_token
from coldchain.canonical import JSON, Fields
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain.outcome_report import check_format, report_members
from coldchain_server.reports.hours import hour_member
from coldchain_server.reports.store import Count

FORMAT: Final = "coldchain-report-batch-1"
NAME: Final = "a batch of reports"


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """One batch. The counts' region is ``region``, and their sender whoever sent it."""

    region: str
    number: int
    counts: tuple[Count, ...]


def encode_batch(region: str, number: int, counts: Sequence[Count]) -> bytes:
    """The bytes of a batch; ``counts`` are ordered, and their senders are not told."""
    items: list[JSON] = [
        {
            "channel": one.channel,
            "from": one.source,
            "to": one.release,
            "outcome": one.outcome,
            "code": one.code,
            "client": one.version,
            "hour": one.hour,
            "count": one.count,
        }
        for one in counts
    ]
    return canonical.encode({"format": FORMAT, "region": region, "number": number, "counts": items})


def parse_batch(data: bytes, sender: str, limits: Limits = LIMITS) -> ReportBatch:
    """A batch from its bytes; its counts are this sender's.

    Raises:
        MalformedError: not as :func:`encode_batch` writes it.
        NewerFormatError: a later version of the format.
    """
    if len(data) > limits.report_batch_bytes:
        raise MalformedError(f"{NAME}: longer than {limits.report_batch_bytes} bytes")
    fields = Fields(canonical.read_canonical(data, NAME), NAME)
    check_format(fields, FORMAT, NAME)
    region = check_token(fields.text("region"), "region")
    number = fields.integer("number", least=1)
    counts = tuple(_count(item, region, sender) for item in fields.items("counts", limits.report_batch_counts))
    fields.done()
    if list(counts) != sorted({_key(one): one for one in counts}.values()):
        raise MalformedError(f"{NAME}: counts that are not in order, or stand there twice")
    if encode_batch(region, number, counts) != data:
        raise MalformedError(f"{NAME}: not as this program writes it")
    return ReportBatch(region, number, counts)


def _count(item: JSON, region: str, sender: str) -> Count:
    part = Fields(item, f"{NAME}: counts")
    channel, source, release, outcome, code, client = report_members(part, NAME)
    hour, count = hour_member(part, "hour", NAME), part.integer("count", least=1)
    part.done()
    return Count(region, channel, source, release, outcome, code, client, hour, sender, count)


def _key(one: Count) -> tuple[object, ...]:
    return (one.channel, one.source, one.release, one.outcome, one.code, one.version, one.hour)
