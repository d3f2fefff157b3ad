"""What is SQLite's alone: its file, migrations from every older version, and locks across processes that die."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from coldchain.errors import BusyError, StorageError
from coldchain_server.catalogue.interface import Bundle, Feed, Release, Snapshot
from coldchain_server.catalogue.migrations import MIGRATIONS
from coldchain_server.catalogue.sqlite import SqliteCatalogue

THEN = "2026-06-01T12:00:00Z"
FEED = Feed("acme", "clamav", "/srv/acme", True, "a" * 64)
RELEASE = Release("stable", 1, "built", "b" * 64, THEN, THEN)
BUNDLE = Bundle("stable", 1, "us", "c" * 64, 1, 2)
SNAPSHOT = Snapshot("a" * 64, "acme", THEN, 1, 2, 3)

_FIRST = [
    f"INSERT INTO feeds VALUES ('acme', 'clamav', '/srv/acme', 1, '{'a' * 64}')",
    f"INSERT INTO snapshots VALUES ('acme', '{'a' * 64}', '{THEN}', 1, 2, 3)",
    f"INSERT INTO releases VALUES ('stable', 1, 'built', '{'b' * 64}', '{THEN}', '{THEN}')",
    f"INSERT INTO bundles VALUES ('stable', 1, 'us', '{'c' * 64}', 1, 2)",
]
ROWS: dict[int, list[str]] = {1: _FIRST, 2: _FIRST}
"""What a program of each version wrote. A new migration adds an entry here, with what its tables held before it."""


def of_version(path: Path, version: int) -> None:
    """The file as the program of that version left it, filled."""
    with sqlite3.connect(path) as database:
        if version:
            database.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY)")
        for number in range(version):
            for statement in MIGRATIONS[number]:
                database.execute(statement)
            database.execute("INSERT INTO migrations VALUES (?)", (number,))
        for row in ROWS.get(version, []):
            database.execute(row)
    database.close()


def schema(path: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    database.close()
    return [(name, " ".join(sql.split())) for name, sql in found]


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
async def test_every_older_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    new, old = tmp_path / "new.sqlite", tmp_path / "old.sqlite"
    of_version(old, version)
    for path in (new, old):
        await (await SqliteCatalogue.open(path)).close()
    assert [one for one in schema(old) if one[0] != "migrations"] == [
        one for one in schema(new) if one[0] != "migrations"
    ]
    catalogue = await SqliteCatalogue.open(old)
    try:
        assert await catalogue.feeds() == ([FEED] if version else [])
        assert await catalogue.releases("stable") == ([RELEASE] if version else [])
        assert await catalogue.bundles("stable", 1) == ([BUNDLE] if version else [])
        assert await catalogue.snapshots("acme") == ([SNAPSHOT] if version else [])
    finally:
        await catalogue.close()


def test_every_version_has_its_rows() -> None:
    assert set(ROWS) == set(range(1, len(MIGRATIONS) + 1))


def test_released_migrations_never_change() -> None:
    """A catalogue that ran one will not run it again; a change is a new migration."""
    digests = [
        hashlib.sha256("\0".join(" ".join(s.split()) for s in one).encode()).hexdigest()[:16] for one in MIGRATIONS
    ]
    assert digests == ["35416423311d41c7", "987a4e03d0d268d2"]


@pytest.mark.parametrize("die_at", range(sum(1 + len(statements) for statements in MIGRATIONS)))
async def test_a_migration_that_dies_is_run_again_whole(
    tmp_path: Path, die_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SqliteCatalogue._run
    left = die_at

    async def fragile(self: SqliteCatalogue, sql: str, values: tuple[object, ...] = ()) -> int:
        nonlocal left
        if sql.lstrip().startswith(("CREATE TABLE", "INSERT", "DROP", "ALTER")) and "IF NOT EXISTS" not in sql:
            if left == 0:
                raise StorageError("the power goes")
            left -= 1
        return await real(self, sql, values)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteCatalogue, "_run", fragile)
        with pytest.raises(StorageError, match="the power goes"):
            await SqliteCatalogue.open(tmp_path / "x.sqlite")
    catalogue = await SqliteCatalogue.open(tmp_path / "x.sqlite")
    await catalogue.put_feed(FEED)
    await catalogue.close()


async def test_a_newer_catalogue_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    of_version(path, len(MIGRATIONS))
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO migrations VALUES (?)", (len(MIGRATIONS),))
    database.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="written by a newer version"):
        await SqliteCatalogue.open(path)
    assert path.read_bytes() == before


async def test_a_gap_in_the_migrations_is_no_catalogue_of_ours(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.sqlite") as database:
        database.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO migrations VALUES (7)")
    database.close()
    with pytest.raises(StorageError, match="have a gap"):
        await SqliteCatalogue.open(tmp_path / "x.sqlite")


@pytest.mark.parametrize(
    "content", [b"no database at all, but a file of some length " * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
async def test_what_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "catalogue.sqlite"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"catalogue"):
        await SqliteCatalogue.open(path)
    assert path.read_bytes() == content


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        await SqliteCatalogue.open(tmp_path / "not" / "there.sqlite")


OPEN = """
import asyncio, sys
from pathlib import Path
from coldchain.errors import ColdchainError
from coldchain_server.catalogue.interface import Feed
from coldchain_server.catalogue.sqlite import SqliteCatalogue
async def main():
    catalogue = await SqliteCatalogue.open(Path(sys.argv[1]))
    try:
        await catalogue.put_feed(Feed(sys.argv[2], "clamav", "/x", False))
        if len(sys.argv) > 3:
            async with catalogue.publisher():
                print("locked", flush=True)
                sys.stdin.readline()
    finally:
        await catalogue.close()
