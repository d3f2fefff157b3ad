"""Edges of a month on a virtual clock: they pull from the origin or from each other, die, come back, are cut off, and are stolen.

Real are: an edge's loop (:class:`~coldchain_server.edge.follow.Follower`: whom it asks, whom it believes, what it remembers, what it
says of its age) and the verification of what it pulls, by an endpoint's own code. Made up are: the network, the disk (a dictionary),
and time. A pull leaves out the evidence, of which the month has none.

What must hold of every edge that nobody stole:

- what it serves verifies from the pinned root on, with every file that it names, and never goes back, also when it dies at any file
  of a pull and comes back with what its disk holds;
- it is never older than it says of itself (unless a copy that says nothing of its age, or a thief, is above it, or a clock was off).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final, cast
from unittest.mock import patch

from coldchain.agent.sources import Sources
from coldchain.agent.transport import Answer, Source, computed_etag
from coldchain.errors import ColdchainError, DigestError, ResponseError, TransportError
from coldchain.mirror import generation
from coldchain.mirror.directory import MirrorConfig
from coldchain.mirror.pull import _Pull
from coldchain.mirror.pulled import Pulled, PullSettings, silent
from coldchain.tuf.refresh import refresh
from coldchain.verify import ROLLOUT_ROLE, Target, listed_targets, says_who_it_is
from coldchain_server.edge import follow
from coldchain_server.edge.follow import Follower, FollowSettings
from coldchain_server.edge.freshness import Freshness
from coldchain_server.web.health import age_field
from tests.client.tuf.repository import NOW
from tests.client.tuf.repository import Client as TufClient

TIMESTAMP: Final = "metadata/timestamp.json"
TURN: Final = timedelta(minutes=5)
"""An edge's wait at its upstream; whoever asks it finds it as it is after the last one."""

SPOILS: Final = ("mixed", "foreign", "truncated", "altered", "forged", "endless", "slow")
"""What a thief serves that shows at once, and"""
WITHHOLDS: Final = ("frozen", "mute", "old", "lagging")
"""what shows nothing wrong in itself."""


class DiedError(Exception):
    """The process is gone, between two files."""


# -- disks -------------------------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """Files by path. The process dies before it writes number ``dies`` from now (None: lives), and a dead one writes nothing."""

    files: dict[str, bytes] = field(default_factory=dict)
    dies: int | None = None
    dead: bool = False

    def write(self, path: str, data: bytes) -> None:
        self.step()
        if not self.dead:
            self.files[path] = data

    def step(self) -> None:
        """One more thing that takes effect at once, or not at all."""
        if self.dies == 0 and not self.dead:
            self.dies, self.dead = None, True
            raise DiedError
        self.dies = None if self.dies is None else self.dies - 1


@dataclass(frozen=True)
class MemoryFolder:
    """As :class:`coldchain.install.durable.Folder`, as far as a month needs it."""

    disk: Disk
    prefix: str

    def read(self, name: str, most: int) -> bytes | None:
        data = self.disk.files.get(self.prefix + name)
        return data if data is not None and len(data) <= most else None

    def write(self, name: str, data: bytes) -> None:
        self.disk.write(self.prefix + name, data)


class MemoryDirectory:
    """As :class:`coldchain.install.directory.ClientDirectory`: what an endpoint or an edge remembers."""

    path = Path("/")

    def __init__(self, pinned: bytes) -> None:
        self.disk = Disk({"metadata/root.json": pinned, "metadata/roots/1.root.json": pinned})

    @contextlib.contextmanager
    def folder(self, *names: str) -> Iterator[MemoryFolder]:
        yield MemoryFolder(self.disk, "".join(f"{name}/" for name in names))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield

    def version(self) -> int:
        """Of the timestamp that was accepted last; 0 before the first."""
        return version_of(self.disk.files.get("metadata/timestamp.json"))


def version_of(timestamp: bytes | None) -> int:
    return int(timestamp.rpartition(b'"version":')[2].rstrip(b"}")) if timestamp else 0


