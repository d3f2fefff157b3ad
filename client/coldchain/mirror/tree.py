"""The published files below a mirror's directory: put there whole, looked at, removed. No link is followed on the way.

A path is as at the origin, ``targets/us/stable/<sha256>.full.ccd``. A file appears under its name in one step, and what stands under a
name that holds a digest has been hashed before it got there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from coldchain.errors import DamagedError, MalformedError, StorageError
from coldchain.install import durable
from coldchain.install.durable import Folder
from coldchain.install.part import Part
from coldchain.mirror.directory import KEPT, MirrorDirectory

DEEPEST: Final = 12
BLOCK: Final = 1 << 20
_JOINED: Final = "joined.tmp"


class Tree:
    """See the module; the mirror's lock is held."""

    def __init__(self, directory: MirrorDirectory) -> None:
        self.directory = directory

    @contextlib.contextmanager
    def _folder(self, path: str, *, make: bool) -> Iterator[tuple[Folder, str] | None]:
        """The open folder of a path and the path's last name; None when the folder is missing and not to be made."""
        *folders, name = path.split("/")
        if len(folders) > DEEPEST:
            raise MalformedError(f"{path[:80]!r} lies too deep")
        with contextlib.ExitStack() as stack:
            here = stack.enter_context(durable.open_folder(self.directory.path))
            for one in folders:
                if make:
                    _make_way(here, one)
                found = here.look(one)
                if found is None or not stat.S_ISDIR(found.st_mode):
                    yield None
                    return
                here = stack.enter_context(here.folder(one))
            yield here, name

    def length(self, path: str) -> int | None:
        """How long the regular file is; None for anything else, or for nothing."""
        with self._folder(path, make=False) as place:
            found = place[0].look(place[1]) if place else None
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None

    def read(self, path: str, most: int) -> bytes | None:
        """A file of at most ``most`` bytes; None for anything else, or for nothing."""
        with self._folder(path, make=False) as place:
            return place[0].read(place[1], most) if place else None

    def digest(self, path: str) -> str | None:
        """The file's SHA-256 in hexadecimal; None when there is none."""
        with self._folder(path, make=False) as place:
            descriptor = place[0].descriptor(place[1]) if place else None
        if descriptor is None:
            return None
        with durable.disk(self.directory.path / path), os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def put(self, path: str, data: bytes) -> int:
        """Writes a file durably, if it is not there as it must be. Returns the bytes written."""
        with self._folder(path, make=True) as place:
            assert place is not None  # _make_way made it
            folder, name = place
            if folder.read(name, len(data)) == data:
                return 0
            _clear(folder, name)
            folder.write(name, data)
        return len(data)

    def put_joined(self, path: str, head: bytes, content: str) -> None:
        """Writes a file durably that is ``head`` and, after it, the bytes of the file ``content``; an empty name is no file.

        Raises:
            StorageError: that file is not there, or the disk refused.
        """
        with contextlib.ExitStack() as stack:
            after = -1
            if content:
                place = stack.enter_context(self._folder(content, make=False))
                found = place[0].descriptor(place[1]) if place else None
                if found is None:
                    raise StorageError(f"{content} is gone", todo="run it again")
                after = stack.enter_context(os.fdopen(found, "rb")).fileno()
            staging = stack.enter_context(self.directory.own.folder("staging"))
            staging.remove(_JOINED)
            with staging.new_file(_JOINED, mode=0o644) as file:
                file.write(head)
                while after >= 0 and (data := os.read(after, BLOCK)):
                    file.write(data)
        self._move(path, _JOINED)

    def move_in(self, path: str, part: Part) -> None:
        """Makes a whole download durable, and gives it its name."""
        with part.open() as file, durable.disk(self.directory.own.staging / part.name):
            os.fsync(file.fileno())
        self._move(path, part.name)

    def move_file_in(self, path: str, name: str) -> None:
        """Gives a durable file in staging its name in the tree."""
        self._move(path, name)

    def _move(self, path: str, staged: str) -> None:
        with self._folder(path, make=True) as place, self.directory.own.folder("staging") as staging:
            assert place is not None  # _make_way made it
            folder, name = place
            _clear(folder, name)
            staging.move(staged, folder, name)

    def remove(self, path: str) -> int:
        """Removes a file; returns its bytes. No error when there is none."""
        with self._folder(path, make=False) as place:
            found = place[0].look(place[1]) if place else None
            if place is not None and found is not None:
                place[0].remove(place[1])
        return found.st_size if found is not None else 0

    def files(self, *rooms: str) -> dict[str, int]:
        """Every file's length, by path, in these folders of the tree (none: all); temporary names and empty folders are removed."""
        out: dict[str, int] = {}
        with durable.open_folder(self.directory.path) as tree:
            for name in rooms or KEPT:
                found = tree.look(name)
                if found is None:
                    continue
                if not stat.S_ISDIR(found.st_mode):
                    raise DamagedError(
                        f"{self.directory.path / name} is not a directory of its own",
                        todo="move it away, then run the command again",
                    )
                with tree.folder(name) as folder:
                    _walk(folder, name, out)
        return out


def _walk(folder: Folder, path: str, out: dict[str, int]) -> bool:
    """Collects what is below; whether anything is."""
    folder.sweep()
    filled = False
    for name in folder.names():
        found = folder.look(name)
        if found is not None and stat.S_ISDIR(found.st_mode) and path.count("/") < DEEPEST:
            with folder.folder(name) as below:
                more = _walk(below, f"{path}/{name}", out)
            if not more:
                folder.remove(name)
            filled |= more
        elif found is not None:
            out[f"{path}/{name}"] = found.st_size
            filled = True
    return filled


def _make_way(folder: Folder, name: str) -> None:
    """A directory of that name, in place of a file or a link that stands there."""
    found = folder.look(name)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        folder.remove(name)
    folder.make(name)


def _clear(folder: Folder, name: str) -> None:
    """A directory in the place of a file cannot be replaced by a rename."""
    found = folder.look(name)
    if found is not None and stat.S_ISDIR(found.st_mode):
        folder.remove(name)


def free_bytes(path: Path) -> int:
    """What the file system of the directory has left."""
    with durable.disk(path):
        found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
