"""Writes a ``.ccd``: the server's half of :mod:`coldchain.bundle.delta`, which holds the format.

Changed records come from the change, sections that come as a whole from the content store, block by block, so that memory stays
flat also for a full bundle of millions of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from coldchain.bundle.canary import canary_section
from coldchain.bundle.delta import MAGIC, TEXT
from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.header import (
    ADDED,
    CANARIES,
    CHANGED,
    CLAMAV_CANARY,
    END,
    ENGINES,
    FULL,
    KINDS,
    REMOVED,
    YARA_CANARY,
    names_of,
)
from coldchain.bundle.removals import CHUNK
from coldchain.bundle.rice import encode_ascending
from coldchain.bundle.text_lines import OLD_CONTENT, REMOVED_LINES, WINDOW
from coldchain.bundle.varint import put_varint, zigzag
from coldchain.errors import StateError
from coldchain_server.deltas.blocks import References, encode_block, schema_of
from coldchain_server.deltas.changes import BundleChange, ContentStore
from coldchain_server.deltas.encoded import encoded_anew
from coldchain_server.deltas.pack import column, model_budget
from coldchain_server.deltas.pieces import NewPiece, cut, encode_group, group
from coldchain_server.deltas.windows import Window, Windows

BLOCK_RECORDS = 32_768
BLOCK_BYTES = 2 << 20
SHARED_OLD_BYTES = 3 << 20
WINDOWED_BYTES = 256 * 1024
EDITED_BYTES = 4 << 20
Pair = tuple[Section | None, Section | None]
Parts = Callable[[Iterable[bytes], Callable[[], bytes]], bytes]
"""Where encoded parts come from: :mod:`coldchain_server.deltas.encoded`."""


@dataclass(frozen=True, slots=True)
class DeltaStats:
    """What a delta spends its bytes on."""

    length: int
    header: int
    removed: int
    blocks: int
    files: int


def encode_delta(
    change: BundleChange, content: ContentStore, out: BinaryIO, encoded: Parts = encoded_anew
) -> DeltaStats:
    """Writes the delta of ``change`` (the full bundle where it comes from nothing) to ``out``.

    Args:
        change: from which bundle to which.
        content: finds their sections.
        out: takes the file.
        encoded: keeps encoded parts for other regions and releases; by default none are kept.

    Raises:
        StateError: the change goes between different products, regions or channels, or not forward.
    """
    pairs = [pair for pair in change.pairs() if _name(pair) not in CANARIES]
    model_bytes = model_budget(len(change.new.sections), change.new.total_bytes)
    header = column(_header(change, pairs), names_of(change.old), model_bytes)
    removed = _removed(change, pairs)
    length = bytearray()
    put_varint(length, len(removed))
    out.write(MAGIC + header + length + removed)
    windows = Windows(change.old, content)
    blocks = sum(
        _write(out, _counted(count, body))
        for count, body in _blocks(change, pairs, content, windows, model_bytes, encoded)
    )
    files = sum(_write(out, _counted(None, body)) for body in _groups(pairs, content, windows, model_bytes, encoded))
    head = len(MAGIC) + len(header) + len(length)
    return DeltaStats(head + len(removed) + blocks + files, head, len(removed), blocks, files)


def _write(out: BinaryIO, data: bytes) -> int:
    out.write(data)
    return len(data)


def _counted(count: int | None, body: bytes) -> bytes:
    head = bytearray()
    if count is not None:
        put_varint(head, count)
    put_varint(head, len(body))
    return bytes(head) + body


def _name(pair: Pair) -> str:
    section = pair[0] or pair[1]
    assert section is not None
    return section.name


# -- header ----------------------------------------------------------------------------------------------------------


def _header(change: BundleChange, pairs: list[Pair]) -> bytes:
    old, new = change.old, change.new
    out = bytearray()
    put_varint(out, (0 if old else FULL) | _canary_flags(new))
    if old is None:
        for word in (new.product, new.region, new.channel):
            put_varint(out, len(word))
            out += word.encode()
        put_varint(out, new.release)
    else:
        same = (old.product, old.region, old.channel) == (new.product, new.region, new.channel)
        if not same or new.release <= old.release:
            raise StateError(f"no delta leads from {old.region} {old.release} to {new.region} {new.release}")
        put_varint(out, new.release - old.release - 1)
    _steps(out, change, pairs)
    return bytes(out)


def _canary_flags(new: BundleDescription) -> int:
    flags = 0
    for engine, flag in ((ENGINES[0], CLAMAV_CANARY), (ENGINES[1], YARA_CANARY)):
        made = canary_section(engine, new.product, new.region, new.channel, new.release)
        assert made is not None
        if new.section(made[0]):
            flags |= flag
    return flags


def _steps(out: bytearray, change: BundleChange, pairs: list[Pair]) -> None:
    skip = 0
    last = b""
    for old, new in pairs:
        if old and new and old.sha256 == new.sha256 and old.records == new.records:
            skip += 1
            continue
        step = CHANGED if old and new else REMOVED if old else ADDED
        put_varint(out, skip << 2 | step)
        skip = 0
        if step == CHANGED:
            assert old is not None
            assert new is not None
            if new.kind == "set":
                found = change.sets[new.name]
                put_varint(out, len(found.removed))
                put_varint(out, len(found.added))
            else:
                put_varint(out, zigzag(new.records - old.records))
        elif step == ADDED:
            assert new is not None
            put_varint(out, ENGINES.index(new.engine) << 1 | KINDS.index(new.kind))
            if new.kind == "set":
                name = new.name.encode()
                shared = next(
                    (i for i, (a, b) in enumerate(zip(last, name, strict=False)) if a != b), min(len(last), len(name))
                )
                put_varint(out, shared)
                put_varint(out, len(name) - shared)
                out += name[shared:]
                last = name
            put_varint(out, new.records)
    put_varint(out, END)


# -- set sections ----------------------------------------------------------------------------------------------------


def _removed(change: BundleChange, pairs: list[Pair]) -> bytes:
    out = bytearray()
    for old, new in pairs:
        if not (old and new and new.kind == "set" and old.sha256 != new.sha256):
            continue
        ordinals = [ordinal for ordinal, _ in change.sets[new.name].removed]
        base = 0
        for start in range(0, len(ordinals), CHUNK):
            chunk = ordinals[start : start + CHUNK]
            packed = encode_ascending([ordinal - base for ordinal in chunk])
            put_varint(out, len(packed))
            out += packed
            base = chunk[-1] + 1
    return bytes(out)


@dataclass(slots=True)
class _Part:
    """Some added records of one section."""

    name: str
    old: Section | None
    lines: list[bytes]
    removed: list[bytes]


def _parts(change: BundleChange, pairs: list[Pair], content: ContentStore) -> Iterator[_Part]:
    for old, new in pairs:
        if new is None or new.kind != "set" or (old and old.sha256 == new.sha256):
            continue
        if old is None:
            for lines in _lines_of(content, new):
                yield _Part(new.name, None, lines, [])
            continue
        found = change.sets[new.name]
        removed = [line for _, line in found.removed]
        added = [line for _, line in found.added]
        for lines in _cut(added):
            yield _Part(new.name, old, lines, removed)


def _cut(lines: list[bytes]) -> Iterator[list[bytes]]:
    start = size = 0
    for i, line in enumerate(lines):
        if i > start and (i - start >= BLOCK_RECORDS or size + len(line) > BLOCK_BYTES):
            yield lines[start:i]
            start, size = i, 0
        size += len(line) + 1
    if start < len(lines):
        yield lines[start:]


def _lines_of(content: ContentStore, section: Section) -> Iterator[list[bytes]]:
    with content(section.sha256).open("rb") as file:
        carry = b""
        while data := file.read(BLOCK_BYTES):
            data = carry + data
            end = data.rfind(b"\n") + 1
            carry = data[end:]
            lines = data[:end].split(b"\n")
            lines.pop()
            yield from _cut(lines)


def _blocks(
    change: BundleChange,
    pairs: list[Pair],
    content: ContentStore,
    windows: Windows,
    model_bytes: int,
    encoded: Parts,
) -> Iterator[tuple[int, bytes]]:
    gathered: list[_Part] = []
    schema = count = size = old_size = 0
    for part in _parts(change, pairs, content):
        part_schema = schema_of(part.lines)
        part_size = sum(map(len, part.lines)) + len(part.lines)
        part_old = part.old.bytes if part.old else 0
        full = count + len(part.lines) > BLOCK_RECORDS or size + part_size > BLOCK_BYTES
        if gathered and (full or part_schema != schema or old_size + part_old > SHARED_OLD_BYTES):
            yield count, _block(gathered, schema, content, windows, model_bytes, encoded)
            gathered, count, size, old_size = [], 0, 0, 0
        if gathered and gathered[-1].name == part.name:
            gathered[-1].lines = gathered[-1].lines + part.lines
            old_size -= part_old
        else:
            gathered.append(part)
        schema = part_schema
        count += len(part.lines)
        size += part_size
        old_size += part_old
    if gathered:
        yield count, _block(gathered, schema, content, windows, model_bytes, encoded)


def _block(
    parts: list[_Part], schema: int, content: ContentStore, windows: Windows, model_bytes: int, encoded: Parts
) -> bytes:
    segments = [part.lines for part in parts]
    references, window = _references(parts, schema, content, windows)
    few = sum(len(line) for part in parts for line in part.removed) <= EDITED_BYTES
    removed = [part.removed for part in parts] if few else None

    def inputs() -> Iterator[bytes]:
        yield b"block %d" % model_bytes
        for lines in segments:
            yield b"\n".join(lines)
        for lines in removed or ():
            yield b"\n".join(lines)
        for mode, reference in sorted(references.items()):
            yield bytes([mode])
            yield reference
        yield window.head if window else b""

    return encoded(inputs(), lambda: encode_block(segments, references, window, model_bytes, removed))


def _references(
    parts: list[_Part], schema: int, content: ContentStore, windows: Windows
) -> tuple[References, Window | None]:
    olds = [part.old for part in parts if part.old]
    references: References = {}
    if olds:
        references[REMOVED_LINES] = b"".join(line + b"\n" for part in parts for line in part.removed)
        if sum(old.bytes for old in olds) <= SHARED_OLD_BYTES:
            references[OLD_CONTENT] = b"".join(content(old.sha256).read_bytes() for old in olds)
    window = None
    if schema == TEXT and sum(len(line) for part in parts for line in part.lines) <= WINDOWED_BYTES:
        window = windows.near("set", [part.name for part in parts])
        if window and window.content != references.get(OLD_CONTENT):
            references[WINDOW] = window.content
    return references, window


# -- file sections ---------------------------------------------------------------------------------------------------


def _groups(
    pairs: list[Pair], content: ContentStore, windows: Windows, model_bytes: int, encoded: Parts
) -> Iterator[bytes]:
    for pieces in group(_pieces(pairs, content)):
        yield _group(pieces, windows.near("file", [piece.name for piece in pieces]), model_bytes, encoded)


def _group(pieces: list[NewPiece], window: Window | None, model_bytes: int, encoded: Parts) -> bytes:
    def inputs() -> Iterator[bytes]:
        yield b"group %d" % model_bytes
        for piece in pieces:
            yield piece.data
            yield piece.old
            yield f"{piece.goes_on} {piece.range}".encode()
        yield b"window" if window else b""
        yield window.head if window else b""
        yield window.content if window else b""

    return encoded(inputs(), lambda: encode_group(pieces, window, model_bytes))


def _pieces(pairs: list[Pair], content: ContentStore) -> Iterator[NewPiece]:
    for old, new in pairs:
        if new is None or new.kind != "file" or (old and old.sha256 == new.sha256 and old.records == new.records):
            continue
        before = content(old.sha256).read_bytes() if old else None
        yield from cut(new.name, content(new.sha256).read_bytes(), before)