class EdgeDirectory:
    """As :class:`coldchain.mirror.directory.MirrorDirectory`: ``tree`` are files, ``served`` the generation, switched as a whole."""

    path = Path("/")

    def __init__(self, network: Network, name: str) -> None:
        self.network, self.name, self.own = network, name, MemoryDirectory(network.pinned)
        self.tree: dict[str, bytes] = {}
        self.served: dict[str, bytes] = {}

    @property
    def files(self) -> dict[str, bytes]:
        """What it serves."""
        return self.tree | {f"metadata/{name}": data for name, data in self.served.items()}


# -- the network -------------------------------------------------------------------------------------------------------


@dataclass
class Network:
    """Who can reach whom, and what they find there.

    Attributes:
        pinned: the root that everybody pinned.
        random: the month's.
        say: its trace.
        clock: its time.
        origin: the published tree as it is now, and
        history: as it was: since when, and the files.
        edges: by name.
        down: places that nobody reaches, and
        apart: pairs of an asker and a place that do not reach each other.
    """

    pinned: bytes
    random: Random
    say: Callable[[str], None]
    clock: Callable[[], datetime]
    origin: Callable[[], dict[str, bytes]]
    history: list[tuple[datetime, dict[str, bytes]]]
    edges: dict[str, Edge] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    apart: set[tuple[str, str]] = field(default_factory=set)

    def sources(self, asker: str, urls: tuple[str, ...]) -> list[Source]:
        return [VirtualSource(url, asker, self) for url in urls]

    def reached(self, asker: str, url: str) -> bool:
        dead = url in self.edges and not self.edges[url].alive
        return not dead and url not in self.down and (asker, url) not in self.apart

    def honest(self, url: str) -> bool:
        return url not in self.edges or self.edges[url].stolen is None

    def files(self, url: str) -> dict[str, bytes]:
        """What an honest place serves now."""
        return self.origin() if url not in self.edges else self.edges[url].directory.files

    def timestamp(self, url: str) -> bytes | None:
        """The same, of its timestamp alone."""
        if url in self.edges:
            return self.edges[url].directory.served.get("timestamp.json")
        return self.origin()[TIMESTAMP]

    def at(self, time: datetime) -> dict[str, bytes]:
        """The published tree as it was."""
        return next((files for since, files in reversed(self.history) if since <= time), self.history[0][1])


class VirtualSource:
    """As :class:`coldchain.agent.transport.Source`: one place, as one asker finds it."""

    def __init__(self, url: str, asker: str, network: Network) -> None:
        self.url, self._asker, self._network = url, asker, network

    async def get(self, path: str, most: int, *, etag: str | None = None) -> Answer:
        network, edge = self._network, self._network.edges.get(self.url)
        if edge is not None and network.reached(self._asker, self.url):
            await edge.catch_up()
        if not network.reached(self._asker, self.url):
            raise TransportError(f"{self.url} cannot be reached")
        if edge is not None and edge.stolen is not None:
            data, age = stolen(network, edge, path, etag), 0.0
            if data is None:
                return Answer(None)
        else:
            data = network.files(self.url).get(path) or b""
            age = edge.age() if edge is not None and path == TIMESTAMP else 0.0
        if not data:
            return Answer(None, missing=True)
        if len(data) > most:
            raise ResponseError(f"{self.url}/{path}: longer than the allowed {most} bytes")
        tag = computed_etag(hashlib.sha256(data).hexdigest())
        return Answer(None, age=age) if tag == etag else Answer(data, etag=tag, age=age)

    async def download(self, path: str, part: Any, progress: Any) -> None:
        raise NotImplementedError


async def fetched(sources: Sources, target: Target) -> bytes:
    """A target's bytes as it is signed, from the first source that has them, as :meth:`Sources.download` brings them."""

    async def ask(source: Source) -> bytes:
        data = (await source.get(target.url_path, target.length)).data
        if data is None:
            raise ResponseError(f"{source.url}: {target.path} is not there")
        if len(data) < target.length:
            raise TransportError(f"{source.url}: {target.path} ended after {len(data)} bytes")
        if hashlib.sha256(data).hexdigest() != target.sha256:
            raise DigestError(f"{source.url}: {target.path} is not as signed")
        return data

    return (await sources.first_good(ask, blame=True))[0]


