"""A mirror's directory as the web room's storage: everything where it lies, ``metadata`` through the link to its generation.

The link is looked at for every file. So who asks after the switch is answered from the new generation, and a generation that is
taken away in the middle of a request is looked for under the new link. Only reading: what is here was put here by a pull.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from coldchain.errors import StorageError
from coldchain.mirror.directory import METADATA, MirrorDirectory
from coldchain.mirror.generation import FOLDER, folder_named
from coldchain_server.storage.directory import DirectoryStorage
from coldchain_server.storage.interface import Entry, Storage

TRIES: Final = 10
_PREFIX: Final = f"{METADATA}/"
T = TypeVar("T")


class ServedTree:
    """See the module."""

    def __init__(self, directory: MirrorDirectory) -> None:
        self._link = directory.path / METADATA
        self._tree = DirectoryStorage(directory.path)
        self._generations = DirectoryStorage(directory.own.path / FOLDER)

    def _place(self, path: str) -> tuple[Storage, str]:
        """Where a path of the published tree lies now."""
        if path.startswith(_PREFIX):
            folder = folder_named(_content(self._link))
            if folder is not None:
                return self._generations, f"{folder}/{path.removeprefix(_PREFIX)}"
        return self._tree, path

    async def _try(self, path: str, action: Callable[[Storage, str], Awaitable[T | None]]) -> T | None:
        """What an action finds, again when the generation was replaced under it."""
        for _ in range(TRIES):
            storage, place = self._place(path)
            found = await action(storage, place)
            if found is not None or self._place(path)[1] == place:
                return found
        return None

    async def get(self, path: str) -> bytes:
        """The whole file; see the interface."""

        async def whole(storage: Storage, place: str) -> bytes | None:
            try:
                return await storage.get(place)
            except StorageError:
                if await storage.stat(place) is not None:
                    raise
                return None

        found = await self._try(path, whole)
        if found is None:
            raise StorageError(f"{path} is not there")
        return found

    async def stat(self, path: str) -> Entry | None:
        """Length and tag, or None; see the interface."""

        async def look(storage: Storage, place: str) -> Entry | None:
            return await storage.stat(place)

        found = await self._try(path, look)
        return replace(found, path=path) if found is not None else None

    async def read(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """A range of the file in blocks; see the interface."""
        for last in range(1, TRIES + 1):
            storage, place = self._place(path)
            begun = False
            try:
                async for block in storage.read(place, start, length):
                    begun = True
                    yield block
            except StorageError:
                if begun or last == TRIES or self._place(path)[1] == place:
                    raise
            else:
                return

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        """All paths with this prefix but the metadata's; see the interface."""
        async for path in self._tree.list(prefix):
            yield path

    async def put(self, path: str, data: bytes | Path, *, replace: bool = False) -> NoReturn:
        """Refuses."""
        raise StorageError(f"{path}: an edge only serves what it pulled")

    async def put_joined(self, path: str, head: bytes, content: str, *, replace: bool = False) -> NoReturn:
        """Refuses."""
        raise StorageError(f"{path}: an edge only serves what it pulled")

    async def delete(self, path: str) -> NoReturn:
        """Refuses."""
        raise StorageError(f"{path}: an edge only serves what it pulled")


def _content(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
