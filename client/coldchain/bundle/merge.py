"""One pass over an old set section: removed records go, added records come in, order stays.

Memory is one block of about 1 MiB and one list of added records, whatever the section's size. Blocks without a change pass as they
are; where few records change, their places are found by bisection over line starts, so an update of a large section costs about its
copying and hashing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import BinaryIO

from coldchain.bundle.sections import blocks
from coldchain.errors import MalformedError
from coldchain.limits import Limits

Write = Callable[[bytes], object]


class Lines:
    """A look-ahead over ascending lines that come in lists (one list a block of the delta)."""

    def __init__(self, batches: Iterator[list[bytes]], what: str) -> None:
        self._batches = batches
        self._what = what
        self._lines: list[bytes] = []
        self._at = 0
        self._last = b""

    def _more(self) -> bool:
        while self._at >= len(self._lines):
            batch = next(self._batches, None)
            if batch is None:
                return False
            last = self._last
            for line in batch:
                if line <= last:
                    raise MalformedError(f"{self._what}: added records are blank, doubled or not in order")
                last = line
            self._lines, self._at, self._last = batch, 0, last
        return True

    def below(self, bound: bytes) -> list[bytes]:
        """Takes the lines before ``bound`` of the list at hand; :meth:`next_below` tells whether another list has more."""
        if not self._more():
            return []
        lines, at = self._lines, self._at
        self._at = len(lines) if lines[-1] < bound else bisect_left(lines, bound, at)
        return lines[at : self._at]

    def next_below(self, bound: bytes) -> bytes | None:
        """The next line, if it sorts before ``bound``; it is not taken."""
        return self._lines[self._at] if self._more() and self._lines[self._at] < bound else None

    def batches(self) -> Iterator[list[bytes]]:
        """Everything that is left, checked, list by list."""
        while self._more():
            yield self._lines[self._at :]
            self._at = len(self._lines)


class Ordinals:
    """A look-ahead over ascending ordinals of removed records that come in lists."""

    def __init__(self, chunks: Iterator[list[int]]) -> None:
        self._chunks = chunks
        self._list: list[int] = []
        self._at = 0

    def below(self, bound: int) -> list[int]:
        """Takes all ordinals below ``bound``."""
        taken: list[int] = []
        while True:
            if self._at >= len(self._list):
                chunk = next(self._chunks, None)
                if chunk is None:
                    return taken
                self._list, self._at = chunk, 0
            start = self._at
            while self._at < len(self._list) and self._list[self._at] < bound:
                self._at += 1
            taken += self._list[start : self._at]
            if self._at < len(self._list):
                return taken

    def exhausted(self) -> bool:
        """Whether every ordinal was taken."""
        while self._at >= len(self._list):
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._list, self._at = chunk, 0
        return False


def merge_set(old: BinaryIO, removed: Ordinals, added: Lines, write: Write, what: str, limits: Limits) -> int:
    """Writes the new section; returns its number of records.

    Args:
        old: the old section, read once from its start.
        removed: ordinals (from 0) of old records that go.
        added: records that come.
        write: takes the new section's bytes in order.
        what: the section's name, for messages.
        limits: bounds of a line.

    Raises:
        MalformedError: an ordinal beyond the old section, or added records out of order.
    """
    ordinal = records = 0

    def merged(part: bytes, coming: list[bytes]) -> None:
        nonlocal ordinal, records
        count = part.count(b"\n")
        going = removed.below(ordinal + count)
        if going or coming:
            part = _edit(part, count, [place - ordinal for place in going], coming)
        ordinal += count
        records += count - len(going) + len(coming)
        if part:
            write(part)

    for block in blocks(old, what, limits):
        last = block[block.rfind(b"\n", 0, len(block) - 1) + 1 : -1]
        coming = added.below(last)
        # Where more lists come before this block's end, it is written in parts: a small old section may take in any number of
        # lines before its last one, and only one list of them is held at a time.
        while (following := added.next_below(last)) is not None:
            cut = _place(block, 0, following)
            merged(block[:cut], coming)
            block = block[cut:]
            coming = added.below(last)
        merged(block, coming)
    if not removed.exhausted():
        raise MalformedError(f"{what}: a removed record lies beyond the old section's end")
    for batch in added.batches():
        records += len(batch)
        write(b"\n".join(batch) + b"\n")
    return records


def _edit(block: bytes, count: int, going: list[int], coming: list[bytes]) -> bytes:
    # Splitting costs about 40 ns a line of the block, finding one place about 3 us: past one change in 64 lines, split.
    if (len(going) + len(coming)) * 64 > count:
        lines = block.split(b"\n")
        lines.pop()
        for place in reversed(going):
            del lines[place]
        lines += coming
        lines.sort()
        return b"\n".join(lines) + b"\n" if lines else b""
    edits = [(start, 0, end, b"") for start, end in _line_ranges(block, count, going)]
    low = 0
    for line in coming:
        low = _place(block, low, line)
        edits.append((low, 1, low, line))
    # At one place additions come after the removal of the line there: the removed line may sort before or after them,
    # and either way only its absence matters.
    edits.sort(key=lambda edit: (edit[0], edit[1]))
    pieces = []
    at = 0
    for start, _, end, line in edits:
        if start > at:
            pieces.append(block[at:start])
        at = max(at, end)
        if line:
            pieces.append(line + b"\n")
    pieces.append(block[at:])
    return b"".join(pieces)


def _place(block: bytes, low: int, line: bytes) -> int:
    """Where ``line`` belongs: the start of the first line at or after ``low`` that sorts after it."""
    high = len(block)
    while low < high:
        middle = (low + high) >> 1
        start = block.rfind(b"\n", low, middle) + 1 or low
        end = block.index(b"\n", start)
        if block[start:end] < line:
            low = end + 1
        else:
            high = start
    return low


def _line_ranges(block: bytes, count: int, ordinals: list[int]) -> Iterator[tuple[int, int]]:
    """(start, end) of the lines with these ordinals within the block, found by counting line ends in halves."""
    at, number = 0, 0
    for ordinal in ordinals:
        skip = ordinal - number
        low, high, before = at, len(block), 0
        while high - low > 4096:
            middle = (low + high) >> 1
            found = block.count(b"\n", low, middle)
            if before + found >= skip:
                high = middle
            else:
                low, before = middle, before + found
        start = low if skip else at
        for _ in range(skip - before):
            start = block.index(b"\n", start) + 1
        end = block.index(b"\n", start) + 1
        yield start, end
        at, number = end, ordinal + 1