# -- thieves -----------------------------------------------------------------------------------------------------------


def stolen(network: Network, edge: Edge, path: str, etag: str | None) -> bytes | None:
    """What a thief answers: some file's bytes, nothing (empty), or "not modified" (None). He has seen everything that was published."""
    how, now = edge.stolen, network.clock()
    if how == "mute" and etag is not None:
        return None
    if how in WITHHOLDS:
        lag = {"lagging": edge.lag, "old": now - edge.stolen_since + edge.lag}.get(how or "", now - edge.stolen_since)
        return network.at(now - lag).get(path, b"")
    files = network.origin()
    data = files.get(path, b"")
    if how == "forged" and path == TIMESTAMP:
        version = version_of(data)
        return data.replace(b'"version":%d}' % version, b'"version":%d}' % (version + 9))
    if not data or path == TIMESTAMP or path.startswith(edge.spares):
        return data
    if how == "slow":
        raise TransportError(f"{edge.name}/{path}: no whole answer within 60 seconds")
    if how == "endless":
        raise ResponseError(f"{edge.name}/{path}: longer than allowed")
    if how == "truncated":
        return data[: len(data) // 2] or b"{"
    if how in ("altered", "forged"):
        return data[:-9] + bytes(one ^ 1 for one in data[-9:])
    return _other(files, path, edge.region if how == "mixed" else edge.foreign)


def _other(files: dict[str, bytes], path: str, region: str) -> bytes:
    """An earlier file of the same kind (``mixed``), or the other region's."""
    folder, _, name = path.rpartition("/")
    if folder == "metadata":
        version, _, kind = name.partition(".")
        kind = f"{region}.json" if kind == "us.json" or kind == "jp.json" else kind
        fits = (f"metadata/{number}.{kind}" for number in range(int(version) - 1, 0, -1))
        return next((files[one] for one in fits if one in files), b"")
    kind = name.partition(".")[2]
    fits = (one for one in files if one != path and one.startswith(f"targets/{region}/") and one.endswith(kind))
    return next((files[one] for one in fits), b"")


# -- edges -------------------------------------------------------------------------------------------------------------


class MemoryPull(_Pull):
    """A pull's order of things: verify, bring every file that is named, switch. Without evidence."""

    def __init__(self, directory: Any, config: MirrorConfig, settings: PullSettings) -> None:
        self.directory, self.config, self.settings, self.limits = directory, config, settings, settings.limits
        self.now = settings.now()
        opened = directory.network.sources(directory.name, config.urls)
        self.sources = Sources(opened, directory.own, silent, settings.conduct)
        self.out = Pulled()

    async def run(self) -> Pulled:
        edge = cast(EdgeDirectory, self.directory)
        found, source = await self.sources.first_good(self._refresh, blame=True)
        self.sources.prefer(source)
        (region,) = self.config.regions
        self.out.releases = [(one.region, one.channel, one.release) for one in self._releases(found)]
        for target in listed_targets(found.role(region)):
            if target.url_path not in edge.tree:
                data = await fetched(self.sources, target)
                edge.own.disk.step()
                edge.tree[target.url_path] = data
                self.out.files += 1
        roles = [("snapshot", found.snapshot)]
        roles += [(name, found.role(name)) for name in ("targets", ROLLOUT_ROLE, region)]
        named = {f"{role.version}.{name}.json": role.raw for name, role in roles}
        named |= {"1.root.json": found.root.raw, "timestamp.json": found.timestamp.raw}
        self.out.good_until = min(found.timestamp.expires, *(role.expires for _, role in roles))
        changed = any(edge.served.get(name) != data for name, data in named.items())
        if changed:
            edge.own.disk.step()
            edge.served = named
        self.out.action = "updated" if changed else "current"
        return self.out


@dataclass
class Edge:
    """An edge: whom it asks, what it holds, and what is wrong with it now.

    Attributes:
        name: its URL.
        region: the one that it serves.
        foreign: another one, for a thief.
        upstreams: whom it asks, in order.
        network: where it is.
        copy: it is a plain web server's copy, which says nothing of its age.
        alive, stolen, offset: it runs; what the thief does who has it; how wrong its clock is.
    """

    name: str
    region: str
    foreign: str
    upstreams: tuple[str, ...]
    network: Network
    copy: bool
    alive: bool = True
    stolen: str | None = None
    stolen_since: datetime = NOW
    lag: timedelta = timedelta(0)
    spares: tuple[str, ...] = ()
    offset: timedelta = timedelta(0)
    faulty: bool = False
    doubtful: bool = False
    died: Callable[[Edge], None] = lambda _: None

    def __post_init__(self) -> None:
        self.directory = EdgeDirectory(self.network, self.name)
        self.config = MirrorConfig("coldchain", (self.region,), "0" * 64, self.upstreams)
        self.doubtful = self.copy or any(
            self.network.edges[url].copy for url in self.upstreams if url in self.network.edges
        )
        self.start()

    def now(self) -> datetime:
        return self.network.clock() + self.offset

    def start(self) -> None:
        """A new process on the disk of the old one."""
        self.alive, self.directory.own.disk.dead, self.directory.own.disk.dies = True, False, None
        self.last_turn, self._turning = self.network.clock() - TURN, False
        directory: Any = self.directory
        settings = FollowSettings(poll_seconds=0.0, first_pause=0.0, now=self.now, draw=self.network.random.random)
        self.follower = Follower(directory, self.config, Freshness(directory, self.now), settings)
        self.follower._sources = {one.url: one for one in self.network.sources(self.name, self.upstreams)}

    def die(self) -> None:
        self.alive, self.directory.own.disk.dead = False, True
        self.died(self)

    async def catch_up(self) -> None:
        """Takes the turn of its loop that is due."""
        now = self.network.clock()
        if not self.alive or self.stolen is not None or self._turning or now - self.last_turn < TURN:
            return
        self.last_turn, self._turning = now, True
        before = self.directory.served
        try:
            await self.follower.turn()
        except DiedError:
            self.network.say(f"killed {self.name} in a pull")
            self.die()
        except ColdchainError as error:
            self.network.say(f"alone {self.name} {type(error).__name__}")
        finally:
            self._turning = False
        if self.directory.served is not before:
            self.check(before)
            self.network.say(f"pulled {self.name} {version_of(self.directory.served['timestamp.json'])}")

    def age(self) -> float:
        """As its field ``Age`` says it."""
        return 0.0 if self.copy else float(age_field(self.follower.freshness))

    def check(self, before: dict[str, bytes]) -> None:
        """What it serves, as an endpoint that knows nothing yet verifies it."""
        files, old = self.directory.files, before.get("timestamp.json")
        steps = refresh(
            {"root.json": self.network.pinned}, self.now(), [self.region, ROLLOUT_ROLE], check=says_who_it_is
        )
        try:
            found = TufClient({}).drive(steps, files.get)
        except ColdchainError as error:
            raise AssertionError(f"{self.name} serves what does not verify: {error}") from error
        assert found.timestamp.version >= version_of(old), f"{self.name} serves an older state than before"
        for target in listed_targets(found.role(self.region)):
            data = files.get(target.url_path, b"")
            assert hashlib.sha256(data).hexdigest() == target.sha256, f"{self.name} serves a torn {target.path}"

    def check_age(self) -> None:
        """It is not older than it says."""
        if self.doubtful or not self.alive:
            return
        then = self.network.at(self.network.clock() - timedelta(seconds=self.age() + 1))
        serves = version_of(self.directory.served.get("timestamp.json"))
        assert serves >= version_of(then[TIMESTAMP]), f"{self.name} is older than the {self.age():.0f} seconds it says"


@contextlib.contextmanager
def in_memory() -> Iterator[None]:
    """Edges' loops find their generation in memory, and pull into it."""

    async def pull(directory: EdgeDirectory, config: MirrorConfig, settings: PullSettings) -> Pulled:
        return await MemoryPull(directory, config, settings).run()

    def name_of(directory: EdgeDirectory) -> str | None:
        return generation.name_of(directory.served) if directory.served else None

    with (
        patch.object(follow, "pull", pull),
        patch.object(generation, "read", lambda directory, name: directory.served.get(name)),
        patch.object(generation, "current", name_of),
    ):
        yield
