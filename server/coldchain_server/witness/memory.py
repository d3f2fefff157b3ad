"""What a witness remembers: for each log the largest checkpoint that it cosigned. SQLite in one file, ``DIR/witness.sqlite``.

::

    witness   vkey                          whose memory this is: one row
    logs      origin, vkey                  the keys that may sign for a log; several while a log changes its key
    heads     origin, id, size, root, note  size 0 and SHA256("") until the first cosignature; note is the cosigned checkpoint,
                                            id = lower-case hex of SHA256(origin), under which it is shown

All that a witness is worth is that this never goes back. Therefore a head is replaced by one statement that compares and
swaps, ``UPDATE ... WHERE origin = ? AND size = ? AND root = ?``, which changes exactly one row or none; triggers refuse what would
shrink or remove a head, whoever asks; ``synchronous=EXTRA`` has a commit on the disk before it returns (``FULL`` does that only with
a write-ahead log: with a rollback journal a power cut could bring the journal back, and with it the old head); and a memory
that is missing, damaged or another witness's is an error, never an empty one to start from. Two processes on one file are as
safe as one, only slower. Between commits the one file is everything: no log beside it is lost when somebody moves it.

Source: https://sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coldchain.errors import StateError, StorageError
from coldchain.tlog.merkle import EMPTY_ROOT
from coldchain_server.storage.durable import disk, fsync_directory

VERSION: Final = 1
BUSY_SECONDS: Final = 10.0
_NEVER_RESTORE: Final = (
    "a witness that has lost its memory must not go on under its key: make a new one in another directory, and give its vkey"
    " to whoever has the old one. Never restore the file from a backup"
)

_SCHEMA: Final = (
    "CREATE TABLE witness (vkey TEXT NOT NULL)",
    "CREATE TABLE logs (origin TEXT NOT NULL REFERENCES heads, vkey TEXT NOT NULL, PRIMARY KEY (origin, vkey))",
    """
    CREATE TABLE heads (
        origin TEXT PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL CHECK (size >= 0),
        root BLOB NOT NULL CHECK (length(root) = 32),
        note BLOB
    )
    """,
    """
    CREATE TRIGGER heads_only_grow BEFORE UPDATE ON heads
    WHEN NEW.origin <> OLD.origin OR NEW.size < OLD.size OR (NEW.size = OLD.size AND NEW.root <> OLD.root)
    BEGIN SELECT RAISE(ABORT, 'a head only grows'); END
    """,
    "CREATE TRIGGER heads_stay BEFORE DELETE ON heads BEGIN SELECT RAISE(ABORT, 'a head stays'); END",
)


@dataclass(frozen=True, slots=True)
class Head:
    """The largest checkpoint of a log that was cosigned; ``note`` is None before the first."""

    origin: str
    size: int
    root: bytes
    note: bytes | None = None


class Memory:
    """The open file. Use it from one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path, vkey: str) -> None:
        """Makes an empty memory for the witness with this vkey. Does nothing where that was done already.

        Raises:
            StorageError: the disk refused.
        """
        with _refusals(path), disk(path):
            connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
            try:
                _set_up(connection)
                connection.execute("BEGIN IMMEDIATE")
                if _version(connection) == 0:
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    connection.execute("INSERT INTO witness (vkey) VALUES (?)", (vkey,))
                    connection.execute(f"PRAGMA user_version={VERSION}")
                connection.execute("COMMIT")
            finally:
                connection.close()
            path.chmod(0o600)
            fsync_directory(path.parent)

    @classmethod
    def open(cls, path: Path, vkey: str) -> Memory:
        """Opens the memory of the witness with this vkey.

        Raises:
            StateError: it is missing, or another witness's.
            StorageError: it is damaged, written by a newer version, or the disk refused.
        """
        if not path.is_file():
            raise StateError(f"the witness's memory {path.name} is missing", todo=_NEVER_RESTORE)
        with _refusals(path):
            # from one thread at a time, which need not always be the same
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,
                timeout=BUSY_SECONDS,
                check_same_thread=False,
            )
            memory = cls(path, connection)
            try:
                _set_up(connection)
                memory._check(vkey)
            except BaseException:
                connection.close()
                raise
        return memory

    def _check(self, vkey: str) -> None:
        version = _version(self._connection)
        if version > VERSION:
            raise StorageError("the witness's memory was written by a newer version of this program", todo="update it")
        sound = self._rows("PRAGMA integrity_check")
        if version < VERSION or sound != [("ok",)]:
            raise StorageError(f"the witness's memory {self._path.name} is damaged", todo=_NEVER_RESTORE)
        if self._rows("SELECT vkey FROM witness") != [(vkey,)]:
            raise StateError(
                f"the witness's memory {self._path.name} is another witness's",
                todo="put back the one that was here; " + _NEVER_RESTORE,
            )

    def follow(self, origin: str, vkey: str) -> bool:
        """Has checkpoints of ``origin`` accepted when this key signed them; returns whether that is new.

        Raises:
            StorageError: the disk refused.
        """
        name = hashlib.sha256(origin.encode()).hexdigest()
        with _refusals(self._path), self._connection:  # commits, or rolls back
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "INSERT INTO heads (origin, id, size, root) VALUES (?, ?, 0, ?) ON CONFLICT (origin) DO NOTHING",
                (origin, name, EMPTY_ROOT),
            )
            done = self._connection.execute(
                "INSERT INTO logs (origin, vkey) VALUES (?, ?) ON CONFLICT (origin, vkey) DO NOTHING", (origin, vkey)
            )
            return done.rowcount == 1

    def unfollow(self, origin: str, vkey: str) -> bool:
        """Believes this key no longer; what was cosigned stays remembered. Returns whether it was believed.

        Raises:
            StorageError: the disk refused.
        """
        with _refusals(self._path):
            done = self._connection.execute("DELETE FROM logs WHERE origin = ? AND vkey = ?", (origin, vkey))
            return done.rowcount == 1

    def logs(self) -> list[tuple[str, str]]:
        """The logs that are followed: origin and vkey of each key."""
        return [(origin, vkey) for origin, vkey in self._rows("SELECT origin, vkey FROM logs ORDER BY origin, vkey")]

    def vkeys(self, origin: str) -> list[str]:
        """The keys that may sign for an origin; none for one that is not followed."""
        return [row[0] for row in self._rows("SELECT vkey FROM logs WHERE origin = ? ORDER BY vkey", (origin,))]

    def head(self, origin: str) -> Head | None:
        """What is remembered of a log that is followed."""
        rows = self._rows("SELECT origin, size, root, note FROM heads WHERE origin = ?", (origin,))
        return Head(*rows[0]) if rows else None

    def shown(self, name: str) -> bytes | None:
        """The cosigned checkpoint of the log whose origin has this SHA-256 (lower-case hex); None when there is none."""
        rows = self._rows("SELECT note FROM heads WHERE id = ?", (name,))
        return rows[0][0] if rows else None

    def advance(self, old: Head, new: Head) -> bool:
        """Replaces ``old`` by ``new``, durably; returns False, and changes nothing, when ``old`` is not what is there now.

        Raises:
            StorageError: the disk refused; nothing changed.
        """
        with _refusals(self._path):
            done = self._connection.execute(
                "UPDATE heads SET size = ?, root = ?, note = ? WHERE origin = ? AND size = ? AND root = ?",
                (new.size, new.root, new.note, new.origin, old.size, old.root),
            )
            return done.rowcount == 1

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with _refusals(self._path):
            return self._connection.execute(sql, values).fetchall()


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("PRAGMA foreign_keys=ON")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(
            f"the witness's memory {path.name}: {error}",
            kept="every head that was answered for",
            todo="check free space and permissions; if the file is damaged, " + _NEVER_RESTORE,
        ) from error
