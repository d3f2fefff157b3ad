"""Blocks of added records: every schema that fits is written, and the smallest that reads back exactly is taken.

The writer's half of :mod:`coldchain.bundle.text_lines`, :mod:`coldchain.bundle.hash_lines` and
:mod:`coldchain.bundle.address_lines`. A *segment* is the part of a block that belongs to one section.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from coldchain.bundle import address_lines, hash_lines
from coldchain.bundle.delta import ADDRESSES, HASHES, TEXT, decode_block
from coldchain.bundle.hash_lines import AS_STORED, BARE, BY_NUMBER, BY_TEMPLATE, OTHERS
from coldchain.bundle.rice import encode_ascending, encode_gaps
from coldchain.bundle.text_lines import FRONT, NO_REFERENCE, OLD_CONTENT, REMOVED_LINES, REVERSED, WINDOW, front
from coldchain.bundle.varint import Reader, encode_varints, put_varint, zigzag
from coldchain.errors import InternalError, MalformedError
from coldchain.limits import LIMITS
from coldchain_server.deltas.pack import WINDOW_BYTES, column, plain_column
from coldchain_server.deltas.windows import Window

Segments = list[list[bytes]]
References = dict[int, bytes]
LARGE = 512 * 1024

_RULES: tuple[tuple[int, Callable[[bytes], object]], ...] = (
    (HASHES, hash_lines.LINE.match),
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


def encode_block(segments: Segments, references: References, window: Window | None = None) -> bytes:
    """Schema and columns of a block.

    Args:
        segments: per section its added records, in order.
        references: the content a text column may refer to, by mode; an absent mode is not tried.
        window: the window whose content stands among the references.
    """
    flat = [line for segment in segments for line in segment]
    candidates = [_texts(segments, references, window)]
    if any(hash_lines.LINE.match(line) for line in flat[:4096]):
        candidates.append(_hashes(segments, references))
    if any(hash_lines.HEX.match(line) for line in flat[:4096]):
        candidates.append(_bare_hashes(segments, references))
    if any(address_lines.LINE.match(line) for line in flat[:4096]):
        candidates.append(_addresses(segments, references))
    for form in sorted((form for found in candidates for form in found), key=len):
        if _reads_back(form, segments, references, window):
            return form
    raise InternalError("a block of added records has no form that reads back as it was written")


def _reads_back(form: bytes, segments: Segments, references: References, window: Window | None) -> bool:
    """Whether the client makes exactly these lines of a form; one that it refuses or misreads is not used."""
    source = Reader(form, "block")

    def reference(mode: int) -> bytes:
        if mode == WINDOW and window is not None:
            source.take(len(window.head))
        return references[mode]

    try:
        return decode_block(source, [len(segment) for segment in segments], reference, LIMITS) == segments
    except MalformedError:
        return False


def _texts(segments: Segments, references: References, window: Window | None) -> Iterator[bytes]:
    for body in text_forms(segments, references, window):
        yield bytes([TEXT]) + body


def text_forms(segments: Segments, references: References, window: Window | None = None) -> Iterator[bytes]:
    """Text lines in every form worth trying."""
    flat = [line for segment in segments for line in segment]
    joined = b"\n".join(flat)
    modes = [(NO_REFERENCE, b"", b"")]
    for mode in (REMOVED_LINES, OLD_CONTENT, WINDOW):
        content = references.get(mode, b"")
        if len(content) >= 8 and len(content) + len(joined) <= WINDOW_BYTES:
            modes.append((mode, window.head if window and mode == WINDOW else b"", content))
    for mode, head, content in modes:
        yield bytes([mode << 2]) + head + column(joined, content)
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


def _smallest_text(segments: Segments, references: References) -> bytes:
    return min(text_forms(segments, {mode: text for mode, text in references.items() if mode != WINDOW}), key=len)


def _split(
    segments: Segments, fits: Callable[[bytes], object], references: References
) -> tuple[Segments, bytes, list[list[bytes]]]:
    """Fitting lines, the part that carries the others (empty when there are none), the others."""
    inside = [[line for line in segment if fits(line)] for segment in segments]
    outside = [[line for line in segment if not fits(line)] for segment in segments]
    if not any(outside):
        return inside, b"", outside
    counts = encode_varints([len(lines) for lines in outside])
    return inside, counts + _smallest_text(outside, references), outside


# -- hashes ----------------------------------------------------------------------------------------------------------

_Parsed = tuple[bytes, int, bytes, list[int]]
"""Hash, size, name template, numbers of the name."""


def _commonest_width(flat: list[bytes], parts: int) -> int:
    widths = [line.find(b":") if parts > 1 else len(line) for line in flat]
    return max((32, 40, 64), key=widths.count)


def _hashes(segments: Segments, references: References) -> Iterator[bytes]:
    flat = [line for segment in segments for line in segment]
    width = _commonest_width(flat, 3)
    cache: dict[bytes, _Parsed | None] = {}
    for line in flat:
        cache[line] = _parse_hash(line, width)
    inside, others, _ = _split(segments, cache.get, references)
    if not any(inside):
        return
    size = width // 2
    parsed: list[list[_Parsed]] = [[p for line in segment if (p := cache[line])] for segment in inside]
    for order in (AS_STORED, BY_TEMPLATE, BY_NUMBER):
        records = _ordered(parsed, order)
        flags = order | (OTHERS if others else 0)
        head = bytes([HASHES, flags, size]) + others
        tops = order == AS_STORED and len(segments) == 1
        yield head + _hash_columns([r[0] for r in records], tops) + _name_columns(records, order)


def _parse_hash(line: bytes, width: int) -> _Parsed | None:
    found = hash_lines.LINE.match(line)
    if not found or len(found[1]) != width:
        return None
    name, numbers = hash_lines.template(found[3])
    return bytes.fromhex(found[1].decode()), int(found[2]), name, numbers


def _ordered(parsed: list[list[_Parsed]], order: int) -> list[_Parsed]:
    if order == BY_TEMPLATE:
        rank: dict[bytes, int] = {}
        tally: dict[bytes, int] = {}
        for segment in parsed:
            for record in segment:
                tally[record[2]] = tally.get(record[2], 0) + 1
        for name in sorted(tally, key=lambda name: (-tally[name], name)):
            rank[name] = len(rank)
        return [r for segment in parsed for r in sorted(segment, key=lambda r: (rank[r[2]], r[3], r[0]))]
    if order == BY_NUMBER:
        return [r for segment in parsed for r in sorted(segment, key=lambda r: (r[3], r[2], r[0]))]
    return [r for segment in parsed for r in segment]


def _hash_columns(hashes: list[bytes], tops: bool) -> bytes:
    if not tops:
        return plain_column(b"".join(hashes))
    gaps = encode_ascending([int.from_bytes(digest[:4], "big") for digest in hashes], strict=False)
    out = bytearray()
    put_varint(out, len(gaps))
    return bytes(out) + gaps + plain_column(b"".join(digest[4:] for digest in hashes))


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


def _bare_hashes(segments: Segments, references: References) -> Iterator[bytes]:
    flat = [line for segment in segments for line in segment]
    width = _commonest_width(flat, 1)
    inside, others, _ = _split(
        segments, lambda line: len(line) == width and hash_lines.HEX.match(line) is not None, references
    )
    if not any(inside):
        return
    hashes = [bytes.fromhex(line.decode()) for segment in inside for line in segment]
    head = bytes([HASHES, AS_STORED | BARE | (OTHERS if others else 0), width // 2]) + others
    yield head + _hash_columns(hashes, len(segments) == 1)


# -- addresses -------------------------------------------------------------------------------------------------------


def _addresses(segments: Segments, references: References) -> Iterator[bytes]:
    parsed: dict[bytes, tuple[int, int, bytes] | None] = {}
    for segment in segments:
        for line in segment:
            parsed[line] = address_lines.parse_address(line)
    inside, texts, _ = _split(segments, lambda line: parsed[line] is not None, references)
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
