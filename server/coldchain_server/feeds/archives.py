"""Archives that feeds come in: ``.zip``, ``.tar`` (plain, gz, bz2, xz) and ClamAV's containers, unpacked in memory within bounds.

A ClamAV container (``.cvd`` signed by ClamAV, ``.cud`` unsigned, ``.cld`` local) is 512 bytes of header and a tar, gzipped or not::

    ClamAV-VDB:07 Jun 2024 10-30 -0400:6:2:90:<md5>:<signature>:builder:1717770600      padded with spaces to 512

The header's MD5 is that of all bytes after it and is compared. ClamAV's own RSA signature is not judged here: what counts for
Coldchain is the digest of the snapshot and who approves it.

Refused: members that are links, devices or directories out of place; names that are absolute, climb or hide; two members of one
name; more members, bytes or a higher ratio than :class:`FeedLimits` allows. Sizes are counted while reading, never believed.
Source of the header's fields: ClamAV's documentation "CVD"; read from real files.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, BinaryIO

from coldchain.errors import LintError

CVD_HEADER = 512
CVD_MAGIC = b"ClamAV-VDB:"
ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
CVD_SUFFIXES = (".cvd", ".cud", ".cld")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """Bounds of one feed; sizes in bytes."""

    files: int = 65_536
    file_bytes: int = 1 << 30
    total_bytes: int = 8 << 30
    path_bytes: int = 512
    line_bytes: int = 256 * 1024


FEED_LIMITS = FeedLimits()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a feed: its path within the feed, with ``/`` between components, and its bytes."""

    path: str
    data: bytes


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked instead of taken as it is."""
    return name.lower().endswith(ZIP_SUFFIXES + TAR_SUFFIXES + CVD_SUFFIXES)


def unpack(name: str, file: BinaryIO, limits: FeedLimits = FEED_LIMITS) -> Iterator[SourceFile]:
    """The files of an archive, in its own order; which kind of archive it is follows from ``name``.

    Raises:
        LintError: the archive is broken, holds something that is not a plain file, or exceeds a bound.
    """
    low = name.lower()
    try:
        if low.endswith(ZIP_SUFFIXES):
            yield from _checked(name, _zip_members(name, file, limits), limits)
        elif low.endswith(TAR_SUFFIXES):
            yield from _checked(name, _tar_members(name, file, limits), limits)
        elif low.endswith(CVD_SUFFIXES):
            yield from _checked(name, _cvd_members(name, file, limits), limits)
        else:
            raise LintError(f"{name}: not an archive that feeds come in", todo="use .zip, .tar.*, .cvd or .cud")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError,
            RuntimeError, ValueError) as error:  # fmt: skip
        raise LintError(f"{name}: the archive is broken: {error}", todo="get the file again from its source") from error


def _checked(archive: str, members: Iterator[SourceFile], limits: FeedLimits) -> Iterator[SourceFile]:
    seen: set[str] = set()
    total = 0
    for member in members:
        total += len(member.data)
        if len(seen) >= limits.files or total > limits.total_bytes:
            raise LintError(f"{archive}: holds more files or bytes than allowed")
        if member.path in seen:
            raise LintError(f"{archive}: holds {member.path!r} twice")
        seen.add(member.path)
        yield member


def checked_path(archive: str, path: str, limits: FeedLimits = FEED_LIMITS) -> str:
    """A member's path if it stays inside: relative, no ``..``, no backslash, no control character.

    Raises:
        LintError: for any other path.
    """
    parts = PurePosixPath(path).parts
    plain = path.isprintable() and "\\" not in path and len(path.encode()) <= limits.path_bytes
    if not parts or not plain or path.startswith("/") or ".." in parts or (len(path) > 1 and path[1] == ":"):
        raise LintError(f"{archive}: the name {path[:80]!r} is not a plain path")
    return "/".join(parts)


def _bounded(archive: str, name: str, file: IO[bytes], limits: FeedLimits) -> bytes:
    data = io.BytesIO()
    while block := file.read(_BLOCK):
        if data.tell() + len(block) > limits.file_bytes:
            raise LintError(f"{archive}: {name[:80]!r} is larger than allowed")
        data.write(block)
    return data.getvalue()


def _zip_members(archive: str, file: BinaryIO, limits: FeedLimits) -> Iterator[SourceFile]:
    with zipfile.ZipFile(file) as zipped:
        if len(zipped.infolist()) > limits.files:
            raise LintError(f"{archive}: holds more files than allowed")
        for member in zipped.infolist():
            path = checked_path(archive, member.filename, limits)
            if member.is_dir():
                continue
            kind = member.external_attr >> 28
            if kind not in (0, 8):  # the upper bits are Unix's mode: 8 is a regular file, 0 none was stored
                raise LintError(f"{archive}: {path!r} is not a plain file")
            with zipped.open(member) as opened:
                yield SourceFile(path, _bounded(archive, path, opened, limits))


def _tar_members(archive: str, file: IO[bytes], limits: FeedLimits) -> Iterator[SourceFile]:
    with tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            path = checked_path(archive, member.name, limits)
            if member.isdir():
                continue
            if not member.isreg():
                raise LintError(f"{archive}: {path!r} is not a plain file")
            opened = tar.extractfile(member)
            assert opened is not None
            yield SourceFile(path, _bounded(archive, path, opened, limits))


def _cvd_members(archive: str, file: BinaryIO, limits: FeedLimits) -> Iterator[SourceFile]:
    header = file.read(CVD_HEADER)
    fields = header.split(b":")
    if len(header) < CVD_HEADER or not header.startswith(CVD_MAGIC) or len(fields) < 8:
        raise LintError(f"{archive}: does not start with a ClamAV-VDB header")
    body = _bounded(archive, "the container", file, limits)
    said, found = fields[5].decode("latin-1").strip().lower(), hashlib.md5(body, usedforsecurity=False).hexdigest()
    if len(said) == 32 and said != found:
        raise LintError(f"{archive}: its header names MD5 {said}, its content has {found}")
    yield from _tar_members(archive, io.BytesIO(body), limits)
