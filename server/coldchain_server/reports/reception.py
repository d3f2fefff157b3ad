"""What becomes of a report or a batch that arrives: the rules, without the web.

::

    taken       counted, and on the disk                      nobody     a batch with a token that is on no list
    malformed   not a report, not a batch                     too-many   the sender or the network has had enough in this hour
    unknown     a region or release that is not published     busy       the region is being moved, or the disk refused
                here, or not this edge's

A report of a release that is published here and not more than :data:`MOST_BEHIND` behind the newest is known. Of a batch, what is not
known is left out and the rest is counted, since an edge cannot do better than to send it on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final, Literal

from coldchain.errors import ColdchainError
from coldchain.limits import LIMITS, Limits
from coldchain.outcome_report import parse_report
from coldchain_server.reports.batch import parse_batch
from coldchain_server.reports.edges import DIRECT, EdgeList, KnownEdge
from coldchain_server.reports.hours import hour_of
from coldchain_server.reports.ledger import Ledger
from coldchain_server.reports.rates import NetworkCap, SenderCap
from coldchain_server.reports.store import Batch, Count

Verdict = Literal["taken", "malformed", "unknown", "nobody", "too-many", "busy"]
Newest = Mapping[tuple[str, str], int]
"""(Region, channel) -> the newest release that is published here."""

MOST_BEHIND: Final = 64
PER_NETWORK: Final = 100
DIRECT_PER_HOUR: Final = 100_000
OLDEST_HOUR: Final = timedelta(days=8)
_LOOK_SECONDS: Final = 2.0
_BATCH: Final = "batch"


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


def uncounted(_what: str, _amount: int, _labels: Mapping[str, str]) -> None:
    """For servers that count nothing."""


class Reception:
    """Belongs to one event loop.

    Args:
        ledger: where reports are entered.
        edges: who may send batches.
        newest: what is published here.
        per_network: reports of endpoints from one network in an hour; 0: no cap.
        direct_per_hour: reports of endpoints in an hour.
        now: the clock.
        count: told of everything that arrived: name, amount, labels.
        limits: bounds.
    """

    def __init__(
        self,
        ledger: Ledger,
        edges: EdgeList,
        newest: Callable[[], Awaitable[Newest]],
        *,
        per_network: int = PER_NETWORK,
        direct_per_hour: int = DIRECT_PER_HOUR,
        now: Callable[[], datetime] = utc_now,
        count: Callable[[str, int, Mapping[str, str]], None] = uncounted,
        limits: Limits = LIMITS,
    ) -> None:
        self._ledger, self._edges, self._find_newest = ledger, edges, newest
        self._direct_per_hour, self._now, self._count, self._limits = direct_per_hour, now, count, limits
        self._networks, self._senders = NetworkCap(per_network), SenderCap()
        self._newest: Newest = {}
        self._looked = -_LOOK_SECONDS
        self._looking = asyncio.Lock()

    def edge_of(self, token: str) -> KnownEdge | None:
        """The edge with this token; None for nobody, or where the list is not in order."""
        try:
            return self._edges.of(token)
        except ColdchainError:
            return None

    async def single(self, body: bytes, address: str | None) -> Verdict:
        """One endpoint's report; the address decides how many its network may send, and is forgotten."""
        return self._counted("single", await self._single(body, address))

    async def _single(self, body: bytes, address: str | None) -> Verdict:
        try:
            report = parse_report(body, self._limits)
        except ColdchainError:
            return "malformed"
        hour = hour_of(self._now())
        if not await self._known(report.region, report.channel, report.release):
            return "unknown"
        if not (self._networks.take(address, hour) and self._senders.take(DIRECT, 1, self._direct_per_hour, hour)):
            return "too-many"
        one = Count(
            report.region,
            report.channel,
            report.source,
            report.release,
            report.outcome,
            report.code,
            report.client,
            hour,
            DIRECT,
            1,
        )
        return await self._enter([one], None)

    async def batch(self, body: bytes, edge: KnownEdge) -> Verdict:
        """A batch of an edge."""
        return self._counted(_BATCH, await self._batch(body, edge))

    async def _batch(self, body: bytes, edge: KnownEdge) -> Verdict:
        try:
            batch = parse_batch(body, edge.name, self._limits)
        except ColdchainError:
            return "malformed"
        if batch.region not in edge.regions:
            return "unknown"
        now = self._now()
        oldest, newest = hour_of(now - OLDEST_HOUR), hour_of(now)
        counts = []
        for one in batch.counts:
            if await self._known(one.region, one.channel, one.release):
                counts.append(one if oldest <= one.hour <= newest else replace(one, hour=newest))
            else:
                self._count("reports_left_out", one.count, {})
        if not self._senders.take(edge.name, sum(one.count for one in counts), edge.most_per_hour, newest):
            return "too-many"
        return await self._enter(counts, Batch(batch.region, edge.name, batch.number))

    async def _enter(self, counts: Sequence[Count], batch: Batch | None) -> Verdict:
        try:
            new = await self._ledger.add(counts, batch)
        except ColdchainError:
            return "busy"
        for one in counts if new else ():
            self._count("reports", one.count, {"outcome": one.outcome, "way": _BATCH if batch else "single"})
        return "taken"

    async def _known(self, region: str, channel: str, release: int) -> bool:
        """Whether it is published here, or was not long ago; looked up anew for one that is not, but not for each of a flood."""

        def known() -> bool:
            newest = self._newest.get((region, channel), 0)
            return newest - MOST_BEHIND < release <= newest

        if known():
            return True
        async with self._looking:
            if monotonic() - self._looked >= _LOOK_SECONDS:
                self._newest = await self._find_newest()
                self._looked = monotonic()
        return known()

    def _counted(self, kind: str, verdict: Verdict) -> Verdict:
        self._count("report_requests", 1, {"kind": kind, "verdict": verdict})
        return verdict
