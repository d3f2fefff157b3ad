"""Files of the publishing side that survive: whole or not there, and on the disk when the call returns.

::

    a file        temporary name in the same directory, write, fsync, rename, fsync of the directory
    a directory   mkdir, fsync of its parent
    a move        rename, fsync of both parents

Every refusal of the disk is a StorageError that names the path. Source: POSIX rename(); ``man 2 fsync`` on directory entries.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from coldchain.errors import StorageError


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns OSError into StorageError naming ``path``."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path.name or path}: {error.strerror or error}",
            kept="everything written before",
            todo="check free space and permissions, then run the command again; nothing needs cleaning up",
        ) from error


def temporary(path: Path) -> Path:
    """A name beside ``path`` that no reader looks at and no other writer has, in whatever process or container."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def fsync_directory(path: Path) -> None:
    """Makes the directory's entries durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Makes the directory, and missing ones above it, durably; no error when it is there."""
    missing = []
    with disk(path):
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            fsync_directory(one.parent)


def write_file(path: Path, data: bytes) -> None:
    """Writes ``data`` as ``path``, replacing what is there: a reader sees the old or the new file, never a part."""
    name = temporary(path)
    with disk(path):
        try:
            with name.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            name.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


def sweep(path: Path) -> None:
    """Removes what writers of ``path`` that died left beside it; the caller is its only writer now."""
    with disk(path):
        if path.parent.is_dir():
            for name in path.parent.glob(f".{path.name}.*"):
                name.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Renames a file or directory whose content is durable already; ``target`` must not exist as a filled directory."""
    with disk(target):
        source.rename(target)
        fsync_directory(target.parent)
        fsync_directory(source.parent)


def remove(path: Path) -> None:
    """Removes a file or a whole directory; no error when there is nothing."""
    with disk(path):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            return
