r"""What turns one bundle into another, record by record; and change lists, its form on disk.

A change list holds all that composing needs and no more, so releases are diffed once, each against the one before, and never
opened again for that::

    "CCH" 01        magic and version
    zstd frame of   old bundle.json, new bundle.json (length, bytes; the old one empty for a first release),
                    varint sets, then per changed or removed or added set section in name order:
                       name (length, bytes), removed count, added count,
                       removed: per record gap of its ordinal in the old section, length, bytes
                       added:   per record gap of its ordinal in the new section, length, bytes

The frame carries its size and a checksum, since nothing else vouches for a list that lies on a disk for years.
Gaps are the ordinal less the one before less one. Which sections are kept, come or go follows from the two descriptions; a set that
comes or goes as a whole stands with all its records left out (their content is found by digest).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from coldchain.bundle.description import BundleDescription, Section, parse_description
from coldchain.bundle.varint import Reader, put_varint
from coldchain.errors import MalformedError, NewerFormatError

MAGIC = b"CCH\x01"
MOST_BYTES = 2 << 30

ContentStore = Callable[[str], Path]
"""SHA-256 of a section, lower-case hexadecimal -> the file that holds it."""

Record = tuple[int, bytes]
"""(ordinal in its section, line without LF)."""


@dataclass(slots=True)
class SetChange:
    """What goes from the old section and comes into the new one; both lists ascend."""

    name: str
    old: Section
    new: Section
    removed: list[Record] = field(default_factory=list)
    added: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class BundleChange:
    """From ``old`` (None: from nothing) to ``new``; ``sets`` holds the changed set sections by name.

    Sections of the same name, kind and engine in both are *kept* (same digest) or *changed*; all others come or go.
    """

    old: BundleDescription | None
    new: BundleDescription
    sets: dict[str, SetChange] = field(default_factory=dict)

    def pairs(self) -> Iterator[tuple[Section | None, Section | None]]:
        """(old, new) sections in name order; one that changes kind or engine goes first and comes after."""
        olds = {section.name: section for section in self.old.sections} if self.old else {}
        news = {section.name: section for section in self.new.sections}
        for name in sorted(olds.keys() | news.keys()):
            old, new = olds.get(name), news.get(name)
            if old and new and (old.kind, old.engine) != (new.kind, new.engine):
                yield old, None
                yield None, new
            else:
                yield old, new

    def changed_sets(self) -> list[tuple[Section, Section]]:
        """The pairs for which ``sets`` must hold a change."""
        return [(o, n) for o, n in self.pairs() if o and n and o.kind == "set" and o.sha256 != n.sha256]

    def counts(self) -> dict[str, tuple[int, int]]:
        """Per section that is not kept: (added, removed) records, as the manifest lists them."""
        out: dict[str, tuple[int, int]] = {}
        for old, new in self.pairs():
            if old and new:
                if old.sha256 == new.sha256:
                    continue
                change = self.sets.get(new.name)
                out[new.name] = (len(change.added), len(change.removed)) if change else (new.records, old.records)
            elif new:
                added, removed = out.get(new.name, (0, 0))
                out[new.name] = (added + new.records, removed)
            elif old:
                out[old.name] = (0, old.records)
        return out


def encode_change_list(change: BundleChange) -> bytes:
    """The bytes of a change list."""
    out = bytearray()
    for description in (change.old, change.new):
        text = description.encode() if description else b""
        put_varint(out, len(text))
        out += text
    pairs = change.changed_sets()
    put_varint(out, len(pairs))
    for _, new in pairs:
        found = change.sets[new.name]
        put_varint(out, len(new.name))
        out += new.name.encode()
        put_varint(out, len(found.removed))
        put_varint(out, len(found.added))
        for records in (found.removed, found.added):
            last = -1
            for ordinal, line in records:
                put_varint(out, ordinal - last - 1)
                put_varint(out, len(line))
                out += line
                last = ordinal
    return MAGIC + zstandard.ZstdCompressor(level=9, write_checksum=True).compress(bytes(out))


def parse_change_list(data: bytes) -> BundleChange:
    """A change list from its bytes.

    Raises:
        MalformedError: anything else; NewerFormatError: a later version.
    """
    if data[:3] != MAGIC[:3]:
        raise MalformedError("change list: not a change list")
    if data[:4] != MAGIC:
        raise NewerFormatError("change list of a later version", todo="use the server that wrote it")
    try:
        frame = zstandard.get_frame_parameters(data[4:])
        if not 0 < frame.content_size <= MOST_BYTES or not frame.has_checksum:
            raise MalformedError("change list: larger than allowed, or without a checksum")
        source = Reader(zstandard.ZstdDecompressor().decompress(data[4:], allow_extra_data=False), "change list")
    except zstandard.ZstdError as error:
        raise MalformedError(f"change list: {error}") from error
    texts = [source.take(source.varint()) for _ in range(2)]
    change = BundleChange(parse_description(texts[0]) if texts[0] else None, parse_description(texts[1]))
    pairs = change.changed_sets()
    if source.varint() != len(pairs):
        raise MalformedError("change list: the number of changed sections does not fit")
    for old, new in pairs:
        if source.take(source.varint(256)) != new.name.encode():
            raise MalformedError(f"change list: section {new.name} was expected")
        removed, added = source.varint(old.records), source.varint(new.records)
        if old.records - removed + added != new.records:
            raise MalformedError(f"change list: section {new.name}: counts do not add up")
        change.sets[new.name] = SetChange(
            new.name, old, new, _records(source, removed, old.records), _records(source, added, new.records)
        )
    source.done()
    return change


def _records(source: Reader, count: int, bound: int) -> list[Record]:
    records: list[Record] = []
    last, last_line = -1, b""
    for _ in range(count):
        last += source.varint(bound) + 1
        line = source.take(source.varint())
        if last >= bound or line <= last_line:
            raise MalformedError("change list: records out of order")
        records.append((last, line))
        last_line = line
    return records
