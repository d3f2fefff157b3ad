r"""``.ccd``: what turns one bundle into the next; the full bundle is the delta from nothing.

The file (numbers are varints, *columns* as in :mod:`coldchain.bundle.columns`)::

    "CCD" 01                     magic and version
    column header                :mod:`coldchain.bundle.header`
    length, removed              :mod:`coldchain.bundle.removals`, all set sections in name order
    blocks                       added records of all set sections in name order
    groups                       length, then changed and added file sections (:mod:`coldchain.bundle.file_pieces`) in name order

*Block*: ``records, length``, then ``schema`` (0 text, 1 hashes, 2 addresses) and its columns; or 3, edited lines
(:mod:`coldchain.bundle.edited_lines`), and after them, for the lines that are not, another schema and its columns. A block goes on
from section to section, so that a release that changes three lines in each of ten lists spends one block.

Worked example, release 42 -> 43 of ``ex`` (region us) with one set ``l`` (lines a, c): b added, nothing removed::

    43 43 44 01 | 18 00 00 01 00 01 00 | 00 | 01 04 00 00 04 62
    magic         header: 6 plain bytes  none  1 record, 4 bytes: text, plain, column "b"

No digest stands in the file: its own length and SHA-256 are signed, and ``bundle.json``, rebuilt from what was written, must hash
to the signed bundle digest. Everything is bounded by :mod:`coldchain.limits` before memory is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from coldchain.bundle.address_lines import read_address_lines
from coldchain.bundle.canary import canary_section
from coldchain.bundle.columns import read_column
from coldchain.bundle.description import BundleDescription, Engine, Kind, Section, parse_description
from coldchain.bundle.edited_lines import RemovedLines, read_edited_lines
from coldchain.bundle.file_pieces import Piece, read_group
from coldchain.bundle.hash_lines import read_hash_lines
from coldchain.bundle.header import Change, names_of, old_sections, parse_header
from coldchain.bundle.merge import Lines, Ordinals, merge_set
from coldchain.bundle.removals import Cursor, Removals
from coldchain.bundle.text_lines import OLD_CONTENT, WINDOW, Reference, read_text_lines
from coldchain.bundle.varint import Reader
from coldchain.bundle.window import read_sections, read_window
from coldchain.errors import DigestError, MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits

MAGIC = b"CCD\x01"
TEXT, HASHES, ADDRESSES, EDITED = range(4)


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


def decode_block(
    source: Reader, counts: list[int], reference: Reference, limits: Limits, removed: RemovedLines = lambda _: []
) -> list[list[bytes]]:
    """The lines of a block, section by section; ``source`` holds exactly its schema and columns.

    Args:
        source: the block.
        counts: how many lines each section gets.
        reference: what a text column may refer to, by mode.
        limits: bounds.
        removed: the removed lines of a segment's section, which edited lines are made from.

    Raises:
        MalformedError: columns that do not fit the counts or each other.
    """
    schema = source.varint(EDITED)
    if schema != EDITED:
        lines = _unedited(schema, source, counts, reference, limits)
    else:
        edited, rest = read_edited_lines(source, counts, removed, limits)
        lines = [[] for _ in counts]
        if any(rest):
            lines = _unedited(source.varint(ADDRESSES), source, rest, reference, limits)
        lines = [sorted(a + b) for a, b in zip(lines, edited, strict=True)]
    source.done()
    return lines


def _unedited(
    schema: int, source: Reader, counts: list[int], reference: Reference, limits: Limits
) -> list[list[bytes]]:
    if schema == HASHES:
        return read_hash_lines(source, counts, reference, limits)
    if schema == ADDRESSES:
        return read_address_lines(source, counts, reference, limits)
    flat, unsorted = read_text_lines(source, sum(counts), reference, limits)
    lines, at = [], 0
    for count in counts:
        lines.append(sorted(flat[at : at + count]) if unsorted else flat[at : at + count])
        at += count
    return lines


class _Writer:
    """Counts and hashes what goes into one new section of at most ``most`` bytes."""

    def __init__(self, file: BinaryIO, name: str, most: int) -> None:
        self._file, self._name, self._most = file, name, most
        self.length = 0
        self.digest = hashlib.sha256()

    def __call__(self, data: bytes) -> None:
        self.length += len(data)
        if self.length > self._most:
            raise MalformedError(f"delta: section {self._name}, or the bundle, becomes larger than allowed")
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
        body = Cursor(delta, 0, end)
        magic = body.take(4)
        if magic != MAGIC:
            if magic[:3] == MAGIC[:3] and magic[3] > MAGIC[3]:
                raise NewerFormatError(f"delta format {magic[3]}", todo="install a newer client")
            raise MalformedError("delta: not a delta file")
        description = old.description if old else None
        self.olds = old_sections(description)
        self.header = parse_header(_header(body, names_of(description), limits), description, limits)
        length = body.varint(limits.delta_bytes)
        if length > end - body.at:
            raise MalformedError("delta: ends too early")
        self.sets = [change for change in self.header.changes if change.kind == "set"]
        self.files = [change for change in self.header.changes if change.kind == "file"]
        self.removals = Removals(delta, body.at, body.at + length, self.sets)
        self.body = Cursor(delta, body.at + length, end)
        self.to_come = [change.added for change in self.sets]
        self.next_set = 0
        self.pending: list[list[list[bytes]]] = [[] for _ in self.sets]
        self.room = limits.bundle_bytes - sum(section.bytes for section in self.header.kept)

    def run(self, expected: str) -> BundleDescription:
        sections = []
        for kept in self.header.kept:
            self.new.keep(kept)
            sections.append(kept)
        sections.extend(self._canary(engine) for engine in self.header.canaries)
        sections.extend(self._set(index, change) for index, change in enumerate(self.sets))
        sections.extend(self._file_sections())
        if self.body.at != self.body.end:
            raise MalformedError("delta: bytes after its end")
        self.removals.check_end()
        description = self.header.describe(sections)
        # What is installed is read again by every later update: it must be a bundle.json that this client accepts.
        parse_description(description.encode(), self.limits)
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
        self.room -= len(content)
        kind: Kind = "set" if engine == "clamav" else "file"
        return Section(name, kind, engine, 1, len(content), hashlib.sha256(content).hexdigest())

    def _writer(self, file: BinaryIO, change: Change) -> _Writer:
        return _Writer(file, change.name, min(self.limits.section_bytes, self.room))

    def _open(self, name: str) -> BinaryIO:
        if self.old is None:
            raise MalformedError("delta: a full bundle refers to an old one")
        return self.old.open(name)

    # -- set sections ------------------------------------------------------------------------------------------------

    def _set(self, index: int, change: Change) -> Section:
        removed = Ordinals(self.removals.ordinals(index))
        added = Lines(self._batches(index), f"delta: section {change.name}")
        with self.new.create(change.name) as file:
            write = self._writer(file, change)
            if change.old is None:
                records = 0
                for batch in added.batches():
                    records += len(batch)
                    write(b"\n".join(batch) + b"\n")
            else:
                with self._open(change.name) as old:
                    records = merge_set(old, removed, added, write, f"delta: section {change.name}", self.limits)
        if not records:
            raise MalformedError(f"delta: section {change.name} becomes empty")
        self.room -= write.length
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
        source, sections = Reader(data, "delta: block"), [which for which, _ in segments]
        lines = decode_block(
            source,
            counts,
            lambda mode: self._reference(mode, source, sections),
            self.limits,
            lambda segment: self._removed_lines(sections[segment]),
        )
        for (which, _), part_lines in zip(segments, lines, strict=True):
            if len(max(part_lines, key=len)) > self.limits.line_bytes:
                raise MalformedError("delta: an added record is longer than allowed")
            self.pending[which].append(part_lines)

    def _removed_lines(self, index: int) -> list[bytes]:
        change = self.sets[index]
        if not change.removed:
            return []
        with self._open(change.name) as old:
            return self.removals.lines(index, old, self.limits.zstd_dictionary_bytes, self.limits).split(b"\n")[:-1]

    def _reference(self, mode: int, source: Reader, sections: list[int]) -> bytes:
        """What a block's text may refer to: a window, or the removed lines of the sections it adds to."""
        if mode == WINDOW:
            return self._window(source)
        if mode == OLD_CONTENT:
            olds = [self.sets[index].old for index in sections]
            return read_sections([section for section in olds if section], self._open, self.limits)
        content = bytearray()
        for index in sections:
            change = self.sets[index]
            if change.removed:
                with self._open(change.name) as old:
                    content += self.removals.lines(
                        index, old, self.limits.zstd_dictionary_bytes - len(content), self.limits
                    )
        return bytes(content)

    # -- file sections -----------------------------------------------------------------------------------------------

    def _file_sections(self) -> Iterator[Section]:
        at = 0
        with contextlib.ExitStack() as stack:
            write: _Writer | None = None
            while at < len(self.files):
                for piece in self._group(at):
                    change = self.files[piece.file]
                    data = piece.data
                    if write is None:
                        if change.old is None:
                            change.name, data = self._name(data)
                        write = self._writer(stack.enter_context(self.new.create(change.name)), change)
                    write(data)
                    at = piece.file
                    if not piece.goes_on:
                        stack.pop_all().close()
                        self.room -= write.length
                        yield write.section(change, change.records)
                        write = None
                        at += 1

    def _group(self, first: int) -> list[Piece]:
        source = Reader(self.body.take(self.body.varint(self.limits.delta_block_bytes + (1 << 20))), "delta: files")
        pieces = read_group(source, first, len(self.files), self._old_range, self._window, self.limits)
        source.done()
        return pieces

    def _name(self, data: bytes) -> tuple[str, bytes]:
        name, end, content = data.partition(b"\n")
        if not end:
            raise MalformedError("delta: a file without a name")
        return self.header.take_name(name, self.limits), content

    def _window(self, source: Reader) -> bytes:
        return read_window(source, self.olds, self._open, self.limits)

    def _old_range(self, index: int, start: int, length: int | None) -> bytes:
        section = self.files[index].old
        if section is None:
            return b""
        length = section.bytes if length is None else length
        if length > self.limits.zstd_dictionary_bytes or start + length > section.bytes:
            raise MalformedError("delta: an old range that is not there, or longer than allowed")
        with self._open(section.name) as old:
            old.seek(start)
            return old.read(length)


def _header(body: Cursor, names: bytes, limits: Limits) -> Reader:
    body.file.seek(body.at)
    most = min(body.end - body.at, limits.delta_block_bytes + (1 << 16))
    # A header is short unless a full bundle has many sections: read a little, and more only when its column says so.
    source = Reader(body.file.read(min(most, 1 << 16)), "delta: header")
    try:
        data = read_column(source, limits.delta_block_bytes, names, limits)
    except MalformedError:
        if most <= 1 << 16:
            raise
        body.file.seek(body.at)
        source = Reader(body.file.read(most), "delta: header")
        data = read_column(source, limits.delta_block_bytes, names, limits)
    body.at += source.position
    return Reader(data, "delta: header")
