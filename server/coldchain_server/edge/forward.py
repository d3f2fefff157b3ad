"""An edge sends on what it has counted: each minute one batch for each region that has something, to an upstream that knows its token.

::

    cut       counts -> the batch under way, with its number, in one transaction (:mod:`coldchain_server.reports.spool`)
    mark      the upstream that is about to be asked
    POST      /v1/reports with the token
    204       forgotten here
    400, 413                             nobody will ever count it: forgotten, and said in the log
    401, 403, 404, 405, 411, 429, 503,   counted nowhere: the mark goes, the next upstream is asked, and the same batch again later
    no connection
    no answer, or any other one          perhaps counted there: it goes to that upstream and no other, again and again

So a batch is at one upstream at most in one number, and that upstream counts a number once. What an edge is cut off with, it keeps, for
thirty days.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from coldchain.agent.transport import HttpSource, Traffic, open_sources
from coldchain.errors import ColdchainError
from coldchain.limits import LIMITS, Limits
from coldchain.mirror.directory import MirrorConfig
from coldchain.outcome_report import PATH
from coldchain_server.reports.hours import hour_of
from coldchain_server.reports.spool import Outgoing, Spool

EVERY_SECONDS: Final = 60.0
POST_SECONDS: Final = 30.0
KEPT: Final = timedelta(days=30)
_COUNTED: Final = (200, 202, 204)
_NEVER: Final = (400, 413)
_NO_CONNECTION: Final = 0
_NO_ANSWER: Final = -1
_NOT_COUNTED: Final = (401, 403, 404, 405, 411, 429, 503, _NO_CONNECTION)

_log = logging.getLogger("coldchain.edge")


@dataclass
class Forwarder:
    """See the module. Belongs to one event loop; it runs as long as that, whatever upstreams answer.

    Attributes:
        open_spool: the edge's, open; closed again after each look.
        config: names the upstreams.
        token: of this edge.
        every: seconds between two looks.
        count: told of what became of batches: name, amount, labels.
        limits: bounds.
    """

    open_spool: Callable[[], Spool]
    config: MirrorConfig
    token: str
    every: float = EVERY_SECONDS
    count: Callable[[str, int, Mapping[str, str]], None] = lambda *_: None
    limits: Limits = LIMITS

    async def run(self) -> None:
        """Sends on for ever."""
        while True:
            await asyncio.sleep(self.every)
            await self.turn()

    async def turn(self) -> int:
        """Sends on what there is; returns how many batches an upstream counted.

        Raises:
            StorageError: the disk refused. What was counted stays.
        """
        sent = 0
        with await asyncio.to_thread(self.open_spool) as spool:
            await asyncio.to_thread(spool.forget, hour_of(datetime.now(UTC) - KEPT))
            urls = [url for url in self.config.urls if "://" in url]
            async with open_sources(urls, Traffic(), self.limits) as sources:
                servers = {one.url: one for one in sources if isinstance(one, HttpSource)}
                for region in await asyncio.to_thread(spool.pending):
                    while (batch := await asyncio.to_thread(spool.cut, region, int(time.time()))) is not None:
                        if not await self._send(spool, batch, servers):
                            break
                        sent += 1
        return sent

    async def _send(self, spool: Spool, batch: Outgoing, servers: Mapping[str, HttpSource]) -> bool:
        """Whether the batch is off the edge's hands."""
        may_have = batch.url is not None
        urls = [batch.url] if batch.url is not None else list(servers)
        for url in urls:
            if url not in servers:
                # it is no upstream any more, and whether it counted the batch cannot be known: better once too few than twice
                _log.warning("reports that an upstream may have counted are given up", extra={"url": url})
                return await self._over(spool, batch, "given up")
            if not may_have:
                await asyncio.to_thread(spool.asked, batch, url)
            status, why = await self._post(servers[url], batch)
            if status in _COUNTED:
                return await self._over(spool, batch, "counted")
            if status in _NEVER:
                _log.error("an upstream refuses a batch of reports for good", extra={"url": url, "status": status})
                return await self._over(spool, batch, "refused")
            self.count("report_batches", 1, {"end": "not now"})
            _log.warning("reports wait", extra={"url": url, "status": status, "what": why})
            if status not in _NOT_COUNTED or may_have:
                return False  # an upstream that once did not answer may have counted it then
            await asyncio.to_thread(spool.asked, batch, None)
        return False

    async def _post(self, source: HttpSource, batch: Outgoing) -> tuple[int, str]:
        import aiohttp

        fields = {"Authorization": f"Bearer {self.token}"}
        try:
            return await source.post(PATH, batch.body, fields, POST_SECONDS), ""
        except ColdchainError as error:
            # of the time limits, the session knows one alone: for connecting
            never = isinstance(error.__cause__, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError)
            return _NO_CONNECTION if never else _NO_ANSWER, error.what

    async def _over(self, spool: Spool, batch: Outgoing, end: str) -> bool:
        await asyncio.to_thread(spool.done, batch)
        self.count("report_batches", 1, {"end": end})
        return True
