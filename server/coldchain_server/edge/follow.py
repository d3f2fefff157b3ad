"""An edge's loop: wait for news from the upstreams, pull when there are any, say how fresh what is served is.

::

    start, and after each failure      a plain conditional request, so that the answer is there at once
    otherwise                          GET /v1/wait: answered when there is news, or after 300 s
                                       (an upstream that cannot: a conditional request every 60 s)
    news                               a pull (:mod:`coldchain.mirror.pull`), that upstream first
    none                               confirmed; another upstream, in turn, is asked the same once
    nobody has a good answer           1 s to 60 s, twice as long each time; what is served stays, and its age is told

So an idle edge costs its upstream a request in five minutes, and a publish one pull. Upstreams are asked in their order; one that
failed, is behind, or says of itself that it has not been in touch for a quarter of an hour is asked later for a while
(:mod:`coldchain.install.source_health`, the memory of clients). One that holds back news is found out by the others: with U upstreams
within U - 1 waits.

What an upstream says is a hint. Only a pull, which verifies everything with an endpoint's own code, changes what is served.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from coldchain.agent.second_opinion import TIMESTAMP, newer
from coldchain.agent.told import Told
from coldchain.agent.transport import Answer, HttpSource, Source, Traffic, computed_etag, open_sources
from coldchain.errors import ColdchainError, LockedError, ResponseError, ThrottledError, TransportError
from coldchain.install import durable
from coldchain.install.source_health import Conduct, random_draw, read_source_health, write_source_health
from coldchain.limits import LIMITS, Limits
from coldchain.mirror import generation
from coldchain.mirror.directory import MirrorConfig, MirrorDirectory
from coldchain.mirror.pull import pull
from coldchain.mirror.pulled import PullSettings, utc_now
from coldchain.tuf.metadata import parse_metadata
from coldchain_server.edge.freshness import ALARM_SECONDS, Freshness

PULL_EVERY: Final = timedelta(hours=6)
CANNOT_WAIT: Final = timedelta(hours=1)

_log = logging.getLogger("coldchain.edge")


@dataclass
class FollowSettings:
    """How an edge follows.

    Attributes:
        wait_seconds: how long an upstream is asked to hold an answer, 1 to 600.
        poll_seconds: between requests to an upstream that cannot.
        first_pause: seconds after the first failure in a row, and
        longest_pause: at most after more.
        now: the clock.
        draw: a number from 0 to below 1, at random.
        limits: bounds.
    """

    wait_seconds: int = 300
    poll_seconds: float = 60.0
    first_pause: float = 1.0
    longest_pause: float = 60.0
    now: Callable[[], datetime] = utc_now
    draw: Callable[[], float] = random_draw
    limits: Limits = LIMITS


@dataclass(frozen=True, slots=True)
class _Stamp:
    """The timestamp that is served."""

    data: bytes
    version: int
    etag: str


@dataclass(frozen=True, slots=True)
class _News:
    """Who says that it has something newer, its own age, and who said the contrary."""

    url: str
    age: float
    contradicts: str | None = None


@dataclass
class Follower:
    """See the module. Runs in one event loop, which it blocks while it pulls.

    Attributes:
        directory: of the edge; its lock is held only while it pulls.
        config: what it follows.
        freshness: told what becomes of it.
        settings: how.
        changed: the configuration is another one than what is served was pulled by.
    """

    directory: MirrorDirectory
    config: MirrorConfig
    freshness: Freshness
    settings: FollowSettings = field(default_factory=FollowSettings)
    changed: bool = False

    def __post_init__(self) -> None:
        self.traffic = Traffic()
        self._told = Told()
        self._health = read_source_health(self.directory.own)
        self._sources: dict[str, Source] = {}
        self._cannot_wait: dict[str, datetime] = {}
        self._etags: dict[str, tuple[str, str]] = {}
        self._last_pull: datetime | None = None
        self._turns = self._failures = 0
        self._at_once = True

    async def run(self) -> None:
        """Follows for ever."""
        async with open_sources(self.config.urls, self.traffic, self.settings.limits, told=self._told) as opened:
            self._sources = {one.url: one for one in opened}
            while True:
                try:
                    await self.turn()
                except ColdchainError as error:
                    self._failures += 1
                    self._at_once = True
                    _log.warning("no news from any upstream", extra=_fields(error))
                    await asyncio.sleep(self._pause())
                else:
                    self._failures = 0

    async def turn(self) -> None:
        """Waits for what comes first, news or the end of the wait, and does what follows from it.

        Raises:
            ColdchainError: nobody had a good answer; what is served stays.
        """
        stamp = self._stamp()
        # an origin without a release yet has news of its first one like any other; a process of its own looks once
        nothing = not self.freshness.served.releases and self._last_pull is None
        if stamp is None or self.changed or nothing or self._overdue():
            await self._pull(self._order()[0], None)
            self._at_once = True
            return
        conduct = Conduct(self.settings.now(), self.settings.draw)
        try:
            found = await self._news(stamp, conduct)
            if found is not None:
                await self._pull(found.url, found.age)
                newest = self._stamp()
                if found.contradicts is not None and newest is not None and newest.version > stamp.version:
                    conduct.bad[found.contradicts] = "behind"
        finally:
            self._settle(conduct)

    def _pause(self) -> float:
        most = min(self.settings.first_pause * 2.0 ** min(self._failures - 1, 20), self.settings.longest_pause)
        return most * (1.0 + self.settings.draw()) / 2.0

    def _order(self) -> tuple[str, ...]:
        return self._health.order(self.config.urls, self.settings.now())

    def _overdue(self) -> bool:
        """Whether a pull is due without news: a new root may come without a new timestamp."""
        if self._last_pull is None:
            self._last_pull = self.settings.now()  # an earlier process pulled what is served
        return not timedelta() <= self.settings.now() - self._last_pull < PULL_EVERY

    def _stamp(self) -> _Stamp | None:
        data = generation.read(self.directory, generation.TIMESTAMP)
        if data is None:
            return None
        try:
            version = parse_metadata(data, "timestamp", self.settings.limits).version
        except ColdchainError:
            return None  # damaged on the disk: pulled again
        return _Stamp(data, version, computed_etag(hashlib.sha256(data).hexdigest()))

    # -- news --------------------------------------------------------------------------------------------------------

    async def _news(self, stamp: _Stamp, conduct: Conduct) -> _News | None:
        """Who says that it has something newer; None when what is served is confirmed.

        Raises:
            TransportError: nobody answered.
        """
        errors: list[TransportError] = []
        ages: list[float] = []
        for url in self._order():
            try:
                answer = await self._ask(url, stamp)
            except TransportError as error:
                errors.append(error)
                conduct.note(url, error)
                self._at_once = True
                continue
            said = self._said(url, answer, stamp)
            if said == "newer":
                return _News(url, answer.age)
            if said == "older" or answer.age > ALARM_SECONDS:
                conduct.bad[url] = "behind"
                ages += [answer.age] if said == "same" else []
                self._at_once = True
                continue
            conduct.note(url, None)
            self._confirm(answer.age)
            return await self._another(url, stamp, conduct)
        if ages:  # better an old confirmation than none
            self._confirm(min(ages))
            self._at_once = False
            return None
        conduct.bad.clear()  # nobody was better
        raise errors[0] if errors else TransportError("every upstream is behind what is served here")

    def _said(self, url: str, answer: Answer, stamp: _Stamp) -> str:
        """What an answer means: ``newer``, ``same`` or ``older``."""
        if answer.data is None:
            return "older" if answer.missing else "same"
        if answer.data == stamp.data:
            if answer.etag is not None:
                self._etags[url] = (stamp.etag, answer.etag)
            return "same"
        return "newer" if newer(answer.data, stamp.version, self.settings.limits) else "older"

    async def _ask(self, url: str, stamp: _Stamp) -> Answer:
        """One upstream's word: at once the first time, and otherwise when it has news or the time is over."""
        source = self._sources[url]
        if self._at_once:
            self._at_once = False
            return await self._poll(source, stamp)
        if isinstance(source, HttpSource) and self._may_wait(url):
            try:
                answer = await source.wait(stamp.etag, self.settings.wait_seconds, self.settings.limits.timestamp_bytes)
            except ThrottledError:
                pass
            except ResponseError:
                self._cannot_wait[url] = self.settings.now()
            else:
                if not answer.missing:
                    return answer
                self._cannot_wait[url] = self.settings.now()
        await asyncio.sleep(self.settings.poll_seconds * (0.75 + self.settings.draw() / 2.0))
        return await self._poll(source, stamp)

    def _may_wait(self, url: str) -> bool:
        since = self._cannot_wait.get(url)
        return since is None or not timedelta() <= self.settings.now() - since < CANNOT_WAIT

    async def _poll(self, source: Source, stamp: _Stamp) -> Answer:
        known = self._etags.get(source.url)
        etag = known[1] if known is not None and known[0] == stamp.etag else stamp.etag
        self._told.poll_seconds = None
        answer = await source.get(TIMESTAMP, self.settings.limits.timestamp_bytes, etag=etag)
        self.freshness.hint(self._told.poll_seconds)
        return answer

    async def _another(self, first: str, stamp: _Stamp, conduct: Conduct) -> _News | None:
        """Whether another upstream, each in its turn, has something newer than the one that was asked."""
        now = self.settings.now()
        late = {url for url, one in self._health.late.items() if one.left(now) > 0}
        others = [url for url in self.config.urls if url != first and url not in late | conduct.bad.keys()]
        if not others:
            return None
        self._turns += 1
        url = others[self._turns % len(others)]
        try:
            answer = await self._poll(self._sources[url], stamp)
        except TransportError as error:
            conduct.note(url, error)
            return None
        said = self._said(url, answer, stamp)
        if said == "newer":
            return _News(url, answer.age, first)
        if said == "older":
            conduct.bad[url] = "behind"
        elif answer.age <= ALARM_SECONDS:
            conduct.note(url, None)
        return None

    def _confirm(self, age: float) -> None:
        self.freshness.confirm(self.settings.now() - timedelta(seconds=age))

    # -- pulling -----------------------------------------------------------------------------------------------------

    async def _pull(self, first: str, age: float | None) -> None:
        """Pulls, this upstream first. ``age`` of what it has; None where nobody said that anything is new.

        Raises:
            ColdchainError: nobody had what can be verified.
        """
        order = [first, *(url for url in self._order() if url != first)]
        begun = self.settings.now()
        conduct = Conduct(begun, self.settings.draw)
        told = Told()
        settings = PullSettings(now=self.settings.now, limits=self.settings.limits, conduct=conduct, told=told)
        before = self.freshness.served.generation
        try:
            with durable.disk(self.directory.path), self.directory.own.locked():
                done = await pull(self.directory, replace(self.config, urls=tuple(order)), settings)
        except LockedError:
            _log.info("another process pulls into this directory")
            await asyncio.sleep(self.settings.first_pause)
            return
        finally:
            self._settle(conduct)
        self.changed = False
        self._last_pull = begun
        self.freshness.pulled(done)
        self.freshness.hint(told.poll_seconds)
        if age is not None and (before != self.freshness.served.generation or done.action == "updated"):
            self._confirm(age)
        _log.info(
            done.action,
            extra={
                "releases": [f"{region} {channel} {release}" for region, channel, release in done.releases],
                "files": done.files,
                "requests": done.requests,
                "bytes_down": done.bytes_down,
                "removed": done.removed,
                "served_bytes": done.served_bytes,
            },
        )

    def _settle(self, conduct: Conduct) -> None:
        conduct.settle(self._health)
        if len(self.config.urls) > 1 and (conduct.bad or conduct.good):
            write_source_health(self.directory.own, self._health, self.settings.now())


def _fields(error: ColdchainError) -> dict[str, object]:
    return {"error": type(error).__name__, "exit_code": error.exit_code, "what": error.what, "next": error.todo}
