"""A month of rollouts on a virtual clock, by seed: publishers that crash, clocks that are off, mirrors that are stale, bad releases.

Real are: what the origin signs (releases begin, stages advance, holds, withdrawals, the renewal of what expires, by real keys), and
what endpoints do with it (the TUF workflow from the pinned root with what they stored, and the decision with a bucket of their own).
Made up are: bundles, of which only the facts that the threshold signs are there, and time.

What must hold in every month:

- what an endpoint runs was signed by the threshold, and never falls;
- of one release no share falls, no stage is skipped, no wave begins before the one before it is through, nothing moves while held;
- unless a publisher's clock ran ahead, the first stage lasts its time, in an emergency too;
- an endpoint on a withdrawn release leaves it with the first poll that shows it the withdrawal, unless that is held;
- when the faults end, everybody comes to the newest release.

A month is its seed: the same seed gives the same trace, line by line, which a failure prints. A few seeds run always; 1,000 are run by
``make faults``. ``pytest tests/system/test_month.py -k 'seed-17-'`` replays one.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coldchain.bundle.manifest import BundleFacts, Manifest, RegionFacts
from coldchain.errors import ColdchainError, StateError
from coldchain.tuf.refresh import refresh
from coldchain.verify import BUCKETS, EVIDENCE, decide, region_release, rollout_state, says_who_it_is
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.home import Home
from coldchain_server.release.rollout import Course, advance_due, begin, change_rollout, course
from coldchain_server.release.withdraw import choose
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import ROLLOUT, ChannelFacts, load_state, next_region_role, sign
from coldchain_server.signing.rotation import publish_roles, renew, role_signers
from tests.client.tuf.repository import NOW
from tests.client.tuf.repository import Client as TufClient
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.web.published import MemoryStorage

DAYS = 30
QUICK = 2
MANY = 1000
REGIONS = ("us", "jp")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
RENEW_SECONDS = 24 * 3600.0


class DiedError(Exception):
    """The publisher's process is gone, between two files."""


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
class Endpoint:
    """An endpoint: what it stored, what it runs, and how wrong its clock is."""

    name: str
    region: str
    client: TufClient
    offset: timedelta
    every: timedelta
    installed: int | None = None
    bucket: tuple[int, int] = (0, 0)


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
    ahead: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        storage: object = self.home.storage
        assert isinstance(storage, DyingStorage)
        self.storage = storage

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
        endpoints = self._endpoints()
        for publisher in (0, 1):
            self.at(self.between(MINUTE, HOUR), "look", publisher)
        for one in endpoints:
            self.at(self.between(MINUTE, one.every), "poll", one)
        self.at(HOUR, "release")
        self.at(self.between(HOUR, 48 * HOUR), "fault")
        end = NOW + timedelta(days=DAYS)
        quiet = end - timedelta(days=6)
        while self.queue and self.queue[0][0] <= end:
            self.now, _, what, value = heapq.heappop(self.queue)
            if self.now > quiet and what in ("fault", "release"):
                continue
            await getattr(self, f"_{what}")(value)
            if self.now > quiet:
                self.clocks = [timedelta(0), timedelta(0)]
        await self._ends(endpoints)

    def _schedule(self) -> None:
        wave_1 = sorted(self.random.sample(range(1, 100), self.random.randint(0, 2)))
        rows = [f"{{ wave = 1, share = {share}, hours = {self.random.randint(1, 12)} }}" for share in (*wave_1, 100)]
        rows += [f"{{ wave = 2, share = 20, hours = {self.random.randint(1, 12)} }}"] * self.random.randint(0, 1)
        rows.append("{ wave = 2, share = 100 }")
        text = f"[stable]\nemergency = {{ minutes = {self.random.randint(1, 30)} }}\nstages = [{', '.join(rows)}]\n"
        (self.home.directory / "rollout.toml").write_text(text)
        self.stages = self.home.schedules()["stable"]

    def _endpoints(self) -> list[Endpoint]:
        pinned = {"root.json": self.home.pinned_root()}
        offsets = [timedelta(0), timedelta(0), timedelta(minutes=-7), self.random.choice([-30, 30]) * HOUR]
        return [
            Endpoint(
                f"{region}-{number}",
                region,
                TufClient(dict(pinned)),
                offsets[number + 2 * (region == "jp")],
                self.between(10 * HOUR, 20 * HOUR),
            )
            for region in REGIONS
            for number in (0, 1)
        ]

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
        facts = {region: BundleFacts(digest(f"bundle {number} {region}"), 1, 1) for region in REGIONS}
        manifest = Manifest(
            "coldchain", "stable", number, None, "2026-06-01T00:00:00Z", facts["us"],
            {region: RegionFacts(one) for region, one in facts.items()}, (), "0.1.0", withdraws=said,
        )  # fmt: skip
        emergency = emergency or self.random.random() < 0.2

        async def work(now: datetime) -> None:
            state = await load_state(self.storage)
            roles = {}
            for region, one in facts.items():
                files = {f"{region}/stable/{name}": (1, digest(name)) for name in ("full.ccd", EVIDENCE)}
                channel = ChannelFacts(number, one.bundle, 1, 1, manifest.digest, files)
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
            if await renew(state, self.keyring, self.storage, now=now, every=RENEW_SECONDS):
                state = await load_state(self.storage)
            await advance_due(self.home, state, self.keyring, ["stable"], now=now)

        if not await self._signing(signing, publisher, "in turn"):
            self.at(self.between(MINUTE, 30 * HOUR), "look", publisher)  # until somebody starts it again
            return
        wait = self.between(6 * HOUR, 16 * HOUR)
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
        self.storage.dies = self.random.randint(0, 5) if dying else None
        timestamp = self.storage.files["metadata/timestamp.json"]
        lived = True
        try:
            await work((self.now + self.clocks[publisher]).replace(microsecond=0))
        except DiedError:
            lived = False
            self.say(f"died {what}")
        self.storage.dies = None
        if self.storage.files["metadata/timestamp.json"] != timestamp:
            self._remember()
            await self._check_signed(what)
        return lived

    def _remember(self) -> None:
        self.states.append((self.now, dict(self.storage.files)))

    async def _check_signed(self, what: str) -> None:
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
            if stands.reached == 2 and before == 1 and not self.ahead:
                lasted = self.now - self.began[new["us"]["release"]]
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
        self.ahead = self.ahead or jump > 5 * MINUTE
        self.say(f"clock of publisher {publisher} is off by {jump}")
        self.at(self.between(HOUR, 24 * HOUR), "mended", publisher)
        self.at(self.between(24 * HOUR, 150 * HOUR), "fault")

    async def _mended(self, publisher: int) -> None:
        self.clocks[publisher] = timedelta(0)

    # -- endpoints -----------------------------------------------------------------------------------------------------

    async def _poll(self, one: Endpoint) -> None:
        self.at(one.every + self.between(timedelta(0), HOUR), "poll", one)
        lag = timedelta(0) if self.random.random() < 0.8 else self.between(HOUR, 60 * HOUR)
        files = next(
            files for time, files in reversed(self.states) if time <= self.now - lag or time == self.states[0][0]
        )
        try:
            now = self.now + one.offset
            steps = refresh(dict(one.client.stored), now, [one.region, ROLLOUT], check=says_who_it_is)
            found = one.client.drive(steps, files.get)
            release = region_release(found.role(one.region), one.region, "stable")
            rollout = rollout_state(found.role(ROLLOUT), one.region, "stable")
            if one.bucket[0] != release.release:
                one.bucket = (release.release, self.random.randrange(BUCKETS))
            decision = decide(release, rollout, one.installed, one.bucket[1])
        except ColdchainError as error:
            self.say(f"refused {one.name} {type(error).__name__}")
            return
        assert rollout is not None
        withdrawn = {number for manifest in self.history[: release.release] if manifest.withdraws
                     for number in manifest.withdraws.releases}  # fmt: skip
        if one.installed in withdrawn and one.installed != release.release and not rollout.held:
            assert decision.action == "apply", f"{one.name} stays on {one.installed}, which was withdrawn"
        if decision.action != "apply":
            return
        assert release.release > (one.installed or 0), f"{one.name} went back"
        assert release.bundle == digest(f"bundle {release.release} {one.region}"), "nobody signed that"
        assert not rollout.held
        one.installed = release.release
        self.say(f"applied {one.name} {release.release}")
        if one.installed in self.bad and one.installed not in self.seen_bad:
            self.seen_bad.add(one.installed)
            held = self.random.random() < 0.7
            if held:
                self.at(self.between(MINUTE, 2 * HOUR), "hold", True)
            self.at(self.between(2 * HOUR, 6 * HOUR), "withdraw", one.installed)
        elif self.random.random() < 0.03:
            self.at(self.between(MINUTE, HOUR), "hold", True)
            self.at(self.between(2 * HOUR, 20 * HOUR), "hold", False)

    async def _ends(self, endpoints: list[Endpoint]) -> None:
        """Days after the last fault: everybody runs the newest release, and nobody a withdrawn one."""
        held = [region for region, one in self.signed.items() if one["held"]]
        if held:
            await self._hold(False)
        for _ in range(len(self.stages.stages) + 1):
            self.now += 13 * HOUR
            self.queue.clear()
            await self._look(0)
        self.states[:-1] = []
        for one in endpoints:
            one.offset = timedelta(0)
            self.random.random = lambda: 0.5  # type: ignore[method-assign]
            await self._poll(one)
            assert one.installed == len(self.history), f"{one.name} runs {one.installed} of {len(self.history)}"
        self.say(f"ended {len(self.history)} releases")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def template() -> Iterator[tuple[Home, Keyring]]:
    """An origin after its ceremony; keys are opened once."""
    regions = "".join(f'[regions.{name}]\njurisdiction = "x"\nwave = {wave}\n' for wave, name in enumerate(REGIONS, 1))
    with memory_folder() as folder:
        home = asyncio.run(origins.make(folder / "template", regions=regions))
        keyring = origins.keyring(home)
        for name in keyring.files():
            if not name.startswith(("root", "targets")):
                keyring.signer(name)
        yield home, keyring


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
        asyncio.run(run())
    except BaseException as error:
        error.add_note("\n".join([f"seed {seed}; the last of {len(found.trace)} lines:", *found.trace[-40:]]))
        raise
    return found


