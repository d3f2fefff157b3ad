"""The content store: files named by their SHA-256, written once, durable before they are named.

::

    content/3b/3b1f…e9     the bytes whose SHA-256 is 3b1f…e9

Snapshots' files and bundles' sections live here, so a file that two feeds, releases or regions share is kept once. It is the
*working* store of the neutral region; what endpoints may fetch is in the published tree (:mod:`.directory`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from coldchain.errors import StorageError

BLOCK = 1 << 20


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
        if target.is_file():
            return digest
        temporary = target.with_name(f".{digest}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(target)
            _fsync(target.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(f"cannot store content: {error.strerror}", kept="everything stored before") from error
        return digest

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


def _fsync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
