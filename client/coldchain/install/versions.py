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
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from coldchain.bundle.delta import apply_delta
from coldchain.bundle.description import FILE_NAME, BundleDescription, Section, parse_description
from coldchain.errors import ColdchainError, DamagedError, DigestError, InternalError, StorageError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory, read_file
from coldchain.limits import LIMITS, Limits

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
    with durable.disk(link):
        try:
            target = link.readlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedError(f"{link} is not a link", todo="move it away and run `coldchain update`") from error
    version = parse_version(directory.versions / target.name)
    if version is None or target != Path("versions") / target.name:
        raise DamagedError(f"{link} leads to {str(target)[:200]!r}", todo="remove it and run `coldchain update`")
    return version


def installed(directory: ClientDirectory) -> list[Version]:
    """Whole versions on the disk, the running one first."""
    out = []
    for link in (directory.current, directory.previous):
        version = linked(directory, link)
        if version is not None and version not in out and version.path.is_dir():
            out.append(version)
    return out


class OldVersion:
    """An installed version as the codec reads it (:class:`coldchain.bundle.delta.OldBundle`)."""

    def __init__(self, version: Version, limits: Limits = LIMITS) -> None:
        self.version = version
        self.description = version.describe(limits)

    def open(self, name: str) -> BinaryIO:
        """The section's content. Raises DamagedError when it cannot be read."""
        try:
            descriptor = os.open(self.version.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise DamagedError(f"{name} of release {self.version.release}: {error.strerror}", todo=_REPAIR) from error
        return os.fdopen(descriptor, "rb")


class StagedVersion:
    """A version under construction (:class:`coldchain.bundle.delta.NewBundle`), in ``staging/new``."""

    def __init__(self, directory: ClientDirectory, old: Version | None) -> None:
        self.path = directory.staging / "new"
        self._old = old
        durable.remove(self.path)
        durable.make_directory(self.path)

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """A new section's file, read-only for everybody else, durable at the block's end."""
        with durable.new_file(self.path / name) as file:
            yield file

    def keep(self, section: Section) -> None:
        """Links an unchanged section, and hashes what was linked.

        Raises:
            DigestError: the old version's file is damaged.
        """
        if self._old is None:
            raise InternalError("a section is kept, but there is no old version")
        try:
            durable.link_file(self._old.path / section.name, self.path / section.name)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DigestError(f"section {section.name} of release {self._old.release} is missing here") from error
            raise
        problem = check_section(self.path, section)
        if problem:
            raise DigestError(f"release {self._old.release} is damaged here: {problem}")


def check_section(folder: Path, section: Section) -> str | None:
    """Hashes a section's file; returns what is wrong with it, or None."""
    digest, length = hashlib.sha256(), 0
    try:
        descriptor = os.open(folder / section.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            while data := file.read(BLOCK):
                digest.update(data)
                length += len(data)
                if length > section.bytes:
                    return f"{section.name} is longer than the signed {section.bytes} bytes"
    except OSError as error:
        return f"{section.name}: {error.strerror}"
    if length != section.bytes:
        return f"{section.name} has {length} bytes, signed are {section.bytes}"
    if digest.hexdigest() != section.sha256:
        return f"{section.name} has another SHA-256 than signed"
    return None


def check(version: Version, limits: Limits = LIMITS) -> str | None:
    """Hashes a whole version; returns the first thing that is wrong with it, or None."""
    try:
        sections = version.describe(limits).sections
    except ColdchainError as error:
        return error.what
    return next((problem for section in sections if (problem := check_section(version.path, section))), None)


def stage(
    directory: ClientDirectory, delta: Path, old: Version | None, bundle: str, limits: Limits = LIMITS
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
    new = StagedVersion(directory, old)
    with durable.disk(delta), delta.open("rb") as file:
        description = apply_delta(file, OldVersion(old, limits) if old else None, new, expected=bundle, limits=limits)
    with durable.new_file(new.path / FILE_NAME) as out:
        out.write(description.encode())
    with durable.disk(new.path):
        durable.fsync_directory(new.path)
        there = {one.name: one.lstat().st_size for one in new.path.iterdir() if one.name != FILE_NAME}
    if there != {section.name: section.bytes for section in description.sections} or description.digest != bundle:
        raise DigestError("what was written is not the signed bundle")
    return description


def place(directory: ClientDirectory, description: BundleDescription) -> Version:
    """Moves ``staging/new`` among the versions, under a name that is free. Nothing runs it yet."""
    plain = f"{description.release}-{description.digest[:16]}"
    name, number = plain, 1
    while os.path.lexists(directory.versions / name):
        number += 1
        name = f"{plain}.{number}"
    path = directory.versions / name
    durable.move(directory.staging / "new", path)
    return Version(path, description.release, description.digest[:16])


def switch(directory: ClientDirectory, new: Version, old: Version | None) -> None:
    """Makes ``new`` the running version and ``old`` the previous one. The second rename is the commit.

    ``old`` is None when nothing ran, or when what ran is damaged and not worth going back to.
    """
    if old is not None:
        durable.replace_symlink(directory.previous, f"versions/{old.name}")
    durable.replace_symlink(directory.current, f"versions/{new.name}")


def tidy(directory: ClientDirectory) -> set[str]:
    """Removes versions that no link names; returns the names of those that stay. The lock must be held."""
    keep = {version.name for version in installed(directory)}
    with durable.disk(directory.versions):
        for one in sorted(directory.versions.iterdir()):
            if one.name not in keep:
                durable.remove(one)
        # A link that leads nowhere is of no use to anybody.
        if directory.previous.is_symlink() and not directory.previous.exists():
            durable.remove(directory.previous)
    return keep
