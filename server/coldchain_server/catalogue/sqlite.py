"""The catalogue of one machine: hand-written SQL over aiosqlite.

WAL with ``synchronous=FULL``: a commit that returned survives a power cut. The publisher's lock is an ``flock`` on a file beside the
database, because the kernel frees it with its holder, however that died; a second machine needs another backend anyway.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from coldchain.errors import BusyError, StateError, StorageError
from coldchain_server.catalogue.interface import STEPS, Bundle, Feed, Release, Snapshot, State
from coldchain_server.catalogue.migrations import MIGRATIONS
from coldchain_server.storage.durable import disk

_BUSY_SECONDS = 20.0
_POLL_SECONDS = 0.1


class SqliteCatalogue:
    """The :class:`~coldchain_server.catalogue.interface.Catalogue` in one file."""

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self._path = path
        self._connection = connection
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> SqliteCatalogue:
        """Opens the file, making it and bringing it up to date as needed.

        Raises:
            StorageError: it is no database, newer than this program, or the disk refused.
        """
        try:
            # Where this fails, aiosqlite leaves its thread to itself, which may then speak to a closed loop: so try without it.
            await asyncio.to_thread(lambda: sqlite3.connect(path).close())
            connection = await aiosqlite.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
        except sqlite3.Error as error:
            raise _unopened(path, error) from error
        catalogue = cls(path, connection)
        try:
            for pragma in ("synchronous=FULL", "foreign_keys=ON"):
                await connection.execute(f"PRAGMA {pragma}")
            await catalogue._bring_up_to_date()
        except sqlite3.Error as error:
            await connection.close()
            raise _unopened(path, error) from error
        except BaseException:
            await connection.close()  # its thread would keep the process from ending
            raise
        return catalogue

    async def _version(self) -> int:
        """How many migrations were run: the first so many of the list, or it is not our database."""
        if not await self._all("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations'"):
            return 0
        done = [row[0] for row in await self._all("SELECT number FROM migrations ORDER BY number")]
        if len(done) > len(MIGRATIONS):
            raise StorageError("the catalogue was written by a newer version of this program", todo="update it")
        if done != list(range(len(done))):
            raise StorageError("the catalogue's migrations have a gap", todo="restore the catalogue from a backup")
        return len(done)

    async def _bring_up_to_date(self) -> None:
        """WAL (kept in the file) and what migrations are missing.

        SQLite does not wait, whatever the timeout, while another connection is just turning a new file to WAL; so this does.
        """
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                if await self._version() < len(MIGRATIONS):
                    await self._all("PRAGMA journal_mode=WAL")
                    await self._migrate()
            except StorageError as error:
                if not _busy(error.__cause__) or time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(_POLL_SECONDS / 5)
            else:
                return

    async def _migrate(self) -> None:
        async with self._transaction():
            await self._run("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
            for number in range(await self._version(), len(MIGRATIONS)):
                for statement in MIGRATIONS[number]:
                    await self._run(statement)
                await self._run("INSERT INTO migrations (number) VALUES (?)", (number,))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        """One writer of this process at a time; IMMEDIATE, so that another process's write is waited for, not failed on."""
        async with self._writing:
            try:
                await self._run("BEGIN IMMEDIATE")
                yield
                await self._run("COMMIT")
            except BaseException:
                await self._connection.rollback()  # nothing where nothing was begun
                raise

    async def _run(self, sql: str, values: Sequence[Any] = ()) -> int:
        try:
            async with self._connection.execute(sql, values) as cursor:
                return cursor.rowcount
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise StorageError(f"the catalogue refused: {error}", kept="everything committed before") from error

    async def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            async with self._connection.execute(sql, values) as cursor:
                return [tuple(row) for row in await cursor.fetchall()]
        except sqlite3.Error as error:
            raise StorageError(f"the catalogue refused: {error}") from error

    async def put_feed(self, feed: Feed) -> None:
        """See the interface."""
        async with self._transaction():
            await self._run(
                "INSERT INTO feeds (name, kind, path, skip_bad, snapshot) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE "
                "SET kind = excluded.kind, path = excluded.path, skip_bad = excluded.skip_bad, snapshot = excluded.snapshot",
                (feed.name, feed.kind, feed.path, int(feed.skip_bad), feed.snapshot),
            )

    async def feeds(self) -> list[Feed]:
        """See the interface."""
        rows = await self._all("SELECT name, kind, path, skip_bad, snapshot FROM feeds ORDER BY name")
        return [Feed(name, kind, path, bool(skip_bad), snapshot) for name, kind, path, skip_bad, snapshot in rows]

    async def remove_feed(self, name: str) -> bool:
        """See the interface."""
        async with self._transaction():
            return await self._run("DELETE FROM feeds WHERE name = ?", (name,)) > 0

    async def put_snapshot(self, snapshot: Snapshot) -> None:
        """See the interface."""
        async with self._transaction():
            await self._run(
                "INSERT INTO snapshots (feed, digest, taken, files, records, skipped) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (feed, digest) DO NOTHING",
                (snapshot.feed, snapshot.digest, snapshot.taken, snapshot.files, snapshot.records, snapshot.skipped),
            )
            await self._run("UPDATE feeds SET snapshot = ? WHERE name = ?", (snapshot.digest, snapshot.feed))

    async def snapshots(self, feed: str) -> list[Snapshot]:
        """See the interface."""
        rows = await self._all(
            "SELECT digest, feed, taken, files, records, skipped FROM snapshots WHERE feed = ? ORDER BY taken, digest",
            (feed,),
        )
        return [Snapshot(*row) for row in rows]

    async def next_number(self, channel: str) -> int:
        """See the interface."""
        rows = await self._all("SELECT COALESCE(MAX(number), 0) + 1 FROM releases WHERE channel = ?", (channel,))
        return int(rows[0][0])

    async def put_release(self, release: Release, bundles: list[Bundle]) -> None:
        """See the interface."""
        values = (release.channel, release.number, release.state, release.manifest, release.created, release.changed)
        try:
            async with self._transaction():
                await self._run(
                    "INSERT INTO releases (channel, number, state, manifest, created, changed) VALUES (?, ?, ?, ?, ?, ?)",
                    values,
                )
                for bundle in bundles:
                    await self._run(
                        "INSERT INTO bundles (channel, number, region, digest, bytes, records) VALUES (?, ?, ?, ?, ?, ?)",
                        (bundle.channel, bundle.number, bundle.region, bundle.digest, bundle.bytes, bundle.records),
                    )
        except sqlite3.IntegrityError as error:
            raise StateError(f"release {release.number} of {release.channel} exists already") from error

    async def set_state(self, channel: str, number: int, state: State, changed: str) -> None:
        """See the interface."""
        async with self._transaction():
            rows = await self._all("SELECT state FROM releases WHERE channel = ? AND number = ?", (channel, number))
            if not rows:
                raise StateError(f"there is no release {number} of {channel}")
            now: State = rows[0][0]
            if state not in STEPS[now]:
                raise StateError(f"release {number} of {channel} is {now}: it cannot become {state}")
            await self._run(
                "UPDATE releases SET state = ?, changed = ? WHERE channel = ? AND number = ?",
                (state, changed, channel, number),
            )

    async def forget_release(self, channel: str, number: int) -> None:
        """See the interface."""
        async with self._transaction():
            rows = await self._all("SELECT state FROM releases WHERE channel = ? AND number = ?", (channel, number))
            if rows != [("built",)]:
                raise StateError(
                    f"release {number} of {channel} is {rows[0][0]}: it is not forgotten"
                    if rows
                    else f"there is no release {number} of {channel}"
                )
            await self._run("DELETE FROM bundles WHERE channel = ? AND number = ?", (channel, number))
            await self._run("DELETE FROM releases WHERE channel = ? AND number = ?", (channel, number))

    async def release(self, channel: str, number: int) -> Release | None:
        """See the interface."""
        found = _releases(
            await self._all(
                "SELECT channel, number, state, manifest, created, changed FROM releases WHERE channel = ? AND number = ?",
                (channel, number),
            )
        )
        return found[0] if found else None

    async def releases(self, channel: str) -> list[Release]:
        """See the interface."""
        return _releases(
            await self._all(
                "SELECT channel, number, state, manifest, created, changed FROM releases WHERE channel = ? ORDER BY number",
                (channel,),
            )
        )

    async def bundles(self, channel: str, number: int) -> list[Bundle]:
        """See the interface."""
        rows = await self._all(
            "SELECT channel, number, region, digest, bytes, records FROM bundles WHERE channel = ? AND number = ? ORDER BY region",
            (channel, number),
        )
        return [Bundle(*row) for row in rows]

    @asynccontextmanager
    async def publisher(self, *, wait: float = 0.0) -> AsyncIterator[None]:
        """See the interface."""
        with disk(lock := self._path.with_suffix(".lock")):
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + wait
            while not _locked(handle):
                if time.monotonic() >= deadline:
                    raise BusyError(
                        "another publisher is at work", kept="everything as it is", todo="try again when it is done"
                    )
                await asyncio.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(handle)

    async def close(self) -> None:
        """See the interface."""
        await self._connection.close()


def _unopened(path: Path, error: sqlite3.Error) -> StorageError:
    """What an operator can do depends on whose fault it is: the user's rights, or the file's state."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    todo = "restore it from a backup; what is published does not depend on it"
    if code in (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
    ):
        todo = (
            "run as the user whom the origin's directory belongs to, and check that its disk is writable and not full"
        )
    return StorageError(f"the catalogue {path.name} cannot be opened: {error}", kept="what is published", todo=todo)


def _busy(cause: BaseException | None) -> bool:
    """Whether SQLite refused because of another connection; the low byte holds the kind, whatever the detail above it."""
    return isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _releases(rows: Iterable[tuple[Any, ...]]) -> list[Release]:
    return [Release(*row) for row in rows]