try:
    asyncio.run(main())
except ColdchainError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def process(path: Path, name: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, str(path), name, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_processes_that_open_a_new_file_at_once_all_succeed(memory: Path) -> None:
    path = memory / "catalogue.sqlite"
    running = [process(path, f"feed-{number}") for number in range(4)]
    for one in running:
        _, said = one.communicate(timeout=60)
        assert one.returncode == 0, said
    catalogue = await SqliteCatalogue.open(path)
    assert [feed.name for feed in await catalogue.feeds()] == [f"feed-{number}" for number in range(4)]
    await catalogue.close()


async def test_connections_that_open_a_new_file_at_once_all_succeed(memory: Path) -> None:
    """Each has its own thread; SQLite itself does not wait where one of them is just turning the file to WAL."""
    for turn in range(12):
        path = memory / f"{turn}.sqlite"
        opened = await asyncio.gather(*(SqliteCatalogue.open(path) for _ in range(6)), return_exceptions=True)
        for one in opened:
            if isinstance(one, SqliteCatalogue):
                await one.close()
        assert [one for one in opened if not isinstance(one, SqliteCatalogue)] == []


def test_a_refused_file_does_not_keep_the_process_from_ending(memory: Path) -> None:
    """The database has a thread of its own, which must not outlive the error."""
    path = memory / "catalogue.sqlite"
    path.write_bytes(b"no database" * 1000)
    one = process(path, "x")
    _, said = one.communicate(timeout=60)
    assert one.returncode == 1
    assert said.startswith("StorageError: ")


async def test_the_publishers_lock_dies_with_its_holder(memory: Path) -> None:
    path = memory / "catalogue.sqlite"
    holder = process(path, "x", "lock")
    assert holder.stdout is not None
    assert await asyncio.to_thread(holder.stdout.readline) == "locked\n"
    catalogue = await SqliteCatalogue.open(path)
    try:
        with pytest.raises(BusyError):
            async with catalogue.publisher():
                raise AssertionError("two publishers")
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate(timeout=60)
        async with catalogue.publisher():
            pass
    finally:
        await catalogue.close()


async def test_a_commit_is_durable_before_it_returns(tmp_path: Path) -> None:
    catalogue = await SqliteCatalogue.open(tmp_path / "x.sqlite")
    try:
        for pragma, value in (("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)):
            assert (await catalogue._all(f"PRAGMA {pragma}"))[0][0] == value
    finally:
        await catalogue.close()


async def test_a_full_disk_refuses_and_keeps_what_was_there(tmp_path: Path) -> None:
    """SQLite's own bound on pages stands for the disk: the write that does not fit is undone, later ones that fit go on."""
    catalogue = await SqliteCatalogue.open(tmp_path / "x.sqlite")
    try:
        await catalogue.put_release(RELEASE, [BUNDLE])
        pages = (await catalogue._all("PRAGMA page_count"))[0][0]
        await catalogue._all(f"PRAGMA max_page_count = {pages}")
        many = [Bundle("stable", 2, f"r{number}", "d" * 64, 1, 1) for number in range(2000)]
        with pytest.raises(StorageError, match="full"):
            await catalogue.put_release(Release("stable", 2, "built", "e" * 64, THEN, THEN), many)
        assert await catalogue.releases("stable") == [RELEASE]
        await catalogue.set_state("stable", 1, "logged", THEN)
    finally:
        await catalogue.close()
