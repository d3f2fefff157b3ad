"""Files that survive: written whole or not at all, on the disk when the call returns.

The rules, each of which a power cut punishes when it is left out::

    a file        temporary name in the same directory, write, fsync, rename, fsync of the directory
    a symlink     temporary name in the same directory, rename, fsync of the directory
    a directory   mkdir, fsync of its parent
    a move        fsync of what is moved (by whoever wrote it), rename, fsync of both parents

A temporary name starts with a dot and ends with ``.tmp``: ``state.json`` is written as ``.state.json.5f0c1a9e.tmp``. A process
that dies leaves at most such a name, which :func:`sweep` removes. Every refusal of the disk is a StorageError that names the
path. All calls end in plain functions of :mod:`os`, so that a test can interrupt each of them.

Source: POSIX rename(); ``man 2 fsync`` on directory entries.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from coldchain.errors import StorageError

BLOCK = 1 << 20
READ_ONLY = 0o444
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}\.tmp\Z", re.DOTALL)
# A link cannot be made for these reasons, and a copy can: another file system, too many links, a system or a policy
# (fs.protected_hardlinks) without links.
_NO_LINK = frozenset(
    {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns OSError into StorageError naming ``path``."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror or error}",
            todo="check free space and permissions, then run the command again; nothing needs cleaning up",
        ) from error


def temporary(path: Path) -> Path:
    """A name beside ``path`` that nobody reads and :func:`sweep` removes."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def fsync_directory(path: Path) -> None:
    """Makes the directory's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Makes the directory, and missing ones above it, durably; no error when it is there."""
    with disk(path):
        missing = []
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            fsync_directory(one.parent)


def _create(path: Path, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes ``data`` as ``path``, replacing what is there: a reader sees the old or the new file, never a part.

    Raises:
        StorageError: the disk refused; the old file stands.
    """
    name = temporary(path)
    with disk(path):
        try:
            descriptor = _create(name, mode)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            name.replace(path)
        except OSError:
            _discard(name)
            raise
        fsync_directory(path.parent)


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def replace_symlink(link: Path, target: str) -> None:
    """Makes ``link`` point to ``target`` (relative to the link's directory) in one step.

    Raises:
        StorageError: the disk refused; the old link stands.
    """
    name = temporary(link)
    with disk(link):
        try:
            name.symlink_to(target)
            name.replace(link)
        except OSError:
            _discard(name)
            raise
        fsync_directory(link.parent)


@contextlib.contextmanager
def new_file(path: Path, *, mode: int = READ_ONLY) -> Iterator[BinaryIO]:
    """A new file to be written in pieces; its content is durable when the block ends without an error.

    Its name becomes durable with :func:`fsync_directory`, once for all files of a directory.

    Raises:
        StorageError: it is already there, or the disk refused.
    """
    with disk(path):
        descriptor = _create(path, mode)
        with os.fdopen(descriptor, "wb", buffering=BLOCK) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


def link_file(source: Path, target: Path) -> None:
    """Gives the file ``source`` a second name; where the system cannot do that, copies it durably.

    Raises:
        StorageError: neither could be done.
    """
    with disk(target):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        else:
            return
        with source.open("rb") as old, new_file(target) as new:
            shutil.copyfileobj(old, new, BLOCK)


def move(source: Path, target: Path) -> None:
    """Renames a file or directory whose content is durable already; ``target`` must not exist as a filled directory."""
    with disk(target):
        source.rename(target)
        fsync_directory(target.parent)
        if source.parent != target.parent:
            fsync_directory(source.parent)


def remove(path: Path) -> None:
    """Removes a file, a symlink or a whole directory; no error when there is nothing."""
    with disk(path):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def sweep(directory: Path) -> list[str]:
    """Removes the temporary names that a killed process left directly in ``directory``; returns them."""
    found: list[str] = []
    with disk(directory):
        if directory.is_dir():
            found = sorted(name for name in os.listdir(directory) if _TEMPORARY.match(name))  # noqa: PTH208
        for name in found:
            remove(directory / name)
    return found
