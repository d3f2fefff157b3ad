"""Full bundles taken apart under their declared length, and kept by content.

::

    WORK/staging/                    for files while they come (:mod:`coldchain.install.part`)
    WORK/sections/<sha256>           a section's content; regions share what they have in common
    WORK/sections/0.new              one that is being written

Nothing here is durable or installed anywhere; the directory is removed when the work is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from coldchain.bundle.delta import apply_delta
from coldchain.bundle.description import BundleDescription, Section
from coldchain.errors import InternalError, MalformedError, StorageError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory
from coldchain.limits import LIMITS, Limits


class WorkDirectory(ClientDirectory):
    """The working directory; of a client's it has the staging and nothing else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sections = path / "sections"

    def make(self) -> None:
        """Makes it, and empties what an earlier run left."""
        durable.make_directory(self.path)
        with self.folder() as here:
            for name in ("staging", "sections"):
                here.remove(name)
                here.make(name)

    def clear(self) -> None:
        """Removes all of it."""
        with durable.disk(self.path):
            shutil.rmtree(self.path, ignore_errors=True)

    def check_space(self, needed: int) -> None:
        """Raises StorageError when the disk has less room than that."""
        with durable.disk(self.path):
            free = shutil.disk_usage(self.path).free
        if free < needed:
            raise StorageError(
                f"{self.path}: {free:,} bytes are free, and {needed:,} are needed to take the bundles apart",
                todo="make room, or set TMPDIR to a directory that has it",
            )


class DecodedBundle:
    """A bundle taken apart (:class:`coldchain.monitor.differences.Bundle`)."""

    def __init__(self, work: WorkDirectory, description: BundleDescription) -> None:
        self.description = description
        self._work = work

    def path(self, section: Section) -> Path:
        """The file that holds a section's content."""
        return self._work.sections / section.sha256

    def open(self, name: str) -> BinaryIO:
        """A section's content."""
        section = self.description.section(name)
        if section is None:
            raise InternalError(f"no section {name}")
        path = self.path(section)
        with durable.disk(path):
            return path.open("rb")


class _Taker:
    """Takes the sections of a full bundle (:class:`coldchain.bundle.delta.NewBundle`), at most ``most`` bytes in all."""

    def __init__(self, work: WorkDirectory, most: int) -> None:
        self._work, self._left = work, most

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        path = self._work.sections / "0.new"
        with durable.disk(path):
            with path.open("wb") as file:
                counted = _Counted(file, self, name)
                yield cast(BinaryIO, counted)
            path.replace(self._work.sections / counted.digest.hexdigest())

    def keep(self, section: Section) -> None:
        raise InternalError(f"a full bundle keeps {section.name}")

    def take(self, length: int, name: str) -> None:
        self._left -= length
        if self._left < 0:
            raise MalformedError(f"section {name} makes the bundle longer than its manifest says")


class _Counted:
    """A file to be written that counts and hashes."""

    def __init__(self, file: BinaryIO, taker: _Taker, name: str) -> None:
        self._file, self._taker, self._name = file, taker, name
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._taker.take(len(data), self._name)
        self.digest.update(data)
        return self._file.write(data)


def take_apart(file: BinaryIO, work: WorkDirectory, expected: str, most: int, limits: Limits = LIMITS) -> DecodedBundle:
    """Takes a full bundle apart.

    Args:
        file: its bytes, whose length and digest the caller has checked.
        work: takes the sections.
        expected: the bundle digest it must give.
        most: bytes that its sections may have in all.
        limits: bounds.

    Raises:
        DigestError, MalformedError, NewerFormatError: it is not that bundle.
        StorageError: the disk refused.
    """
    return DecodedBundle(work, apply_delta(file, None, _Taker(work, most), expected=expected, limits=limits))
