r"""Indicator lines of a block: IPv4 addresses in binary, everything else as text.

A line is an *address line* when it is ``a.b.c.d`` or ``a.b.c.d:port``, alone or before one of TAB, comma, semicolon or blank and
a *tail* (a family, a count). ``varint flags``: bit 0 there are other lines, bit 1 some address has a port, bit 2 some line has a
tail. Then::

    counts    only with bit 0: per segment a varint, how many lines are text; then those lines as text lines
    gaps      varint length, Rice-coded gaps between the addresses as numbers, which ascend within a segment; a
              segment's first gap is its first address
    ports     columns: low and high bytes (0: no port)
    tails     column: distinct tails with their separator, joined by LF, the first may be empty; column: varints, index of each

Worked example: ``10.0.0.1`` and ``10.0.0.3:80`` have addresses 167772161 and 167772163, so gaps 167772161 and 2; ports 0 and 80.
"""

from __future__ import annotations

import re

from coldchain.bundle.columns import read_column
from coldchain.bundle.rice import decode_gaps
from coldchain.bundle.text_lines import Reference, read_text_lines
from coldchain.bundle.varint import Reader
from coldchain.errors import MalformedError
from coldchain.limits import Limits

TEXTS, PORTS, TAILS = 1, 2, 4

_NUMBER = rb"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9][0-9]|[0-9])"
LINE = re.compile(rb"\.".join([_NUMBER] * 4) + rb"(?::([1-9][0-9]{0,4}))?((?:[\t,; ][^\n]*)?)\Z")


def parse_address(line: bytes) -> tuple[int, int, bytes] | None:
    """(address, port or 0, tail) of an address line in the one spelling that is written back, or None."""
    found = LINE.match(line)
    if not found:
        return None
    a, b, c, d, port, tail = found.groups()
    number = int(port) if port else 0
    if number > 65535:
        return None
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d), number, tail


def read_address_lines(source: Reader, segments: list[int], reference: Reference, limits: Limits) -> list[list[bytes]]:
    """The lines of each segment, in the section's order.

    Raises:
        MalformedError: columns that do not fit each other.
    """
    flags = source.varint(7)
    texts = [source.varint(segment) for segment in segments] if flags & TEXTS else [0] * len(segments)
    lines = read_text_lines(source, sum(texts), reference, limits)[0] if flags & TEXTS else []
    counts = [segment - text for segment, text in zip(segments, texts, strict=True)]
    count = sum(counts)
    gaps = decode_gaps(source.take(source.varint(16 * count + 16)), count, source.what)
    ports = _read_ports(source, count, limits) if flags & PORTS else [0] * count
    tails, index = _read_tails(source, count, limits) if flags & TAILS else ([b""], [0] * count)
    out, at, text_at = [], 0, 0
    for found, text in zip(counts, texts, strict=True):
        records = lines[text_at : text_at + text]
        text_at += text
        address = 0
        for i in range(at, at + found):
            address += gaps[i]
            if address > 0xFFFFFFFF:
                raise MalformedError(f"{source.what}: an address beyond 255.255.255.255")
            line = b"%d.%d.%d.%d" % (address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255)
            if ports[i]:
                line += b":%d" % ports[i]
            records.append(line + tails[index[i]])
        at += found
        records.sort()
        out.append(records)
    return out


def _read_ports(source: Reader, count: int, limits: Limits) -> list[int]:
    low, high = (read_column(source, count, limits=limits) for _ in range(2))
    if len(low) != count or len(high) != count:
        raise MalformedError(f"{source.what}: fewer ports than addresses")
    return [a | b << 8 for a, b in zip(low, high, strict=True)]


def _read_tails(source: Reader, count: int, limits: Limits) -> tuple[list[bytes], list[int]]:
    text = read_column(source, limits.delta_block_bytes, limits=limits)
    if text.count(b"\n") >= max(count, 1):
        raise MalformedError(f"{source.what}: more tails than addresses")
    tails = text.split(b"\n")
    raw = Reader(read_column(source, 5 * count, limits=limits), source.what)
    index = raw.varints(count, len(tails) - 1)
    raw.done()
    if sum(len(tails[i]) for i in index) > limits.delta_block_bytes:
        raise MalformedError(f"{source.what}: the lines of a block are longer than allowed")
    return tails, index
