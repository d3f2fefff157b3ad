"""The sweep itself: it sees every call, in threads too, and it finds a bad writer torn."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import crashpoints

OLD, NEW = b"old" * 50, b"new" * 50


def good_writer(folder: Path) -> None:
    with (folder / "bundle.new").open("wb") as out:
        for at in range(0, len(NEW), 37):
            out.write(NEW[at : at + 37])
        out.flush()
        os.fsync(out.fileno())
    (folder / "bundle.new").replace(folder / "bundle")
    crashpoints.acknowledge()
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.close(handle)


def bad_writer(folder: Path) -> None:
    with (folder / "bundle").open("wb", buffering=0) as out:
        for at in range(0, len(NEW), 37):
            out.write(NEW[at : at + 37])


def in_a_thread(folder: Path) -> None:
    thread = threading.Thread(target=good_writer, args=(folder,))
    thread.start()
    thread.join()


def sweep(folder: Path, writer: Callable[[Path], None], error: int | None = None) -> Counter[str]:
    states: Counter[str] = Counter()

    def one(point: int) -> crashpoints.Ending:
        (folder / "bundle").write_bytes(OLD)
        ending = crashpoints.run(lambda: writer(folder), point, error=error)
        state = {OLD: "old", NEW: "new"}.get((folder / "bundle").read_bytes(), "torn")
        assert state == "new" or not ending.acknowledged
        states[state] += point > 0
        return ending

    whole = one(0)
    assert whole.finished, whole.raised
    for point in range(1, len(whole.calls) + 1):
        ending = one(point)
        assert ending.killed == (error is None)
        assert error is None or "injected" in ending.raised
    assert states.total() == len(whole.calls)
    return states


@pytest.mark.parametrize("error", [None, errno.ENOSPC, errno.EIO])
def test_a_good_writer_is_old_or_new_at_every_point(tmp_path: Path, error: int | None) -> None:
    states = sweep(tmp_path, good_writer, error)
    assert set(states) == {"old", "new"}


def test_a_bad_writer_is_found_torn(tmp_path: Path) -> None:
    assert sweep(tmp_path, bad_writer)["torn"] > 0


def test_threads_are_swept_too(tmp_path: Path) -> None:
    assert sweep(tmp_path, in_a_thread) == sweep(tmp_path, good_writer)


def test_every_call_is_a_point_and_says_where_it_was_made(tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "d").mkdir()
        with sqlite3.connect(tmp_path / "x") as database:
            database.execute("create table t (v)")
            database.commit()
        (tmp_path / "d").rmdir()

    names = [call.split()[0] for call in crashpoints.run(work).calls]
    assert [name for name in names if name != "__exit__"] == ["mkdir", "execute", "commit", "rmdir"]
    assert not (tmp_path / "d").exists()


def test_an_error_comes_in_place_of_the_call(tmp_path: Path) -> None:
    def work() -> None:
        for name in "abc":
            try:
                (tmp_path / name).mkdir()
            except OSError as error:
                (tmp_path / name).write_text(errno.errorcode[error.errno or 0])

    crashpoints.run(work, 2, error=errno.EROFS)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["a", "c"]
    assert (tmp_path / "b").read_text() == "EROFS"


def test_an_exception_of_the_work_is_told() -> None:
    def work() -> None:
        raise ValueError("as it is")

    ending = crashpoints.run(work)
    assert not ending.finished
    assert not ending.killed
    assert "ValueError: as it is" in ending.raised


@pytest.mark.parametrize(("total", "count", "points"), [(5, 9, [1, 2, 3, 4, 5]), (101, 3, [1, 51, 101])])
def test_points_are_spread(total: int, count: int, points: list[int]) -> None:
    assert crashpoints.spread(total, count) == points
