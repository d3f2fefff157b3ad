r"""``.ccd``: what turns one bundle into the next; the full bundle is the delta from nothing.

The file (numbers are varints, *columns* as in :mod:`coldchain.bundle.columns`)::

    "CCD" 01                     magic and version
    column header
    length, removed              ordinals of removed records, all set sections in name order
    blocks                       added records of all set sections in name order
    groups                       changed and added file sections in name order (:mod:`coldchain.bundle.file_pieces`)

Header: ``flags`` (1 full, 2 a ClamAV canary, 4 a YARA canary); full: product, region and channel, each ``length, bytes``, and the
release; otherwise the release less the old one less 1. Then *steps* through the old sections in name order, each
``skip * 4 + step``: that many sections are kept, then 0 end (skip 0), 1 the next section changes, 2 the next section goes, 3 a
section comes: ``shared, length, bytes`` of its name (sharing with the last name written so), ``engine * 2 + kind``. A set that
changes adds ``removed count, added count``, one that comes its ``added count``; a file adds its records, changed: zigzag of the
difference. Canary sections follow from the header (:mod:`coldchain.bundle.canary`) and cost nothing.

*Removed*: per section that has any, in chunks of 65,536: ``length`` and ascending ordinals (:mod:`coldchain.bundle.rice`).
*Block*: ``records, length``, then ``schema`` (0 text, 1 hashes, 2 addresses) and its columns. A block goes on from section to
section, so that a release that changes three lines in each of ten lists spends one block.

Worked example, release 42 -> 43 of ``ex`` (region us) with one set ``l`` (lines a, c): b added, nothing removed::

    43 43 44 01 | 18 00 00 01 00 01 00 | 00 | 01 04 00 00 04 62
    magic         header: 6 plain bytes  none  1 record, 4 bytes: text, plain, column "b"

No digest stands in the file: its own length and SHA-256 are signed, and ``bundle.json``, rebuilt from what was written, must hash
to the signed bundle digest. Everything is bounded by :mod:`coldchain.limits` before memory is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from coldchain.bundle.address_lines import read_address_lines
from coldchain.bundle.canary import CLAMAV_SECTION, YARA_SECTION, canary_section
from coldchain.bundle.columns import read_column
from coldchain.bundle.description import (
    BundleDescription,
    Engine,
    Kind,
    Section,
    check_section_name,
    check_token,
)
from coldchain.bundle.file_pieces import NEIGHBOUR_BYTES, read_group
from coldchain.bundle.hash_lines import read_hash_lines
from coldchain.bundle.merge import Lines, Ordinals, merge_set
from coldchain.bundle.rice import decode_ascending
from coldchain.bundle.sections import BLOCK
from coldchain.bundle.text_lines import OLD_CONTENT, Reference, read_text_lines
from coldchain.bundle.varint import Reader, unzigzag
from coldchain.errors import DigestError, MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits

MAGIC = b"CCD\x01"
FULL, CLAMAV_CANARY, YARA_CANARY = 1, 2, 4
END, CHANGED, REMOVED, ADDED = range(4)
TEXT, HASHES, ADDRESSES = range(3)
REMOVED_CHUNK = 65_536
ENGINES: tuple[Engine, ...] = ("clamav", "yara", "list")
KINDS: tuple[Kind, ...] = ("set", "file")
CANARIES = frozenset({CLAMAV_SECTION, YARA_SECTION})


class OldBundle(Protocol):
    """The bundle a delta starts from: its description and its sections as seekable files."""

    description: BundleDescription

    def open(self, name: str) -> BinaryIO:
        """The section's content, from its start."""


