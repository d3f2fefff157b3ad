"""A draft: everything of a release before it is published, in one directory.

::

    drafts/stable-42/manifest.json            the release manifest
    drafts/stable-42/roles/us.json            the region role as it will be published; approvals add signatures to it
    drafts/stable-42/targets/us/full.ccd      the bundle files
    drafts/stable-42/targets/us/from-41.ccd

Files are durable before the catalogue says that the release is built. A draft of a release the catalogue does not know is what a
crash left behind; the next build removes it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tuf.api.metadata import Metadata

from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import StateError, StorageError
from coldchain_server.signing.roles import decode, encode

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft's directory."""

    directory: Path

    @property
    def roles(self) -> Path:
        """Where the region roles are."""
        return self.directory / "roles"

    def target(self, region: str, name: str) -> Path:
        """One bundle file."""
        return self.directory / "targets" / region / name

    def write(self, path: Path, data: bytes) -> None:
        """A small file, whole and durable."""
        with self.writing(path) as file:
            file.write(data)

    @contextmanager
    def writing(self, path: Path) -> Iterator[BinaryIO]:
        """A file under a temporary name, durable and in place when the block ends without an error."""
        temporary = path.with_name(f".{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(handle)
            os.close(handle)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(f"the draft's {path.name} cannot be written: {error.strerror}") from error

    def manifest(self) -> tuple[Manifest, bytes]:
        """The manifest and its bytes. Raises StateError when the draft is not there."""
        try:
            data = (self.directory / "manifest.json").read_bytes()
        except FileNotFoundError as error:
            raise StateError(
                f"the draft {self.directory.name} is not there", todo="discard the release and build it again"
            ) from error
        return parse_manifest(data), data

    def role(self, region: str) -> Metadata[Any]:
        """The region role with the signatures it has so far."""
        path = self.roles / f"{region}.json"
        return decode(path.read_bytes(), f"draft of role {region}")

    def put_role(self, region: str, role: Metadata[Any]) -> None:
        """Writes a region role."""
        self.write(self.roles / f"{region}.json", encode(role))

    def remove(self) -> None:
        """Deletes the draft."""
        shutil.rmtree(self.directory, ignore_errors=True)


def measure(path: Path) -> tuple[int, str]:
    """Length and SHA-256 of a file."""
    digest = hashlib.sha256()
    length = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            length += len(block)
    return length, digest.hexdigest()
