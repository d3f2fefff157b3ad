"""Blocks of added records: every schema that fits is written, and the smallest that reads back exactly is taken.

The writer's half of :mod:`coldchain.bundle.text_lines`, :mod:`coldchain.bundle.hash_lines` and
:mod:`coldchain.bundle.address_lines`. A *segment* is the part of a block that belongs to one section.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

from coldchain.bundle import address_lines, hash_lines
from coldchain.bundle.delta import ADDRESSES, EDITED, HASHES, TEXT, decode_block
from coldchain.bundle.hash_lines import (
    ANY_SIZE,
    BARE,
    BY_HASH,
    BY_NUMBER,
    BY_TEMPLATE,
    OTHERS,
    SIZE_FIRST,
    TOPS,
    WIDTHS,
)
from coldchain.bundle.rice import encode_gaps
from coldchain.bundle.text_lines import FRONT, NO_REFERENCE, OLD_CONTENT, REMOVED_LINES, REVERSED, WINDOW, front
from coldchain.bundle.varint import Reader, encode_varints, put_varint, zigzag
from coldchain.errors import InternalError, MalformedError
from coldchain.limits import LIMITS
from coldchain_server.deltas.edits import encode_edits, find_edits
from coldchain_server.deltas.pack import WINDOW_BYTES, column, plain_column
from coldchain_server.deltas.windows import Window

Segments = list[list[bytes]]
References = dict[int, bytes]
LARGE = 512 * 1024
MANY = 8192

_RULES: tuple[tuple[int, Callable[[bytes], object]], ...] = (
    (HASHES, hash_lines.LINE.match),
    (HASHES, hash_lines.SIZE_FIRST_LINE.match),
    (HASHES, hash_lines.HEX.match),
    (ADDRESSES, address_lines.LINE.match),
)


def schema_of(lines: list[bytes]) -> int:
    """The schema that suits a section, judged by some of its added records; sections of one schema share blocks."""
    sample = lines[:: max(1, len(lines) // 64)]
    for schema, fits in _RULES:
        if 2 * sum(1 for line in sample if fits(line)) > len(sample):
            return schema
    return TEXT


def encode_block(
    segments: Segments,
    references: References,
    window: Window | None = None,
    model_bytes: int = 0,
    removed: Segments | None = None,
) -> bytes:
    """Schema and columns of a block.

    Args:
        segments: per section its added records, in order.
        references: the content a text column may refer to, by mode; an absent mode is not tried.
        window: the window whose content stands among the references.
        model_bytes: the longest text that may be coded by the text model.
        removed: per section its removed records, where added ones may be edits of them.
    """
    candidates = [_unedited(segments, references, window, model_bytes)]
    if removed and any(removed):
        found = [find_edits(gone, added) for gone, added in zip(removed, segments, strict=True)]
        if any(edits for edits, _ in found):
            rest = [lines for _, lines in found]
            body = bytes([EDITED]) + encode_edits([edits for edits, _ in found])
            form = body + (_unedited(rest, references, window, model_bytes) if any(rest) else b"")
            if _reads_back(form, segments, references, window, removed):
                candidates.append(form)
    return min(candidates, key=len)


def _unedited(segments: Segments, references: References, window: Window | None, model_bytes: int) -> bytes:
    flat = [line for segment in segments for line in segment]
    candidates: list[Iterator[bytes]] = []
    if any(hash_lines.LINE.match(line) for line in flat[:4096]):
        candidates.append(_hashes(segments, references, model_bytes))
    if any(hash_lines.SIZE_FIRST_LINE.match(line) for line in flat[:4096]):
        candidates.append(_hashes(segments, references, model_bytes, SIZE_FIRST))
    if any(hash_lines.HEX.match(line) for line in flat[:4096]):
        candidates.append(_bare_hashes(segments, references, model_bytes))
    if any(address_lines.LINE.match(line) for line in flat[:4096]):
        candidates.append(_addresses(segments, references, model_bytes))
    # Text coders take seconds for a large block, and never come near where lines are hashes.
    texts = _texts(segments, references, window, model_bytes)
    late = len(flat) > MANY and schema_of(flat) == HASHES
    if not late:
        candidates.append(texts)
    forms = sorted((form for found in candidates for form in found), key=len)
    for form in itertools.chain(forms, texts if late else ()):
        if _reads_back(form, segments, references, window, None):
            return form
    raise InternalError("a block of added records has no form that reads back as it was written")


def _reads_back(
    form: bytes, segments: Segments, references: References, window: Window | None, removed: Segments | None
) -> bool:
    """Whether the client makes exactly these lines of a form; one that it refuses or misreads is not used."""
    source = Reader(form, "block")

    def reference(mode: int) -> bytes:
        if mode == WINDOW and window is not None:
            source.take(len(window.head))
        return references[mode]

    counts = [len(segment) for segment in segments]
    try:
        found = decode_block(source, counts, reference, LIMITS, lambda segment: removed[segment] if removed else [])
    except MalformedError:
        return False
    return found == segments


def _texts(segments: Segments, references: References, window: Window | None, model_bytes: int) -> Iterator[bytes]:
    for body in text_forms(segments, references, window, model_bytes):
        yield bytes([TEXT]) + body


def text_forms(
    segments: Segments, references: References, window: Window | None = None, model_bytes: int = 0
) -> Iterator[bytes]:
    """Text lines in every form worth trying."""
    flat = [line for segment in segments for line in segment]
    joined = b"\n".join(flat)
    modes = [(NO_REFERENCE, b"", b"")]
    for mode in (REMOVED_LINES, OLD_CONTENT, WINDOW):
        content = references.get(mode, b"")
        if len(content) >= 8 and len(content) + len(joined) <= WINDOW_BYTES:
            modes.append((mode, window.head if window and mode == WINDOW else b"", content))
    for mode, head, content in modes:
        yield bytes([mode << 2]) + head + column(joined, content, model_bytes)
    if len(flat) < 4:
        return
    arrangements = [(FRONT, flat)]
    if len(joined) <= LARGE:
        ends = [line for segment in segments for line in sorted(line[::-1] for line in segment)]
        arrangements.append((FRONT | REVERSED, ends))
    for form, lines in arrangements:
        lengths, suffixes = front(lines)
        shared = column(encode_varints(lengths))
        rest = b"\n".join(suffixes)
        for mode, head, content in modes:
            if not (form & REVERSED and mode):
                yield bytes([mode << 2 | form]) + shared + head + column(rest, content)


def _smallest_text(segments: Segments, references: References, model_bytes: int) -> bytes:
    without = {mode: text for mode, text in references.items() if mode != WINDOW}
    return min(text_forms(segments, without, None, model_bytes), key=len)


def _split(
    segments: Segments, fits: Callable[[bytes], object], references: References, model_bytes: int
) -> tuple[Segments, bytes, list[list[bytes]]]:
    """Fitting lines, the part that carries the others (empty when there are none), the others."""
    inside = [[line for line in segment if fits(line)] for segment in segments]
    outside = [[line for line in segment if not fits(line)] for segment in segments]
    if not any(outside):
        return inside, b"", outside
    counts = encode_varints([len(lines) for lines in outside])
    return inside, counts + _smallest_text(outside, references, model_bytes), outside


# -- hashes ----------------------------------------------------------------------------------------------------------

_Parsed = tuple[bytes, int, bytes, list[int]]
"""Hash, size, name template, numbers of the name."""


def _widths(found: list[list[int]]) -> list[int]:
    """Each segment's commonest width of a hash in bytes."""
    return [max((16, 20, 32), key=widths.count) for widths in found]


