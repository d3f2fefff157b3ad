"""Where a feed's files come from: a directory, an archive, or a single file.

A directory is walked in bytewise order of its paths. Archives inside it are unpacked in place: ``main.cvd`` with ``main.hdb``
becomes ``main/main.hdb``. Directories and files whose names start with a dot are not part of a feed (version control lives
there); symbolic links that stay inside are followed, all others refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from coldchain.errors import LintError, UsageError
from coldchain_server.feeds.archives import (
    FEED_LIMITS,
    FeedLimits,
    SourceFile,
    checked_path,
    is_archive,
    suffix,
    unpack,
)


def read_source(path: Path, limits: FeedLimits = FEED_LIMITS) -> Iterator[SourceFile]:
    """All files of a feed, one at a time.

    Args:
        path: a directory, an archive or a file.
        limits: bounds on names, counts and sizes.

    Raises:
        UsageError: nothing is there, or it cannot be read.
        LintError: an archive is broken, a name is unsafe, a bound is exceeded.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        why = (
            "no such file or directory" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        raise UsageError(f"{path.name}: {why}", todo="give the feed's directory, archive or file") from error
    if stat.S_ISDIR(mode):
        yield from _directory(path, limits)
    elif stat.S_ISREG(mode) and is_archive(path.name):
        with _open(path, path.name) as file:
            yield from unpack(path.name, file, limits)
    elif stat.S_ISREG(mode):
        yield SourceFile(checked_path("the feed", path.name, limits), _read(path, path.name, limits))
    else:
        raise UsageError(
            f"{path.name}: neither a file nor a directory", todo="give the feed's directory, archive or file"
        )


def _directory(root: Path, limits: FeedLimits) -> Iterator[SourceFile]:
    seen: set[str] = set()
    total = 0
    for file in sorted(
        _walk(root), key=lambda one: one.relative_to(root).as_posix().encode("utf-8", "surrogateescape")
    ):
        path = checked_path("the feed", file.relative_to(root).as_posix(), limits)
        for found in _one(file, path, limits):
            total += len(found.data)
            if found.path in seen:
                raise LintError(
                    f"the feed holds {found.path!r} twice, once in an archive", todo="leave one of the two out"
                )
            if len(seen) >= limits.files or total > limits.total_bytes:
                raise LintError("the feed holds more files or bytes than allowed", todo="split it into several feeds")
            seen.add(found.path)
            yield found


def _walk(root: Path) -> Iterator[Path]:
    inside = os.path.realpath(
        root
    )  # not Path.resolve, which raises RuntimeError for links in a circle before Python 3.13
    for directory, subdirectories, names in os.walk(root, onerror=_unreadable):
        subdirectories[:] = [name for name in subdirectories if not name.startswith(".")]
        for name in subdirectories:
            if Path(directory, name).is_symlink():
                raise LintError(f"{name}: a symbolic link to a directory", todo="put the directory itself there")
        for name in names:
            file = Path(directory, name)
            if name.startswith("."):
                continue
            if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(inside):
                raise LintError(f"{name}: a symbolic link that leads out of the feed", todo="put the file itself there")
            if not file.is_file():
                raise LintError(f"{name}: neither a file nor a directory", todo="take it out of the feed's directory")
            yield file


def _unreadable(error: OSError) -> None:
    raise UsageError(f"{Path(error.filename).name}: cannot be read: {error.strerror}") from error


def _one(file: Path, path: str, limits: FeedLimits) -> Iterator[SourceFile]:
    if not is_archive(file.name):
        yield SourceFile(path, _read(file, path, limits))
        return
    stem = path.removesuffix(path[-len(suffix(file.name)) :])
    with _open(file, path) as opened:
        for member in unpack(path, opened, limits):
            yield SourceFile(checked_path(path, f"{stem}/{member.path}", limits), member.data)


def _open(file: Path, path: str) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _read(file: Path, path: str, limits: FeedLimits) -> bytes:
    try:
        if file.stat().st_size > limits.file_bytes:
            raise LintError(f"{path}: larger than allowed", todo="split it into smaller files")
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
