"""What a witness remembers: it only grows, whoever asks; what is missing, damaged or foreign is never an empty start."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain.errors import StateError, StorageError
from coldchain.tlog.merkle import EMPTY_ROOT
from coldchain_server.witness.memory import Head, Memory
from tests.client.tlog.logs import LOG, ORIGIN, witness
from tests.server.witness.asking import ORIGIN_ID

VKEY = witness(1).vkey
ROOTS = [EMPTY_ROOT, *(bytes([number]) * 32 for number in range(1, 6))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "witness.sqlite"
    Memory.create(path, VKEY)
    return path


@pytest.fixture
def memory(path: Path) -> Iterator[Memory]:
    memory = Memory.open(path, VKEY)
    memory.follow(ORIGIN, LOG.vkey)
    yield memory
    memory.close()


def head(size: int, root: bytes | None = None) -> Head:
    return Head(ORIGIN, size, root or ROOTS[size], b"note %d" % size)


def test_a_log_starts_empty(memory: Memory) -> None:
    assert memory.head(ORIGIN) == Head(ORIGIN, 0, EMPTY_ROOT)
    assert memory.shown(ORIGIN_ID) is None
    assert memory.head("another") is None
    assert memory.vkeys(ORIGIN) == [LOG.vkey]
    assert memory.logs() == [(ORIGIN, LOG.vkey)]


def test_following_twice_changes_nothing(memory: Memory) -> None:
    assert memory.advance(head(0), head(3))
    assert not memory.follow(ORIGIN, LOG.vkey)
    assert memory.follow(ORIGIN, "another key")
    assert memory.head(ORIGIN) == head(3)
    assert memory.unfollow(ORIGIN, "another key")
    assert not memory.unfollow(ORIGIN, "another key")
    assert memory.vkeys(ORIGIN) == [LOG.vkey]


def test_only_what_is_there_is_replaced(memory: Memory) -> None:
    """Every (believed, new) pair of sizes and roots at every head: one row changes or none."""
    for now in range(6):
        if now:
            assert memory.advance(head(now - 1), head(now))
        for size in range(6):
            for root in ROOTS:
                if (size, root) == (now, ROOTS[now]):
                    continue
                assert not memory.advance(Head(ORIGIN, size, root), head(5))
                assert memory.head(ORIGIN) == (head(now) if now else Head(ORIGIN, 0, EMPTY_ROOT))
    assert memory.shown(ORIGIN_ID) == b"note 5"


def test_a_head_never_shrinks_whoever_asks(memory: Memory, path: Path) -> None:
    assert memory.advance(head(0), head(3))
    for new in (head(0), head(2), head(3, bytes(32))):
        with pytest.raises(StorageError, match="only grows"):
            memory.advance(head(3), new)
    with sqlite3.connect(path) as stranger:
        for statement in (
            "UPDATE heads SET size = 2",
            "UPDATE heads SET root = zeroblob(32)",
            "UPDATE heads SET origin = 'x'",
            "UPDATE heads SET size = -1",
            "DELETE FROM heads",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                stranger.execute(statement)
    stranger.close()
    assert memory.head(ORIGIN) == head(3)


def test_it_is_on_the_disk_when_the_call_returns(memory: Memory, path: Path) -> None:
    assert memory._rows("PRAGMA synchronous") == [(3,)], "EXTRA: also the directory, after the journal is gone"
    assert memory._rows("PRAGMA journal_mode") == [("delete",)]
    memory.advance(head(0), head(3))
    beside = Memory.open(path, VKEY)
    assert beside.head(ORIGIN) == head(3)
    beside.close()
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing lies beside it that could be lost"
    assert path.stat().st_mode & 0o777 == 0o600


def test_making_it_again_keeps_what_is_there(memory: Memory, path: Path) -> None:
    memory.advance(head(0), head(3))
    Memory.create(path, VKEY)
    assert memory.head(ORIGIN) == head(3)


def test_a_missing_memory_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="is missing") as refusal:
        Memory.open(tmp_path / "witness.sqlite", VKEY)
    assert "Never restore the file from a backup" in refusal.value.todo
    assert list(tmp_path.iterdir()) == []


def test_another_witnesss_memory_is_refused(path: Path) -> None:
    with pytest.raises(StateError, match="another witness's"):
        Memory.open(path, witness(2).vkey)


def test_a_newer_memory_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as stranger:
        stranger.execute("PRAGMA user_version=2")
    stranger.close()
    with pytest.raises(StorageError, match="newer version"):
        Memory.open(path, VKEY)


def test_damage_is_never_an_empty_start(path: Path) -> None:
    """Emptied, cut off, overwritten, or as it was when it was new, at every page: refused, or everything is as it was.

    A page that an index had when it was new would hide the head from whoever looks for it, and let another begin at 0.
    """
    new = path.read_bytes()
    memory = Memory.open(path, VKEY)
    memory.follow(ORIGIN, LOG.vkey)
    memory.advance(head(0), head(3))
    memory.close()
    whole = path.read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    cuts = [whole[:at] for at in range(0, len(whole), page)]
    holes = [whole[:at] + bytes(page) + whole[at + page :] for at in range(0, len(whole), page)]
    grafts = [whole[:at] + new[at : at + page] + whole[at + page :] for at in range(page, len(whole), page)]
    assert len(new) == len(whole)
    noise = [whole[:at] + b"\xa5" * 64 + whole[at + 64 :] for at in range(0, len(whole), page)]

    def refused(damaged: bytes) -> bool:
        path.write_bytes(damaged)
        with contextlib.suppress(StorageError, StateError):
            opened = Memory.open(path, VKEY)
            assert (opened.head(ORIGIN), opened.shown(ORIGIN_ID)) == (head(3), b"note 3")
            opened.close()
            return False
        return True

    assert all(map(refused, [*cuts, *holes, b"x"]))
    assert sum(map(refused, grafts)) >= 3  # the table of heads and its two indexes
    assert any(map(refused, noise))


def test_a_memory_without_rights_is_an_error_of_the_disk(path: Path) -> None:
    memory = Memory.open(path, VKEY)
    memory.follow(ORIGIN, LOG.vkey)
    memory._connection.execute("PRAGMA query_only=ON")
    with pytest.raises(StorageError, match=r"witness\.sqlite"):
        memory.advance(head(0), head(3))
    memory.close()


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "witness.sqlite").mkdir()
    with pytest.raises(StorageError):
        Memory.create(tmp_path / "witness.sqlite", VKEY)
    with pytest.raises(StateError):
        Memory.open(tmp_path / "witness.sqlite", VKEY)
