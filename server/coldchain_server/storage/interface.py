"""The one small interface of everything that holds published files.

Paths are relative, with ``/`` between components from ``[A-Za-z0-9._-]``, none starting with a dot:
``metadata/timestamp.json``, ``targets/us/stable/<sha256>.full.ccd``. A backend promises three things:

1. *durable*: when :meth:`Storage.put` returns, the file survives a power cut;
2. *whole*: a reader sees the old file, the new file or none, never a part;
3. *honest*: :meth:`Storage.put` of an immutable path that already holds other bytes is an error, not an overwrite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """What a backend knows of a stored file: its length in bytes and a tag that changes whenever its bytes do."""

    path: str
    length: int
    tag: str


class Storage(Protocol):
    """Where published files live. All failures of the medium are :class:`coldchain.errors.StorageError`."""

    async def put(self, path: str, data: bytes | Path, *, replace: bool = False) -> None:
        """Stores bytes, or a file's content, durably. ``replace`` only for the few paths that change.

        Raises:
            StorageError: the medium refused, or the path holds other bytes and ``replace`` is false.
        """

    async def put_joined(self, path: str, head: bytes, content: str, *, replace: bool = False) -> None:
        """Stores ``head`` and, after it, the bytes of the stored file ``content``; otherwise as :meth:`put`."""

    async def get(self, path: str) -> bytes:
        """The whole file. Raises StorageError when it is not there."""

    async def stat(self, path: str) -> Entry | None:
        """Length and tag, or None when it is not there."""

    def read(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """A range of the file in blocks of at most 256 KiB. Raises StorageError when it is not there."""

    async def delete(self, path: str) -> None:
        """Removes the file; no error when it is not there."""

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """All paths with this prefix, in bytewise order."""
