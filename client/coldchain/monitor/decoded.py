"""Bundles decoded into a working directory: full bundles fetched, hashed, taken apart under their declared length, kept by content.

::

    WORK/staging/<sha256>.part       a full bundle while it comes (:mod:`coldchain.install.part`)
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

from coldchain.agent.transport import Progress, Source
from coldchain.bundle.delta import apply_delta
from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.manifest import Manifest
from coldchain.errors import DigestError, InternalError, MalformedError, StorageError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory
from coldchain.install.part import Part
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

    def open(self, name: str) -> BinaryIO:
        """A section's content."""
        section = self.description.section(name)
        if section is None:
            raise InternalError(f"no section {name}")
        path = self._work.sections / section.sha256
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


def full_path(manifest: Manifest, region: str) -> str:
    """Where the full bundle that the manifest names is published.

    Raises:
        MalformedError: it names none.
    """
    full = manifest.regions[region].full
    if full is None:
        raise MalformedError(f"the manifest of release {manifest.release} names no file for region {region}")
    return f"targets/{region}/{manifest.channel}/{full.sha256}.full.ccd"


async def fetch_bundle(
    source: Source, work: WorkDirectory, manifest: Manifest, region: str, progress: Progress, limits: Limits = LIMITS
) -> DecodedBundle:
    """Fetches the full bundle of a region that a manifest names, and takes it apart.

    Raises:
        TransportError: it could not be had.
        DigestError, MalformedError, NewerFormatError: it is not what the manifest names.
        StorageError: the disk refused.
    """
    path, facts = full_path(manifest, region), manifest.regions[region]
    assert facts.full is not None
    if facts.full.bytes > limits.delta_bytes or facts.facts.bytes > limits.bundle_bytes:
        raise MalformedError(f"{path}: longer than allowed")
    work.check_space(facts.full.bytes + facts.facts.bytes)
    part = Part(work, facts.full.bytes, facts.full.sha256)
    try:
        try:
            await source.download(path, part, progress)
        except DigestError as error:
            raise DigestError(f"{path}: {error.what}", todo=error.todo) from error
        with part.open() as file:
            description = apply_delta(
                file, None, _Taker(work, facts.facts.bytes), expected=facts.facts.bundle, limits=limits
            )
    finally:
        part.remove()
    return DecodedBundle(work, description)
