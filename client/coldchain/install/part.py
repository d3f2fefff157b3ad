"""A download in staging: ``staging/<sha256>.part`` holds the beginning of a file whose length and digest are signed.

It is written through at once, so that a killed run loses nothing, and it is not made durable: what a power cut leaves of it is a
beginning like any other, and the whole is hashed when the last byte is there. Worked example, 10 bytes signed::

    staging/5c1f….part   4 bytes   a run was interrupted; the next one asks for bytes 4-9
    staging/5c1f….part  10 bytes   hashed: as signed, or removed
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coldchain.errors import DigestError, StorageError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory

SUFFIX = ".part"


@dataclass(frozen=True, slots=True)
class Part:
    """What came so far of the file with this ``length`` and ``sha256``."""

    directory: ClientDirectory
    length: int
    sha256: str

    @property
    def name(self) -> str:
        """Its name in staging."""
        return self.sha256 + SUFFIX

    def there(self) -> int:
        """How many bytes are there; what cannot be a beginning of the file is removed."""
        with self.directory.folder("staging") as staging:
            descriptor = staging.descriptor(self.name)
            if descriptor is None:
                staging.remove(self.name)
                return 0
            try:
                with durable.disk(staging.path / self.name):
                    found = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if found > self.length:
                staging.remove(self.name)
                return 0
            return found

    @contextlib.contextmanager
    def append(self, start: int) -> Iterator[Callable[[bytes], None]]:
        """What is given to the yielded function is written from ``start`` on; what was behind it is cut off.

        Only the disk's own refusals are StorageErrors: a broken connection in the same block stays what it is.
        """
        with self.directory.folder("staging") as staging:
            path = staging.path / self.name
            descriptor = staging.edit(self.name)
            try:
                with durable.disk(path):
                    os.ftruncate(descriptor, start)
                    os.lseek(descriptor, start, os.SEEK_SET)

                def write(data: bytes) -> None:
                    with durable.disk(path):
                        durable.write_all(descriptor, data)

                yield write
            finally:
                os.close(descriptor)

    def remove(self) -> None:
        """Forgets what came."""
        with self.directory.folder("staging") as staging:
            staging.remove(self.name)

    @contextlib.contextmanager
    def open(self) -> Iterator[io.BufferedReader]:
        """The whole file, for reading. Raises StorageError when it is gone."""
        with self.directory.folder("staging") as staging:
            descriptor = staging.descriptor(self.name)
            if descriptor is None:
                raise StorageError(f"{staging.path / self.name} is gone", todo="run it again")
            with os.fdopen(descriptor, "rb") as file:
                yield file

    def check(self) -> None:
        """Hashes the whole file.

        Raises:
            DigestError: it is not the signed one; it is removed.
        """
        with self.open() as file, durable.disk(self.directory.staging / self.name):
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            self.remove()
            raise DigestError(
                f"SHA-256 {found[:16]}… came, {self.sha256[:16]}… was signed",
                todo="the server or something between may be altering files; try another --url",
            )
