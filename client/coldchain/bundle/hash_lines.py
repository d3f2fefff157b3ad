r"""Hash lines of a block, ``<hex>:<size>:<name>`` or ``<size>:<hex>:<name>``, and bare hashes, in columns.

``varint flags``: bits 0-1 the order of a segment's lines (0 by hash, 1 by name template and numbers, 2 by the numbers), 4 bare hashes
(no size, no name), 8 there are *other lines*, 16 *tops*, 32 each segment has hashes of its own width, 64 the size stands first. Then::

    widths    varint bytes of one hash (16, 20 or 32), with 32: one per segment
    other     only with 8: per segment a varint, how many other lines; then those lines as text lines
    tops      only with 16 (and order 0): varint length, Rice-coded gaps of the hashes' first four bytes, anew for each segment
    hashes    column: the hashes (without their first four bytes where *tops* stands)
    -- and unless bare --
    names     column: name templates joined by LF; a template is a name with each number replaced by 01
    index 0,1 columns: low and high bytes of each record's template index (an empty column: all zero)
    numbers   column: zigzag varints, the first number of each name less that of the record before (order 1: of the same template)
    more      column: varints, the further numbers
    size 0-3  columns: the sizes' bytes, lowest first (an empty column: all zero); 2**32 - 1 is the size ``*``

Worked example: ``…:68:Win.Trojan.Agent-1234567-0`` has template ``Win.Trojan.Agent-\x01-\x01`` and numbers 1234567, 0.
A number is a run of digits without leading zero, at most 15 long, so that printing it gives the same digits.
"""

from __future__ import annotations

import re
from itertools import accumulate

from coldchain.bundle.columns import read_column
from coldchain.bundle.rice import decode_gaps
from coldchain.bundle.text_lines import Reference, read_text_lines
from coldchain.bundle.varint import Reader, unzigzag
from coldchain.errors import MalformedError
from coldchain.limits import Limits

BY_HASH, BY_TEMPLATE, BY_NUMBER = range(3)
BARE, OTHERS, TOPS, WIDTHS, SIZE_FIRST = 4, 8, 16, 32, 64
ANY_SIZE = 2**32 - 1
MARK = b"\x01"
HASH_BYTES = (16, 20, 32)

_HASH = rb"([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})"
_SIZE = rb"(0|[1-9][0-9]{0,8}|\*)"
LINE = re.compile(_HASH + b":" + _SIZE + rb":([^\n\x01]+)\Z")
SIZE_FIRST_LINE = re.compile(_SIZE + b":" + _HASH + rb":([^\n\x01]+)\Z")
HEX = re.compile(rb"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})\Z")
NUMBER = re.compile(rb"(?<![0-9])(?:0|[1-9][0-9]{0,14})(?![0-9])")


def template(name: bytes) -> tuple[bytes, list[int]]:
    """A name's template and its numbers."""
    numbers = NUMBER.findall(name)
    return NUMBER.sub(MARK, name) if numbers else name, [int(number) for number in numbers]


def planes(data: list[bytes], count: int) -> list[int]:
    """Integers from byte planes, lowest first."""
    joined = bytearray(8 * count)
    for i, plane in enumerate(data):
        if plane:
            joined[i::8] = plane
    view = memoryview(joined).cast("Q") if count else memoryview(b"")
    return list(view)


def _read_plane(source: Reader, count: int, limits: Limits) -> bytes:
    plane = read_column(source, count, limits=limits)
    if len(plane) not in (0, count):
        raise MalformedError(f"{source.what}: a column of {len(plane)} bytes for {count} records")
    return plane


def read_hash_lines(source: Reader, segments: list[int], reference: Reference, limits: Limits) -> list[list[bytes]]:
    """The lines of each segment, in the section's order.

    Raises:
        MalformedError: columns that do not fit each other.
    """
    flags = source.varint(127)
    order = flags & 3
    if order > BY_NUMBER or (flags & TOPS and order) or (flags & BARE and (order or flags & SIZE_FIRST)):
        raise MalformedError(f"{source.what}: unknown form of hash lines")
    widths = [source.varint(32) for _ in (segments if flags & WIDTHS else range(1))]
    if any(width not in HASH_BYTES for width in widths):
        raise MalformedError(f"{source.what}: hashes of an unknown width")
    if not flags & WIDTHS:
        widths *= len(segments)
    counts, others = _read_others(source, segments, flags, reference, limits)
    hashes = _read_hashes(source, counts, widths, tops=bool(flags & TOPS), limits=limits)
    records = hashes if flags & BARE else _named(source, hashes, flags, limits)
    out, at = [], 0
    for found, other in zip(counts, others, strict=True):
        lines = records[at : at + found] + other
        at += found
        if order or other or flags & SIZE_FIRST:
            lines.sort()
        out.append(lines)
    return out