def _hashes(segments: Segments, references: References, model_bytes: int = 0, size_first: int = 0) -> Iterator[bytes]:
    parsed: dict[bytes, _Parsed | None] = {}
    for segment in segments:
        for line in segment:
            parsed[line] = _parse_hash(line, size_first)
    widths = _widths([[len(p[0]) for line in segment if (p := parsed[line])] for segment in segments])
    kept: Segments = []
    for segment, width in zip(segments, widths, strict=True):
        kept.append([line for line in segment if (p := parsed[line]) and len(p[0]) == width])
    others = _others(segments, kept, references, model_bytes)
    if not any(kept):
        return
    records = [[p for line in segment if (p := parsed[line])] for segment in kept]
    for order in _orders(records):
        ordered = [_ordered(segment, order) for segment in records]
        flat = [record for segment in ordered for record in segment]
        names = _name_columns(flat, order)
        for head, columns in _hash_columns([[r[0] for r in segment] for segment in ordered], widths, order == BY_HASH):
            yield (
                bytes([HASHES, order | size_first | head[0] | (OTHERS if others else 0)])
                + head[1:]
                + others
                + (columns + names)
            )


def _orders(records: list[list[_Parsed]]) -> list[int]:
    """The orders worth writing out: all for a small block, for a large one that which is best for some of its names."""
    orders = [BY_HASH, BY_TEMPLATE, BY_NUMBER]
    flat = [record for segment in records for record in segment]
    if len(flat) <= MANY:
        return orders
    some = flat[:: len(flat) // 2048]

    def length(order: int) -> float:
        saved = len(some) * math.log2(len(some)) / 8 if order == BY_HASH else 0  # what tops save
        return len(_name_columns(_ordered(some, order), order)) - saved

    return [min(orders, key=length)]


def _others(segments: Segments, kept: Segments, references: References, model_bytes: int) -> bytes:
    """The part that carries the lines that are not kept; empty when there are none."""
    outside = [
        [line for line in segment if line not in inside]
        for segment, inside in zip(segments, map(set, kept), strict=True)
    ]
    if not any(outside):
        return b""
    return encode_varints([len(lines) for lines in outside]) + _smallest_text(outside, references, model_bytes)


def _parse_hash(line: bytes, size_first: int) -> _Parsed | None:
    found = (hash_lines.SIZE_FIRST_LINE if size_first else hash_lines.LINE).match(line)
    if not found:
        return None
    name, numbers = hash_lines.template(found[3])
    digest, size = (found[2], found[1]) if size_first else (found[1], found[2])
    return bytes.fromhex(digest.decode()), ANY_SIZE if size == b"*" else int(size), name, numbers


def _ordered(segment: list[_Parsed], order: int) -> list[_Parsed]:
    if order == BY_TEMPLATE:
        tally: dict[bytes, int] = {}
        for record in segment:
            tally[record[2]] = tally.get(record[2], 0) + 1
        names = sorted(tally, key=lambda name: (-tally[name], name))
        rank = {name: place for place, name in enumerate(names)}
        return sorted(segment, key=lambda r: (rank[r[2]], r[3], r[0]))
    if order == BY_NUMBER:
        return sorted(segment, key=lambda r: (r[3], r[2], r[0]))
    return sorted(segment)


def _hash_columns(segments: list[list[bytes]], widths: list[int], by_hash: bool) -> Iterator[tuple[bytes, bytes]]:
    """(flags and widths, columns) of the hashes: plain, and with tops where they ascend."""
    same = len(set(widths)) == 1
    written = bytes(widths[:1] if same else widths)
    flags = 0 if same else WIDTHS
    hashes = [digest for segment in segments for digest in segment]
    yield bytes([flags]) + written, plain_column(b"".join(hashes))
    if not by_hash:
        return
    gaps: list[int] = []
    for segment in segments:
        last = 0
        for digest in segment:
            top = int.from_bytes(digest[:4], "big")
            gaps.append(top - last)
            last = top
    packed = encode_gaps(gaps)
    out = bytearray()
    put_varint(out, len(packed))
    yield (
        bytes([flags | TOPS]) + written,
        bytes(out) + packed + plain_column(b"".join([digest[4:] for digest in hashes])),
    )


def _name_columns(records: list[_Parsed], order: int) -> bytes:
    rank: dict[bytes, int] = {}
    for record in records:
        rank.setdefault(record[2], len(rank))
    index = [rank[record[2]] for record in records]
    if len(rank) > 65_535:
        return bytes(1 << 25)  # longer than any other form: too many templates for two bytes
    out = column(b"\n".join(rank))
    out += _planes(index, 2)
    firsts, more = bytearray(), bytearray()
    last, last_index = 0, -1
    for record, at in zip(records, index, strict=True):
        if record[3]:
            if order == BY_TEMPLATE and at != last_index:
                last = 0
            put_varint(firsts, zigzag(record[3][0] - last))
            last, last_index = record[3][0], at
            for number in record[3][1:]:
                put_varint(more, number)
    out += column(bytes(firsts)) + column(bytes(more))
    return out + _planes([record[1] for record in records], 4)


def _planes(values: list[int], count: int) -> bytes:
    out = b""
    for shift in range(0, 8 * count, 8):
        plane = bytes([value >> shift & 255 for value in values])
        out += column(plane if any(plane) else b"")
    return out


def _bare_hashes(segments: Segments, references: References, model_bytes: int = 0) -> Iterator[bytes]:
    bare = [[line for line in segment if hash_lines.HEX.match(line)] for segment in segments]
    widths = _widths([[len(line) // 2 for line in segment] for segment in bare])
    kept = [[line for line in lines if len(line) == 2 * width] for lines, width in zip(bare, widths, strict=True)]
    if not any(kept):
        return
    others = _others(segments, kept, references, model_bytes)
    hashes = [[bytes.fromhex(line.decode()) for line in lines] for lines in kept]
    for head, columns in _hash_columns(hashes, widths, True):
        yield bytes([HASHES, BY_HASH | BARE | head[0] | (OTHERS if others else 0)]) + head[1:] + others + columns


# -- addresses -------------------------------------------------------------------------------------------------------


def _addresses(segments: Segments, references: References, model_bytes: int = 0) -> Iterator[bytes]:
    parsed: dict[bytes, tuple[int, int, bytes] | None] = {}
    for segment in segments:
        for line in segment:
            parsed[line] = address_lines.parse_address(line)
    inside, texts, _ = _split(segments, lambda line: parsed[line] is not None, references, model_bytes)
    gaps: list[int] = []
    ports: list[int] = []
    tails: dict[bytes, int] = {}
    index: list[int] = []
    for segment in inside:
        last = 0
        for address, port, tail in sorted(found for line in segment if (found := parsed[line])):
            gaps.append(address - last)
            last = address
            ports.append(port)
            index.append(tails.setdefault(tail, len(tails)))
    if not gaps:
        return
    flags = (address_lines.TEXTS if texts else 0) | (address_lines.PORTS if any(ports) else 0)
    tailed = list(tails) != [b""]
    packed = encode_gaps(gaps)
    out = bytearray([ADDRESSES, flags | (address_lines.TAILS if tailed else 0)])
    out += texts
    put_varint(out, len(packed))
    out += packed
    if any(ports):
        out += column(bytes([port & 255 for port in ports])) + column(bytes([port >> 8 for port in ports]))
    if tailed:
        out += column(b"\n".join(tails)) + column(encode_varints(index))
    yield bytes(out)
