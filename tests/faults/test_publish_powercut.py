"""A power cut at every call of publish: nothing torn, no row without its files, nothing lost that was acknowledged.

The controls leave fsync out (everywhere, or only for directories) and must be found out.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coldchain.errors import ColdchainError
from coldchain_server.home import Home
from tests.faults import crashpoints
from tests.faults.powercut import Disk
from tests.faults.test_publish_crash import publish_again, publishing, state_after, working
from tests.server import origins
from tests.server.memory import memory_folder

pytestmark = [pytest.mark.root, pytest.mark.faults, pytest.mark.timeout(1800)]

CHANGES = crashpoints.FILE_CALLS - {"open", "close", "flock"}
"""Between two changes a cut finds the same disk."""


@pytest.fixture
def disk() -> Iterator[Disk]:
    with memory_folder() as folder, Disk(folder) as one:

        async def make() -> None:
            home = await origins.make(one.mounted / "origin")
            await origins.release(home, origins.FIRST)
            await origins.build_release(home, origins.SECOND)
            await origins.approve_release(home, 2)

        asyncio.run(make())
        one.keep()
        yield one


def sweep(disk: Disk, most: int) -> Counter[str]:
    with disk.run() as mounted:
        whole = crashpoints.run(working(Home(mounted / "origin"), publishing), calls=CHANGES)
        assert whole.finished, whole.raised
    points = crashpoints.spread(len(whole.calls) + 1, most)  # the last one: it ends, and then the power goes
    states: Counter[str] = Counter()
    for point in points:
        with disk.run() as mounted:
            ending = crashpoints.run(working(Home(mounted / "origin"), publishing), point, calls=CHANGES)
            disk.cut()
        assert ending.killed or point > len(whole.calls)
        with disk.after_the_cut() as mounted:
            home = Home(mounted / "origin")
            state = state_after(home, ending.acknowledged)
            if not state.startswith("torn"):
                try:
                    asyncio.run(publish_again(home))
                except (ColdchainError, AssertionError, OSError) as error:
                    state = f"torn: the next publish: {error}"[:160]
        states[state] += 1
    print(f"\npublish, power cut: {len(points)} of {len(whole.calls) + 1} points, {dict(states)}")
    return states


def test_publish_survives_a_power_cut_at_every_call(disk: Disk) -> None:
    assert set(sweep(disk, 1_000_000)) == {"old", "new"}


def no_fsync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "fsync", lambda _: None)


def no_fsync_of_files(patch: pytest.MonkeyPatch) -> None:
    """The names are durable, what they name is not."""
    real = os.fsync

    def directories_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            real(handle)

    patch.setattr(os, "fsync", directories_only)


@pytest.mark.parametrize("broken", [no_fsync, no_fsync_of_files])
def test_the_sweep_finds_a_missing_fsync(
    broken: Callable[[pytest.MonkeyPatch], None], disk: Disk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        broken(patch)
        states = sweep(disk, 40)
    assert any(state.startswith("torn") for state in states), states