def _read_others(
    source: Reader, segments: list[int], flags: int, reference: Reference, limits: Limits
) -> tuple[list[int], list[list[bytes]]]:
    if not flags & OTHERS:
        return segments, [[] for _ in segments]
    numbers = [source.varint(segment) for segment in segments]
    lines, _ = read_text_lines(source, sum(numbers), reference, limits)
    others, at = [], 0
    for number in numbers:
        others.append(lines[at : at + number])
        at += number
    return [segment - number for segment, number in zip(segments, numbers, strict=True)], others


def _read_hashes(source: Reader, counts: list[int], widths: list[int], *, tops: bool, limits: Limits) -> list[bytes]:
    total = sum(counts)
    gaps: list[int] = []
    if tops:
        gaps = decode_gaps(source.take(source.varint(16 * total + 16)), total, source.what)
        widths = [width - 4 for width in widths]
    length = sum(count * width for count, width in zip(counts, widths, strict=True))
    body = read_column(source, length, limits=limits)
    if len(body) != length:
        raise MalformedError(f"{source.what}: {len(body)} bytes of hashes for {total} records")
    text = body.hex().encode()
    out: list[bytes] = []
    at = 0
    for count, width in zip(counts, widths, strict=True):
        wide = 2 * width
        rests = [text[at + i * wide : at + i * wide + wide] for i in range(count)]
        at += count * wide
        if tops:
            firsts = list(accumulate(gaps[len(out) : len(out) + count]))
            if firsts and firsts[-1] >= 1 << 32:
                raise MalformedError(f"{source.what}: hashes beyond the last one")
            rests = [b"%08x" % first + rest for first, rest in zip(firsts, rests, strict=True)]
        out += rests
    return out


def _read_templates(source: Reader, count: int, limits: Limits) -> list[list[bytes]]:
    """Name templates, cut at their numbers; counted before they are cut, since every piece costs more than its bytes."""
    text = read_column(source, limits.delta_block_bytes, limits=limits)
    if text.count(b"\n") >= max(count, 1) or text.count(MARK) > limits.delta_block_bytes // 8:
        raise MalformedError(f"{source.what}: more name templates than records, or more numbers than allowed")
    names = text.split(b"\n")
    if max(name.count(MARK) for name in names) > limits.line_bytes // 2:
        raise MalformedError(f"{source.what}: a name of more numbers than allowed")
    return [name.split(MARK) for name in names]


def _named(source: Reader, hashes: list[bytes], flags: int, limits: Limits) -> list[bytes]:
    count = len(hashes)
    templates = _read_templates(source, count, limits)
    index = planes([_read_plane(source, count, limits) for _ in range(2)], count)
    if index and max(index) >= len(templates):
        raise MalformedError(f"{source.what}: a name template that is not there")
    firsts = Reader(read_column(source, 10 * count, limits=limits), source.what)
    more = Reader(read_column(source, limits.delta_block_bytes, limits=limits), source.what)
    sizes = planes([_read_plane(source, count, limits) for _ in range(4)], count)
    order, form = flags & 3, b"%b:%b:%b"
    lines = []
    last, last_index, total = 0, -1, 0
    for digest, at, length in zip(hashes, index, sizes, strict=True):
        parts = templates[at]
        if len(parts) == 1:
            name = parts[0]
        else:
            if order == BY_TEMPLATE and at != last_index:
                last = 0
            last += unzigzag(firsts.varint())
            if last < 0:
                raise MalformedError(f"{source.what}: a number below zero in a name")
            last_index = at
            if len(parts) == 2:
                name = b"%b%d%b" % (parts[0], last, parts[1])
            else:
                pieces = [b"%b%d%b" % (parts[0], last, parts[1])]
                pieces.extend(b"%d%b" % (more.varint(), part) for part in parts[2:])
                name = b"".join(pieces)
        total += len(name)
        if total > limits.delta_block_bytes:
            raise MalformedError(f"{source.what}: the names of a block are longer than allowed")
        size = b"%d" % length if length != ANY_SIZE else b"*"
        lines.append(form % ((size, digest, name) if flags & SIZE_FIRST else (digest, size, name)))
    firsts.done()
    more.done()
    return lines
