"""kill -9 at every C call of what the publishing side does: the published tree is the old or the new one, whole; the next try ends it.

The tree is walked by the client's own code from the pinned root, every bundle file that it names is applied, and an acknowledged
outcome is there. A few points are tried in every run, all of them by ``make faults``. Three negative controls, with the order of
writing broken on purpose, prove that the sweep can fail.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiosqlite.core
import pytest

from coldchain.errors import ColdchainError, StateError
from coldchain.verify import MANIFEST
from coldchain_server.catalogue.sqlite import SqliteCatalogue
from coldchain_server.founding import Founding, found
from coldchain_server.home import Home
from coldchain_server.release import publish as publish_room
from coldchain_server.release import suppress as suppress_room
from coldchain_server.release.build import build, discard
from coldchain_server.release.drafts import Draft
from coldchain_server.release.publish import publish
from coldchain_server.release.rollout import advance, change_rollout
from coldchain_server.release.withdraw import withdraw
from coldchain_server.signing import roles, rotation
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.roles import load_state
from coldchain_server.signing.rotation import rotate
from tests.client.tuf.repository import NOW
from tests.faults import crashpoints
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.release.test_rollout import scheduled

A_FEW = 16

Step = Callable[[Home], Coroutine[Any, Any, object]]


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """What kill -9 leaves does not depend on the disk."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def templates(memory: Path) -> dict[str, Home]:
    """Origins to start from.

    ``feed``: release 1 is out, the feed has changed; ``built`` and ``approved``: release 2 so far; ``two``: it is out; ``rolling``: by
    a schedule; ``held``: and held; ``withdrawn``, ``suppressed``: the release that withdraws it, or lacks a signature, is approved.
    """
    folder = memory / "templates"
    folder.mkdir()

    async def make() -> dict[str, Home]:
        home = await origins.make(folder / "feed")
        await origins.release(home, origins.FIRST)
        made = {"feed": home}
        home = made["built"] = origins.copy(home, folder / "built")
        await origins.build_release(home, origins.SECOND)
        home = made["approved"] = origins.copy(home, folder / "approved")
        await origins.approve_release(home, 2)
        made["two"], made["rolling"] = (origins.copy(home, folder / name) for name in ("two", "rolling"))
        await origins.publish_release(made["two"], 2)
        await origins.publish_release(scheduled(made["rolling"]), 2)
        for name, start, step in (
            ("held", "rolling", hold),
            ("withdrawn", "rolling", withdrawing),
            ("suppressed", "rolling", suppressing),
        ):
            made[name] = origins.copy(made[start], folder / name)
            await step(made[name])
            if name != "held":
                await origins.log_built(made[name], 3)
                await origins.approve_release(made[name], 3)
        return made

    return asyncio.run(make())


