"""kill -9 at every C call of ``release log``: the log only grows, what a witness cosigned stays in it, and the next try ends it.

The witness is a real one: its service runs on a real socket in the process that dies, and its memory is on the disk, as the origin's
files are. After each death

* the checkpoint has its tiles, its first entries are the old ones, and it continues whatever the witness holds;
* no role was signed unless the draft holds a proof of the log that the customers' policy accepts;
* endpoints see the release before, whole;
* the next try succeeds, with exactly one entry for the release, and the release can be published.

Negative controls with the order of writing broken on purpose prove that the sweep can fail.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite.core
import pytest

from coldchain.bundle.evidence_file import read_evidence_file
from coldchain.bundle.manifest import Manifest
from coldchain.errors import ColdchainError, StateError
from coldchain.tlog.checkpoint import check_extends
from coldchain.tlog.offline import verify_proof
from coldchain.verify import EVIDENCE, PROOF
from coldchain_server.catalogue.sqlite import SqliteCatalogue
from coldchain_server.home import Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.log.public_log import PENDING, PREFIX, PublicLog
from coldchain_server.release import log as log_room
from coldchain_server.release.drafts import Draft
from coldchain_server.signing.roles import load_state
from coldchain_server.storage.directory import DirectoryStorage
from tests.client.tuf.repository import NOW
from tests.faults import crashpoints
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.witnesses import Team, policy_in

A_FEW = 20
NAME = "zurich"


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """What kill -9 leaves does not depend on the disk."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def visible_database_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiosqlite calls SQLite through functools.partial, which no profiler sees; here each is called by its name."""

    def seen(function: Callable[..., object], *values: object, **named: object) -> Callable[[], object]:
        return lambda: function(*values, **named)

    monkeypatch.setattr(aiosqlite.core, "partial", seen)


@dataclass
class World:
    """An origin and its witness, as they stand on the disk."""

    folder: Path
    port: int = 0

    @property
    def home(self) -> Home:
        return Home(self.folder / "origin")

    def team(self) -> Team:
        return Team(self.folder / "witnesses", (NAME,), NOW, {NAME: self.port} if self.port else {})

    def copy(self, folder: Path) -> World:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        return World(folder, self.port)


@pytest.fixture(scope="module")
def built(memory: Path) -> World:
    """Release 1 is published and cosigned, release 2 is built."""
    world = World(memory / "template")
    world.folder.mkdir()

    async def make() -> None:
        team = world.team()
        home = await origins.make(world.folder / "origin")
        (world.folder / "witnesses").mkdir()
        await team.start()
        world.port = team.ports[NAME]
        try:
            await team.join(home, 1)
            await origins.release(home, origins.FIRST)
        finally:
            await team.stop()
        await origins.only_build(home, origins.SECOND)

    asyncio.run(make())
    return world


async def log_it(world: World) -> None:
    """``release log 2`` while the witness is at work."""
    team, home = world.team(), world.home
    await team.start()
    try:
        async with home.catalogue() as catalogue:
            await log_room.log_release(home, catalogue, origins.keyring(home), HttpWitnesses(), "stable", 2, now=NOW)
            crashpoints.acknowledge()
    finally:
        await team.stop()


def logging(world: World) -> Callable[[], None]:
    def work() -> None:
        asyncio.run(log_it(world))

    return work


def state_after(template: World, world: World, acknowledged: bool) -> str:
    """``unlogged``, ``in the log``, ``signed`` or ``logged``; anything else says what is torn."""
    try:
        return asyncio.run(_state_after(template, world, acknowledged))
    except (ColdchainError, AssertionError, OSError, ValueError) as error:
        return f"torn: {type(error).__name__} {error}"[:200]


