"""A snapshot: what a feed held at one moment, named by the SHA-256 of its canonical JSON.

::

    {"feed":"acme-hashes","files":[
      {"bytes":133,"path":"main.hdb","sha256":"…"},
      {"bytes":486,"path":"main.ndb","sha256":"…"}],
     "format":"coldchain-snapshot-1","kind":"clamav"}

Files stand in bytewise order of their paths. Nothing in it depends on time or machine: the same files give the same snapshot. It
is published with its files under ``snapshots/<sha256>``, so that anyone can rebuild a release from what it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from coldchain import canonical
from coldchain.bundle.description import check_token
from coldchain.canonical import Fields
from coldchain.errors import LintError, MalformedError, NewerFormatError, UsageError
from coldchain_server.feeds.archives import FEED_LIMITS, FeedLimits, SourceFile, checked_path

FORMAT: Final = "coldchain-snapshot-1"
KINDS: Final = ("clamav", "yara", "addresses", "domains", "urls", "hashes", "indicators", "list")
"""What a feed declares its files to be. A ``clamav`` feed may hold YARA files too (engines load them); the files of a ``list``
feed each say what they are by their names, such as ``domains.txt``; ``indicators`` lists mix all four."""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One file: its path within the feed, its length in bytes and its digest."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FeedSnapshot:
    """A parsed snapshot."""

    feed: str
    kind: str
    files: tuple[SnapshotFile, ...]

    def encode(self) -> bytes:
        """The canonical bytes."""
        files: list[canonical.JSON] = [
            {"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in self.files
        ]
        return canonical.encode({"format": FORMAT, "feed": self.feed, "kind": self.kind, "files": files})

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`encode`, lower-case hexadecimal: the snapshot's name."""
        return hashlib.sha256(self.encode()).hexdigest()


def check_feed_name(name: str) -> str:
    """A feed's name: 1 to 32 lower-case letters, digits and dashes, a letter first. Raises UsageError for another."""
    try:
        return check_token(name, "feed name")
    except MalformedError as error:
        raise UsageError(error.what) from error


def take_snapshot(feed: str, kind: str, files: Iterable[SourceFile], store: Callable[[bytes], str]) -> FeedSnapshot:
    """Stores every file and names them.

    Args:
        feed: the feed's name.
        kind: one of :data:`KINDS`.
        files: from :func:`coldchain_server.feeds.sources.read_source`.
        store: keeps bytes durably and returns their SHA-256.

    Raises:
        LintError: the feed holds no file.
        UsageError: an unknown kind or a bad name.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}", todo="kinds are " + ", ".join(KINDS))
    found = [SnapshotFile(file.path, len(file.data), store(file.data)) for file in files]
    if not found:
        raise LintError(
            f"feed {feed!r} holds no files", todo="an empty feed is refused, so that a failed copy removes nothing"
        )
    found.sort(key=lambda file: file.path.encode())
    return FeedSnapshot(check_feed_name(feed), kind, tuple(found))


def parse_snapshot(data: bytes, limits: FeedLimits = FEED_LIMITS) -> FeedSnapshot:
    """A snapshot from foreign bytes: parsed strictly, re-encoded, compared.

    Raises:
        MalformedError: not canonical, out of order, an unsafe path, a bound exceeded.
        NewerFormatError: a later version of the format.
    """
    fields = Fields(canonical.read_canonical(data, "snapshot"), "snapshot")
    format_ = fields.text("format")
    if format_ != FORMAT:
        raise NewerFormatError(f"snapshot has format {format_[:40]!r}")
    files = []
    for item in fields.items("files", limits.files):
        part = Fields(item, "snapshot: file")
        path = part.text("path")
        try:
            if checked_path("snapshot", path, limits) != path:
                raise MalformedError(f"snapshot: path {path[:60]!r} is not in its plain form")
        except LintError as error:
            raise MalformedError(error.what) from error
        files.append(SnapshotFile(path, part.integer("bytes", most=limits.file_bytes), part.sha256("sha256")))
        part.done()
    feed, kind = check_token(fields.text("feed"), "feed"), fields.text("kind")
    fields.done()
    paths = [file.path.encode() for file in files]
    if kind not in KINDS or not files or paths != sorted(set(paths)):
        raise MalformedError("snapshot: kind or order of files is wrong")
    return FeedSnapshot(feed, kind, tuple(files))
