"""kill -9, or an errno, at every C call of a mirror's run: readers find the old release or the new one, and the next run mends all.

After each point an endpoint that has nothing and one that has the release before update from the mirror's directory; then the mirror
runs again and holds what it would hold had nothing happened, with nothing left over.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain.errors import ColdchainError, TransportError
from coldchain.install import durable
from coldchain.mirror import generation
from coldchain.mirror.directory import METADATA, MirrorConfig, MirrorDirectory
from coldchain.mirror.pull import pull
from coldchain.mirror.pulled import PullSettings
from tests.client.agent.publisher import FIRST, SECOND, THIRD
from tests.client.mirror.mirrored import Scene, served
from tests.client.tuf.repository import signer
from tests.faults import crashpoints
from tests.memory_disk import tmp_path

__all__ = ["tmp_path"]

QUICK = 12
READS = crashpoints.FILE_CALLS | {"read", "readinto", "listdir", "stat", "fstat", "readlink"}
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE)


@dataclass
class Run:
    """A mirror before a run, as a template; ``old`` is what readers got before it, None for nothing."""

    scene: Scene
    config: MirrorConfig
    old: int | None
    new: int

    def __post_init__(self) -> None:
        self.template = self.scene.path / "template"
        if self.scene.mirror.path.exists():
            shutil.copytree(self.scene.mirror.path, self.template, symlinks=True)
        self.endpoint = self.scene.path / "before"
        client = self.scene.client("before")
        if self.old is not None:
            assert self.scene.update(client) == self.old

    def reset(self) -> None:
        shutil.rmtree(self.scene.mirror.path, ignore_errors=True)
        if self.template.exists():
            shutil.copytree(self.template, self.scene.mirror.path, symlinks=True)
        else:
            self.scene.prepare(self.scene.mirror, self.config)

    def work(self) -> None:
        mirror = self.scene.mirror
        with durable.disk(mirror.path), mirror.own.locked():
            asyncio.run(pull(mirror, self.config, PullSettings(now=lambda: self.scene.now)))

    def settle(self) -> None:
        """What else must happen before nothing is left over."""

    def got(self, endpoint: bool) -> str:
        """What an endpoint gets from the mirror's directory: one that has nothing, or the one that was there before."""
        path = self.scene.path / "throwaway"
        shutil.rmtree(path, ignore_errors=True)
        client = self.scene.client("throwaway")
        if endpoint:
            shutil.rmtree(path)
            shutil.copytree(self.endpoint, path, symlinks=True)
        try:
            found = self.scene.update(client)
        except TransportError as error:
            return "nothing" if not (self.scene.mirror.path / METADATA).exists() else f"torn: {error.what}"
        except ColdchainError as error:
            return f"torn: {error.what}"
        return {self.old: "old", self.new: "new"}.get(found, f"torn: release {found}")


def first(path: Path) -> Run:
    scene = Scene(path, ("us",))
    scene.publish(1, FIRST)
    return Run(scene, scene.config, None, 1)


def second(path: Path) -> Run:
    scene = Scene(path, ("us",))
    scene.publish(1, FIRST)
    scene.pull()
    run = Run(scene, scene.config, 1, 2)
    scene.publish(2, SECOND)
    return run


def with_packs(path: Path) -> Run:
    scene = Scene(path, ("us",))
    scene.config = replace(scene.config, packs=True)
    scene.publish(1, FIRST)
    scene.pull()
    run = Run(scene, scene.config, 1, 2)
    scene.publish(2, SECOND)
    return run


def after_the_grace(path: Path) -> Run:
    """Release 1's files go, release 3's come."""
    scene = Scene(path, ("us",))
    scene.config = replace(scene.config, grace=1)
    scene.publish(1, FIRST)
    scene.pull()
    scene.publish(2, SECOND)
    scene.pull()
    run = Run(scene, scene.config, 2, 3)
    scene.later = timedelta(hours=2)
    scene.publish(3, THIRD)
    return run


def key_rotation(path: Path) -> Run:
    """A new root with another key for every top-level role, and a release under them."""
    run = second(path)
    rotate_all(run.scene)
    return run


def rotate_all(scene: Scene) -> None:
    repository = scene.publisher.repository
    old = repository.signers["root"]
    for role, count in (("root", 3), ("targets", 3), ("snapshot", 1), ("timestamp", 1)):
        repository.set_keys(role, [signer(f"new {role} {number}") for number in range(count)], 2 if count == 3 else 1)
    repository.publish_root(also=old)
    repository.publish("targets", "us", "rollout")
    scene.publisher.write(scene.upstream)


SCENES: dict[str, Callable[[Path], Run]] = {
    "first run": first,
    "second release": second,
    "with packs": with_packs,
    "after the grace": after_the_grace,
    "key rotation": key_rotation,
}