@pytest.fixture(autouse=True)
def visible_database_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiosqlite calls SQLite through functools.partial, which no profiler sees; here each is called by its name."""

    def seen(function: Callable[..., object], *values: object, **named: object) -> Callable[[], object]:
        return lambda: function(*values, **named)

    monkeypatch.setattr(aiosqlite.core, "partial", seen)


def working(home: Home, step: Step) -> Callable[[], None]:
    def work() -> None:
        asyncio.run(step(home))

    return work


async def publishing(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await publish(home, catalogue, origins.keyring(home), "stable", 2, now=NOW)
        crashpoints.acknowledge()


async def publish_again(home: Home) -> None:
    """What an operator types after a crash; that it went out already is an answer, too."""
    with suppress(StateError):
        await origins.publish_release(home, 2)
    assert await origins.states(home) == {1: "published", 2: "published"}
    assert origins.read_all(home) == 2


def leftovers(home: Home) -> list[str]:
    """Files that nothing will ever name or remove."""
    found = [*home.public.rglob(".*"), *home.drafts.glob("*")]
    return [str(path.relative_to(home.directory)) for path in found]


def state_after(home: Home, acknowledged: bool) -> str:
    """``old`` or ``new``; anything else says what is torn."""
    try:
        release = origins.read_all(home)
    except (ColdchainError, AssertionError, OSError) as error:
        return f"torn: {type(error).__name__} {error}"[:160]
    rows = asyncio.run(origins.states(home))
    if release == 1 and rows[2] == "published":
        return "torn: the catalogue says that 2 is out"
    if acknowledged and release != 2:
        return "torn: acknowledged and not there"
    return {1: "old", 2: "new"}.get(release, f"torn: release {release}")


def sweep(template: Home, folder: Path, most: int, *, every_next: int = 1) -> Counter[str]:
    """Kills the publish of release 2 at up to ``most`` points; every so many, release 3 follows as well."""

    def fresh() -> Home:
        return origins.copy(template, folder / "origin")

    whole = crashpoints.run(working(fresh(), publishing))
    assert whole.finished, whole.raised
    points = crashpoints.spread(len(whole.calls), most)
    states: Counter[str] = Counter()
    for turn, point in enumerate(points):
        home = fresh()
        ending = crashpoints.run(working(home, publishing), point)
        assert ending.killed, (point, ending.raised)
        state = state_after(home, ending.acknowledged)
        states[state] += 1
        if state.startswith("torn"):
            continue
        asyncio.run(publish_again(home))
        if turn % every_next == 0:
            assert asyncio.run(origins.release(home, origins.THIRD)) == 3
            assert origins.read_all(home) == 3
            assert leftovers(home) == []
    print(f"\npublish, kill -9: {len(points)} of {len(whole.calls)} points, {dict(states)}")
    return states


def test_publish_is_old_or_new_at_a_few_points(templates: dict[str, Home], memory: Path) -> None:
    assert set(sweep(templates["approved"], memory, A_FEW, every_next=5)) == {"old", "new"}


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_publish_is_old_or_new_at_every_point(templates: dict[str, Home], memory: Path) -> None:
    assert set(sweep(templates["approved"], memory, 1_000_000)) == {"old", "new"}


Break = Callable[[pytest.MonkeyPatch], None]


def names_before_blobs(patch: pytest.MonkeyPatch) -> None:
    """The signed roles go out first, what they name afterwards."""
    waiting: list[tuple[Any, ...]] = []
    real_targets, real_roles = publish_room._put_targets, rotation.publish_roles

    async def later(*values: Any) -> None:
        waiting.append(values)

    async def roles_first(*values: Any, **named: Any) -> None:
        await real_roles(*values, **named)
        for one in waiting:
            await real_targets(*one)

    patch.setattr(publish_room, "_put_targets", later)
    patch.setattr(publish_room, "publish_roles", roles_first)


def timestamp_first(patch: pytest.MonkeyPatch) -> None:
    """The role files in the wrong order."""
    real = roles.put_state

    async def backwards(storage: Any, files: dict[str, bytes]) -> None:
        await real(storage, dict(reversed(files.items())))

    patch.setattr(rotation, "put_state", backwards)


def row_first(patch: pytest.MonkeyPatch) -> None:
    """The catalogue says so before it is so."""
    real_roles, real_finish = rotation.publish_roles, publish_room._finish
    waiting: list[tuple[Any, ...]] = []

    async def later(*values: Any) -> None:
        waiting.append(values)

    async def finish_first(*values: Any) -> None:
        await real_finish(*values)
        await real_roles(*waiting[0])

    patch.setattr(publish_room, "publish_roles", later)
    patch.setattr(publish_room, "_finish", finish_first)


@pytest.mark.parametrize("broken", [names_before_blobs, timestamp_first, row_first])
def test_the_sweep_finds_a_wrong_order(
    broken: Break, templates: dict[str, Home], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        broken(patch)
        states = torn_states(templates["approved"], memory)
    assert any(state.startswith("torn") for state in states), states


def torn_states(template: Home, folder: Path) -> Counter[str]:
    """The sweep's first half alone: nothing is tried after the crash, for the broken code would be tried with."""
    home = origins.copy(template, folder / "origin")
    calls = crashpoints.run(working(home, publishing)).calls
    states: Counter[str] = Counter()
    for point in crashpoints.spread(len(calls), 72)[::-1]:
        home = origins.copy(template, folder / "origin")
        ending = crashpoints.run(working(home, publishing), point)
        states[state_after(home, ending.acknowledged)] += 1
        if any(state.startswith("torn") for state in states):
            break
    return states


