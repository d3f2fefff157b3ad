"""Bundles as plain directories, read and written as an installation does it, but without its waits for the disk.

``cp`` and ``sha256sum``, which applying is measured against, do not wait for the disk either.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from coldchain.bundle.description import FILE_NAME, BundleDescription, Section, parse_description
from coldchain.errors import DigestError


class DirectoryBundle:
    """A bundle on the disk, as the codec reads the old one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.description = parse_description((directory / FILE_NAME).read_bytes())

    def open(self, name: str) -> BinaryIO:
        """The section's content."""
        return (self.directory / name).open("rb")


class NewDirectory:
    """Where the new bundle is written; unchanged sections are linked and hashed."""

    def __init__(self, directory: Path, old: DirectoryBundle | None) -> None:
        self.directory, self.old = directory, old
        directory.mkdir()

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """A new section."""
        with (self.directory / name).open("wb") as file:
            yield file

    def keep(self, section: Section) -> None:
        """Links an unchanged section. Raises DigestError when it is not what it was."""
        assert self.old is not None
        os.link(self.old.directory / section.name, self.directory / section.name)
        with (self.directory / section.name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != section.sha256:
                raise DigestError(f"section {section.name} is damaged")


def lay_out(description: BundleDescription, contents: Path, directory: Path) -> None:
    """Puts a bundle's sections (linked from a content directory) and ``bundle.json`` into a new directory."""
    directory.mkdir(parents=True)
    for section in description.sections:
        os.link(contents / section.sha256, directory / section.name)
    (directory / FILE_NAME).write_bytes(description.encode())
