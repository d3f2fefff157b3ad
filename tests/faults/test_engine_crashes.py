"""kill -9 of the updating client at every C call of an activation, with real clamd: a whole set stands and runs, whatever the point.

After each: the view names one whole set, of release 1 or 2; clamd answers, finds EICAR, and runs exactly one of the two; the next
update brings it to release 2, proved, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from coldchain.bundle.description import Section
from coldchain.engines.clamav import ClamAV
from coldchain.engines.interface import LoadReport, LoadTest
from coldchain.engines.settings import EngineSettings
from coldchain.engines.view import View
from coldchain.install.directory import ClientDirectory
from coldchain.install.durable import Folder
from coldchain.install.versions import Version
from tests.client.agent.publisher import hashes, run
from tests.client.engines.daemon import EICAR, EICAR_NAME, Daemon, daemon, needs_clamd
from tests.client.engines.endpoints import BETTER, GOOD, canary, clamd_endpoint, clamd_engine
from tests.faults import crashpoints

pytestmark = needs_clamd

CALLS = crashpoints.FILE_CALLS | {"connect", "sendall", "recv", "fork_exec", "killpg", "waitid", "pipe", "select"}
BAD = GOOD | {"bad.hsb": hashes(1).replace(b":1001:", b":*:")}
"""The codec takes it and ClamAV's loader does not."""
ORDER = {"symlink", "rename", "replace", "unlink", "mkdir", "rmdir", "sendall", "fork_exec"}
"""Calls by which the order of the steps is told: between two of them, kills are all the same."""


def blind(_engine: ClamAV, _test: LoadTest) -> LoadReport:
    return LoadReport("clamav", "no test at all", canary=True)


class Scene:
    """An endpoint that stands before the activation of release 2, with clamd running release 1; put back for each point.

    Release 2 is installed already, so what is killed is the activation alone. ``bad``: it breaks the loader, and the load test does not
    see it, so that the activation switches, fails and returns.
    """

    def __init__(self, path: Path, clamd: Daemon, *, bad: bool = False) -> None:
        self.clamd, self.bad = clamd, bad
        self.contents = {1: GOOD, 2: BAD if bad else BETTER}
        self.ends_with = 1 if bad else 2
        endpoint = clamd_endpoint(path, clamd)
        self.mirror, self.directory = endpoint.mirror, endpoint.directory
        self.engines = EngineSettings((clamd_engine(clamd, 1 if bad else 20),))
        self.view = View(endpoint.view().parent)
        memory = endpoint.memory()
        endpoint.publish(2, self.contents[2])
        asyncio.run(run(self.directory, str(self.mirror), engines=EngineSettings()))
        self.directory.write_state(replace(self.directory.state(), engines={"clamav": memory}))
        self.first = path / "first"
        shutil.copytree(self.directory.path, self.first, symlinks=True)

    def restore(self) -> None:
        """The directory as it was, and clamd back at release 1."""
        for name in ("engines", "staging", "state.json"):
            there, kept = self.directory.path / name, self.first / name
            shutil.rmtree(there) if there.is_dir() else there.unlink(missing_ok=True)
            shutil.copytree(kept, there, symlinks=True) if kept.is_dir() else shutil.copy(kept, there)
        if self.running() != {1}:
            self.clamd.client.reload()
            until = time.monotonic() + 20
            while self.running() != {1}:
                assert time.monotonic() < until
                time.sleep(0.02)

    def update(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if self.bad:
                patch.setattr(ClamAV, "load_test", blind)
            asyncio.run(run(self.directory, str(self.mirror), engines=self.engines))

    def running(self) -> set[int]:
        """The releases whose canaries clamd finds; EICAR is found in any case."""
        client = self.clamd.client
        assert client.scan(EICAR) == EICAR_NAME
        found: set[int] = set()
        for _ in range(2):  # a reload that ends between two questions is seen in halves once, and not twice
            found = {release for release in (1, 2) if client.scan(canary(release)[1]) == canary(release)[0]}
            if len(found) == 1:
                break
        return found

    def state(self) -> str:
        """What the view names and clamd runs, or what is wrong with that."""
        linked = self.view.linked()
        if linked is None:
            return "torn: no set is named"
        wanted = self.contents[linked.release]
        found = {one.name: one.read_bytes() for one in linked.path.iterdir() if not one.name.startswith("coldchain")}
        if found != {name: data for name, data in wanted.items() if not name.endswith(".yar")}:
            return "torn: the named set is not whole"
        runs = self.running()
        return f"names {linked.release}, runs {runs.pop()}" if len(runs) == 1 else f"torn: clamd runs {sorted(runs)}"

    def check_end(self) -> None:
        """What stands once a run was not stopped."""
        memory = self.directory.state().engines["clamav"]
        assert self.state() == f"names {self.ends_with}, runs {self.ends_with}"
        assert memory.release == self.ends_with
        assert [one.release for one in memory.refused] == ([2] if self.bad else [])
        assert [one.release for one in self.view.sets()] == [self.ends_with]
        assert list(self.view.path.rglob("*.tmp")) == []


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with daemon() as clamd:
        yield Scene(tmp_path_factory.mktemp("good"), clamd)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with daemon() as clamd:
        yield Scene(tmp_path_factory.mktemp("bad"), clamd, bad=True)


def sweep(scene: Scene, count: int | None = None, calls: Collection[str] = CALLS) -> tuple[int, int, Counter[str]]:
    """Kills at every point, or at ``count`` of them. How often clamd is asked depends on its speed: the last may not be reached."""
    scene.restore()
    whole = crashpoints.run(scene.update, calls=calls)
    assert whole.finished, whole.raised
    scene.check_end()
    total = len(whole.calls)
    points = crashpoints.spread(total, count or total)
    states: Counter[str] = Counter()
    for point in points:
        scene.restore()
        ending = crashpoints.run(scene.update, point, calls=calls)
        where = f"{point}: {whole.calls[point - 1]}"
        assert ending.killed or ending.finished, (where, ending)
        state = scene.state()
        states[state if not state.startswith("torn") else f"{state} at {where}"] += 1
        scene.update()
        try:
            scene.check_end()
        except AssertionError as error:
            raise AssertionError(where) from error
    return total, len(points), states


def torn(states: Counter[str]) -> list[str]:
    return [state for state in states if state.startswith("torn")]


def show(what: str, total: int, tried: int, states: Counter[str]) -> None:
    found = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"\n{what}: {tried} of {total} points, {found}, {len(torn(states))} torn")