# -- everything else that changes the origin --------------------------------------------------------------------------


async def initialise(home: Home) -> None:
    await found(home.directory, Founding(origins.SETTINGS, origins.REGIONS, lambda: origins.PASSPHRASE, DEMO), now=NOW)


async def build_again(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await build(home, catalogue, channel="stable", now=NOW, pull_feeds=False)


async def approve_again(home: Home) -> None:
    await origins.approve_release(home, 2, key="approver-1")


async def discard_again(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await discard(home, catalogue, "stable", 2, now=NOW)


async def hold(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await change_rollout(home, catalogue, origins.keyring(home), "stable", [], now=NOW, held=True)


async def resume(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await change_rollout(home, catalogue, origins.keyring(home), "stable", [], now=NOW, held=False)


async def set_share(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await change_rollout(home, catalogue, origins.keyring(home), "stable", ["jp"], now=NOW, share=30)


async def hurry(home: Home) -> None:
    """By hand, after the first stage and before its time is over, in an emergency."""
    later = NOW + timedelta(minutes=2)
    async with home.catalogue() as catalogue:
        ring = origins.keyring(home)
        await change_rollout(home, catalogue, ring, "stable", [], now=NOW, emergency=True)
        if origins.read(home, "us").share == 5:
            await advance(home, catalogue, ring, "stable", now=later, early=True)


async def publish_third(home: Home) -> None:
    """A withdrawal, or a suppression, that is approved."""
    await origins.publish_release(home, 3, emergency=True)


async def advancing(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await advance(home, catalogue, origins.keyring(home), "stable", now=NOW + timedelta(minutes=10))


async def withdrawing(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await withdraw(home, catalogue, "stable", 2, reason="bad", now=NOW)


async def suppressing(home: Home) -> None:
    async with home.catalogue() as catalogue:
        await suppress_room.suppress(home, catalogue, "stable", "Win.Trojan.Agent-5-0", reason="bad", now=NOW)


def rotating(role: str) -> Step:
    async def work(home: Home) -> None:
        async with home.catalogue() as catalogue, catalogue.publisher():
            state = await load_state(home.storage)
            await rotate(state, origins.keyring(home), home.storage, role, now=NOW, strength=DEMO)

    return work


DONE_BEFORE = StateError
"""What the second try of a step says whose first one was killed after it was done."""

STEPS: dict[str, tuple[str, Step]] = {
    "init": ("nothing", initialise),
    "build": ("feed", build_again),
    "approve": ("built", approve_again),
    "discard": ("built", discard_again),
    "hold": ("feed", hold),
    "hold a stage": ("rolling", hold),
    "resume": ("held", resume),
    "set a share": ("two", set_share),
    "advance": ("rolling", advancing),
    "hurry": ("rolling", hurry),
    "withdraw": ("two", withdrawing),
    "withdraw in a stage": ("rolling", withdrawing),
    "publish a withdrawal": ("withdrawn", publish_third),
    "suppress": ("feed", suppressing),
    "publish a suppression": ("suppressed", publish_third),
    **{f"rotate {role}": ("feed", rotating(role)) for role in rotation.ROTATABLE},
}


WAITS = {"build": [2], "approve": [2], "suppress": [2], "withdraw": [3], "withdraw in a stage": [3]}
"""Step -> the release that waits after it."""
QUICK_STEPS = [
    "init",
    "build",
    "approve",
    "discard",
    "set a share",
    "advance",
    "publish a withdrawal",
    "rotate timestamp",
]


def stands(home: Home) -> tuple[object, ...]:
    """What endpoints of both regions see, whole: the release, its share, whether it is held, and what nobody should run."""
    found = [origins.read(home, region) for region in ("us", "jp")]
    said = [(one.release.release, one.share, one.held, one.manifest.withdraws) for one in found]
    assert len({number for number, *_ in said}) == 1, f"torn: regions show {said}"
    return tuple(said)


@pytest.mark.parametrize("name", QUICK_STEPS)
def test_every_step_can_die_and_be_tried_again(name: str, templates: dict[str, Home], memory: Path) -> None:
    steps(name, templates, memory, 3)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", STEPS)
def test_every_step_can_die_at_every_point(name: str, templates: dict[str, Home], memory: Path) -> None:
    steps(name, templates, memory, 1_000_000)


def steps(name: str, templates: dict[str, Home], folder: Path, most: int, *, backwards: bool = False) -> None:
    start, step = STEPS[name]

    def fresh() -> Home:
        if start in templates:
            return origins.copy(templates[start], folder / "origin")
        shutil.rmtree(folder / "origin", ignore_errors=True)
        return Home(folder / "origin")

    before = stands(templates[start]) if start in templates else ()
    home = fresh()
    whole = crashpoints.run(working(home, step))
    assert whole.finished, whole.raised
    after = stands(home) if before else ()
    points = crashpoints.spread(len(whole.calls), most)
    found: Counter[str] = Counter()
    every_next = 1 if len(points) < 20 else 10  # a whole release more takes longer than all the rest
    for turn, point in enumerate(points[::-1] if backwards else points):
        home = fresh()
        ending = crashpoints.run(working(home, step), point)
        # random keys need a call more or less: the last point may lie beyond the end
        assert ending.killed or point >= len(ending.calls), ending
        if before:
            state = stands(home)
            assert state in (before, after), f"torn at {point}: {state}"
            found["same" if before == after else "old" if state == before else "new"] += 1
        with suppress(DONE_BEFORE):
            asyncio.run(step(home))
        assert not before or stands(home) == after, f"tried again after {point}: {stands(home)}"
        asyncio.run(_goes_on(home, name, whole=turn % every_next == 0))
    print(f"\n{name}, kill -9: {len(points)} of {len(whole.calls)} points, {dict(found)}, 0 torn")


async def _goes_on(home: Home, name: str, *, whole: bool) -> None:
    """After the second try the origin works; ``whole``: a new release can be made, and a client that pinned root version 1 reads it."""
    await load_state(home.storage)
    unpublished = [
        number for number, state in (await origins.states(home)).items() if state not in ("published", "discarded")
    ]
    assert unpublished == WAITS.get(name, [])
    if name in ("advance", "hurry"):
        assert [origins.read(home, region).share for region in ("us", "jp")] == [100, 0], "one stage on, and no more"
    if not whole:
        return
    if unpublished:
        (number,) = unpublished
        if name != "approve":
            await origins.log_built(home, number)
        await origins.approve_release(home, number, key="approver-2")
        await origins.publish_release(home, number)
        assert origins.read_all(home) == number
    else:
        number = await origins.release(home, origins.THIRD if name == "publish a withdrawal" else origins.SECOND)
        assert origins.read_all(home) == number
    assert leftovers(home) == []


def listed_first(patch: pytest.MonkeyPatch) -> None:
    """The catalogue knows of a draft before its manifest is on the disk."""
    real_write, real_put = Draft.write, SqliteCatalogue.put_release
    waiting: list[tuple[Draft, Path, bytes]] = []

    def write(self: Draft, path: Path, data: bytes) -> None:
        if path.name == MANIFEST:
            waiting.append((self, path, data))
        else:
            real_write(self, path, data)

    async def put(self: SqliteCatalogue, *values: Any) -> None:
        await real_put(self, *values)
        for draft, path, data in waiting:
            real_write(draft, path, data)
        waiting.clear()

    patch.setattr(Draft, "write", write)
    patch.setattr(SqliteCatalogue, "put_release", put)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "broken"),
    [
        *((name, timestamp_first) for name in ("hold a stage", "resume", "set a share", "advance", "hurry")),
        *((name, timestamp_first) for name in ("publish a withdrawal", "publish a suppression")),
        *((name, listed_first) for name in ("withdraw", "withdraw in a stage", "suppress")),
    ],
)
def test_a_step_in_the_wrong_order_is_found(
    name: str, broken: Break, templates: dict[str, Home], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert templates
    with monkeypatch.context() as patch:
        broken(patch)
        with pytest.raises((AssertionError, ColdchainError)) as caught:
            steps(name, templates, memory, 1_000_000, backwards=True)
    print(f"\n{broken.__name__}, {name}: {caught.value!s:.120}")
