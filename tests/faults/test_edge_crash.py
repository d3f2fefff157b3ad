"""kill -9, or an errno, at every C call of an edge's turn: what it serves is the old release or the new one, and a restart goes on.

The same sweep as a mirror's (:mod:`tests.faults.test_mirror_crash`), over the loop with its own memory around the pull. After each
point endpoints update from what the edge would serve, and it says no other age than it has; then a new process catches up, and knows
what it serves. An edge in a wrong order is found torn.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain.agent.transport import open_sources
from coldchain.install import durable
from coldchain.limits import LIMITS
from coldchain.mirror.directory import MirrorConfig, MirrorDirectory
from coldchain.mirror.pull import pull
from coldchain.mirror.pulled import Pulled, PullSettings
from coldchain_server.edge import follow as follow_room
from coldchain_server.edge.follow import Follower, FollowSettings
from coldchain_server.edge.freshness import Freshness
from tests.client.agent.publisher import FIRST, SECOND, THIRD
from tests.client.mirror.mirrored import Scene
from tests.faults import crashpoints
from tests.faults.test_mirror_crash import ERRORS, QUICK, READS, Run, rotate_all, show, sweep, too_early, torn
from tests.memory_disk import tmp_path

__all__ = ["tmp_path"]

HOUR = 3600


def live(scene: Scene, new: int) -> None:
    """A process' life of two turns, so that it pulls and confirms."""
    with durable.disk(scene.mirror.path):
        asyncio.run(follow(scene))
        told = Freshness(scene.mirror, lambda: scene.now)
        assert [release for _, _, release in told.served.releases] == [new]
        assert told.age() == 0


async def follow(scene: Scene) -> None:
    freshness = Freshness(scene.mirror, lambda: scene.now)
    settings = FollowSettings(poll_seconds=0.0, first_pause=0.0, now=lambda: scene.now, draw=lambda: 0.5)
    # a second upstream, so that the memory of them is written too
    config = replace(scene.config, urls=(*scene.config.urls, str(scene.path / "nowhere")))
    follower = Follower(scene.mirror, config, freshness, settings)
    async with open_sources(config.urls, follower.traffic, LIMITS) as opened:
        follower._sources = {one.url: one for one in opened}
        await follower.turn()
        await follower.turn()


class EdgeRun(Run):
    """As a mirror's run."""

    def work(self) -> None:
        live(self.scene, self.new)

    def settle(self) -> None:
        """The next pull removes what was half-written of the edge's own memory: it alone holds the lock for that."""
        with durable.disk(self.scene.mirror.path), self.scene.mirror.own.locked():
            asyncio.run(pull(self.scene.mirror, self.config, PullSettings(now=lambda: self.scene.now)))

    def got(self, endpoint: bool) -> str:
        """What an endpoint gets; and whether what it gets is as fresh as a process that starts now would say."""
        state = super().got(endpoint)
        age = Freshness(self.scene.mirror, lambda: self.scene.now).age()
        return (
            "torn: the old release passes for the newest"
            if state == "old" and age is not None and age < HOUR
            else state
        )


def first(path: Path) -> EdgeRun:
    scene = Scene(path, ("us",))
    scene.publish(1, FIRST)
    return EdgeRun(scene, scene.config, None, 1)


def second(path: Path) -> EdgeRun:
    scene = Scene(path, ("us",))
    scene.publish(1, FIRST)
    scene.prepare(scene.mirror, scene.config)
    live(scene, 1)
    run = EdgeRun(scene, scene.config, 1, 2)
    scene.later = timedelta(seconds=HOUR)
    scene.publish(2, SECOND)
    return run


def after_the_grace(path: Path) -> EdgeRun:
    """Release 1's files go, release 3's come."""
    scene = Scene(path, ("us",))
    scene.config = replace(scene.config, grace=1)
    scene.publish(1, FIRST)
    scene.prepare(scene.mirror, scene.config)
    live(scene, 1)
    scene.publish(2, SECOND)
    live(scene, 2)
    run = EdgeRun(scene, scene.config, 2, 3)
    scene.later = timedelta(seconds=2 * HOUR)
    scene.publish(3, THIRD)
    return run


def key_rotation(path: Path) -> EdgeRun:
    """A new root with another key for every top-level role, and a release under them."""
    run = second(path)
    rotate_all(run.scene)
    return run


def past_a_liar(path: Path) -> EdgeRun:
    """The first upstream has the news, and bundles with other bytes; the second one is good."""
    run = second(path)
    liar = run.scene.path / "liar"
    shutil.copytree(run.scene.upstream, liar)
    for one in liar.glob("targets/us/stable/*.ccd"):
        one.write_bytes(one.read_bytes()[:-1] + b"x")
    run.scene.config = run.config = replace(run.scene.config, urls=(str(liar), str(run.scene.upstream)))
    run.scene.mirror.write_config(run.config)
    run.template = run.scene.path / "template of two"
    shutil.copytree(run.scene.mirror.path, run.template, symlinks=True)
    return run


SCENES: dict[str, Callable[[Path], EdgeRun]] = {
    "first pull": first,
    "second release": second,
    "after the grace": after_the_grace,
    "key rotation": key_rotation,
    "past a liar": past_a_liar,
}


@pytest.mark.parametrize("name", ["first pull", "second release"])
def test_killed_at_a_spread_of_points(name: str, tmp_path: Path) -> None:
    total, tried, states = sweep(SCENES[name](tmp_path), QUICK // 2)
    show(f"kill -9, edge, {name}", total, tried, states)
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENES)
def test_killed_at_every_point(name: str, tmp_path: Path) -> None:
    total, tried, states = sweep(SCENES[name](tmp_path))
    show(f"kill -9, edge, {name}", total, tried, states)
    assert tried == total
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_refused_at_every_point(tmp_path: Path) -> None:
    total, tried, states = sweep(second(tmp_path), None, ERRORS, READS)
    show("errors in turn, edge, second release", total, tried, states)
    assert tried == total
    assert torn(states) == []


# -- negative controls -----------------------------------------------------------------------------------------------


def word_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The edge writes down that it has the newest before it has it."""

    async def early(directory: MirrorDirectory, config: MirrorConfig, settings: PullSettings) -> Pulled:
        Freshness(directory, settings.now).confirm(settings.now())
        return await pull(directory, config, settings)

    monkeypatch.setattr(follow_room, "pull", early)


@pytest.mark.faults
@pytest.mark.parametrize("break_", [too_early, word_first])
def test_an_edge_in_the_wrong_order_is_found_torn(
    break_: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = second(tmp_path)
    break_(monkeypatch)
    calls = frozenset({"rename", "replace"})
    run.reset()
    whole = crashpoints.run(run.work, calls=calls)
    assert whole.finished, whole.raised
    states: Counter[str] = Counter()
    for point in range(len(whole.calls), 0, -1):
        run.reset()
        crashpoints.run(run.work, point, calls=calls)
        states.update([run.got(False), run.got(True)])
        if torn(states):
            break
    show(f"negative control, edge, {break_.__name__}", len(whole.calls), states.total(), states)
    assert torn(states)
