"""A month of a whole system on a virtual clock, by seed: edges that die, clocks that are off, mirrors that are stale, thieves,
publishers that crash, bad releases.

Real are: what the origin signs (releases begin, stages advance, holds, withdrawals, the renewal of what expires, by real keys), and
what edges (:mod:`tests.system.month_edges`) and endpoints (:mod:`tests.system.month_endpoints`) do with it. Made up are: bundles (so
there are no packs), the network, disks, and time.

What must hold in every month, besides what these two say:

- of one release no share falls, no stage is skipped, no wave begins before the one before it is through, nothing moves while held;
- unless a publisher's clock was off since the release began, the first stage lasts its time, in an emergency too;
- when the faults end, everybody comes to the newest release.

A month is its seed: the same seed gives the same trace, byte for byte, in any process (the keys come from a fixed seed, too)::

    python -m tests.system.month 17            one month's trace, and what broke in it
    python -m tests.system.month 0-999         many of them, and what happened in all
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import heapq
import itertools
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.signing import SigningKey

import coldchain.keys
import coldchain.tuf.metadata
import coldchain.tuf.trusted_set
from coldchain.bundle.manifest import BundleFacts, Manifest, RegionFacts
from coldchain.errors import StateError
from coldchain.limits import LIMITS
from coldchain.verify import EVIDENCE
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.home import Home
from coldchain_server.release.rollout import Course, advance_due, begin, change_rollout, course
from coldchain_server.release.withdraw import choose
from coldchain_server.signing import rotation
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import ROLLOUT, ChannelFacts, load_state, next_region_role, sign
from coldchain_server.signing.rotation import publish_roles, renew, role_signers
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.web.published import MemoryStorage
from tests.system.month_edges import SPOILS, TIMESTAMP, WITHHOLDS, DiedError, Edge, Network, in_memory, version_of
from tests.system.month_endpoints import Endpoint, bundle_of, digest, evidence_of

DAYS: Final = 30
REGIONS: Final = ("us", "jp")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class DyingStorage(MemoryStorage):
    """A published tree whose writer dies before its file number ``dies`` from now; None: lives."""

    dies: int | None = None

    async def put(self, path: str, data: bytes | Path, *, replace: bool = False) -> None:
        if self.dies == 0:
            self.dies = None
            raise DiedError
        self.dies = None if self.dies is None else self.dies - 1
        await super().put(path, data, replace=replace)


@dataclass
class Month:
    """One seed's month."""

    home: Home
    keyring: Keyring
    seed: int
    random: random.Random = field(init=False)
    storage: DyingStorage = field(init=False)
    now: datetime = NOW
    trace: list[str] = field(default_factory=list)
    network: Network = field(init=False)
    endpoints: list[Endpoint] = field(default_factory=list)
    queue: list[tuple[datetime, int, str, Any]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=itertools.count)
    clocks: list[timedelta] = field(default_factory=lambda: [timedelta(0), timedelta(0)])
    history: list[Manifest] = field(default_factory=list)
    bad: set[int] = field(default_factory=set)
    seen_bad: set[int] = field(default_factory=set)
    states: list[tuple[datetime, dict[str, bytes]]] = field(default_factory=list)
    signed: dict[str, dict[str, Any]] = field(default_factory=dict)
    stands: Course | None = None
    began: dict[int, datetime] = field(default_factory=dict)
    clocks_off: datetime | None = None
    """When a publisher's clock was last known to be off."""
    renew_every: float = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.renew_every = self.random.choice([4, 24, 24]) * 3600.0
        storage: object = self.home.storage
        assert isinstance(storage, DyingStorage)
        self.storage = storage
        pinned, files = self.home.pinned_root(), storage.files
        self.network = Network(pinned, self.random, self.say, lambda: self.now, lambda: files, self.states)

    def say(self, text: str) -> None:
        self.trace.append(f"{self.now:%d %H:%M:%S} {text}")
        word = text.split()[0]
        self.counts[word] = self.counts.get(word, 0) + 1

    def at(self, after: timedelta, what: str, value: Any = None) -> None:
        heapq.heappush(self.queue, (self.now + after, next(self.order), what, value))

    def between(self, least: timedelta, most: timedelta) -> timedelta:
        return timedelta(seconds=self.random.randint(int(least.total_seconds()), int(most.total_seconds())))

    # -- the month -----------------------------------------------------------------------------------------------------

    async def run(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._schedule()
        self._remember()
        self._make_edges()
        self._make_endpoints()
        for publisher in (0, 1):
            self.at(self.between(MINUTE, HOUR), "look", publisher)
        for one in self.endpoints:
            self.at(self.between(MINUTE, one.every), "poll", one)
        self.at(HOUR, "release")
        for fault in ("fault", "edge_fault", "edge_fault", "cut_fault"):
            self.at(self.between(HOUR, 48 * HOUR), fault)
        end = NOW + timedelta(days=DAYS)
        quiet = end - timedelta(days=6)
        while self.queue and self.queue[0][0] <= end:
            self.now, _, what, value = heapq.heappop(self.queue)
            if self.now > quiet and (what.endswith("fault") or what == "release"):
                continue
            await getattr(self, f"_{what}")(value)
            if self.now > quiet:
                self._look_at_clocks()
                self.clocks = [timedelta(0), timedelta(0)]
        await self._ends()

    def _schedule(self) -> None:
        wave_1 = sorted(self.random.sample(range(1, 100), self.random.randint(0, 2)))
        rows = [f"{{ wave = 1, share = {share}, hours = {self.random.randint(1, 12)} }}" for share in (*wave_1, 100)]
        rows += [f"{{ wave = 2, share = 20, hours = {self.random.randint(1, 12)} }}"] * self.random.randint(0, 1)
        rows.append("{ wave = 2, share = 100 }")
        text = f"[stable]\nemergency = {{ minutes = {self.random.randint(1, 30)} }}\nstages = [{', '.join(rows)}]\n"
        (self.home.directory / "rollout.toml").write_text(text)
        self.stages = self.home.schedules()["stable"]

    def _make_edges(self) -> None:
        """Two in each region; the second is chained to the first, or has it as one of its upstreams."""
        for region, foreign in (REGIONS, REGIONS[::-1]):
            first, second = f"{region}-edge-1", f"{region}-edge-2"
            above = self.random.choice([(first,), (first, "origin"), ("origin", first)])
            for name, upstreams in ((first, ("origin",)), (second, above)):
                copy = self.random.random() < 0.15
                edge = Edge(name, region, foreign, upstreams, self.network, copy)
                edge.died = lambda edge: self.at(self.between(HOUR, 60 * HOUR), "mended_edge", edge)
                self.network.edges[name] = edge

    def _make_endpoints(self) -> None:
        offsets = [timedelta(0), timedelta(0), timedelta(minutes=-7), self.random.choice([-30, 30]) * HOUR]
        for number, offset in enumerate(offsets):
            region = REGIONS[number // 2]
            edges = [f"{region}-edge-1", f"{region}-edge-2"]
            edges = self.random.choice([edges, edges, edges[::-1], edges[:1], edges[1:]])
            every = self.between(2 * HOUR, 8 * HOUR) if number == 0 else self.between(4 * HOUR, 16 * HOUR)
            urls = (*edges, "origin")
            self.endpoints.append(Endpoint(f"{region}-{number % 2}", region, urls, self.network, offset, every))

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def _release(self, _: None) -> None:
        await self._publish(None)
        self.at(self.between(48 * HOUR, 150 * HOUR), "release")

    async def _publish(self, withdraws: int | None, emergency: bool = False) -> None:
        """A release as the threshold signs it: in every region's role, with the rollout's beginning, in one state."""
        number = len(self.history) + 1
        said = None
        if withdraws is not None:
            with suppress(StateError):
                said = choose(self.history, withdraws, "bad")[1]
            if said is None:
                return
        files = {
            region: {"full.ccd": bundle_of(number, region), EVIDENCE: evidence_of(number, region)} for region in REGIONS
        }
        facts = {region: BundleFacts(digest(one["full.ccd"]), 1, 1) for region, one in files.items()}
        manifest = Manifest(
            "coldchain", "stable", number, None, "2026-06-01T00:00:00Z", facts["us"],
            {region: RegionFacts(one) for region, one in facts.items()}, (), "0.1.0", withdraws=said,
        )  # fmt: skip
        emergency = emergency or self.random.random() < 0.2

        async def work(now: datetime) -> None:
            state = await load_state(self.storage)
            roles = {}
            for region, one in facts.items():
                named = {f"{region}/stable/{name}": (len(data), digest(data)) for name, data in files[region].items()}
                for name, data in files[region].items():
                    await self.storage.put(f"targets/{region}/stable/{digest(data)}.{name}", data)
                channel = ChannelFacts(number, one.bundle, 1, 1, manifest.digest, named)
                roles[region] = next_region_role(state.delegated[region], "stable", channel, now)
                sign(roles[region], role_signers(state, self.keyring, region))
            rollout = state.next_rollout(now, *begin(self.home, state, manifest, now, share=None, emergency=emergency))
            sign(rollout, role_signers(state, self.keyring, ROLLOUT))
            await publish_roles(state, self.keyring, self.storage, {**roles, ROLLOUT: rollout}, now)

        while not await self._signing(work, 0, f"release {number}{f' withdraws {said.releases}' if said else ''}"):
            pass  # the operator types it again
        self.history.append(manifest)
        self.began[number] = self.now
        if not said and self.random.random() < 0.35 and number > 1:
            self.bad.add(number)

    async def _look(self, publisher: int) -> None:
        """What ``serve`` does: renew, then advance; and it looks again when a stage is over, or after hours."""

        async def signing(now: datetime) -> None:
            state = await load_state(self.storage)
            if await renew(state, self.keyring, self.storage, now=now, every=self.renew_every):
                state = await load_state(self.storage)
            await advance_due(self.home, state, self.keyring, ["stable"], now=now)

        if not await self._signing(signing, publisher, "in turn"):
            self.at(self.between(MINUTE, 30 * HOUR), "look", publisher)  # until somebody starts it again
            return
        wait = self.between(6 * HOUR, 16 * HOUR) if self.renew_every > 4 * 3600 else self.between(3 * HOUR, 5 * HOUR)
        if self.stands is not None and self.stands.due is not None:
            wait = min(wait, max(MINUTE, self.stands.due - (self.now + self.clocks[publisher])))
        self.at(wait, "look", publisher)

    async def _hold(self, held: bool) -> None:
        async def work(now: datetime) -> None:
            await change_rollout(self.home, self.catalogue, self.keyring, "stable", [], now=now, held=held)

        await self._signing(work, 0, "hold" if held else "resume")

    async def _withdraw(self, number: int) -> None:
        await self._publish(number, emergency=True)

    async def _signing(self, work: Any, publisher: int, what: str) -> bool:
        """Runs one publisher's work, which may die on the way; then the state that is out is looked at."""
        dying = self.random.random() < 0.2 and self.now < NOW + timedelta(days=DAYS - 6)
        self.storage.dies = self.random.randint(0, 9) if dying else None
        timestamp = self.storage.files[TIMESTAMP]
        lived = True
        try:
            await work((self.now + self.clocks[publisher]).replace(microsecond=0))
        except DiedError:
            lived = False
            self.say(f"died {what}")
        self.storage.dies = None
        if self.storage.files[TIMESTAMP] != timestamp:
            self._remember()
            await self._check_signed(what)
        return lived

    def _remember(self) -> None:
        self.states.append((self.now, dict(self.storage.files)))
        self.at(self.between(timedelta(seconds=1), 5 * MINUTE), "turns")

    def _look_at_clocks(self) -> None:
        if any(abs(off) > 5 * MINUTE for off in self.clocks):
            self.clocks_off = self.now

    async def _check_signed(self, what: str) -> None:
        self._look_at_clocks()
        state = await load_state(self.storage)
        stands = course(self.home, state, "stable")
        self.stands, new = stands, stands.entries
        if new != self.signed:
            shares = " ".join(f"{region}:{one['share']}{'h' * one['held']}" for region, one in new.items())
            self.say(f"signed {what}: {shares}")
        old = {region: one for region, one in self.signed.items() if one["release"] == new[region]["release"]}
        if new:
            assert new["jp"]["share"] == 0 or new["us"]["share"] == 100, "wave 2 began before wave 1 was through"
        for region, was in old.items():
            assert new[region]["share"] >= was["share"], f"the share of {region} fell"
            if was["held"] and new[region]["held"]:
                assert new[region]["share"] == was["share"], f"{region} moved while it was held"
        waves = stands.waves
        if old and waves:
            before = self.stages.reached({region: old[region]["share"] for region in waves}, waves)
            assert stands.reached <= before + 1, "a stage was skipped"
            began = self.began[new["us"]["release"]]
            if stands.reached == 2 and before == 1 and (self.clocks_off is None or self.clocks_off < began):
                lasted = self.now - began
                least = min(self.stages.stages[0].lasts or 0, self.stages.emergency)
                assert lasted >= timedelta(seconds=least) - 10 * MINUTE, f"the first stage lasted {lasted} only"
        elif new and not old:
            assert stands.reached == 1, "a release did not begin with its first stage"
        self.signed = new

    # -- faults --------------------------------------------------------------------------------------------------------

    async def _fault(self, _: None) -> None:
        publisher = self.random.randint(0, 1)
        jump = self.random.choice([-3 * HOUR, -30 * HOUR, -4 * MINUTE, 4 * MINUTE, 2 * HOUR, 50 * HOUR])
        self.clocks[publisher] = jump
        self._look_at_clocks()
        self.say(f"clock of publisher {publisher} is off by {jump}")
        self.at(self.between(HOUR, 24 * HOUR), "mended", publisher)
        self.at(self.between(24 * HOUR, 150 * HOUR), "fault")

    async def _mended(self, publisher: int) -> None:
        self._look_at_clocks()
        self.clocks[publisher] = timedelta(0)

    async def _edge_fault(self, _: None) -> None:
        """Something happens to an edge to which nothing happened yet."""
        self.at(self.between(8 * HOUR, 60 * HOUR), "edge_fault")
        edge = self.random.choice(list(self.network.edges.values()))
        kind = self.random.choice(["dies", "dies in a pull", "clock", "stolen", "stolen"])
        if edge.faulty or not edge.alive:
            return
        edge.faulty = True
        if kind.startswith("dies"):
            if kind == "dies":
                self.say(f"dead {edge.name}")
                edge.die()
            else:
                edge.directory.own.disk.dies = self.random.randint(0, 9)
            return
        if kind == "clock":
            edge.offset = self.random.choice([-30 * HOUR, -4 * MINUTE, 4 * MINUTE, 40 * HOUR])
            self.say(f"clock of {edge.name} is off by {edge.offset}")
        else:
            edge.stolen, edge.stolen_since = self.random.choice([*SPOILS, *WITHHOLDS, *WITHHOLDS]), self.now
            edge.lag = self.between(3 * HOUR, 30 * HOUR)
            edge.spares = self.random.choice([(), ("targets/",), ("metadata/",)])
            self.say(f"stolen {edge.name} {edge.stolen} {edge.lag} spares {' '.join(edge.spares) or 'nothing'}")
        for one in self.network.edges.values():
            one.doubtful = one.doubtful or edge.name in (one.name, *one.upstreams)
        self.at(self.between(4 * HOUR, 100 * HOUR), "mended_edge", edge)

    async def _mended_edge(self, edge: Edge) -> None:
        """Its owner has it back, with what its disk held."""
        if not edge.alive or edge.stolen is not None:
            before = edge.directory.served
            edge.start()
            assert edge.directory.served is before
        edge.stolen, edge.offset, edge.faulty = None, timedelta(0), False
        self.say(f"back {edge.name} {version_of(edge.directory.served.get('timestamp.json'))}")

    async def _cut_fault(self, _: None) -> None:
        """Two do not reach each other for a while, or nobody reaches the origin."""
        self.at(self.between(8 * HOUR, 60 * HOUR), "cut_fault")
        pairs = [(edge.name, url) for edge in self.network.edges.values() for url in edge.upstreams]
        askers = [(one.name, url) for one in self.endpoints for url in one.urls]
        if self.random.random() < 0.2:
            self.network.down.add("origin")
            self.say("down origin")
            self.at(self.between(HOUR, 20 * HOUR), "joined", None)
            return
        pair = self.random.choice(pairs if self.random.random() < 0.6 else askers)
        self.network.apart.add(pair)
        self.say(f"cut {pair[0]} from {pair[1]}")
        self.at(self.between(2 * HOUR, 96 * HOUR), "joined", pair)

    async def _joined(self, pair: tuple[str, str] | None) -> None:
        self.network.apart.discard(pair or ("", ""))
        if pair is None:
            self.network.down.clear()

    # -- edges and endpoints -------------------------------------------------------------------------------------------

    async def _turns(self, _: None) -> None:
        """Edges are told that there is something new, or come to ask."""
        for edge in self.network.edges.values():
            await edge.catch_up()
            edge.check_age()

    async def _poll(self, one: Endpoint) -> None:
        self.at(one.every + self.between(timedelta(0), HOUR), "poll", one)
        await self._turns(None)
        applied = await one.poll(self.history)
        if applied is None:
            return
        self.say(f"applied {one.name} {applied}")
        if applied in self.bad and applied not in self.seen_bad:
            self.seen_bad.add(applied)
            if self.random.random() < 0.7:
                self.at(self.between(MINUTE, 2 * HOUR), "hold", True)
            self.at(self.between(2 * HOUR, 6 * HOUR), "withdraw", applied)
        elif self.random.random() < 0.03:
            self.at(self.between(MINUTE, HOUR), "hold", True)
            self.at(self.between(2 * HOUR, 20 * HOUR), "hold", False)

    @property
    def published(self) -> str:
        """Every byte that was signed, in a line."""
        return f"published {digest(repr(sorted(self.storage.files.items())).encode())}"

    async def _ends(self) -> None:
        """Days after the last fault: everybody runs the newest release, and nobody a withdrawn one."""
        held = [region for region, one in self.signed.items() if one["held"]]
        if held:
            await self._hold(False)
        for _ in range(len(self.stages.stages) + 1):
            self.now += 13 * HOUR
            self.queue.clear()
            await self._look(0)
        for edge in self.network.edges.values():
            if edge.faulty:
                await self._mended_edge(edge)
        self.network.apart.clear()
        self.network.down.clear()
        for one in self.endpoints:
            one.offset = timedelta(0)
            await self._poll(one)
            assert one.installed == len(self.history), f"{one.name} runs {one.installed} of {len(self.history)}"
        self.say(f"ended {len(self.history)} releases")


# -- running them ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def template() -> Iterator[tuple[Home, Keyring]]:
    """An origin after its ceremony, with the same keys in every process; they are opened once."""
    regions = "".join(f'[regions.{name}]\njurisdiction = "x"\nwave = {wave}\n' for wave, name in enumerate(REGIONS, 1))
    numbers = itertools.count()

    def generate() -> SigningKey:
        return SigningKey(hashlib.sha256(f"key {next(numbers)}".encode()).digest())

    with memory_folder() as folder:
        with patch.object(SigningKey, "generate", generate):
            home = asyncio.run(origins.make(folder / "template", regions=regions))
        keyring = origins.keyring(home)
        for name in keyring.files():
            if not name.startswith(("root", "targets")):
                keyring.signer(name)
        yield home, keyring


@contextlib.contextmanager
def remembered_checks() -> Iterator[None]:
    """The same file is parsed once, the same signature of the same key over the same bytes looked at once: answers cannot change."""
    keys, metadata = coldchain.keys, coldchain.tuf.metadata
    bodies: dict[tuple[object, ...], metadata.Metadata] = {}
    real_body, envelope = metadata.parse_body, functools.lru_cache(4096)(metadata.parse_envelope)

    def body(found: Any, kind: Any, limits: Any = LIMITS, *, name: str | None = None) -> metadata.Metadata:
        key = (found.raw, found.what, kind, name)
        if key not in bodies:
            bodies[key] = real_body(found, kind, limits, name=name)
        return bodies[key]

    with contextlib.ExitStack() as stack:
        for module in (metadata, coldchain.tuf.trusted_set):
            stack.enter_context(patch.object(module, "parse_envelope", envelope))
            stack.enter_context(patch.object(module, "parse_body", body))
        verify, point = keys.PublicKey.verify, crypto_core_ed25519_is_valid_point
        stack.enter_context(patch.object(keys.PublicKey, "verify", functools.lru_cache(50_000)(verify)))
        stack.enter_context(patch.object(keys, "crypto_core_ed25519_is_valid_point", functools.lru_cache(1000)(point)))
        yield


async def _no_packs(*_: object) -> None:
    """There are no bundles to put into them."""


def month(template: tuple[Home, Keyring], seed: int) -> Month:
    """Runs one; a failure carries the seed and the end of the trace."""
    made, keyring = template
    directory = made.directory.parent / "month"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name in ("settings.toml", "regions.toml", "root.json", "catalogue.sqlite"):
        shutil.copy(made.directory / name, directory / name)
    home = Home(directory)
    files = {str(path.relative_to(made.public)): path.read_bytes() for path in made.public.rglob("*") if path.is_file()}
    home.storage = DyingStorage(files)  # type: ignore[assignment]
    found = Month(home, keyring, seed)

    async def run() -> None:
        async with home.catalogue() as catalogue:
            await found.run(catalogue)

    try:
        with in_memory(), remembered_checks(), patch.object(rotation, "put_packs", _no_packs):
            asyncio.run(run())
    except BaseException as error:
        lines = [f"seed {seed}: python -m tests.system.month {seed}", f"the last of {len(found.trace)} lines:"]
        error.add_note("\n".join([*lines, *found.trace[-60:]]))
        error.trace = found.trace  # type: ignore[attr-defined]
        raise
    return found


def totals(found: Month, into: dict[str, int]) -> None:
    """Adds what happened in a month."""
    for word, count in found.counts.items():
        into[word] = into.get(word, 0) + count
    into["releases"] = into.get("releases", 0) + len(found.history)
    into["bad"] = into.get("bad", 0) + len(found.seen_bad)
    into["withdrawals"] = into.get("withdrawals", 0) + sum(one.withdraws is not None for one in found.history)


def main(words: str) -> int:
    """See the module."""
    first, _, last = words.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    counts: dict[str, int] = {}
    failed = []
    with template() as made:
        begun = time.process_time()
        for seed in seeds:
            if last and seed % 100 == 0:
                print(f"{seed} …", file=sys.stderr, flush=True)
            try:
                found = month(made, seed)
            except Exception as error:  # noqa: BLE001  any of them is a failure of that seed
                failed.append(seed)
                print(*(error.trace if not last else []), f"seed {seed}: {type(error).__name__}: {error}", sep="\n")  # type: ignore[attr-defined]
                continue
            totals(found, counts)
            if not last:
                print(*found.trace, found.published, sep="\n")
        spent = time.process_time() - begun
    if last:
        print(", ".join(f"{word} {count:,}" for word, count in sorted(counts.items())))
        print(f"{len(seeds)} months, {len(failed)} failed {failed}, {spent:.0f} s CPU")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