async def _state_after(template: World, world: World, acknowledged: bool) -> str:
    home = world.home
    assert origins.read_all(home) == 1, "endpoints do not see the release before"
    policy = await policy_in(home)
    log = PublicLog(home.storage, policy.log_keys[0])
    head = await log.checkpoint()
    data = Draft(home.draft("stable", 2)).read(home.draft("stable", 2) / "manifest.json")
    _, entries = await log.last_entries(head)
    old = (await PublicLog(template.home.storage, log.key).last_entries(await _head(template)))[1]
    assert entries in (old, [*old, data]), "the log holds something else than the release, or not what it held"
    check_extends(await _head(template), head, await log.growth(len(old), head))
    held = world.team().held(NAME, log.key)
    assert held is not None, "the witness forgot"
    assert held.size <= head.size, "the witness holds more than the tree"
    check_extends(held, head, await log.growth(held.size, head))
    draft = Draft(home.draft("stable", 2))
    signed = draft.roles.exists() and any(draft.roles.glob("*.json"))
    if signed:
        assert (draft.directory / PROOF).exists(), "a role is signed and there is no proof"
        proof = verify_proof(data, draft.read(draft.directory / PROOF), policy, NOW)
        assert proof.head.checkpoint == held, "the proof is not what the witness holds"
        said = read_evidence_file(draft.read(draft.directory / EVIDENCE))
        assert said == (data, draft.read(draft.directory / PROOF)), "the evidence file holds something else"
    row = (await origins.states(home))[2]
    if row == "logged":
        assert sorted(path.stem for path in draft.roles.glob("*.json")) == ["jp", "us"], "logged, and a role is missing"
        return "logged"
    assert row == "built"
    assert not acknowledged, "acknowledged, and the catalogue does not know"
    return "signed" if signed else "unlogged" if len(entries) == len(old) else "in the log"


async def _head(world: World) -> Any:
    return await PublicLog(world.home.storage, (await policy_in(world.home)).log_keys[0]).checkpoint()


async def try_again(world: World, *, publish: bool) -> None:
    """What an operator types after a crash; that it was logged already is an answer, too."""
    home = world.home
    with suppress(StateError):
        await log_it(world)
    assert (await origins.states(home))[2] == "logged"
    log = PublicLog(home.storage, (await policy_in(home)).log_keys[0])
    _, entries = await log.last_entries(await log.checkpoint())
    data = (home.draft("stable", 2) / "manifest.json").read_bytes()
    assert len(entries) == 2, "more than one entry for the release"
    assert entries[1] == data
    if publish:
        await origins.approve_release(home, 2)
        await origins.publish_release(home, 2)
        assert origins.read_all(home) == 2
        assert [str(path) for path in (*home.public.rglob(".*"), *home.drafts.glob("*"))] == []


def sweep(template: World, folder: Path, most: int, *, every_publish: int = 1) -> Counter[str]:
    def fresh() -> World:
        return template.copy(folder / "swept")

    whole = crashpoints.run(logging(fresh()))
    assert whole.finished, whole.raised
    points = crashpoints.spread(len(whole.calls), most)
    states: Counter[str] = Counter()
    for turn, point in enumerate(points):
        world = fresh()
        ending = crashpoints.run(logging(world), point)
        if ending.finished:  # witness and origin take turns: a run may have a few calls fewer than another one
            assert point > len(ending.calls)
            continue
        assert ending.killed, (point, ending.raised)
        state = state_after(template, world, ending.acknowledged)
        states[state] += 1
        if not state.startswith("torn"):
            asyncio.run(try_again(world, publish=turn % every_publish == 0))
    torn = sum(count for state, count in states.items() if state.startswith("torn"))
    print(f"\nrelease log, kill -9: {len(points)} of {len(whole.calls)} points, {dict(states)}, {torn} torn")
    return states


STATES = {"unlogged", "in the log", "signed", "logged"}


def test_the_log_is_whole_at_a_few_points(built: World, memory: Path) -> None:
    states = sweep(built, memory, A_FEW, every_publish=5)
    assert set(states) <= STATES
    assert {"unlogged", "logged"} <= set(states)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_the_log_is_whole_at_every_point(built: World, memory: Path) -> None:
    assert set(sweep(built, memory, 1_000_000)) == STATES


