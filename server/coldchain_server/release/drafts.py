"""A draft: everything of a release before it is published, in one directory.

::

    drafts/stable-42/manifest.json            the release manifest
    drafts/stable-42/manifest.tlog-proof      its proof of the public log, from when it is logged
    drafts/stable-42/evidence.zst             both, as they are published
    drafts/stable-42/roles/us.json            the region role as it will be published; approvals add signatures to it
    drafts/stable-42/targets/us/full.ccd      the bundle files
    drafts/stable-42/targets/us/from-41.ccd

Files are durable before the catalogue says that the release is built. A draft of a release the catalogue does not know is what a
crash left behind; the next build removes it.
"""

from __future__ import annotations

import contextlib
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
from coldchain.errors import ApprovalError, StateError, StorageError
from coldchain.verify import EVIDENCE, MANIFEST
from coldchain_server.catalogue.interface import Release
from coldchain_server.signing.roles import encode
from coldchain_server.storage.durable import fsync_directory, make_directory

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

    def file(self, region: str, name: str) -> Path:
        """The file behind a target's last component: one for all regions, or a bundle file of one."""
        return self.directory / name if name == EVIDENCE else self.target(region, name)

    def write(self, path: Path, data: bytes) -> None:
        """A small file, whole and durable."""
        with self.writing(path) as file:
            file.write(data)

    @contextmanager
    def writing(self, path: Path) -> Iterator[BinaryIO]:
        """A file under a temporary name, durable and in place when the block ends without an error."""
        temporary = path.with_name(f".{path.name}")
        make_directory(path.parent)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            fsync_directory(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StorageError(f"the draft's {path.name} cannot be written: {error.strerror}") from error

    def read(self, path: Path) -> bytes:
        """A small file. Raises StateError when it is not there."""
        try:
            return path.read_bytes()
        except OSError as error:
            raise StateError(
                f"the draft {self.directory.name} has no {path.name} that can be read: {error.strerror}",
                kept="the releases published before",
                todo="discard the release and build it again",
            ) from error

    def manifest(self, release: Release) -> Manifest:
        """The manifest, if it is the one that the catalogue knows.

        Raises:
            StateError: it is not there.
            ApprovalError: it is another one.
        """
        data = self.read(self.directory / MANIFEST)
        if hashlib.sha256(data).hexdigest() != release.manifest:
            raise ApprovalError(
                f"the manifest of release {release.number} is not the one that was built",
                kept="the releases published before",
                todo=f"discard the release and build it again: coldchain-server release discard {release.number}",
            )
        return parse_manifest(data)

    def role(self, region: str) -> bytes:
        """The region role with the signatures it has so far, not yet compared with anything. Raises StateError as above."""
        return self.read(self.roles / f"{region}.json")

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
