"""Installed versions beside each other, built in staging, switched by one rename.

The life of a version, each line durable before the next begins::

    staging/new/daily.hsb …            sections as they are decoded; unchanged ones linked from the old version, then hashed
    staging/new/bundle.json            its SHA-256 is the signed bundle digest
    versions/42-5c1f0a9e33b07d12/      the whole directory, by one rename
    signed/42-5c1f0a9e33b07d12         its evidence
    previous -> versions/41-…          what ran until now
    current  -> versions/42-…          the switch: before it the old version is in force, after it the new one
    (older versions are removed)

Killed anywhere, the next run removes what neither ``current`` nor ``previous`` names and starts again. Release and digest of a
version stand in its name, so what is installed is known even when its content is damaged; a version that replaces a damaged
one of the same release has ``.2``, ``.3`` … at its end.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from coldchain.bundle.delta import apply_delta
from coldchain.bundle.description import FILE_NAME, BundleDescription, Section, parse_description
from coldchain.errors import ColdchainError, DamagedError, DigestError, InternalError, StorageError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory, read_file
from coldchain.install.durable import Folder
from coldchain.limits import LIMITS, Limits

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

NEW = "new"
BLOCK = 1 << 20
_NAME = re.compile(r"([1-9][0-9]{0,15})-([0-9a-f]{16})(?:\.([1-9][0-9]{0,8}))?\Z")
_REPAIR = "run `coldchain update DIR --repair`, which fetches the full bundle and installs it anew"


@dataclass(frozen=True, slots=True)
class Version:
    """An installed version, known by its name; nothing of its content is believed yet.

    ``prefix`` is the beginning of its bundle digest: 16 hexadecimal digits.
    """

    path: Path
    release: int
    prefix: str

    @property
    def name(self) -> str:
        """E.g. ``42-5c1f0a9e33b07d12``."""
        return self.path.name

    def describe(self, limits: Limits = LIMITS) -> BundleDescription:
        """Its ``bundle.json``, which must be the one its name speaks of.

        Raises:
            DamagedError: it is missing or another one.
        """
        data = read_file(self.path / FILE_NAME, limits.description_bytes)
        if data is None or hashlib.sha256(data).hexdigest()[:16] != self.prefix:
            raise DamagedError(f"{FILE_NAME} of release {self.release} is missing or changed", todo=_REPAIR)
        return parse_description(data, limits)

    def glance(self, limits: Limits = LIMITS) -> str | None:
        """What is wrong at first sight (``bundle.json``, a file missing or of another length); None when nothing is."""
        try:
            for section in self.describe(limits).sections:
                found = (self.path / section.name).lstat()
                if found.st_size != section.bytes:
                    return f"{section.name} has {found.st_size} bytes, not {section.bytes}"
                if not stat.S_ISREG(found.st_mode):
                    return f"{section.name} is no file"
        except ColdchainError as error:
            return error.what
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        return None


def parse_version(path: Path) -> Version | None:
    """The version at ``path``, judged by its name alone; None for another name."""
    match = _NAME.match(path.name)
    return Version(path, int(match[1]), match[2]) if match else None


def linked(directory: ClientDirectory, link: Path) -> Version | None:
    """The version that ``current`` or ``previous`` names; None without the link.

    Raises:
        DamagedError: the link is not one that this program makes.
    """
    with directory.folder() as here:
        target = here.read_link(link.name)
    if target is None:
        return None
    version = parse_version(directory.path / target)
    if version is None or target != f"versions/{version.name}":
        raise DamagedError(f"{link} leads to {target[:200]!r}", todo="remove it and run `coldchain update`")
    return version


def installed(directory: ClientDirectory) -> list[Version]:
    """Whole versions on the disk, the running one first. A previous one that cannot be told counts as none."""
    out = []
    with directory.folder("versions") as folder:
        for version in (linked(directory, directory.current), _previous(directory)):
            if version is None or version in out:
                continue
            found = folder.look(version.name)
            if found is not None and stat.S_ISDIR(found.st_mode):
                out.append(version)
    return out


def _previous(directory: ClientDirectory) -> Version | None:
    try:
        return linked(directory, directory.previous)
    except DamagedError:
        return None


class _Content(io.FileIO):
    """A section's file whose failing disk is damage of the installed version, so that the full bundle helps."""

    def readinto(self, buffer: Buffer, /) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise DamagedError(f"an installed section cannot be read: {error.strerror}", todo=_REPAIR) from error

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            raise DamagedError(f"an installed section cannot be read: {error.strerror}", todo=_REPAIR) from error


class OldVersion:
    """An installed version as the codec reads it (:class:`coldchain.bundle.delta.OldBundle`)."""

    def __init__(self, version: Version, limits: Limits = LIMITS) -> None:
        self.version = version
        self.description = version.describe(limits)

    def open(self, name: str) -> BinaryIO:
        """The section's content. Raises DamagedError when it cannot be read."""
        try:
            with durable.open_folder(self.version.path) as folder:
                descriptor = folder.descriptor(name)
        except StorageError as error:
            raise DamagedError(f"release {self.version.release}: {error.what}", todo=_REPAIR) from error
        if descriptor is None:
            raise DamagedError(f"{name} of release {self.version.release} is missing", todo=_REPAIR)
        return io.BufferedReader(_Content(descriptor, "rb"))


