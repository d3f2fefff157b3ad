"""kill -9, or an errno, at every C call of an edge's turn: what it serves is the old release or the new one, and a restart goes on.

The same sweep as a mirror's (:mod:`tests.faults.test_mirror_crash`), over the loop with its own memory around the pull. After each
point endpoints update from what the edge would serve; then a new process catches up, and knows what it serves.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from coldchain.agent.transport import open_sources
from coldchain.install import durable
from coldchain.limits import LIMITS
from coldchain_server.edge.follow import Follower, FollowSettings
from coldchain_server.edge.freshness import Freshness
from tests.client.agent.publisher import FIRST, SECOND
from tests.client.mirror.mirrored import Scene
from tests.faults.test_mirror_crash import ERRORS, QUICK, READS, Run, show, sweep, torn
from tests.memory_disk import tmp_path

__all__ = ["tmp_path"]


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
    scene.publish(2, SECOND)
    return run


SCENES = {"first pull": first, "second release": second}


@pytest.mark.parametrize("name", SCENES)
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
