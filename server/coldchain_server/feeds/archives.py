"""Archives that feeds come in: ``.zip``, ``.tar`` (plain, gz, bz2, xz, zst) and ClamAV's containers, unpacked in memory within bounds.

A ClamAV container (``.cvd`` signed by ClamAV, ``.cud`` unsigned, ``.cld`` local) is 512 bytes of header and a tar, gzipped or not::

    ClamAV-VDB:07 Jun 2024 10-30 -0400:6:2:90:<md5>:<signature>:builder:1717770600      padded with spaces to 512

The header's MD5 is that of all bytes after it and is compared. ClamAV's own RSA signature is not judged here: what counts for
Coldchain is the digest of the snapshot and who approves it.

Refused: members that are links or devices; names that are absolute, climb, or hold a backslash or a control character; two members of
one name; more members, bytes or a higher ratio than :class:`FeedLimits` allows. What is unpacked is counted while reading, headers
with it, and sizes are never believed. As in directories, names that start with a dot are no part of a feed.
Source of the header's fields: ClamAV's documentation "CVD"; read from real files.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, BinaryIO, cast

import zstandard

from coldchain.errors import LintError

CVD_HEADER = 512
CVD_MAGIC = b"ClamAV-VDB:"
ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
CVD_SUFFIXES = (".cvd", ".cud", ".cld")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """Bounds of one feed; sizes in bytes."""

    files: int = 65_536
    file_bytes: int = 1 << 30
    total_bytes: int = 8 << 30
    ratio: int = 200
    """How many times its own length an archive may unpack to (of signatures, 20 is much), above :attr:`ratio_free` bytes."""
    ratio_free: int = 64 << 20
    window_bytes: int = 128 << 20
    path_bytes: int = 512
    line_bytes: int = 256 * 1024


FEED_LIMITS = FeedLimits()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a feed: its path within the feed, with ``/`` between components, and its bytes."""

    path: str
    data: bytes


class _Budget:
    """What an archive may still unpack to."""

    def __init__(self, archive: str, packed: int, limits: FeedLimits) -> None:
        self.archive = archive
        self.left = min(limits.total_bytes, max(limits.ratio_free, limits.ratio * packed))

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise LintError(
                f"{self.archive}: unpacks to more bytes than allowed",
                todo="if that is meant, unpack it yourself and give the directory",
            )


class _Counted(io.RawIOBase):
    """A stream that spends the budget as it is read, and keeps its last block: of a whole tar archive, zeros."""

    def __init__(self, source: IO[bytes], budget: _Budget) -> None:
        self.source = source
        self.budget = budget
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data = self.source.read(min(size, _BLOCK) if size >= 0 else _BLOCK)
        self.budget.spend(len(data))
        self.tail = (self.tail + data)[-tarfile.BLOCKSIZE :]
        return data


