"""Which added lines are removed lines with one number changed: the writer's half of :mod:`coldchain.bundle.edited_lines`."""

from __future__ import annotations

from coldchain.bundle.edited_lines import MOST_NUMBER
from coldchain.bundle.hash_lines import NUMBER
from coldchain.bundle.rice import encode_ascending
from coldchain.bundle.varint import encode_varints, put_varint, zigzag
from coldchain_server.deltas.pack import column

FEWEST = 4
"""Fewer edited lines than this are left to the text coders."""
ENDS = 6
"""Numbers looked at from each end of a line."""

Edit = tuple[int, int, int, int]
"""(index among the removed lines, place, old number, new number)."""
Numbers = list[tuple[int, int, int]]
"""(place, start, end) of each number worth looking at."""


def _numbers(line: bytes) -> Numbers:
    spans = [found.span() for found in NUMBER.finditer(line)]
    out: Numbers = []
    for place in range(min(2 * ENDS, 2 * len(spans))):
        index = place >> 1
        start, end = spans[index] if place & 1 else spans[-1 - index]
        out.append((place, start, end))
    return out


def find_edits(removed: list[bytes], added: list[bytes]) -> tuple[list[Edit], list[bytes]]:
    """(edits in the order of their indexes, the added lines that are none)."""
    if len(removed) < FEWEST:
        return [], added
    places: dict[tuple[bytes, bytes], list[tuple[int, int, int]]] = {}
    for index, line in enumerate(removed):
        for place, start, end in _numbers(line):
            places.setdefault((line[:start], line[end:]), []).append((index, place, int(line[start:end])))
    taken: set[int] = set()
    edits: list[Edit] = []
    rest: list[bytes] = []
    for line in added:
        found = _source(line, places, taken)
        if found:
            edits.append(found)
            taken.add(found[0])
        else:
            rest.append(line)
    if len(edits) < FEWEST:
        return [], added
    return sorted(edits), rest


def _source(line: bytes, places: dict[tuple[bytes, bytes], list[tuple[int, int, int]]], taken: set[int]) -> Edit | None:
    for _, start, end in _numbers(line):
        number = int(line[start:end])
        if number >= MOST_NUMBER:
            continue
        free = [found for found in places.get((line[:start], line[end:]), []) if found[0] not in taken]
        if free:
            index, place, old = min(free, key=lambda found: (abs(number - found[2]), found))
            return index, place, old, number
    return None


def encode_edits(segments: list[list[Edit]]) -> bytes:
    """Counts and columns of the edits of each segment; the other lines' block follows."""
    out = bytearray(encode_varints([len(edits) for edits in segments]))
    places: list[int] = []
    numbers = bytearray()
    for edits in segments:
        if not edits:
            continue
        which = encode_ascending([index for index, _, _, _ in edits])
        put_varint(out, len(which))
        out += which
        places += [place for _, place, _, _ in edits]
        moved = 0
        for _, _, old, new in sorted(edits, key=lambda edit: (edit[2], edit[0])):
            put_varint(numbers, zigzag(new - old - moved))
            moved = new - old
    out += column(encode_varints(places) if any(places) else b"") + column(bytes(numbers))
    return bytes(out)
