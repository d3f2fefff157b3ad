r"""Edited lines of a block: removed lines that come again with one number changed, as where a whole database is numbered anew.

A *number* is a run of digits as in :mod:`coldchain.bundle.hash_lines`. The *place* of a number in its line counts from both ends: 0 the
last, 1 the first, 2 the last but one, 3 the second, and so on. Then::

    counts    per segment a varint, how many of its lines are edited (together at least one)
    which     per segment that has any: varint length, Rice-coded ascending indexes among the section's removed lines
    places    column: varints, the place of each edited number (an empty column: all 0)
    numbers   column: zigzag varints, the new number less the old one, less the same difference of the edited line before

In *places* lines stand segment by segment in the order of their indexes. In *numbers* each segment's lines stand in the order of their
old numbers (of equal ones, of their indexes), because numbering anew moves neighbours by the same amount: most differences are 0.

Worked example, removed ``a.7`` and ``b.9``, added ``a.8`` and ``b.10``, one segment: counts ``02``, which ``02 00 00``, places ``00``,
numbers ``08 02 00`` (+1, then the same).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from coldchain.bundle.columns import read_column
from coldchain.bundle.hash_lines import NUMBER
from coldchain.bundle.rice import decode_ascending
from coldchain.bundle.varint import Reader, unzigzag
from coldchain.errors import MalformedError
from coldchain.limits import Limits

MOST_NUMBER = 10**15
_LAST_NUMBER = re.compile(b"(?s).*(" + NUMBER.pattern + b")")

RemovedLines = Callable[[int], list[bytes]]
"""Segment -> the removed lines of its section, in order."""


def number_at(line: bytes, place: int) -> tuple[int, int] | None:
    """(start, end) of the number at a place, or None where the line has fewer."""
    index = place >> 1
    found: re.Match[bytes] | None
    if place & 1:
        found = next(itertools.islice(NUMBER.finditer(line), index, None), None)
        return found.span() if found else None
    # Most edited numbers are the last of their lines: look from the end, not past a hash and a name.
    end = len(line)
    while found := _LAST_NUMBER.match(line, 0, end):
        if not index:
            return found.span(1)
        index -= 1
        end = found.start(1)
    return None


def read_edited_lines(
    source: Reader, segments: list[int], removed: RemovedLines, limits: Limits
) -> tuple[list[list[bytes]], list[int]]:
    """(edited lines of each segment in the order of their old numbers, how many lines each segment has besides).

    Raises:
        MalformedError: an index, place or number that does not fit.
    """
    counts = [source.varint(segment) for segment in segments]
    total = sum(counts)
    if not total:
        raise MalformedError(f"{source.what}: edited lines where there are none")
    chosen: list[list[bytes]] = []
    for segment, count in enumerate(counts):
        lines = removed(segment) if count else []
        packed = source.take(source.varint(16 * count + 16)) if count else b""
        indexes = decode_ascending(packed, count, len(lines) - 1, source.what)
        chosen.append([lines[index] for index in indexes])
    raw = read_column(source, 5 * total, limits=limits)
    at = Reader(raw, source.what)
    places = at.varints(total, limits.line_bytes) if raw else [0] * total
    at.done()
    numbers = Reader(read_column(source, 10 * total, limits=limits), source.what)
    differences = iter(numbers.varints(total))
    numbers.done()
    out: list[list[bytes]] = []
    done = 0
    for lines in chosen:
        spans = [_span(line, place, source.what) for line, place in zip(lines, places[done:], strict=False)]
        done += len(lines)
        old = [int(line[start:end]) for line, (start, end) in zip(lines, spans, strict=True)]
        moved = 0
        edited = []
        for i in sorted(range(len(lines)), key=old.__getitem__):
            moved += unzigzag(next(differences))
            number = old[i] + moved
            if not 0 <= number < MOST_NUMBER:
                raise MalformedError(f"{source.what}: an edited number out of range")
            line, (start, end) = lines[i], spans[i]
            edited.append(b"%b%d%b" % (line[:start], number, line[end:]))
        out.append(edited)
    return out, [segment - count for segment, count in zip(segments, counts, strict=True)]


def _span(line: bytes, place: int, what: str) -> tuple[int, int]:
    found = number_at(line, place)
    if found is None:
        raise MalformedError(f"{what}: an edited line without that number")
    return found
