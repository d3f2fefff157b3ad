"""kill -9 and disk errors at every C call of a monitor's run: what it found is told, at the latest by the next run, and it goes on.

A few points are tried in every run, all of them by ``make faults``. The negative control writes the state before the report.
"""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain.monitor.directory import MonitorDirectory
from coldchain.monitor.report import Report
from coldchain.monitor.state import parse_state
from coldchain.monitor.watch import WatchSettings, watch
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.signing.log_policy import log_signer, policy_of
from coldchain_server.signing.roles import load_state
from tests.client.tuf.repository import NOW
from tests.faults import crashpoints
from tests.server import origins
from tests.server.memory import memory_folder

A_FEW = 12


async def _make(folder: Path) -> Home:
    home = await origins.make(folder / "origin")
    await origins.release(home, origins.FIRST)
    return home


async def _hello(home: Home) -> None:
    """An entry that is no manifest, signed into the log."""
    log = PublicLog(home.storage, policy_of(await load_state(home.storage)).log_keys[0])
    await log.append([b"hello"], log_signer(origins.keyring(home), log.key))


class Place:
    """A monitor that ran once, and a log that has grown by a bad entry since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = asyncio.run(_make(folder))
        self.directory = MonitorDirectory(folder / "monitor")
        assert self.run().alerts == []
        asyncio.run(_hello(self.home))
        self.template = folder / "template"
        shutil.copytree(self.directory.path, self.template)

    def run(self) -> Report:
        settings = WatchSettings(
            str(self.home.public),
            root=self.home.pinned_root(),
            metrics=self.folder / "coldchain.prom",
            now=lambda: NOW,
        )
        return asyncio.run(watch(self.directory, settings))

    def reset(self) -> None:
        shutil.rmtree(self.directory.path)
        shutil.copytree(self.template, self.directory.path)

    def work(self) -> None:
        self.run()
        crashpoints.acknowledge()

    def check(self, what: str) -> None:
        """Once the state says that the entry was read, the report of it is on the disk; before, it is read again."""
        path = self.directory.path
        read = parse_state((path / "state.json").read_bytes()).entries == 2
        reported = "not-a-manifest" in (path / "report.json").read_text()
        json.loads((path / "report.json").read_text())
        assert reported or not read, f"{what}: an alert is lost"
        report = self.run()
        every = [one.kind for one in report.alerts] + [one.kind for one in report.standing]
        assert every == ["not-a-manifest"], what
        assert [one.kind for one in report.alerts] == ([] if read else every), what
        left = sorted(one.name for one in path.iterdir())
        assert left == ["forks", "lock", "report.json", "state.json"], what
        assert not list(self.folder.glob(".*.tmp")) or what


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with memory_folder() as folder:
        yield Place(folder)


def sweep(place: Place, count: int, error: int | None) -> None:
    # closing what was only read refuses nothing
    calls = crashpoints.FILE_CALLS - ({"close", "__exit__"} if error else set())
    place.reset()
    whole = crashpoints.run(place.work, calls=calls)
    assert whole.finished, whole.raised
    place.reset()
    for point in crashpoints.spread(len(whole.calls), count):
        ending = crashpoints.run(place.work, point, error=error, calls=calls)
        what = f"{errno.errorcode[error] if error else 'killed'} at {whole.calls[point - 1]} ({point})"
        if error is None:
            assert ending.killed, what
        elif ending.raised:
            assert "\ncoldchain.errors." in ending.raised, ending.raised
        place.check(what)
        place.reset()


@pytest.mark.parametrize("error", [None, errno.ENOSPC, errno.EIO])
def test_stopped_at_a_few_points(place: Place, error: int | None) -> None:
    sweep(place, A_FEW, error)


@pytest.mark.faults
@pytest.mark.parametrize("error", [None, errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_stopped_at_every_point(place: Place, error: int | None) -> None:
    sweep(place, 10_000, error)


def test_the_sweep_finds_a_state_that_is_written_too_early(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report, write_state = MonitorDirectory.write_report, MonitorDirectory.write_state
    held: list[object] = []

    def late(self: MonitorDirectory, report: object) -> None:
        held.append(report)

    def early(self: MonitorDirectory, state: object) -> None:
        write_state(self, state)  # type: ignore[arg-type]
        write_report(self, held.pop())  # type: ignore[arg-type]

    place.reset()
    with monkeypatch.context() as patch:
        patch.setattr(MonitorDirectory, "write_report", late)
        patch.setattr(MonitorDirectory, "write_state", early)
        whole = crashpoints.run(place.work)
        lost = 0
        for point in range(len(whole.calls) - 12, len(whole.calls) + 1):
            place.reset()
            crashpoints.run(place.work, point)
            path = place.directory.path
            read = parse_state((path / "state.json").read_bytes()).entries == 2
            lost += read and "not-a-manifest" not in (path / "report.json").read_text()
    place.reset()
    assert lost
