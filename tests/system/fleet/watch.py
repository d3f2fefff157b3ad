"""What is seen of the endpoints from outside, all the time: which set each has installed, and whether that may be.

Looks at the directories as they lie on the disk and at the published tree, and asks no agent. What may not be is kept in
:attr:`Watch.broken`:

- a set that was not published for the endpoint's region, under a number and digest of a signed region role;
- a release lower than one before it, installed or in the engine;
- a release that the rollout role never gave the endpoint: its bucket is not below any share that was in force, and what it ran
  was not withdrawn;
- a release in a region of a later wave while one of an earlier wave had not come to 100 %;
- a set that is not exactly what was signed (:func:`coldchain.install.audit.audit`, which is ``coldchain verify``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from coldchain.errors import ColdchainError
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory
from coldchain.install.versions import parse_version
from coldchain_server.signing.roles import now_utc
from tests.system.fleet.endpoints import Endpoint
from tests.system.fleet.publishing import Publishing

CHANNEL = "stable"
BUCKETS_A_PERCENT = 100
LOOK_SECONDS = 0.2
SETTLE_SECONDS = 0.05


@dataclass(frozen=True)
class Applied:
    """An endpoint has switched: which set it has now, when its link was made, its bucket (None: not known any more), and from what."""

    endpoint: Endpoint
    release: int
    prefix: str
    at: float
    bucket: int | None
    before: int


@dataclass(frozen=True)
class Entry:
    """What one version of the rollout role said about a region, and when it was written."""

    at: float
    release: int
    share: int
    held: bool
    withdrawn: frozenset[int]

    def admits(self, one: Applied) -> bool:
        """Whether it lets this endpoint have this release."""
        if self.release != one.release or self.held:
            return False
        if one.before == 0 or one.before in self.withdrawn:
            return True
        return one.bucket is None or one.bucket < self.share * BUCKETS_A_PERCENT


@dataclass
class Watch:
    """See the module.

    Attributes:
        publishing: whose published tree says what may be.
        endpoints: all of them.
        broken: what was seen and may not be.
        applied: every switch that was seen, in order.
        samples: seconds since the beginning, and region -> release -> endpoints; only where something changed.
        events: seconds since the beginning, kind, words.
        audits: how many times a set was checked to the byte.
    """

    publishing: Publishing
    endpoints: Sequence[Endpoint]
    broken: list[str] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    samples: list[tuple[float, dict[str, Counter[int]]]] = field(default_factory=list)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    audits: int = 0
    looks: int = 0

    def __post_init__(self) -> None:
        self.began = time.time()
        self._installed: dict[str, str] = {}
        self._engine: dict[str, int] = {}
        self._published: dict[str, set[tuple[int, str]]] = {place.name: set() for place in self.publishing.places}
        self._roles: Counter[str] = Counter()
        self._turn = itertools.cycle(self.endpoints)
        self.rollout: dict[str, list[Entry]] = defaultdict(list)
        """By region, in order."""

    # -- what it is told and tells -----------------------------------------------------------------------------------

    def note(self, kind: str, words: str) -> None:
        """An event for the picture, now."""
        self.events.append((time.time() - self.began, kind, words))

    def release_of(self, endpoint: Endpoint) -> int:
        """What it had installed at the last look; 0 for nothing."""
        name = self._installed.get(endpoint.name)
        return int(name.partition("-")[0]) if name else 0

    def engine_of(self, endpoint: Endpoint) -> int:
        """What its engine was led to at the last look; 0 for nothing."""
        return self._engine.get(endpoint.name, 0)

    def on(self, release: int, *regions: str) -> list[Endpoint]:
        """The endpoints that have it, in these regions or everywhere."""
        return [
            one for one in self.endpoints if self.release_of(one) == release and one.region in (regions or {one.region})
        ]

    def applied_of(self, release: int) -> list[Applied]:
        """Who switched to a release."""
        return [one for one in self.applied if one.release == release]

    def admitted(self, one: Applied) -> float:
        """When the rollout let the endpoint have what it applied: what was published, and that stage, by then."""
        return min(entry.at for entry in self.rollout[one.endpoint.region] if entry.admits(one))

    # -- looking -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            self.look()
            await self.audit(next(self._turn))
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Reads every endpoint's links, and then the published tree, so that the tree is never older than what endpoints saw of it."""
        fresh = [one for endpoint in self.endpoints if (one := self._switched(endpoint)) is not None]
        for endpoint in self.endpoints:
            if endpoint.engine:
                self._look_at_engine(endpoint)
        self._read_roles()
        for one in fresh:
            self._judge(one)
        self.applied += fresh
        self.looks += 1
        counts: dict[str, Counter[int]] = {place.name: Counter() for place in self.publishing.places}
        for endpoint in self.endpoints:
            counts[endpoint.region][self.release_of(endpoint)] += 1
        if not self.samples or self.samples[-1][1] != counts:
            self.samples.append((time.time() - self.began, counts))

    def _switched(self, endpoint: Endpoint) -> Applied | None:
        link = endpoint.path / "current"
        try:
            target, at = link.readlink(), link.lstat().st_mtime
        except FileNotFoundError:
            if endpoint.name in self._installed:
                self.broken.append(f"{endpoint.name} has lost its set")
            return None
        name, before = target.name, self.release_of(endpoint)
        if name == self._installed.get(endpoint.name):
            return None
        self._installed[endpoint.name] = name
        version = parse_version(target)
        if version is None:
            self.broken.append(f"{endpoint.name} runs {str(target)!r}")
            return None
        return Applied(endpoint, version.release, version.prefix, at, _bucket(endpoint, version.release), before)

    def _look_at_engine(self, endpoint: Endpoint) -> None:
        with contextlib.suppress(FileNotFoundError):
            version = parse_version((endpoint.path / "engines" / "yara" / "current").readlink())
            release = version.release if version else -1
            if release < self._engine.get(endpoint.name, 0):
                self.broken.append(
                    f"the engine of {endpoint.name} went from {self._engine[endpoint.name]} to {release}"
                )
            self._engine[endpoint.name] = release

    def _read_roles(self) -> None:
        for place in self.publishing.places:
            for version, _, said in self.publishing.roles(place.name, self._roles[place.name]):
                self._roles[place.name] = version
                if CHANNEL in said["channels"]:
                    one = said["channels"][CHANNEL]
                    self._published[place.name].add((one["release"], one["bundle"][:16]))
        for version, at, said in self.publishing.roles("rollout", self._roles["rollout"]):
            self._roles["rollout"] = version
            for region, channels in said["regions"].items():
                if CHANNEL in channels:
                    self.rollout[region].append(_entry(at, channels[CHANNEL]))

    # -- judging -----------------------------------------------------------------------------------------------------

    def _judge(self, one: Applied) -> None:
        region, words = one.endpoint.region, f"{one.endpoint.name} went from release {one.before} to {one.release}"
        if one.release < one.before:
            self.broken.append(f"{words}: back")
        if (one.release, one.prefix) not in self._published[region]:
            self.broken.append(f"{words} ({one.prefix}), which was never published in {region}")
        admitting = [entry for entry in self.rollout[region] if entry.admits(one)]
        if not admitting:
            self.broken.append(f"{words} with bucket {one.bucket}, and no rollout gave it that")
            return
        if one.before == 0 or any(one.before in entry.withdrawn for entry in admitting):
            return  # a first set, or away from something bad: waves are not for that
        wave = {place.name: place.wave for place in self.publishing.places}
        for earlier in (place for place in wave if wave[place] < wave[region]):
            through = [one_.at for one_ in self.rollout[earlier] if (one_.release, one_.share) == (one.release, 100)]
            if not any(at <= one.at for at in through):
                self.broken.append(f"{words} before {earlier}, which is in an earlier wave, was through")

    async def audit(self, endpoint: Endpoint) -> None:
        """Checks a set to the byte. An agent that switches meanwhile takes away what was being read; then it is looked at again."""
        directory = ClientDirectory(endpoint.path)
        while (before := _state(endpoint)) is not None:
            try:
                found = await asyncio.to_thread(audit, directory, now_utc())
                error = found.error
            except ColdchainError as refused:
                error = refused
            if error is None:
                self.audits += 1
                return
            await asyncio.sleep(SETTLE_SECONDS)
            if _state(endpoint) == before:
                self.broken.append(f"{endpoint.name} does not verify: {error.what}")
                return

    async def audit_all(self, endpoints: Sequence[Endpoint] | None = None) -> None:
        """Checks all of them, or these."""
        for endpoint in self.endpoints if endpoints is None else endpoints:
            await self.audit(endpoint)

    # -- for the picture ---------------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        """What the picture is made of; seconds with one digit behind the point."""
        places = self.publishing.places
        counts = Counter(one.region for one in self.endpoints)
        last = max(self.samples[-1][0], self.events[-1][0])
        return {
            "regions": [{"name": one.name, "wave": one.wave, "endpoints": counts[one.name]} for one in places],
            "seconds": round(last + 2, 1),
            "events": [[round(at, 1), kind, words] for at, kind, words in self.events],
            "samples": [
                [
                    round(at, 1),
                    [{str(release): number for release, number in sorted(found[one.name].items())} for one in places],
                ]
                for at, found in self.samples
            ],
        }


def _entry(at: float, said: dict[str, Any]) -> Entry:
    return Entry(at, said["release"], said["share"], said["held"], frozenset(said.get("withdrawn", ())))


def _bucket(endpoint: Endpoint, release: int) -> int | None:
    """The bucket that the endpoint drew for the release; None when it has drawn one for another release since."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        drawn = json.loads((endpoint.path / "state.json").read_bytes()).get("bucket")
        if drawn and drawn["release"] == release:
            return int(drawn["number"])
    return None


def _state(endpoint: Endpoint) -> tuple[object, ...] | None:
    """What changes when an agent works on the directory; None without a set."""
    try:
        current = (endpoint.path / "current").readlink()
        parts = [
            endpoint.path / name for name in ("state.json", "signed", "versions", "metadata", f"signed/{current.name}")
        ]
        return current, *(part.stat().st_mtime_ns if part.exists() else None for part in parts)
    except FileNotFoundError:
        return None