def suffix(name: str) -> str:
    """The suffix that says a file of this name is unpacked instead of taken as it is; empty for other files."""
    low = name.lower()
    return max((one for one in ZIP_SUFFIXES + TAR_SUFFIXES + CVD_SUFFIXES if low.endswith(one)), key=len, default="")


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked instead of taken as it is."""
    return bool(suffix(name))


def unpack(name: str, file: BinaryIO, limits: FeedLimits = FEED_LIMITS) -> Iterator[SourceFile]:
    """The files of an archive, in its own order; which kind of archive it is follows from ``name``.

    Args:
        name: the archive's name.
        file: its bytes; must be seekable.
        limits: bounds on names, counts and sizes.

    Raises:
        LintError: the archive is broken, holds something that is not a plain file, or exceeds a bound.
    """
    budget = _Budget(name, file.seek(0, io.SEEK_END), limits)
    file.seek(0)
    kind = suffix(name)
    try:
        if kind in ZIP_SUFFIXES:
            yield from _checked(name, _zip_members(name, file, budget, limits))
        elif kind in TAR_SUFFIXES:
            yield from _checked(name, _tar_members(name, file, budget, limits))
        elif kind in CVD_SUFFIXES:
            yield from _checked(name, _cvd_members(name, file, budget, limits))
        else:
            raise LintError(f"{name}: not an archive that feeds come in", todo="use .zip, .tar.*, .cvd or .cud")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, struct.error, EOFError,
            OSError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:  # fmt: skip
        raise LintError(f"{name}: the archive is broken: {error}", todo="get the file again from its source") from error


def _checked(archive: str, members: Iterator[SourceFile]) -> Iterator[SourceFile]:
    seen: set[str] = set()
    for member in members:
        if any(part.startswith(".") for part in member.path.split("/")):
            continue
        if member.path in seen:
            raise LintError(
                f"{archive}: holds {member.path!r} twice", todo="leave one of the two out and pack it again"
            )
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
        raise LintError(
            f"{archive}: the name {path[:80]!r} is not a plain path",
            todo="rename it: no .., no control characters, UTF-8",
        )
    return "/".join(parts)


def _bounded(archive: str, name: str, file: IO[bytes], limits: FeedLimits, budget: _Budget | None = None) -> bytes:
    data = io.BytesIO()
    while block := file.read(_BLOCK):
        if data.tell() + len(block) > limits.file_bytes:
            raise LintError(f"{archive}: {name[:80]!r} is larger than allowed", todo="split it into smaller files")
        if budget is not None:
            budget.spend(len(block))
        data.write(block)
    return data.getvalue()


def _zip_members(archive: str, file: BinaryIO, budget: _Budget, limits: FeedLimits) -> Iterator[SourceFile]:
    with zipfile.ZipFile(file) as zipped:
        if len(zipped.infolist()) > limits.files:
            raise LintError(f"{archive}: holds more files than allowed", todo="split it into several feeds")
        for member in zipped.infolist():
            path = checked_path(archive, member.filename, limits)
            kind = member.external_attr >> 28
            if kind not in (0, 4, 8):  # the upper bits are Unix's mode: 4 directory, 8 regular file, 0 none was stored
                raise LintError(
                    f"{archive}: {path!r} is not a plain file", todo="put the file itself there, no link or device"
                )
            if member.is_dir():
                continue
            with zipped.open(member) as opened:
                yield SourceFile(path, _bounded(archive, path, opened, limits, budget))


def _plain(file: BinaryIO, limits: FeedLimits) -> IO[bytes]:
    """The stream that a compressed one unpacks to, by its first bytes."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(file)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        unpacker = zstandard.ZstdDecompressor(max_window_size=limits.window_bytes)
        return cast(IO[bytes], unpacker.stream_reader(file, read_across_frames=True))
    return file


def _tar_members(
    archive: str, file: BinaryIO, budget: _Budget, limits: FeedLimits, *, ended: bool = True
) -> Iterator[SourceFile]:
    # The stream is unpacked here and not by tarfile, so that headers (a pax header may claim any length) count as well.
    stream = _Counted(_plain(file, limits), budget)
    counted = cast(IO[bytes], stream)
    with tarfile.open(fileobj=counted, mode="r|") as tar:
        for number, member in enumerate(tar):
            if number >= limits.files:
                raise LintError(f"{archive}: holds more files than allowed", todo="split it into several feeds")
            path = checked_path(archive, member.name, limits)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise LintError(
                    f"{archive}: {path!r} is not a plain file", todo="put the file itself there, no link or device"
                )
            opened = tar.extractfile(member)
            assert opened is not None
            data = _bounded(archive, path, opened, limits)
            if len(data) != member.size:
                raise LintError(f"{archive}: {path!r} is cut short", todo="get the file again from its source")
            yield SourceFile(path, data)
    while counted.read(_BLOCK):
        pass  # to the end, where compressed streams keep their checksum
    if ended and stream.tail != bytes(tarfile.BLOCKSIZE):
        raise LintError(
            f"{archive}: is cut short, or something follows its end", todo="get the file again from its source"
        )


def _cvd_members(archive: str, file: BinaryIO, budget: _Budget, limits: FeedLimits) -> Iterator[SourceFile]:
    header = file.read(CVD_HEADER)
    fields = header.split(b":")
    if len(header) < CVD_HEADER or not header.startswith(CVD_MAGIC) or len(fields) < 8:
        raise LintError(
            f"{archive}: does not start with a ClamAV-VDB header", todo="get the file again from its source"
        )
    body = _bounded(archive, "the container", file, limits)
    said, found = fields[5].decode("latin-1").strip().lower(), hashlib.md5(body, usedforsecurity=False).hexdigest()
    if said != found:
        raise LintError(
            f"{archive}: its header names MD5 {said}, its content has {found}",
            todo="get the file again from its source",
        )
    # ClamAV writes no end mark into its archives; the MD5 says that it is whole.
    yield from _tar_members(archive, io.BytesIO(body), budget, limits, ended=False)