def test_killed_at_a_spread_of_points(good: Scene) -> None:
    total, tried, states = sweep(good, 12, ORDER)
    show("kill -9, activation", total, tried, states)
    assert torn(states) == []
    assert len(states) > 1


def test_killed_at_a_spread_of_points_of_a_return(bad: Scene) -> None:
    total, tried, states = sweep(bad, 3, ORDER)
    show("kill -9, activation that returns", total, tried, states)
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_killed_at_every_point(good: Scene) -> None:
    total, tried, states = sweep(good)
    show("kill -9, activation", total, tried, states)
    assert tried == total
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_killed_at_every_point_of_a_return(bad: Scene) -> None:
    total, tried, states = sweep(bad)
    show("kill -9, activation that returns", total, tried, states)
    assert tried == total
    assert torn(states) == []


# -- negative controls: the same sweep finds an activation that is made wrongly ------------------------------------------


def linked_before_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The view names the set while its sections are still coming."""
    build = View.build

    def early(view: View, directory: ClientDirectory, version: Version, sections: Sequence[Section]) -> Version:
        (view.path / "sets" / version.name).mkdir()
        view.switch(Version(view.path / "sets" / version.name, version.release, version.prefix))
        return build(view, directory, version, sections)

    monkeypatch.setattr(View, "build", early)


def old_set_removed_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The set to go back to is gone before the new one is proved."""
    switch = View.switch

    def switching(view: View, to: Version) -> None:
        switch(view, to)
        view.tidy({to.name})

    monkeypatch.setattr(View, "switch", switching)


def link_made_in_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_ = Folder.replace_symlink

    def in_two_steps(folder: Folder, name: str, target: str) -> None:
        folder.remove(name)
        replace_(folder, name, target)

    monkeypatch.setattr(Folder, "replace_symlink", in_two_steps)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("break_", "which"),
    [(linked_before_it_is_whole, "good"), (link_made_in_two_steps, "good"), (old_set_removed_too_early, "bad")],
)
def test_an_activation_in_the_wrong_order_is_found(
    break_: Callable[[pytest.MonkeyPatch], None], which: str, request: pytest.FixtureRequest
) -> None:
    scene: Scene = request.getfixturevalue(which)
    found = False
    scene.restore()
    with pytest.MonkeyPatch.context() as patch:
        break_(patch)
        total = len(crashpoints.run(scene.update, calls=ORDER).calls)
    for point in range(1, total + 1):
        scene.restore()
        with pytest.MonkeyPatch.context() as patch:
            break_(patch)
            crashpoints.run(scene.update, point, calls=ORDER)
        if scene.state().startswith("torn"):
            found = True
        else:
            scene.update()
            try:
                scene.check_end()
            except AssertionError:
                found = True
        if found:
            break
    assert found
