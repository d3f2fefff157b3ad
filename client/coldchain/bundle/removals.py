r"""Removed records of a delta: ascending ordinals in each old set section, chunk by chunk.

Per section that loses any, in chunks of 65,536: ``varint length`` and the ordinals (:mod:`coldchain.bundle.rice`), counted from
the one after the last of the chunk before. Worked example, ordinals 3, 10 and 11 of one section: ``03 01 bc 00``.

Chunks are read again when a block refers to the removed lines, so they are never held all at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from coldchain.bundle.header import Change
from coldchain.bundle.merge import Ordinals
from coldchain.bundle.rice import decode_ascending
from coldchain.bundle.sections import blocks
from coldchain.bundle.varint import Reader
from coldchain.errors import MalformedError
from coldchain.limits import Limits

CHUNK = 65_536


class Cursor:
    """A place in part of the delta; several may stand in one file."""

    def __init__(self, file: BinaryIO, at: int, end: int) -> None:
        self.file, self.at, self.end = file, at, end

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes; MalformedError where the part ends earlier."""
        if length > self.end - self.at:
            raise MalformedError("delta: ends too early")
        self.file.seek(self.at)
        data = self.file.read(length)
        if len(data) != length:
            raise MalformedError("delta: ends too early")
        self.at += length
        return data

    def varint(self, most: int) -> int:
        """The next integer, at most ``most``."""
        self.file.seek(self.at)
        source = Reader(self.file.read(min(10, self.end - self.at)), "delta")
        value = source.varint(most)
        self.at += source.position
        return value


class Removals:
    """The removed ordinals of the delta's set sections, which are given in the delta's order."""

    def __init__(self, file: BinaryIO, start: int, end: int, sets: list[Change]) -> None:
        self._file, self._end, self._sets = file, end, sets
        self._starts = [start]

    def check_end(self) -> None:
        """Refuses bytes behind the last section's chunks."""
        if self._start(len(self._sets)) != self._end:
            raise MalformedError("delta: bytes after its removed records")

    def _start(self, index: int) -> int:
        # Found by stepping over the chunks before, which is only a few numbers.
        starts = self._starts
        while len(starts) <= index:
            cursor = Cursor(self._file, starts[-1], self._end)
            for _ in range(-(-self._sets[len(starts) - 1].removed // CHUNK)):
                cursor.take(cursor.varint(16 * CHUNK))
            starts.append(cursor.at)
        return starts[index]

    def ordinals(self, index: int) -> Iterator[list[int]]:
        """The removed ordinals of one section, chunk by chunk; each call starts anew."""
        change = self._sets[index]
        if change.old is None:
            return
        cursor = Cursor(self._file, self._start(index), self._end)
        left, base = change.removed, 0
        while left:
            count = min(left, CHUNK)
            data = cursor.take(cursor.varint(16 * CHUNK))
            values = decode_ascending(data, count, change.old.records - 1 - base, "delta: removed records")
            yield [base + value for value in values] if base else values
            base += values[-1] + 1
            left -= count

    def lines(self, index: int, old: BinaryIO, room: int, limits: Limits) -> bytes:
        """The removed lines of one section, each with LF, read from its old content; at most ``room`` bytes."""
        ordinals = Ordinals(self.ordinals(index))
        pieces: list[bytes] = []
        ordinal = 0
        for data in blocks(old, f"delta: section {self._sets[index].name}", limits):
            if ordinals.exhausted():
                break
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
