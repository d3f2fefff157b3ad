"""The content store: files named by their SHA-256, written once, durable before they are named.

::

    content/3b/3b1f…e9     the bytes whose SHA-256 is 3b1f…e9

Snapshots' files and bundles' sections live here, so a file that two feeds, releases or regions share is kept once. It is the
*working* store of the neutral region; what endpoints may fetch is in the published tree (:mod:`.directory`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Final

from coldchain.errors import StorageError
from coldchain_server.storage.durable import disk, fsync_directory, make_directory, temporary

_ABANDONED_SECONDS: Final = 86_400.0


class ContentStore:
    """Content-addressed files below one directory. Calling it with a digest gives the file's path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, sha256: str) -> Path:
        """Where the content of that digest is or would be."""
        return self.directory / sha256[:2] / sha256

    def __contains__(self, sha256: str) -> bool:
        return self(sha256).is_file()

    def put(self, data: bytes) -> str:
        """Stores bytes durably and returns their SHA-256, lower-case hexadecimal. Raises StorageError."""
        digest = hashlib.sha256(data).hexdigest()
        target = self(digest)
        unfinished = temporary(target)
        try:
            if target.is_file():
                fsync_directory(target.parent)  # its writer may have died between the rename and this
                return digest
            make_directory(target.parent)
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(target)
            fsync_directory(target.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise StorageError(f"cannot store content: {error.strerror}", kept="everything stored before") from error
        return digest

    def sweep(self, older_than: float = _ABANDONED_SECONDS) -> int:
        """Removes temporary files whose writers died, a day after; returns how many. Feeds may be pulled meanwhile."""
        gone = 0
        oldest = time.time() - older_than
        with disk(self.directory):
            for file in self.directory.glob("*/.*"):
                if file.stat().st_mtime <= oldest:
                    file.unlink(missing_ok=True)
                    gone += 1
        return gone

    def get(self, sha256: str) -> bytes:
        """The content, checked against its digest.

        Raises:
            StorageError: it is not there, or the disk gave other bytes than were stored.
        """
        try:
            data = self(sha256).read_bytes()
        except OSError as error:
            raise StorageError(f"content {sha256[:16]} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StorageError(
                f"content {sha256[:16]} is damaged on disk", todo="restore it from a backup or pull the feed again"
            )
        return data


class Overlay(ContentStore):
    """A content store on top of another one, which is only read: for trying what nobody shall remember."""

    def __init__(self, directory: Path, below: ContentStore) -> None:
        super().__init__(directory)
        self._below = below

    def __call__(self, sha256: str) -> Path:
        """Where the content of that digest is: below if it is there, else here."""
        below = self._below(sha256)
        return below if below.is_file() else super().__call__(sha256)