class StagedVersion:
    """A version under construction (:class:`coldchain.bundle.delta.NewBundle`) in the empty ``folder``.

    ``old`` is the folder of the version whose sections may be kept.
    """

    def __init__(self, folder: Folder, old: Folder | None) -> None:
        self._folder, self._old = folder, old

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """A new section's file, read-only for everybody else, durable at the block's end."""
        with self._folder.new_file(name) as file:
            yield file

    def keep(self, section: Section) -> None:
        """Links an unchanged section, and hashes what was linked.

        Raises:
            DigestError: the old version's file is damaged.
        """
        if self._old is None:
            raise InternalError("a section is kept, but there is no old version")
        found = self._old.look(section.name)
        if found is None or not stat.S_ISREG(found.st_mode):
            raise DigestError(f"section {section.name} is missing in {self._old.path.name}")
        self._folder.link(section.name, self._old, section.name)
        problem = check_section(self._folder, section)
        if problem:
            raise DigestError(f"{self._old.path.name} is damaged: {problem}")


def check_section(folder: Folder, section: Section) -> str | None:
    """Hashes a section's file; returns what is wrong with it, or None."""
    digest, length = hashlib.sha256(), 0
    try:
        descriptor = folder.descriptor(section.name)
        if descriptor is None:
            return f"{section.name} is missing"
        with durable.disk(folder.path / section.name), os.fdopen(descriptor, "rb", buffering=0) as file:
            while data := file.read(BLOCK):
                digest.update(data)
                length += len(data)
                if length > section.bytes:
                    return f"{section.name} is longer than the signed {section.bytes} bytes"
    except StorageError as error:
        return error.what
    if length != section.bytes:
        return f"{section.name} has {length} bytes, signed are {section.bytes}"
    if digest.hexdigest() != section.sha256:
        return f"{section.name} has another SHA-256 than signed"
    return None


def check(version: Version, limits: Limits = LIMITS) -> str | None:
    """Hashes a whole version; returns the first thing that is wrong with it, or None."""
    try:
        sections = version.describe(limits).sections
        with durable.open_folder(version.path) as folder:
            return next((problem for section in sections if (problem := check_section(folder, section))), None)
    except ColdchainError as error:
        return error.what


def stage(
    directory: ClientDirectory, delta: BinaryIO, old: Version | None, bundle: str, limits: Limits = LIMITS
) -> BundleDescription:
    """Builds the version in ``staging/new``, completely, checked and durable.

    Args:
        directory: whose lock is held.
        delta: the authenticated file.
        old: the version a delta starts from; None for a full bundle.
        bundle: the signed bundle digest.
        limits: bounds.

    Raises:
        DamagedError, MalformedError, DigestError, NewerFormatError: the file does not lead from ``old`` to the bundle.
        StorageError: the disk refused.
    """
    with contextlib.ExitStack() as stack:
        staging = stack.enter_context(directory.folder("staging"))
        staging.remove(NEW)
        staging.make(NEW)
        folder = stack.enter_context(staging.folder(NEW))
        before = stack.enter_context(directory.folder("versions", old.name)) if old else None
        content = OldVersion(old, limits) if old else None
        new = StagedVersion(folder, before)
        stack.enter_context(durable.disk(staging.path))
        description = apply_delta(delta, content, new, expected=bundle, limits=limits)
        with folder.new_file(FILE_NAME) as out:
            out.write(description.encode())
        folder.sync()
        there = {name: found.st_size for name in folder.names() if (found := folder.look(name)) is not None}
    del there[FILE_NAME]
    if there != {section.name: section.bytes for section in description.sections} or description.digest != bundle:
        raise DigestError("what was written is not the signed bundle")
    return description


def place(directory: ClientDirectory, description: BundleDescription) -> Version:
    """Moves ``staging/new`` among the versions, under a name that is free. Nothing runs it yet."""
    plain = f"{description.release}-{description.digest[:16]}"
    name, number = plain, 1
    with directory.folder("versions") as versions, directory.folder("staging") as staging:
        while versions.look(name) is not None:
            number += 1
            name = f"{plain}.{number}"
        staging.move(NEW, versions, name)
    return Version(directory.versions / name, description.release, description.digest[:16])


def switch(directory: ClientDirectory, new: Version, old: Version | None) -> None:
    """Makes ``new`` the running version and ``old`` the previous one. The second rename is the commit.

    ``old`` is None when nothing ran, or when what ran is damaged and not worth going back to.
    """
    with directory.folder() as here:
        if old is not None:
            here.replace_symlink(directory.previous.name, f"versions/{old.name}")
        here.replace_symlink(directory.current.name, f"versions/{new.name}")


def tidy(directory: ClientDirectory) -> set[str]:
    """Removes versions that no link names; returns the names of those that stay. The lock must be held."""
    keep = {version.name for version in installed(directory)}
    with directory.folder() as here, here.folder("versions") as folder:
        for name in folder.names():
            if name not in keep:
                folder.remove(name)
        # A link that leads nowhere is of no use to anybody.
        previous = _previous(directory)
        if previous is None or previous.name not in keep:
            here.remove(directory.previous.name)
    return keep
