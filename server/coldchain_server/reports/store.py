"""Where the counted outcome reports of regions are kept: SQLite in one file, ``DIR/reports.sqlite``.

::

    counts    region, channel, source, release, outcome, code, version, hour, sender, count
    batches   region, sender, number                   the last batch that was counted, of each sender
    pardons   region, channel, release, sender, reports, failures, ignored
                                                       up to here a person saw them and let the rollout go on
    sealed    region                                   nothing is added to it here, nor forgotten: it is being moved, or was

A row of ``counts`` says: in this hour (UTC) so many reports came, through this sender, of endpoints of this region that went from the
source release (0: from nothing) to this one, with this outcome. Nothing finer was ever here: no address, no order, no minute. Worked
example, 12 endpoints in one hour::

    us  stable  41  42  applied  0  0.5.0  2026-06-01T09:00:00Z  edge-1  12

Batches are counted in the transaction that remembers their number, so one that comes twice counts once, whatever died in between.
``synchronous=EXTRA`` with a rollback journal: a commit that returned is on the disk, and between commits the one file is everything.
``secure_delete``: what is removed is overwritten in the file, since a region's reports may have to leave a jurisdiction.

:meth:`ReportStore.lines` is all of a region in canonical lines, in one order, to be counted, digested, and put into another store.

Source: https://sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final, Self

from coldchain import canonical
from coldchain.errors import BusyError, MalformedError, StateError, StorageError
from coldchain_server.storage.durable import disk, fsync_directory, make_directory

FILE: Final = "reports.sqlite"
VERSION: Final = 1
BUSY_SECONDS: Final = 10.0

_COUNTS: Final = "region, channel, source, release, outcome, code, version, hour, sender"
_SCHEMA: Final = (
    f"""
    CREATE TABLE counts (
        region TEXT NOT NULL, channel TEXT NOT NULL,
        source INTEGER NOT NULL CHECK (source >= 0), release INTEGER NOT NULL CHECK (release > 0),
        outcome TEXT NOT NULL, code INTEGER NOT NULL, version TEXT NOT NULL, hour TEXT NOT NULL, sender TEXT NOT NULL,
        count INTEGER NOT NULL CHECK (count > 0),
        PRIMARY KEY ({_COUNTS})
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE batches (
        region TEXT NOT NULL, sender TEXT NOT NULL, number INTEGER NOT NULL CHECK (number > 0),
        PRIMARY KEY (region, sender)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE pardons (
        region TEXT NOT NULL, channel TEXT NOT NULL, release INTEGER NOT NULL, sender TEXT NOT NULL,
        reports INTEGER NOT NULL, failures INTEGER NOT NULL, ignored INTEGER NOT NULL,
        PRIMARY KEY (region, channel, release, sender)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE sealed (region TEXT PRIMARY KEY) WITHOUT ROWID",
)
_COLUMNS: Final = {
    "counts": f"{_COUNTS}, count",
    "batches": "region, sender, number",
    "pardons": "region, channel, release, sender, reports, failures, ignored",
}
"""What belongs to a region, by table, in the order of :meth:`ReportStore.lines`; rows are ordered by all their columns."""
TABLES: Final = tuple(_COLUMNS)
_KEYS: Final = {"counts": 9, "batches": 2, "pardons": 4}
"""How many of the columns tell a row from all others."""

Row = tuple[Any, ...]
_plain = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, order=True)
class Count:
    """So many reports that say the same.

    Attributes:
        region: of the endpoints.
        channel: that they follow.
        source: the release that ran before; 0 for none.
        release: the one that the report is about.
        outcome: applied, refused or engine-failed.
        code: the exit code of the update.
        version: of the client.
        hour: ``2026-06-01T09:00:00Z``, the hour in which they came.
        sender: the edge that sent them on, or ``direct``.
        count: how many.
    """

    region: str
    channel: str
    source: int
    release: int
    outcome: str
    code: int
    version: str
    hour: str
    sender: str
    count: int


@dataclass(frozen=True, slots=True, order=True)
class Batch:
    """One batch of a sender: its number in the region grows."""

    region: str
    sender: str
    number: int


@dataclass(frozen=True, slots=True, order=True)
class Pardon:
    """Reports of a sender about a release that a person saw and let the rollout go on all the same.

    Attributes:
        region: where.
        channel: and in which channel.
        release: the one that rolls out.
        sender: whose reports.
        reports: how many there were then, and
        failures: how many of them were failures.
        ignored: 1 when nothing of this sender counts for this release any more, else 0.
    """

    region: str
    channel: str
    release: int
    sender: str
    reports: int
    failures: int
    ignored: int


class ReportStore:
    """The open file; it may be used from any thread, and by several processes."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, takes: frozenset[str] | None = None) -> None:
        self.directory = directory
        self._connection = connection
        self._takes = takes
        self._lock = threading.RLock()

    @classmethod
    def open(cls, directory: Path, takes: frozenset[str] | None = None) -> Self:
        """Opens the store in this directory; makes both where they are missing.

        Args:
            directory: where it is.
            takes: the regions whose reports may be added here; None for any.

        Raises:
            StorageError: it is no such file, newer than this program, or the disk refused.
        """
        make_directory(directory)
        path = directory / FILE
        with _refusals(path), disk(path):
            new = not path.exists()
            connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
            store = cls(directory, connection, takes)
            try:
                for pragma in ("journal_mode=DELETE", "synchronous=EXTRA", "secure_delete=ON"):
                    connection.execute(f"PRAGMA {pragma}")
                store._bring_up_to_date(path)
                if new:
                    path.chmod(0o600)
                    fsync_directory(directory)
            except BaseException:
                connection.close()
                raise
        return store

    def _bring_up_to_date(self, path: Path) -> None:
        if self._version() == 0:
            with self._transaction():
                if self._version() == 0:
                    for statement in self._schema():
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version={VERSION}")
        if self._version() > VERSION:
            raise StorageError(f"{path.name} was written by a newer version of this program", todo="update it")

    def _schema(self) -> tuple[str, ...]:
        return _SCHEMA

    def _version(self) -> int:
        return int(self._rows("PRAGMA user_version")[0][0])

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, counts: Iterable[Count], batch: Batch | None = None) -> bool:
        """Adds to what is counted, all or nothing, durably.

        Args:
            counts: what to add; of a batch's region, if a batch is given.
            batch: the batch that they are. One that was counted before (or whose successor was) is not counted again.

        Returns:
            False when it was a batch that was counted before.

        Raises:
            BusyError: a region of them is sealed here.
            StateError: a region of them is not kept here.
            StorageError: the disk refused; nothing was added.
        """
        rows = [astuple(count) for count in counts]
        with self._transaction():
            for region in {row[0] for row in rows} | ({batch.region} if batch else set()):
                self._check_open(region)
            if batch is not None:
                known = self._rows(
                    "SELECT number FROM batches WHERE region = ? AND sender = ?", (batch.region, batch.sender)
                )
                if known and known[0][0] >= batch.number:
                    return False
                self._connection.execute(
                    "INSERT INTO batches VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = excluded.number",
                    astuple(batch),
                )
            self._connection.executemany(
                "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET count = count + excluded.count",
                rows,
            )
        return True

    def rows(self, region: str) -> list[Count]:
        """All counts of a region, ordered."""
        return [Count(*row) for row in self._table("counts", region)]

    def batches(self, region: str) -> list[Batch]:
        """The last batch of each sender in a region, ordered."""
        return [Batch(*row) for row in self._table("batches", region)]

    def pardons(self, region: str) -> list[Pardon]:
        """What people pardoned in a region, ordered."""
        return [Pardon(*row) for row in self._table("pardons", region)]

    def pardon(self, pardons: Iterable[Pardon]) -> None:
        """Remembers them, each in the place of an earlier one about the same; all or nothing, durably.

        Raises:
            BusyError: a region of them is sealed here.
            StateError: a region of them is not kept here.
            StorageError: the disk refused; nothing changed.
        """
        rows = [astuple(pardon) for pardon in pardons]
        with self._transaction():
            for region in {row[0] for row in rows}:
                self._check_open(region)
            self._connection.executemany("INSERT OR REPLACE INTO pardons VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def sums(self, region: str, channel: str, release: int) -> list[tuple[str, str, int]]:
        """Sender, outcome and count of a release's reports, ordered."""
        return self._rows(
            "SELECT sender, outcome, SUM(count) FROM counts WHERE region = ? AND channel = ? AND release = ?"
            " GROUP BY sender, outcome ORDER BY sender, outcome",
            (region, channel, release),
        )

    def regions(self) -> list[str]:
        """The regions that something is kept of, sealed or not."""
        tables = " UNION ".join(f"SELECT region FROM {table}" for table in _COLUMNS)  # noqa: S608 - names of ours
        return [row[0] for row in self._rows(f"{tables} ORDER BY region")]

    def holds(self, region: str) -> bool:
        """Whether anything is kept of a region; found by the index, however much there is."""
        return any(
            self._rows(f"SELECT 1 FROM {table} WHERE region = ? LIMIT 1", (region,))  # noqa: S608 - names of ours
            for table in TABLES
        )

    def forget(self, before: str) -> int:
        """Removes counts of hours before this one (``2026-06-01T09:00:00Z``); returns how many rows that were.

        A sealed region's stay: two copies of them are being compared, or were.
        """
        with self._transaction():
            return self._connection.execute(
                "DELETE FROM counts WHERE hour < ? AND region NOT IN (SELECT region FROM sealed)", (before,)
            ).rowcount

    def sound(self) -> bool:
        """Whether SQLite finds the whole file in order."""
        try:
            return self._rows("PRAGMA integrity_check") == [("ok",)]
        except StorageError:
            return False

    # -- moving a region

    def lines(self, region: str) -> list[bytes]:
        """All that is kept of a region as canonical JSON lines in one order, with their ends: the same for equal content.

        Read in one transaction. ``b'["counts","us","stable",41,42,"applied",0,"0.5.0","2026-06-01T09:00:00Z","edge-1",12]\\n'``.
        """
        with self._transaction():
            return [line_of(table, row) for table in TABLES for row in self._table(table, region)]

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nobody else changes the file until the block ends; what is done to it meanwhile is done as one, or not at all."""
        with self._transaction():
            yield

    def span(self, table: str, region: str, after: Row = (), upto: Row = (), most: int = -1) -> list[Row]:
        """Rows of one of :data:`TABLES`, in order.

        Args:
            table: which.
            region: whose.
            after: they come after this row; () from the first on.
            upto: up to this row and with it; () to the last.
            most: so many of them at most; -1 for all.
        """
        where, values = _bounds(table, region, after, upto)
        columns = _COLUMNS[table]
        sql = f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {columns} LIMIT ?"  # noqa: S608 - names of ours
        return self._rows(sql, (*values, most))

    def put_span(self, table: str, region: str, after: Row, upto: Row, rows: Sequence[Row]) -> None:
        """Replaces the rows between these two (see :meth:`span`) by others, all or nothing, durably."""
        where, values = _bounds(table, region, after, upto)
        marks = ", ".join("?" * len(_COLUMNS[table].split(",")))
        with self._transaction():
            self._connection.execute(f"DELETE FROM {table} WHERE {where}", values)  # noqa: S608 - names of ours
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - a name of ours

    def put(self, region: str, lines: Iterable[bytes]) -> None:
        """Replaces all that is kept of a region by these lines of another store, all or nothing, durably.

        Raises:
            MalformedError: they are not lines of this region; nothing changed.
            StorageError: the disk refused; nothing changed.
        """
        with self._transaction():
            self._clear(region)
            for line in lines:
                row = canonical.read(line, "a line of a report store")
                table = row[0] if isinstance(row, list) and row else None
                if (
                    not isinstance(row, list)
                    or table not in _COLUMNS
                    or len(row) != len(_COLUMNS[table].split(",")) + 1
                    or row[1] != region
                    or not all(isinstance(value, str) or type(value) is int for value in row)
                ):
                    raise MalformedError(f"not a line of the reports of {region}: {line[:80]!r}")
                marks = ", ".join("?" * (len(row) - 1))
                try:
                    self._connection.execute(f"INSERT INTO {table} VALUES ({marks})", row[1:])  # noqa: S608 - a name of ours
                except sqlite3.IntegrityError as error:
                    raise MalformedError(f"not a line of the reports of {region}: {line[:80]!r}: {error}") from error

    def seal(self, region: str) -> None:
        """From now on nothing is added to this region here: it is being moved, or was."""
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO sealed VALUES (?)", (region,))

    def unseal(self, region: str) -> None:
        """Takes reports of this region again."""
        with self._transaction():
            self._connection.execute("DELETE FROM sealed WHERE region = ?", (region,))

    def sealed(self) -> list[str]:
        """The regions that are sealed."""
        return [row[0] for row in self._rows("SELECT region FROM sealed ORDER BY region")]

    def remove(self, region: str) -> None:
        """Removes all that is kept of a region, for good; whether it is sealed stays as it is."""
        with self._transaction():
            self._clear(region)

    def _clear(self, region: str) -> None:
        for table in _COLUMNS:
            self._connection.execute(f"DELETE FROM {table} WHERE region = ?", (region,))  # noqa: S608 - a name of ours

    # -- the file

    def _check_open(self, region: str) -> None:
        if self._takes is not None and region not in self._takes:
            raise StateError(
                f"the reports of {region} are not kept in {self.directory.name}",
                kept="nothing was added",
                todo="coldchain-server residency show says where they are",
            )
        if self._rows("SELECT 1 FROM sealed WHERE region = ?", (region,)):
            raise BusyError(
                f"the reports of {region} are being moved", kept="what was counted", todo="try again in a minute"
            )

    def _table(self, table: str, region: str) -> list[tuple[Any, ...]]:
        columns = _COLUMNS[table]
        return self._rows(f"SELECT {columns} FROM {table} WHERE region = ? ORDER BY {columns}", (region,))  # noqa: S608

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """IMMEDIATE, so that another process's write is waited for, not failed on. Within another one it is a part of that."""
        with self._lock, _refusals(self.directory / FILE):
            if self._in_transaction():
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._in_transaction():
                    self._connection.execute("ROLLBACK")
                raise

    def _in_transaction(self) -> bool:
        return self._connection.in_transaction

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, _refusals(self.directory / FILE):
            return self._connection.execute(sql, values).fetchall()


def line_of(table: str, row: Row) -> bytes:
    """A row's line in :meth:`ReportStore.lines`."""
    line = _plain([table, *row])
    # the standard library's encoder spells all that is in a store as canonical.encode() does, but for what it escapes
    return (canonical.encode([table, *row]) if "\\" in line else line.encode()) + b"\n"


def _bounds(table: str, region: str, after: Row, upto: Row) -> tuple[str, Row]:
    """The WHERE clause of a span, by key. The region stands alone in it: only then SQLite finds both ends by its index."""
    size = _KEYS[table]
    key = f"({', '.join(_COLUMNS[table].split(', ')[1:size])})"
    marks = f"({', '.join('?' * (size - 1))})"
    where = "region = ?" + (f" AND {key} > {marks}" if after else "") + (f" AND {key} <= {marks}" if upto else "")
    return where, (region, *after[1:size], *upto[1:size])


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(
            f"the reports in {path.parent.name}/{path.name}: {error}",
            kept="everything that was counted",
            todo="check free space and permissions, and whether the file is damaged",
        ) from error