# -- the sweep finds a wrong order ------------------------------------------------------------------------------------


def checkpoint_before_tiles(patch: pytest.MonkeyPatch) -> None:
    """Whoever sees the checkpoint finds no tiles."""
    waiting: list[tuple[str, Any]] = []
    real = DirectoryStorage.put

    async def put(storage: DirectoryStorage, path: str, data: Any, *, replace: bool = False) -> None:
        if path.startswith(f"{PREFIX}tile/"):
            waiting.append((path, data))
            return
        await real(storage, path, data, replace=replace)
        if path == PENDING:
            while waiting:
                await real(storage, *waiting.pop(0), replace=True)

    patch.setattr(DirectoryStorage, "put", put)


def signing_before_the_log(patch: pytest.MonkeyPatch) -> None:
    """The assembler signs the roles first, and the log comes afterwards."""
    real_files, real_roles = log_room._put_files, log_room._sign_roles

    async def early(home: Home, draft: Draft, manifest: Manifest, data: bytes) -> None:
        draft.write(draft.directory / EVIDENCE, b"to come")
        state = await load_state(home.storage)
        real_roles(draft, state, origins.keyring(home), manifest, NOW)
        await real_files(home, draft, manifest, data)

    patch.setattr(log_room, "_put_files", early)


def row_first(patch: pytest.MonkeyPatch) -> None:
    """The catalogue says that it is logged before the roles are there."""
    real_entry = log_room.append_entry
    real_state: Any = SqliteCatalogue.set_state

    async def entry(*values: Any) -> Any:
        found = await real_entry(*values)
        async with swept[-1].home.catalogue() as catalogue:
            await real_state(catalogue, "stable", 2, "logged", "2026-06-01T12:00:00Z")
        return found

    async def nothing(*_: Any) -> None:
        return None

    patch.setattr(log_room, "append_entry", entry)
    patch.setattr(SqliteCatalogue, "set_state", nothing)


swept: list[World] = []
"""The world that the broken order works on."""


def witness_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    """The checkpoint goes to the witnesses before it is in the tree."""

    async def nothing(log: PublicLog, note: Any) -> None:
        return

    patch.setattr(PublicLog, "keep", nothing)


def torn_states(template: World, folder: Path) -> Counter[str]:
    """The sweep's first half alone: nothing is tried after the crash, for the broken code would be tried with."""
    swept.append(template.copy(folder / "torn"))
    whole = crashpoints.run(logging(swept[-1]))
    assert whole.finished, whole.raised
    states: Counter[str] = Counter()
    # the wrong moment may last a few calls only: where the wide steps miss it, narrow ones follow
    points = [point for most in (60, 400) for point in crashpoints.spread(len(whole.calls), most)[::-1]]
    for point in dict.fromkeys(points):
        swept[-1] = template.copy(folder / "torn")
        ending = crashpoints.run(logging(swept[-1]), point)
        states[state_after(template, swept[-1], ending.acknowledged)] += 1
        if any(state.startswith("torn") for state in states):
            break
    return states


Break = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    "broken", [checkpoint_before_tiles, signing_before_the_log, row_first, witness_before_the_disk]
)
def test_the_sweep_finds_a_wrong_order(
    broken: Break, built: World, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        broken(patch)
        states = torn_states(built, memory)
    print(f"\n{broken.__name__}: {dict(states)}")
    assert any(state.startswith("torn") for state in states), states


def test_the_intact_order_passes_the_same_sweep(built: World, memory: Path) -> None:
    """The control of the controls: with nothing broken the same walk finds nothing."""
    world = built.copy(memory / "intact")
    assert state_after(built, world, acknowledged=False) == "unlogged"
    asyncio.run(log_it(world))
    assert state_after(built, world, acknowledged=True) == "logged"
