"""Sample histories as bundles: each version of a series becomes the sections that a feed of it would give.

An archive holds members ``v0001/<path>`` in the order of versions; it is streamed, one version in memory at a time. YARA sources (and
the few ClamAV files whose order matters) are kept whole; of all others the lines are made canonical as the assembler does it:
no comments, no blank lines, no CR, sorted, unique. Lines are not checked here, because a peer gets the very same bytes.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from coldchain.bundle.description import BundleDescription, Engine, Kind, Section
from coldchain_server.assembly.canonical_sections import canonical_set, section_name

YARA = frozenset({"yar", "yara"})
CLAMAV = frozenset(
    [
        "cdb",
        "fp",
        "hdb",
        "hdu",
        "hsb",
        "hsu",
        "idb",
        "ign",
        "ign2",
        "imp",
        "ldb",
        "ldu",
        "mdb",
        "mdu",
        "msb",
        "msu",
        "ndb",
        "ndu",
        "pdb",
        "gdb",
        "sfp",
        "wdb",
    ]
)
WHOLE = frozenset(["cat", "cfg", "crb", "ftm", "info"])

Files = dict[str, bytes]


class Contents:
    """Sections and bundles of a run, by SHA-256 in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[tuple[str, bytes], Section | None] = {}

    def __call__(self, sha256: str) -> Path:
        """Where the content of that digest lies."""
        return self.directory / sha256

    def put(self, data: bytes) -> str:
        """Keeps ``data``; its SHA-256 in hexadecimal."""
        digest = hashlib.sha256(data).hexdigest()
        path = self(digest)
        if not path.exists():
            path.write_bytes(data)
        return digest

    def section(self, feed: str, path: str, data: bytes) -> Section | None:
        """A feed's file as a section; None when no record is left of it."""
        key = path, hashlib.sha256(data).digest()
        if key not in self._known:
            self._known[key] = self._prepare(feed, path, data)
        return self._known[key]

    def _prepare(self, feed: str, path: str, data: bytes) -> Section | None:
        kind, engine = kind_of(path)
        records = 1
        if kind == "set":
            data, records = canonical_set(_lines(data))
        if not data or not records:
            return None
        return Section(section_name(feed, path, engine), kind, engine, records, len(data), self.put(data))

    def bundle(self, feed: str, files: Mapping[str, bytes], release: int) -> BundleDescription:
        """All files of one version as a bundle of the region ``us``."""
        found: dict[str, Section] = {}
        for path, data in sorted(files.items()):
            section = self.section(feed, path, data)
            if section and section.name.lower() in found:
                # Two paths that differ only in case, which a bundle may not hold: told apart by their path's digest.
                stem, dot, extension = section.name.rpartition(".")
                mark = hashlib.sha256(path.encode()).hexdigest()[:8]
                section = replace(section, name=f"{stem}-{mark}{dot}{extension}")
            if section:
                found[section.name.lower()] = section
        return describe(list(found.values()), release)


def describe(sections: list[Section], release: int) -> BundleDescription:
    """A description of these sections, in name order."""
    ordered = tuple(sorted(sections, key=lambda section: section.name))
    return BundleDescription("coldchain", "us", "stable", release, ordered)


def kind_of(path: str) -> tuple[Kind, Engine]:
    """(set or file, engine) by the path's extension; what no engine loads is a list."""
    extension = PurePosixPath(path).suffix.lower().removeprefix(".")
    if extension in YARA:
        return "file", "yara"
    if extension in WHOLE:
        return "file", "clamav"
    return "set", "clamav" if extension in CLAMAV else "list"


def _lines(data: bytes) -> Iterator[bytes]:
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = raw.strip(b" \t\r")
        if line and not line.startswith(b"#"):
            yield line


def versions(archive: Path) -> Iterator[tuple[str, Files]]:
    """(name, files by path) of each version of a series, in order."""
    current, files = "", Files()
    with tarfile.open(archive, "r|xz") as tar:
        for member in tar:
            if not member.isfile():
                continue
            version, _, path = member.name.partition("/")
            if version != current:
                if files:
                    yield current, files
                current, files = version, {}
            stream = tar.extractfile(member)
            assert stream is not None
            files[path] = stream.read()
    if files:
        yield current, files


def write_tar(sections: list[Section], contents: Contents, out: BinaryIO) -> None:
    """A plain tar of sections in name order: no compression, all times 0, so that it depends on the content alone."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for section in sections:
            info = tarfile.TarInfo(section.name)
            info.size = section.bytes
            with contents(section.sha256).open("rb") as file:
                tar.addfile(info, file)


def tar_bytes(sections: list[Section], contents: Contents) -> bytes:
    """The same in memory."""
    out = io.BytesIO()
    write_tar(sections, contents, out)
    return out.getvalue()


def evenly(count: int, most: int | None) -> list[int]:
    """At most ``most`` of the indexes below ``count``, evenly spread, first and last among them."""
    if most is None or most >= count:
        return list(range(count))
    if most <= 1:
        return [count // 2] if most and count else []
    return [i * (count - 1) // (most - 1) for i in range(most)]