class NewBundle(Protocol):
    """Where the new bundle is written, away from where an engine could load it."""

    def create(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A new section to be written; durable when the context ends without an error."""

    def keep(self, section: Section) -> None:
        """Takes over an unchanged section of the old bundle; refuses (DigestError) when it is damaged there."""


@dataclass(slots=True)
class Change:
    """One section that the delta writes: what it was, what it will be, and how many records go and come."""

    name: str
    kind: Kind
    engine: Engine
    old: Section | None
    removed: int = 0
    added: int = 0
    records: int = 0


@dataclass(slots=True)
class Header:
    """A decoded header."""

    product: str
    region: str
    channel: str
    release: int
    canaries: tuple[Engine, ...]
    kept: list[Section]
    changes: list[Change]

    def describe(self, sections: list[Section]) -> BundleDescription:
        """The new description with these sections."""
        ordered = tuple(sorted(sections, key=lambda section: section.name))
        return BundleDescription(self.product, self.region, self.channel, self.release, ordered)


def apply_delta(
    delta: BinaryIO, old: OldBundle | None, new: NewBundle, *, expected: str, limits: Limits = LIMITS
) -> BundleDescription:
    """Writes the new bundle and returns its description.

    Args:
        delta: the file, whose length and SHA-256 the caller has checked against the signed ones.
        old: the bundle it starts from; None for a full bundle.
        new: takes the sections.
        expected: the signed bundle digest.
        limits: bounds.

    Raises:
        MalformedError: the bytes do not follow the format, or do not fit the old bundle.
        NewerFormatError: a later version of the format.
        DigestError: the result is not the signed bundle.
    """
    return _Applier(delta, old, new, limits).run(expected)


def parse_header(source: Reader, old: BundleDescription | None, limits: Limits) -> Header:
    """The header's content; ``source`` holds exactly the header."""
    flags = source.varint(7)
    if bool(flags & FULL) != (old is None):
        raise MalformedError(f"{source.what}: a full bundle is not a delta, and a delta needs its old bundle")
    if old is None:
        product, region, channel = (check_token(_text(source, 64), word) for word in ("product", "region", "channel"))
        release = source.varint(2**53 - 1)
        if not release:
            raise MalformedError(f"{source.what}: release 0")
    else:
        product, region, channel = old.product, old.region, old.channel
        release = old.release + 1 + source.varint(2**31)
    canaries: tuple[Engine, ...] = ()
    if flags & CLAMAV_CANARY:
        canaries += ("clamav",)
    if flags & YARA_CANARY:
        canaries += ("yara",)
    header = Header(product, region, channel, release, canaries, [], [])
    _parse_steps(source, [s for s in old.sections if s.name not in CANARIES] if old else [], header, limits)
    source.done()
    return header


def _text(source: Reader, most: int) -> str:
    try:
        return source.take(source.varint(most)).decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{source.what}: a name that is not ASCII") from error


def _parse_steps(source: Reader, olds: list[Section], header: Header, limits: Limits) -> None:
    at = 0
    name = b""
    going: set[str] = set()
    while True:
        tag = source.varint()
        skip, step = tag >> 2, tag & 3
        if step == END and skip:
            raise MalformedError(f"{source.what}: a skip before the end")
        if skip > len(olds) - at or (step in (CHANGED, REMOVED) and skip == len(olds) - at):
            raise MalformedError(f"{source.what}: a step past the old bundle's last section")
        header.kept.extend(olds[at:] if step == END else olds[at : at + skip])
        at += skip
        if step == END:
            break
        if step == CHANGED:
            header.changes.append(_changed(source, olds[at], limits))
            at += 1
        elif step == REMOVED:
            going.add(olds[at].name)
            at += 1
        else:
            name = name[: source.varint(len(name))] + source.take(source.varint(limits.section_name_bytes))
            header.changes.append(_added(source, name, limits))
        if len(header.changes) + len(header.kept) > limits.sections:
            raise MalformedError(f"{source.what}: more sections than allowed")
    names = [change.name for change in header.changes]
    kept = {section.name for section in header.kept}
    if any(b <= a for a, b in itertools.pairwise(names)) or kept.intersection(names):
        raise MalformedError(f"{source.what}: sections out of order, or one twice")


def _changed(source: Reader, old: Section, limits: Limits) -> Change:
    change = Change(old.name, old.kind, old.engine, old)
    if old.kind == "set":
        change.removed = source.varint(old.records)
        change.added = source.varint(limits.records)
    else:
        change.records = old.records + unzigzag(source.varint())
        if not 0 <= change.records <= limits.records:
            raise MalformedError(f"{source.what}: a number of records out of range")
    return change


def _added(source: Reader, name: bytes, limits: Limits) -> Change:
    try:
        text = check_section_name(name.decode("ascii"), limits)
    except UnicodeDecodeError as error:
        raise MalformedError(f"{source.what}: a name that is not ASCII") from error
    if text in CANARIES:
        raise MalformedError(f"{source.what}: a canary is not written out")
    tag = source.varint(2 * len(ENGINES) - 1)
    change = Change(text, KINDS[tag & 1], ENGINES[tag >> 1], None)
    records = source.varint(limits.records)
    if change.kind == "set":
        change.added = records
    else:
        change.records = records
    return change


class _Stream:
    """A cursor over part of the delta that keeps its own place."""

    def __init__(self, file: BinaryIO, at: int, end: int) -> None:
        self.file, self.at, self.end = file, at, end

    def take(self, length: int) -> bytes:
        if length > self.end - self.at:
            raise MalformedError("delta: ends too early")
        self.file.seek(self.at)
        data = self.file.read(length)
        if len(data) != length:
            raise MalformedError("delta: ends too early")
        self.at += length
        return data

    def varint(self, most: int) -> int:
        self.file.seek(self.at)
        source = Reader(self.file.read(min(10, self.end - self.at)), "delta")
        value = source.varint(most)
        self.at += source.position
        return value


class _Writer:
    """Counts and hashes what goes into one new section."""

    def __init__(self, file: BinaryIO, name: str, limits: Limits) -> None:
        self._file, self._name, self._limits = file, name, limits
        self.length = 0
        self.digest = hashlib.sha256()

    def __call__(self, data: bytes) -> None:
        self.length += len(data)
        if self.length > self._limits.section_bytes:
            raise MalformedError(f"delta: section {self._name} becomes larger than allowed")
        self.digest.update(data)
        self._file.write(data)

    def section(self, change: Change, records: int) -> Section:
        return Section(change.name, change.kind, change.engine, records, self.length, self.digest.hexdigest())


class _Applier:
    def __init__(self, delta: BinaryIO, old: OldBundle | None, new: NewBundle, limits: Limits) -> None:
        self.old, self.new, self.limits = old, new, limits
        end = delta.seek(0, 2)
        if end > limits.delta_bytes:
            raise MalformedError("delta: longer than allowed")
        body = _Stream(delta, 0, end)
        magic = body.take(4)
        if magic != MAGIC:
            if magic[:3] == MAGIC[:3] and magic[3] > MAGIC[3]:
                raise NewerFormatError(f"delta format {magic[3]}", todo="install a newer client")
            raise MalformedError("delta: not a delta file")
        self.header = parse_header(_header(body, limits), old.description if old else None, limits)
        length = body.varint(limits.delta_bytes)
        if length > end - body.at:
            raise MalformedError("delta: ends too early")
        self.removals = _Stream(delta, body.at, body.at + length)
        self.body = _Stream(delta, body.at + length, end)
        self.sets = [change for change in self.header.changes if change.kind == "set"]
        self.files = [change for change in self.header.changes if change.kind == "file"]
        self.to_come = [change.added for change in self.sets]
        self.next_set = 0
        self.pending: list[list[list[bytes]]] = [[] for _ in self.sets]
        self.removal_starts = [self.removals.at]

    def run(self, expected: str) -> BundleDescription:
        sections = []
        for kept in self.header.kept:
            self.new.keep(kept)
            sections.append(kept)
        sections.extend(self._canary(engine) for engine in self.header.canaries)
        for index, change in enumerate(self.sets):
            section = self._set(index, change)
            if section:
                sections.append(section)
        sections.extend(self._file_sections())
        if self.body.at != self.body.end or self._removal_start(len(self.sets)) != self.removals.end:
            raise MalformedError("delta: bytes after its end")
        description = self.header.describe(sections)
        if sum(section.bytes for section in sections) > self.limits.bundle_bytes:
            raise MalformedError("delta: the bundle becomes larger than allowed")
        if description.digest != expected:
            raise DigestError(
                f"the rebuilt bundle has digest {description.digest[:16]}…, signed is {expected[:16]}…",
                todo="the old files may be damaged, or the delta may belong to another bundle; the full bundle helps",
            )
        return description

    def _canary(self, engine: Engine) -> Section:
        header = self.header
        made = canary_section(engine, header.product, header.region, header.channel, header.release)
        assert made is not None
        name, content = made
        with self.new.create(name) as file:
            file.write(content)
        kind: Kind = "set" if engine == "clamav" else "file"
        return Section(name, kind, engine, 1, len(content), hashlib.sha256(content).hexdigest())

    # -- set sections ------------------------------------------------------------------------------------------------

    def _set(self, index: int, change: Change) -> Section | None:
        removed = Ordinals(self._removed(index))
        added = Lines(self._batches(index), f"delta: section {change.name}")
        with self.new.create(change.name) as file:
            write = _Writer(file, change.name, self.limits)
            if change.old is None:
                records = 0
                for batch in added.batches():
                    records += len(batch)
                    write(b"\n".join(batch) + b"\n")
            else:
                assert self.old is not None
                with self.old.open(change.name) as old:
                    records = merge_set(old, removed, added, write, f"delta: section {change.name}", self.limits)
        if not records:
            raise MalformedError(f"delta: section {change.name} becomes empty")
        return write.section(change, records)

    def _batches(self, index: int) -> Iterator[list[bytes]]:
        while True:
            yield from self.pending[index]
            self.pending[index] = []
            if not self.to_come[index]:
                return
            self._read_block()

    def _read_block(self) -> None:
        """Decodes the next block and hands each section its lines."""
        count = self.body.varint(self.limits.delta_block_records)
        data = self.body.take(self.body.varint(self.limits.delta_block_bytes + (1 << 20)))
        segments: list[tuple[int, int]] = []
        left = count
        while left:
            if self.next_set >= len(self.sets):
                raise MalformedError("delta: more added records than declared")
            if not self.to_come[self.next_set]:
                self.next_set += 1
                continue
            part = min(left, self.to_come[self.next_set])
            segments.append((self.next_set, part))
            self.to_come[self.next_set] -= part
            left -= part
        if not segments:
            raise MalformedError("delta: a block without records")
        counts = [part for _, part in segments]
        lines = self._decode(Reader(data, "delta: block"), counts, [which for which, _ in segments])
        for (which, _), part_lines in zip(segments, lines, strict=True):
            self.pending[which].append(part_lines)

    def _decode(self, source: Reader, counts: list[int], sections: list[int]) -> list[list[bytes]]:
        reference: Reference = lambda mode: self._reference(mode, sections)  # noqa: E731
        schema = source.varint(ADDRESSES)
        if schema == TEXT:
            flat, unsorted = read_text_lines(source, sum(counts), reference, self.limits)
            lines, at = [], 0
            for count in counts:
                lines.append(sorted(flat[at : at + count]) if unsorted else flat[at : at + count])
                at += count
        elif schema == HASHES:
            lines = read_hash_lines(source, counts, reference, self.limits)
        else:
            lines = read_address_lines(source, counts, reference, self.limits)
        source.done()
        return lines

    def _reference(self, mode: int, sections: list[int]) -> bytes:
        """What a block's text may refer to: the old content, or the removed lines, of the sections it adds to."""
        pieces = []
        room = self.limits.zstd_dictionary_bytes
        for index in sections:
            change = self.sets[index]
            if change.old is None or self.old is None:
                continue
            if mode == OLD_CONTENT:
                if change.old.bytes > room:
                    raise MalformedError("delta: a block refers to more than allowed")
                with self.old.open(change.name) as old:
                    piece = old.read(room + 1)
            else:
                piece = self._removed_lines(index, change, room)
            room -= len(piece)
            if room < 0:
                raise MalformedError("delta: a block refers to more than allowed")
            pieces.append(piece)
        return b"".join(pieces)

    def _removed_lines(self, index: int, change: Change, room: int) -> bytes:
        ordinals = Ordinals(self._removed(index))
        pieces, ordinal = [], 0
        assert self.old is not None
        with self.old.open(change.name) as old:
            carry = b""
            while data := old.read(BLOCK):
                data = carry + data
                end = data.rfind(b"\n") + 1
                carry, data = data[end:], data[:end]
                count = data.count(b"\n")
                places = ordinals.below(ordinal + count)
                if places:
                    lines = data.split(b"\n")
                    taken = b"".join(lines[place - ordinal] + b"\n" for place in places)
                    room -= len(taken)
                    if room < 0:
                        raise MalformedError("delta: a block refers to more than allowed")
                    pieces.append(taken)
                ordinal += count
        return b"".join(pieces)

    # -- removed records ---------------------------------------------------------------------------------------------

    def _removal_start(self, index: int) -> int:
        """Where the chunks of a section begin; found by stepping over those before, which is only a few numbers."""
        starts = self.removal_starts
        while len(starts) <= index:
            change = self.sets[len(starts) - 1]
            cursor = _Stream(self.removals.file, starts[-1], self.removals.end)
            for _ in range(-(-change.removed // REMOVED_CHUNK)):
                cursor.take(cursor.varint(16 * REMOVED_CHUNK))
            starts.append(cursor.at)
        return starts[index]

    def _removed(self, index: int) -> Iterator[list[int]]:
        """The removed ordinals of a section, chunk by chunk; each call starts anew."""
        change = self.sets[index]
        if change.old is None:
            return
        cursor = _Stream(self.removals.file, self._removal_start(index), self.removals.end)
        left, base = change.removed, 0
        while left:
            count = min(left, REMOVED_CHUNK)
            data = cursor.take(cursor.varint(16 * REMOVED_CHUNK))
            values = decode_ascending(data, count, change.old.records - 1 - base, "delta: removed records")
            yield [base + value for value in values] if base else values
            base += values[-1] + 1
            left -= count

    # -- file sections -----------------------------------------------------------------------------------------------

    def _file_sections(self) -> Iterator[Section]:
        at = 0
        with contextlib.ExitStack() as stack:
            write: _Writer | None = None
            while at < len(self.files):
                data = self.body.take(self.body.varint(self.limits.delta_block_bytes + (1 << 20)))
                source = Reader(data, "delta: files")
                pieces = read_group(source, at, len(self.files), self._old_range, self._neighbour, self.limits)
                source.done()
                for piece in pieces:
                    change = self.files[piece.file]
                    if write is None:
                        write = _Writer(stack.enter_context(self.new.create(change.name)), change.name, self.limits)
                    write(piece.data)
                    at = piece.file
                    if not piece.goes_on:
                        stack.pop_all().close()
                        yield write.section(change, change.records)
                        write = None
                        at += 1

    def _old_range(self, index: int, start: int, length: int | None) -> bytes:
        section = self.files[index].old
        if section is None or self.old is None:
            return b""
        length = section.bytes if length is None else length
        if length > self.limits.zstd_dictionary_bytes or start + length > section.bytes:
            raise MalformedError("delta: an old range that is not there, or longer than allowed")
        with self.old.open(section.name) as old:
            old.seek(start)
            return old.read(length)

    def _neighbour(self, index: int) -> bytes:
        change = self.files[index]
        if change.old is not None or self.old is None:
            return b""
        section = neighbour(self.old.description, change.name)
        if section is None or section.bytes > NEIGHBOUR_BYTES:
            return b""
        with self.old.open(section.name) as old:
            return old.read(NEIGHBOUR_BYTES)


def neighbour(old: BundleDescription, name: str) -> Section | None:
    """The old file section next before ``name``, or the first one after it; canaries do not count."""
    before = after = None
    for section in old.sections:
        if section.kind != "file" or section.name in CANARIES:
            continue
        if section.name < name:
            before = section
        elif after is None:
            after = section
    return before or after


def _header(body: _Stream, limits: Limits) -> Reader:
    body.file.seek(body.at)
    most = min(body.end - body.at, limits.description_bytes)
    # A header is short unless a full bundle has many sections: read a little, and more only when its column says so.
    source = Reader(body.file.read(min(most, 1 << 16)), "delta: header")
    try:
        data = read_column(source, limits.description_bytes, limits=limits)
    except MalformedError:
        if most <= 1 << 16:
            raise
        body.file.seek(body.at)
        source = Reader(body.file.read(most), "delta: header")
        data = read_column(source, limits.description_bytes, limits=limits)
    body.at += source.position
    return Reader(data, "delta: header")
