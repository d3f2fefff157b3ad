"""Files that survive: written whole or not at all, on the disk when the call returns, and never outside their directory.

The rules, each of which a power cut punishes when it is left out::

    a file        temporary name in the same directory, write, fsync, rename, fsync of the directory
    a symlink     temporary name in the same directory, rename, fsync of the directory
    a directory   mkdir, fsync of its parent
    a move        fsync of what is moved (by whoever wrote it), rename, fsync of both parents

Every name is one component below an open directory (:class:`Folder`), and no link is followed there. So a link in the place of
a file is replaced, a link in the place of a directory is refused, and a directory that is swapped for another one while work goes
on keeps what is written to it: nothing lands elsewhere.

A temporary name starts with a dot and ends with ``.tmp``: ``state.json`` is written as ``.state.json.5f0c1a9e.tmp``. A process
that dies leaves at most such a name, which :meth:`Folder.sweep` removes. Every refusal of the disk is a StorageError that names
the path. All calls end in plain functions of :mod:`os`, so that a test can interrupt each of them.

Source: POSIX rename(), openat(); ``man 2 fsync`` on directory entries.
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

from coldchain.errors import DamagedError, InternalError, StorageError

BLOCK = 1 << 20
READ_ONLY = 0o444
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}\.tmp\Z", re.DOTALL)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A FIFO in the place of a file must not block: O_NONBLOCK means nothing to a regular file.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
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


def make_directory(path: Path) -> None:
    """Makes the directory, and missing ones above it, durably; no error when it is there."""
    with disk(path):
        missing = []
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            descriptor = os.open(one.parent, _DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """The directory at ``path``, wherever links lead on the way there: it is what the administrator named."""
    with disk(path):
        descriptor = os.open(path, _DIRECTORY)
    try:
        yield Folder(path, descriptor)
    finally:
        with disk(path):
            os.close(descriptor)


class Folder:
    """An open directory and what may be done below it. Every ``name`` is one component.

    Args:
        path: how it was reached, for messages alone.
        descriptor: of the open directory.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Folder]:
        """The directory ``name`` in this one.

        Raises:
            DamagedError: a link or a file stands in its place.
            StorageError: it is not there, or the disk refused.
        """
        path = self.path / _plain(name)
        with disk(path):
            try:
                descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._descriptor)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise DamagedError(
                    f"{path} is not a directory of its own", todo="move it away, then run the command again"
                ) from error
        try:
            yield Folder(path, descriptor)
        finally:
            os.close(descriptor)

    def make(self, name: str) -> None:
        """Makes the directory ``name``, durably; no error when something of that name is there."""
        with disk(self.path / _plain(name)):
            try:
                os.mkdir(name, dir_fd=self._descriptor)
            except FileExistsError:
                return
            os.fsync(self._descriptor)

    def sync(self) -> None:
        """Makes the entries durable."""
        with disk(self.path):
            os.fsync(self._descriptor)

    def names(self) -> list[str]:
        """What is there, in order."""
        with disk(self.path):
            return sorted(os.listdir(self._descriptor))  # noqa: PTH208  below a descriptor

    def look(self, name: str) -> os.stat_result | None:
        """What stands under ``name``, not followed; None when nothing does."""
        with disk(self.path / _plain(name)):
            try:
                return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def read_link(self, name: str) -> str | None:
        """Where the link ``name`` leads; None when nothing is there.

        Raises:
            DamagedError: it is no link.
        """
        path = self.path / _plain(name)
        with disk(path):
            try:
                return os.readlink(name, dir_fd=self._descriptor)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise DamagedError(f"{path} is not a link", todo="move it away and run `coldchain update`") from error

    def descriptor(self, name: str) -> int | None:
        """A descriptor of the regular file ``name`` for reading; None for anything else, or for nothing. The caller closes it."""
        with disk(self.path / _plain(name)):
            try:
                descriptor = os.open(name, _READ, dir_fd=self._descriptor)
            except FileNotFoundError:
                return None
            except OSError as error:
                # A link (ELOOP), a socket (ENXIO): whatever it is, it is no file of ours.
                if error.errno not in (errno.ELOOP, errno.ENXIO):
                    raise
                return None
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return descriptor
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)
            return None

    def read(self, name: str, most: int) -> bytes | None:
        """The content of the regular file ``name``; None when there is none of at most ``most`` bytes."""
        descriptor = self.descriptor(name)
        if descriptor is None:
            return None
        with disk(self.path / name), os.fdopen(descriptor, "rb", buffering=0) as file:
            data = bytearray()
            while len(data) <= most and (block := file.read(min(BLOCK, most + 1 - len(data)))):
                data += block
        return bytes(data) if len(data) <= most else None

    def write(self, name: str, data: bytes, *, mode: int = 0o644) -> None:
        """Writes ``data`` as ``name``, replacing what is there: a reader sees the old or the new file, never a part.

        Raises:
            StorageError: the disk refused; the old file stands.
        """
        temporary = _temporary(name)
        with disk(self.path / name):
            try:
                descriptor = self._create(temporary, mode)
                try:
                    write_all(descriptor, data)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                self._rename(temporary, name)
            except OSError:
                self._discard(temporary)
                raise
            os.fsync(self._descriptor)

    def replace_symlink(self, name: str, target: str) -> None:
        """Makes ``name`` a link to ``target`` (relative to this directory) in one step.

        Raises:
            StorageError: the disk refused; the old link stands.
        """
        temporary = _temporary(name)
        with disk(self.path / name):
            try:
                os.symlink(target, temporary, dir_fd=self._descriptor)
                self._rename(temporary, name)
            except OSError:
                self._discard(temporary)
                raise
            os.fsync(self._descriptor)

    @contextlib.contextmanager
    def new_file(self, name: str, *, mode: int = READ_ONLY) -> Iterator[BinaryIO]:
        """A new file to be written in pieces; its content is durable when the block ends without an error.

        Its name becomes durable with :meth:`sync`, once for all files of a directory.

        Raises:
            StorageError: it is already there, or the disk refused.
        """
        with disk(self.path / _plain(name)), os.fdopen(self._create(name, mode), "wb", buffering=BLOCK) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def link(self, name: str, source: Folder, source_name: str) -> None:
        """Gives a file of another directory a second name here; where the system cannot do that, copies it durably.

        Raises:
            StorageError: neither could be done.
        """
        with disk(self.path / _plain(name)):
            try:
                os.link(
                    _plain(source_name),
                    name,
                    src_dir_fd=source._descriptor,
                    dst_dir_fd=self._descriptor,
                    follow_symlinks=False,
                )
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
            else:
                return
            descriptor = source.descriptor(source_name)
            if descriptor is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            with os.fdopen(descriptor, "rb") as old, self.new_file(name) as new:
                shutil.copyfileobj(old, new, BLOCK)

    def date(self, name: str, when: int) -> None:
        """Gives the file a time of its last change, in Unix seconds.

        Raises:
            StorageError: it is not there, or the disk refused.
        """
        with disk(self.path / _plain(name)):
            os.utime(name, (when, when), dir_fd=self._descriptor, follow_symlinks=False)

    def move(self, name: str, target: Folder, target_name: str) -> None:
        """Renames a file or directory whose content is durable already.

        Raises:
            StorageError: a filled directory of that name is there, or the disk refused.
        """
        with disk(target.path / _plain(target_name)):
            os.rename(_plain(name), target_name, src_dir_fd=self._descriptor, dst_dir_fd=target._descriptor)
            os.fsync(target._descriptor)
            if target._descriptor != self._descriptor:
                os.fsync(self._descriptor)

    def remove(self, name: str) -> None:
        """Removes a file, a symlink or a whole directory, and follows no link doing so; no error when there is nothing."""
        found = self.look(name)
        with disk(self.path / name):
            if found is None:
                return
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(name, dir_fd=self._descriptor)
            else:
                os.unlink(name, dir_fd=self._descriptor)

    def sweep(self) -> list[str]:
        """Removes the temporary names that a killed process left directly here; returns them."""
        found = [name for name in self.names() if _TEMPORARY.match(name)]
        for name in found:
            self.remove(name)
        return found

    def edit(self, name: str) -> int:
        """A descriptor of the regular file ``name`` for writing, made when nothing is there. The caller closes it.

        Raises:
            StorageError: it is anything else, or the disk refused.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with disk(self.path / _plain(name)):
            descriptor = os.open(name, flags, 0o644, dir_fd=self._descriptor)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "not a regular file")
            except OSError:
                os.close(descriptor)
                raise
            return descriptor

    def _create(self, name: str, mode: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode, dir_fd=self._descriptor)

    def _rename(self, old: str, new: str) -> None:
        os.replace(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def _discard(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes every byte, however few the system takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _temporary(name: str) -> str:
    """A name beside ``name`` that nobody reads and :meth:`Folder.sweep` removes."""
    return f".{_plain(name)}.{secrets.token_hex(4)}.tmp"


def _plain(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InternalError(f"{name[:80]!r} is not a name in a directory")
    return name