@pytest.mark.parametrize("seed", range(QUICK), ids=lambda seed: f"seed-{seed}-")
def test_a_month(template: tuple[Home, Keyring], seed: int) -> None:
    found = month(template, seed)
    assert found.counts["applied"] > 8
    assert len(found.history) >= 4


def test_a_seed_replays_exactly(template: tuple[Home, Keyring]) -> None:
    first, again = month(template, 7), month(template, 7)
    assert first.trace == again.trace
    assert first.states[-1] == again.states[-1], "the same month signed other bytes"


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(QUICK, MANY), ids=lambda seed: f"seed-{seed}-")
def test_many_months(template: tuple[Home, Keyring], seed: int) -> None:
    found = month(template, seed)
    for word, count in found.counts.items():
        TOTALS[word] = TOTALS.get(word, 0) + count
    TOTALS["bad"] = TOTALS.get("bad", 0) + len(found.seen_bad)
    TOTALS["withdrawn"] = TOTALS.get("withdrawn", 0) + sum(one.withdraws is not None for one in found.history)
    TOTALS["releases"] = TOTALS.get("releases", 0) + len(found.history)
    if seed == MANY - 1:
        print(f"\n{MANY - QUICK} months: " + ", ".join(f"{word} {count:,}" for word, count in sorted(TOTALS.items())))


TOTALS: dict[str, int] = {}
