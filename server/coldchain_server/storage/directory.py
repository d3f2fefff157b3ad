"""Published files in a directory: temporary file, fsync, rename, fsync of the directory.

obstore's local backend does not fsync, so this one is ours. Temporary files start with a dot and end with a random number;
readers never see them (a path component may not start with a dot), and :meth:`DirectoryStorage.sweep` removes those of
writers that died. A file's tag is its inode, length and change time in nanoseconds: a rename puts another inode there.

What is read is a regular file below ``root`` along real directories: a symbolic link in the tree, wherever it leads, is as if nothing
were there (``root`` itself may be one; put a large tree on another disk by mounting it).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, cast

from coldchain.errors import StorageError
from coldchain_server.storage.durable import disk, fsync_directory, make_directory, temporary
from coldchain_server.storage.interface import Entry

BLOCK = 256 * 1024
_NOTHING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})  # ELOOP: a link; ENXIO: a socket
_COMPONENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")

T = TypeVar("T")


class DirectoryStorage:
    """The :class:`~coldchain_server.storage.interface.Storage` of one machine, below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _file(self, path: str) -> Path:
        if not path or not all(_COMPONENT.match(part) for part in path.split("/")):
            raise StorageError(f"{path[:80]!r} is not a path of the published tree")
        return self.root / path

    async def put(self, path: str, data: bytes | Path, *, replace: bool = False) -> None:
        """Stores durably; see the interface."""
        target = self._file(path)
        await self._try(path, lambda: self._put(target, data, replace))

    async def put_joined(self, path: str, head: bytes, content: str, *, replace: bool = False) -> None:
        """Stores durably; see the interface."""
        target = self._file(path)

        def put() -> None:
            with self._opened(content) as after:
                self._put(target, head, replace, after)

        await self._try(path, put)

    def _put(self, target: Path, data: bytes | Path, replace: bool, after: BinaryIO | None = None) -> None:
        if not replace and target.exists():
            data = data if after is None or isinstance(data, Path) else data + after.read()
            if _same(target, data):
                fsync_directory(target.parent)  # its writer may have died between the rename and this
                return
            raise StorageError(
                f"{target.name} is already published with other bytes",
                kept="the published file",
                todo="a published file never changes: build a new release",
            )
        make_directory(target.parent)
        unfinished = temporary(target)
        try:
            with unfinished.open("wb") as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, BLOCK)
                else:
                    file.write(data)
                if after is not None:
                    shutil.copyfileobj(after, file, BLOCK)
                file.flush()
                os.fsync(file.fileno())
            unfinished.chmod(0o644)
            unfinished.rename(target)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        fsync_directory(target.parent)

    def _open(self, path: str) -> BinaryIO | None:
        """The file without following a link anywhere; None when there is no regular file under this name."""
        *directories, name = self._file(path).relative_to(self.root).parts
        steps = [*((one, os.O_DIRECTORY) for one in directories), (name, os.O_NONBLOCK)]
        try:
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part, flags in steps:
                above = handle
                try:
                    handle = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=above)
                finally:
                    os.close(above)
        except OSError as error:
            if error.errno in _NOTHING:
                return None
            raise
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return None
        return cast(BinaryIO, os.fdopen(handle, "rb", buffering=0))

    def _opened(self, path: str) -> BinaryIO:
        file = self._open(path)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return file

    async def get(self, path: str) -> bytes:
        """The whole file; see the interface."""

        def whole() -> bytes:
            with self._opened(path) as file:
                return file.read()

        return await self._try(path, whole)

    async def stat(self, path: str) -> Entry | None:
        """Length and tag, or None; see the interface."""

        def look() -> Entry | None:
            file = self._open(path)
            if file is None:
                return None
            with file:
                found = os.fstat(file.fileno())
            return Entry(path, found.st_size, f"{found.st_ino:x}-{found.st_size:x}-{found.st_ctime_ns:x}")

        return await self._try(path, look)

    async def read(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """A range of the file in blocks; see the interface."""
        file = await self._try(path, lambda: self._opened(path))
        try:
            await asyncio.to_thread(file.seek, start)
            left = length
            while left is None or left > 0:
                block = await asyncio.to_thread(file.read, BLOCK if left is None else min(BLOCK, left))
                if not block:
                    return
                if left is not None:
                    left -= len(block)
                yield block
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        finally:
            file.close()

    async def delete(self, path: str) -> None:
        """Removes the file; see the interface."""
        target = self._file(path)

        def remove() -> None:
            if target.exists():
                target.unlink()
                fsync_directory(target.parent)

        await self._try(path, remove)

    def sweep(self) -> int:
        """Removes what writers that died left behind; returns how many files. Only for the one publisher, at its start."""
        with disk(self.root):
            left = [file for file in self.root.rglob(".*") if file.is_file() and not file.is_symlink()]
            for file in left:
                file.unlink(missing_ok=True)
        return len(left)

    async def _try(self, path: str, action: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(action)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror or error}", kept="everything published before") from error

    def _paths(self, prefix: str) -> list[str]:
        start = self.root / prefix.rpartition("/")[0]
        with disk(self.root):
            files = [file for file in start.rglob("*") if file.is_file() and not file.is_symlink()]
        names = (file.relative_to(self.root) for file in files)
        return sorted(name.as_posix() for name in names if all(_COMPONENT.match(part) for part in name.parts))

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        """All paths with this prefix in bytewise order; see the interface."""
        for path in await asyncio.to_thread(self._paths, prefix):
            if path.startswith(prefix):
                yield path


def _same(target: Path, data: bytes | Path) -> bool:
    if isinstance(data, bytes):
        return target.stat().st_size == len(data) and target.read_bytes() == data
    if target.stat().st_size != data.stat().st_size:
        return False
    with target.open("rb") as one, data.open("rb") as two:
        while block := one.read(BLOCK):
            if block != two.read(BLOCK):
                return False
    return True
