"""kill -9 at every C call of ``residency move``, with reports coming in at every step: each counts exactly once, whatever dies.

The witness is a real one, its service on a real socket in the process that dies; its memory is on the disk, as the stores are. After
each death

* what counts of the region (the store that regions.toml names) is every report that was acknowledged, once; one that was not
  acknowledged counts once or not at all;
* what other regions have is untouched;
* regions.toml is the old text or the new one, and the new one only when the log holds the entry under the witness's cosignature;
* ``residency show`` finds nothing where it must not be;
* the same command goes on to the end: everything counts once in the new store, nothing is in the old one, and the log holds one entry.

Negative controls with a step left out, or in the wrong place, prove that the sweep can fail.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite.core
import pytest

from coldchain.errors import BusyError, ColdchainError
from coldchain.tlog.offline import verify_proof
from coldchain.tlog.proof import OfflineProof
from coldchain_server.assembly.residency_line import set_residency
from coldchain_server.home import Home
from coldchain_server.reports import move as room
from coldchain_server.reports.moving import Moving, all_moving
from coldchain_server.reports.store import ReportStore
from tests.client.tuf.repository import NOW
from tests.faults import crashpoints
from tests.server.memory import memory_folder
from tests.server.reports import residents
from tests.server.reports.residents import ONE, arrive, counted, everything, logged
from tests.server.witnesses import Team, policy_in

A_FEW = 6
NAME = "zurich"
ROWS = 9


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


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a copy takes several."""
    monkeypatch.setattr("coldchain_server.reports.copying.PIECE", 4)


@dataclass
class World:
    """An origin, its witness, and what was acknowledged to those who sent reports."""

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

    @property
    def acknowledged(self) -> int:
        """How many reports came in during the move and were told that they count."""
        path = self.folder / "acknowledged"
        return path.stat().st_size if path.exists() else 0

    def send(self) -> None:
        """The next report comes; a sender that is told to come again does so at the next step, with the same number."""
        try:
            arrive(self.home, "us", self.acknowledged + 1)
        except BusyError:
            return
        with (self.folder / "acknowledged").open("ab") as file:
            file.write(b".")


def lasting_port() -> int:
    """A free port that the system gives to nobody meanwhile: below those it chooses from."""
    while True:
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def made(memory: Path) -> World:
    """Reports of every region are in a store of its own, and a witness follows the log."""
    world = World(memory / "template")
    world.folder.mkdir()

    async def make() -> None:
        world.port = lasting_port()
        team = world.team()
        home = await residents.make(world.folder / "origin", rows=ROWS)
        (world.folder / "witnesses").mkdir()
        await team.start()
        try:
            await team.join(home, 1)
        finally:
            await team.stop()

    asyncio.run(make())
    return world


class Senders:
    """Reports come at every step of the move that says something, or asks the witnesses."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        real: dict[str, Any] = {name: getattr(room, name) for name in ("copy_all", "settle", "remove", "append_entry")}

        def copy_all(source: ReportStore, target: ReportStore, moving: Moving, say: room.Say) -> None:
            if not source._in_transaction():  # else a sender waits until the move lets go
                world.send()
            real["copy_all"](source, target, moving, say)

        def settle(home: Home, moving: Moving, say: room.Say) -> None:
            world.send()
            real["settle"](home, moving, say)
            world.send()

        async def append_entry(*values: Any, **named: Any) -> Any:
            world.send()
            found = await real["append_entry"](*values, **named)
            world.send()
            return found

        patch.setattr(room, "copy_all", copy_all)
        patch.setattr(room, "settle", settle)
        patch.setattr(room, "append_entry", append_entry)


async def move_it(world: World) -> None:
    """``residency move --region us --to ch`` while the witness is at work and reports come."""
    team = world.team()
    await team.start()
    try:
        await residents.move(world.home)
        crashpoints.acknowledge()
    finally:
        await team.stop()


def moving_it(world: World) -> Callable[[], None]:
    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            Senders(world, patch)
            asyncio.run(move_it(world))

    return work


def state_after(template: World, world: World) -> str:
    """How far it came; ``torn`` says what is wrong."""
    try:
        return asyncio.run(_state_after(template, world))
    except (ColdchainError, AssertionError, OSError, ValueError) as error:
        return f"torn: {type(error).__name__} {error}"[:300]


async def _state_after(template: World, world: World) -> str:
    home, text = world.home, template.home.regions_text()
    configured = home.regions().regions["us"].residency
    assert home.regions_text() == text.replace('residency = "us"', f'residency = "{configured}"'), "another text"
    check_counted(template, world)
    for region in ("jp", "nippon"):
        assert counted(home, region) == counted(template.home, region), "another region was touched"
    entries = await logged(home)
    assert len(entries) <= 1, "two entries for one move"
    if configured == "ch":
        await check_logged(home)
    problems = (await residents.show(home)).problems
    assert not problems, problems
    underway = all_moving(home)
    if not underway:
        return "untouched" if configured == "us" else "moved"
    (moving,) = underway
    return f"{moving.step}, {'switched' if configured == 'ch' else 'not switched'}"


def check_counted(template: World, world: World) -> None:
    """Every acknowledged report counts once; one that died with its sender's answer once or not at all."""
    found, expected = counted(world.home, "us"), counted(template.home, "us")
    late = found[ONE] - expected[ONE]
    assert world.acknowledged <= late <= world.acknowledged + 1, f"{late} of {world.acknowledged} late reports count"
    assert found == expected | Counter({ONE: expected[ONE] + late} if late else {}), "not what was counted before"


