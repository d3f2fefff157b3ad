"""A generation: the signed metadata of one moment in one folder, which the link ``metadata`` names.

::

    .mirror/generations/5f0c1a9e33b07d12/     1.root.json  2.root.json  41.snapshot.json  42.snapshot.json … timestamp.json
    metadata -> .mirror/generations/5f0c1a9e33b07d12

The link is replaced in one step, so that a new root and a timestamp under its new key come together: no order of single files is right
for a rotation of that key. A new folder takes over from the old one what is no longer named but still in its grace, so a reader who
began with the old timestamp ends with it.

Web servers tell a file's version by its length and the second of its last change, and a timestamp's length hardly ever changes: a new
one is dated later than the one before, so that no poll is told "not modified" of another one.

Where the system has no links (a stick with FAT), the files are written into a plain folder ``metadata``, timestamp last; a crash
then shows old or new in all cases but that rotation, whose readers wait for the next run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import stat
from collections.abc import Mapping
from typing import Final

from coldchain.errors import StorageError
from coldchain.install import durable
from coldchain.install.durable import Folder
from coldchain.mirror.directory import METADATA, OWN, MirrorDirectory

FOLDER: Final = "generations"
TIMESTAMP: Final = "timestamp.json"
AGAIN: Final = "-again"
"""Ends the name of a generation that takes the place of a damaged one of the same files: a link cannot change to itself."""
_PLACE: Final = re.compile(rf"{re.escape(OWN)}/{FOLDER}/([0-9a-f]{{16}}(?:{AGAIN})?)\Z")
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
MOST_BYTES: Final = 16 * 1024 * 1024


def current(directory: MirrorDirectory) -> str | None:
    """The generation that the link names; None when there is none."""
    with durable.open_folder(directory.path) as tree:
        found = tree.look(METADATA)
        if found is None or not stat.S_ISLNK(found.st_mode):
            return None
        match = _PLACE.match(tree.read_link(METADATA) or "")
    if match is None:
        return None
    with directory.own.folder(FOLDER) as folder:
        return match[1] if folder.look(match[1]) is not None else None


def served(directory: MirrorDirectory) -> dict[str, int]:
    """The files that are served as metadata now, and their lengths."""
    place = current(directory)
    with durable.open_folder(directory.path) as tree:
        if place is not None:
            with directory.own.folder(FOLDER, place) as folder:
                return _lengths(folder)
        found = tree.look(METADATA)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return {}
        with tree.folder(METADATA) as folder:
            folder.sweep()
            return _lengths(folder)


def _lengths(folder: Folder) -> dict[str, int]:
    looked = ((name, folder.look(name)) for name in folder.names())
    return {name: found.st_size for name, found in looked if found is not None and stat.S_ISREG(found.st_mode)}


def tidy(directory: MirrorDirectory) -> None:
    """Removes every folder that the link does not name."""
    place = current(directory)
    with directory.own.folder(FOLDER) as folder:
        for name in folder.names():
            if name != place:
                folder.remove(name)


def publish(directory: MirrorDirectory, named: Mapping[str, bytes], kept: Mapping[str, bytes]) -> bool:
    """Serves these files as the metadata from now on.

    Args:
        directory: the mirror's, its lock held.
        named: by name: what the newest generation consists of; ``timestamp.json`` is in it.
        kept: what older ones consisted of and is still in its grace.

    Returns:
        Whether anything changed.
    """
    files = {**kept, **named}
    dated = _date(directory)
    place, old = name_of(files), current(directory)
    if old is not None and _same(directory, old, files):
        return False
    with durable.open_folder(directory.path) as tree:
        found = tree.look(METADATA)
        if found is not None and stat.S_ISDIR(found.st_mode):
            return _in_place(tree, files, dated)
        fresh = _fill(directory, place, files, dated)
        try:
            tree.replace_symlink(METADATA, f"{OWN}/{FOLDER}/{fresh}")
        except StorageError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _NO_LINKS:
                raise
            tree.make(METADATA)
            _in_place(tree, files, dated)
    tidy(directory)
    return True


def name_of(files: Mapping[str, bytes]) -> str:
    """16 digits that stand for exactly these files."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _same(directory: MirrorDirectory, place: str, files: Mapping[str, bytes]) -> bool:
    with directory.own.folder(FOLDER, place) as folder:
        return set(folder.names()) == set(files) and all(
            folder.read(name, len(data)) == data for name, data in files.items()
        )


def _fill(directory: MirrorDirectory, place: str, files: Mapping[str, bytes], dated: int) -> str:
    """A durable folder with these files; of another name when one of that name is served, and damaged."""
    with directory.own.folder(FOLDER) as folder:
        if current(directory) == place:
            place += AGAIN
        folder.remove(place)
        folder.make(place)
        with folder.folder(place) as new:
            for name, data in files.items():
                with new.new_file(name, mode=0o644) as file:
                    file.write(data)
            _date_later(new, dated)
            new.sync()
    return place


def _in_place(tree: Folder, files: Mapping[str, bytes], dated: int) -> bool:
    """One file after the other, what names others after what it names."""
    changed = False
    with tree.folder(METADATA) as folder:
        for name in sorted(files, key=_order):
            if folder.read(name, len(files[name])) != files[name]:
                folder.write(name, files[name])
                if name == TIMESTAMP:
                    _date_later(folder, dated)
                changed = True
        for name in folder.names():
            if name not in files:
                folder.remove(name)
                changed = True
    return changed


def _date(directory: MirrorDirectory) -> int:
    """The second in which the timestamp that is served was last changed; 0 when there is none."""
    place = current(directory)
    with contextlib.ExitStack() as stack:
        if place is not None:
            folder = stack.enter_context(directory.own.folder(FOLDER, place))
        else:
            tree = stack.enter_context(durable.open_folder(directory.path))
            found = tree.look(METADATA)
            if found is None or not stat.S_ISDIR(found.st_mode):
                return 0
            folder = stack.enter_context(tree.folder(METADATA))
        seen = folder.look(TIMESTAMP)
    return int(seen.st_mtime) if seen is not None else 0


def _date_later(folder: Folder, dated: int) -> None:
    """Now, or two seconds later than the one before: FAT counts no finer."""
    found = folder.look(TIMESTAMP)
    if found is not None:
        folder.date(TIMESTAMP, max(int(found.st_mtime), dated + 2))


def _order(name: str) -> tuple[int, str]:
    """Roles, snapshot, roots, timestamp: a client reads roots first, and the timestamp is what makes it come."""
    kinds = (".snapshot.json", ".root.json", TIMESTAMP)
    return next((rank for rank, ending in enumerate(kinds, 1) if name.endswith(ending)), 0), name


def read(directory: MirrorDirectory, name: str) -> bytes | None:
    """A file that is served as metadata now."""
    place = current(directory)
    if place is not None:
        with directory.own.folder(FOLDER, place) as folder:
            return folder.read(name, MOST_BYTES)
    with durable.open_folder(directory.path) as tree:
        found = tree.look(METADATA)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return None
        with tree.folder(METADATA) as folder:
            return folder.read(name, MOST_BYTES)


def whole(directory: MirrorDirectory) -> dict[str, bytes]:
    """What is served as metadata now; nothing when it is not what the generation's name says: no old file of it is carried on."""
    found = {name: data for name in served(directory) if (data := read(directory, name)) is not None}
    place = current(directory)
    return found if place is None or place.removesuffix(AGAIN) == name_of(found) else {}
