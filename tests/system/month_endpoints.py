"""Endpoints of a month on a virtual clock: an ordered list of edges with the origin last, polled with the client's own code.

Real are: the poll and the full workflow, the order of sources and what is remembered of them, second opinions, the decision. Made up
are: the disk (a dictionary), bundles, of which a few bytes stand for each, and the network.

What must hold at every poll:

- what an endpoint runs was signed by the threshold, and neither it nor the state it believes ever goes back;
- it leaves a withdrawn release with the first poll that shows it the withdrawal, unless that is held;
- where everybody whom it reaches is honest and has the newest state, it has that state and what follows from it after this poll:
  so a dead edge costs no release while the origin lives;
- where one whom it reaches is honest and has a newer state that it would take, it has one as new at the first poll 7 hours later.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from coldchain.agent.current_metadata import CurrentMetadata
from coldchain.agent.sources import Sources
from coldchain.errors import ColdchainError, NotPublishedError
from coldchain.install.directory import Config
from coldchain.install.source_health import SourceMemory
from coldchain.install.state import State
from coldchain.limits import LIMITS
from coldchain.mirror.pulled import silent
from coldchain.tuf.refresh import refresh
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import (
    BUCKETS,
    ROLLOUT_ROLE,
    RegionRelease,
    RolloutState,
    decide,
    region_release,
    rollout_state,
    says_who_it_is,
)
from tests.client.tuf.repository import Client as TufClient
from tests.system.month_edges import MemoryDirectory, Network, fetched, version_of

STATED: Final = timedelta(hours=7)


@dataclass
class Endpoint:
    """An endpoint: what it remembers, what it runs, and how wrong its clock is.

    Attributes:
        name: for the trace, and the network.
        region: whose bundles it runs.
        urls: its sources, the origin last.
        network: where it is.
        offset: how wrong its clock is.
        every: how often it polls.
        installed: the release that runs.
        behind: the states that an honest source showed at every poll, and that are newer than its own, by URL: since when, and which.
    """

    name: str
    region: str
    urls: tuple[str, ...]
    network: Network
    offset: timedelta
    every: timedelta
    installed: int | None = None
    state: State = field(default_factory=State)
    bucket: tuple[int, int] = (0, 0)
    behind: dict[str, list[tuple[datetime, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory: Any = MemoryDirectory(self.network.pinned)
        self.config = Config("coldchain", self.region, "stable", "0" * 64, self.urls)

    async def poll(self, history: list[Any]) -> int | None:
        """One update, in the order of :mod:`coldchain.agent.update`; the release that it installed, if it did."""
        network = self.network
        now, before = network.clock() + self.offset, self.directory.version()
        memory = SourceMemory(self.directory, now)
        memory.conduct.draw = network.random.random
        sources = Sources(network.sources(self.name, memory.order(self.urls)), self.directory, silent, memory.conduct)
        current = CurrentMetadata(self.directory, self.config, sources, memory, self.state, now, LIMITS)
        error: ColdchainError | None = None
        applied = None
        try:
            found = await current.find()
            release = region_release(found.role(self.region), self.region, "stable")
            rollout = rollout_state(found.role(ROLLOUT_ROLE), self.region, "stable")
            if self._decides(release, rollout, history):
                await fetched(sources, release.evidence)
                bundle = await fetched(sources, release.best(self.installed))
                assert bundle == bundle_of(release.release, self.region), "nobody signed that"
                assert release.release > (self.installed or 0), f"{self.name} went back"
                self.installed = applied = release.release
        except ColdchainError as found_error:
            error = found_error
        finally:
            memory.write(len(self.urls))
            self.state = current.state
        if error is not None:
            network.say(f"refused {self.name} {type(error).__name__}")
        elif current.why is not None and current.why.endswith("holds back news"):
            network.say(f"noticed {self.name}: {current.why}")
        assert self.directory.version() >= before, f"{self.name} believes an older state than before"
        self._check(error)
        return applied

    def _decides(self, release: RegionRelease, rollout: RolloutState | None, history: list[Any]) -> bool:
        assert rollout is not None
        if self.bucket[0] != release.release:
            self.bucket = (release.release, self.network.random.randrange(BUCKETS))
        applies = decide(release, rollout, self.installed, self.bucket[1]).action == "apply"
        withdrawn = {number for manifest in history[: release.release] if manifest.withdraws
                     for number in manifest.withdraws.releases}  # fmt: skip
        if self.installed in withdrawn and self.installed != release.release and not rollout.held:
            assert applies, f"{self.name} stays on {self.installed}, which was withdrawn"
        assert not (applies and rollout.held), f"{self.name} applies what is held"
        return applies

    # -- what must hold ------------------------------------------------------------------------------------------------

    def _check(self, error: ColdchainError | None) -> None:
        network, mine = self.network, self.directory.version()
        there = [url for url in self.urls if network.reached(self.name, url)]
        newest = network.timestamp("origin")
        whole = [url for url in there if network.honest(url) and network.timestamp(url) == newest]
        if there and whole == there and (found := self._would_take(whole[0])) is not None:
            assert mine == version_of(newest), f"{self.name} missed the newest state"
            assert error is None or isinstance(error, NotPublishedError), f"{self.name} failed: {error}"
            release = region_release(found.role(self.region), self.region, "stable") if self.installed else None
            if release is not None:
                rollout = rollout_state(found.role(ROLLOUT_ROLE), self.region, "stable")
                missed = decide(release, rollout, self.installed, self.bucket[1]).action == "apply"
                assert not missed, f"{self.name} missed release {release.release}"
            if len(there) < len(self.urls):
                network.say(f"spared {self.name} by {there[0]}")
        self._check_stated(there, mine)

    def _check_stated(self, there: list[str], mine: int) -> None:
        """Nobody is kept in the dark for longer than the documentation says."""
        now = self.network.clock()
        for url in self.urls:
            theirs = version_of(self.network.timestamp(url))
            if not (url in there and self.network.honest(url) and theirs > mine) or self._would_take(url) is None:
                self.behind.pop(url, None)
                continue
            seen = [one for one in self.behind.get(url, []) if one[1] > mine]
            self.behind[url] = seen = [*seen, (now, theirs)]
            since, state = seen[0]
            assert now - since < STATED, f"{self.name} has not seen state {state} of {url} for {now - since}"

    def _would_take(self, url: str) -> TrustedSet | None:
        """What this endpoint would believe if it asked that honest place alone."""
        disk, files = self.directory.disk.files, self.network.files(url)
        stored = {path.removeprefix("metadata/"): data for path, data in disk.items() if path.startswith("metadata/")}
        now = self.network.clock() + self.offset
        try:
            return TufClient({}).drive(
                refresh(stored, now, [self.region, ROLLOUT_ROLE], check=says_who_it_is), files.get
            )
        except ColdchainError:
            return None


def bundle_of(release: int, region: str) -> bytes:
    """What stands for a bundle's file."""
    return f"bundle {release} of {region}\n".encode()


def evidence_of(release: int, region: str) -> bytes:
    """What stands for its evidence."""
    return f"evidence of {release}, {region}\n".encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