async def check_logged(home: Home) -> None:
    """The entry is under a published checkpoint that the witness cosigned."""
    (entry,) = await logged(home)
    log = await residents.public_log(home)
    note = await log.published()
    assert note is not None, "switched, and nothing is published"
    index = await log.find(entry.encode(), 0)
    assert index is not None
    proof = OfflineProof(index, tuple(await log.inclusion(index, await log.checkpoint())), note)
    verified = verify_proof(entry.encode(), proof, await policy_in(home), NOW)
    assert list(verified.head.verdict.counted) == [NAME]


async def try_again(template: World, world: World) -> None:
    """The same command, once more; and nothing is left over."""
    await move_it(world)
    await residents.move(world.home)  # it is there already
    home = world.home
    assert home.regions().regions["us"].residency == "ch"
    check_counted(template, world)
    world.send()
    check_counted(template, world)
    found = everything(home)
    assert found["us"] == {}, "the old store still holds something"
    assert set(found["ch"]) == {"us"}
    assert len(await logged(home)) == 1
    assert (await residents.show(home)).problems == []
    assert [str(path) for path in home.directory.rglob(".*") if home.public not in path.parents] == []
    assert [path.name for path in (home.residency / "moving").iterdir()] == []


def sweep(template: World, folder: Path, most: int) -> Counter[str]:
    def fresh() -> World:
        return template.copy(folder / "swept")

    world = fresh()
    whole = crashpoints.run(moving_it(world))
    assert whole.finished, whole.raised
    assert world.acknowledged >= 5, "reports came at most steps"
    asyncio.run(try_again(template, world))
    states: Counter[str] = Counter()
    for point in crashpoints.spread(len(whole.calls), most):
        world = fresh()
        ending = crashpoints.run(moving_it(world), point)
        if ending.finished:  # witness and origin take turns: a run may have a few calls fewer than another one
            assert point > len(whole.calls) - 12
            continue
        assert ending.killed, (point, ending.raised)
        state = state_after(template, world)
        states[state] += 1
        assert not state.startswith("torn"), f"point {point} ({whole.calls[point - 1]}): {state}"
        assert not ending.acknowledged or state == "moved", f"point {point}: acknowledged, and {state}"
        asyncio.run(try_again(template, world))
    print(f"\nresidency move: {sum(states.values())} of {len(whole.calls)} points, 0 torn: {dict(states)}")
    return states


STATES = {
    "untouched",
    "copying, not switched",
    "logging, not switched",
    "logged, not switched",
    "switching, not switched",
    "switching, switched",
    "moved",
}


def test_every_report_counts_once_at_a_few_points(made: World, memory: Path) -> None:
    states = sweep(made, memory, A_FEW)
    assert set(states) <= STATES
    assert len(states) >= 3


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_every_report_counts_once_at_every_point(made: World, memory: Path) -> None:
    assert set(sweep(made, memory, 1_000_000)) == STATES


# -- the sweep finds a wrong order ------------------------------------------------------------------------------------


def removing_first(patch: pytest.MonkeyPatch) -> None:
    """The old copy goes before regions.toml names the new one."""
    real = set_residency

    def early(text: str, region: str, store: str) -> str:
        with ReportStore.open(Path(swept[-1].home.directory / "reports" / "us")) as old:
            old.remove("us")
        return real(text, region, store)

    patch.setattr(room, "set_residency", early)


def switching_first(patch: pytest.MonkeyPatch) -> None:
    """regions.toml names the new store before anything is there."""
    real = room.begin

    def early(home: Home, region: str, target: str) -> Moving | None:
        moving = real(home, region, target)
        home.write_regions(set_residency(home.regions_text(), region, target))
        return moving

    patch.setattr(residents, "begin", early)
    patch.setattr(room, "_check", lambda *_: None)


def not_sealing(patch: pytest.MonkeyPatch) -> None:
    """A report that comes between the last comparison and the switch is left behind."""
    real = set_residency

    def late(text: str, region: str, store: str) -> str:
        swept[-1].send()
        return real(text, region, store)

    patch.setattr(ReportStore, "seal", lambda *_: None)
    patch.setattr(room, "set_residency", late)


def not_saying(patch: pytest.MonkeyPatch) -> None:
    """The switch comes before the log."""

    async def nothing(home: Home, moving: Moving, _: object) -> Moving:
        room.switch(home, moving, lambda _: None)
        raise AssertionError("the log is told now")

    patch.setattr(room, "_log", nothing)


swept: list[World] = []
"""The world that the broken order works on."""


@pytest.mark.parametrize("broken", [removing_first, switching_first, not_sealing, not_saying])
def test_the_sweep_finds_what_is_wrong(
    made: World, memory: Path, broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    swept.append(made.copy(memory / "torn"))
    whole = crashpoints.run(moving_it(swept[-1]))
    found = {state_after(made, swept[-1])}
    renames = [point for point, call in enumerate(whole.calls, 1) if call.startswith("rename")]
    for point in reversed(renames):  # where the order matters
        if any(state.startswith("torn") for state in found):
            break
        swept.append(made.copy(memory / "torn"))
        crashpoints.run(moving_it(swept[-1]), point)
        found.add(state_after(made, swept[-1]))
    assert any(state.startswith("torn") for state in found), found