def left_over(mirror: MirrorDirectory) -> list[str]:
    out = [str(one) for one in mirror.path.rglob("*.tmp")]
    out += [str(one) for one in mirror.own.staging.iterdir()]
    place = generation.current(mirror)
    return out + [one.name for one in (mirror.own.path / "generations").iterdir() if one.name != place]


def sweep(
    run: Run, count: int | None = None, errors: Sequence[int] = (), calls: frozenset[str] = crashpoints.FILE_CALLS
) -> tuple[int, int, Counter[str]]:
    """Stops the run at every point, or at ``count`` of them; returns how many there are, how many were tried, and what was found."""
    run.reset()
    whole = crashpoints.run(run.work, calls=calls)
    assert whole.finished, whole.raised
    expected = served(run.scene.mirror)
    total = len(whole.calls)
    points = crashpoints.spread(total, count or total)
    states: Counter[str] = Counter()
    for turn, point in enumerate(points):
        run.reset()
        error = errors[turn % len(errors)] if errors else None
        ending = crashpoints.run(run.work, point, error=error, calls=calls)
        assert error is not None or ending.killed, (point, ending)
        where = f"{point}: {whole.calls[point - 1]}"
        if error is not None and ending.raised:
            assert "coldchain.errors." in ending.raised.strip().splitlines()[-1], (where, ending.raised)
        for endpoint in (False, True):
            state = run.got(endpoint)
            states[state if not state.startswith("torn") else f"{state} at {where}"] += 1
            assert state != "nothing" or run.old is None, where
        run.work()
        run.settle()
        found = served(run.scene.mirror)
        packs = {name for name in expected if name.startswith("packs/")}
        assert set(found) == set(expected), where
        assert {n: d for n, d in found.items() if n not in packs} == {
            n: d for n, d in expected.items() if n not in packs
        }
        assert left_over(run.scene.mirror) == [], where
        assert run.got(True) == "new"
    return total, len(points), states


def torn(states: Counter[str]) -> list[str]:
    return [state for state in states if state.startswith("torn")]


def show(what: str, total: int, tried: int, states: Counter[str]) -> None:
    found = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"\n{what}: {tried} of {total} points, readers got: {found}; {len(torn(states))} torn")


@pytest.mark.parametrize("name", ["first run", "second release", "key rotation"])
def test_killed_at_a_spread_of_points(name: str, tmp_path: Path) -> None:
    total, tried, states = sweep(SCENES[name](tmp_path), QUICK)
    show(f"kill -9, {name}", total, tried, states)
    assert torn(states) == []


def test_refused_at_a_spread_of_points(tmp_path: Path) -> None:
    total, tried, states = sweep(second(tmp_path), QUICK, ERRORS, READS)
    show("errors in turn, second release", total, tried, states)
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENES)
def test_killed_at_every_point(name: str, tmp_path: Path) -> None:
    total, tried, states = sweep(SCENES[name](tmp_path))
    show(f"kill -9, {name}", total, tried, states)
    assert tried == total
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_refused_at_every_point(error: int, tmp_path: Path) -> None:
    total, tried, states = sweep(second(tmp_path), None, [error], READS)
    show(f"{errno.errorcode[error]}, second release", total, tried, states)
    assert tried == total
    assert torn(states) == []


# -- negative controls -----------------------------------------------------------------------------------------------


def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata written file after file: no order of them is right for a new timestamp key."""
    publish = generation._in_place

    def plain(mirror: MirrorDirectory, named: dict[str, bytes], kept: dict[str, bytes]) -> bool:
        link = mirror.path / METADATA
        files = {one.name: one.read_bytes() for one in link.iterdir()} if link.exists() else {}
        if link.is_symlink():
            link.unlink()
            link.mkdir()
            for name, data in files.items():
                (link / name).write_bytes(data)
        with durable.open_folder(mirror.path) as tree:
            return publish(tree, {**kept, **named}, 0)

    monkeypatch.setattr(generation, "publish", plain)


def too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata is published before the files that it names are there."""
    from coldchain.mirror.pull import _Pull

    target = _Pull._target
    done: list[int] = []

    async def early(self: _Pull, one: object) -> None:
        if not done:
            done.append(1)
            await self._publish(self.found)  # type: ignore[attr-defined]
        await target(self, one)  # type: ignore[arg-type]

    releases = _Pull._releases

    def remember(self: _Pull, found: object) -> object:
        self.found = found  # type: ignore[attr-defined]
        return releases(self, found)  # type: ignore[arg-type]

    monkeypatch.setattr(_Pull, "_releases", remember)
    monkeypatch.setattr(_Pull, "_target", early)


@pytest.mark.parametrize(("break_", "scene"), [(in_place, "key rotation"), (too_early, "second release")])
def test_a_run_in_the_wrong_order_is_found_torn(
    break_: Callable[[pytest.MonkeyPatch], None], scene: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SCENES[scene](tmp_path)
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
    show(f"negative control, {break_.__name__}", len(whole.calls), states.total(), states)
    assert torn(states)
