r"""File sections of a delta: pieces of new files, packed in groups against old content.

Rule files change a little in many files at once, so all changed and added files of a release share groups. A group is::

    varint flags     bit 0 line copies, bit 1 a window follows
    varint pieces    how many pieces follow
    per piece        varint length * 4 + (1: the file goes on in a later piece) + (2: an old range is given)
                     with an old range: varint start, varint length (otherwise: all of the old file, of an added file nothing)
    window           with bit 1 (:mod:`coldchain.bundle.window`)
    column           without bit 0: the pieces' new bytes one after the other
    columns          with bit 0: *copies* (varints) and *literals*

The reference of the last column is the window and after it the old ranges that are given; without a window all old ranges one after
the other. *Copies*, per piece until its length is reached: ``varint literal length``, then ``varint copy length`` and, for a
copy, ``zigzag varint`` of its start less the end of the copy before, within the piece's old range. Everything counts bytes.

The first piece of an added file begins with the file's name and LF, which count as its bytes here and are taken off before
anything is written: rules name themselves, so there the name costs a match instead of its letters.

Worked example, the added file ``r`` with content ``x``: flags ``00``, pieces ``01``, length 3 ``0c``, plain column ``0c 72 0a 78``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coldchain.bundle.columns import read_column
from coldchain.bundle.varint import Reader, unzigzag
from coldchain.errors import MalformedError
from coldchain.limits import Limits

COPIES, WINDOW = 1, 2
GOES_ON, RANGE = 1, 2


@dataclass(frozen=True, slots=True)
class Piece:
    """A decoded piece: the file section it belongs to (by position in the delta's list), its bytes, whether it goes on."""

    file: int
    data: bytes
    goes_on: bool


OldRange = Callable[[int, int, int | None], bytes]
"""(file, start, length or None for all) -> old bytes; b"" for an added file."""

ReadWindow = Callable[[Reader], bytes]
"""Reads the window that stands next and gives its content."""


def read_group(
    source: Reader, first: int, files: int, old: OldRange, window: ReadWindow, limits: Limits
) -> list[Piece]:
    """The pieces of one group; ``first`` is the file its first piece belongs to, ``files`` their number.

    Raises:
        MalformedError: lengths or copies that do not fit.
    """
    flags = source.varint(3)
    count = source.varint(files - first)
    if not count:
        raise MalformedError(f"{source.what}: a group without a piece")
    lengths: list[int] = []
    goes_on: list[bool] = []
    ranges: list[tuple[int, int | None]] = []
    for _ in range(count):
        tag = source.varint()
        if goes_on and goes_on[-1]:
            raise MalformedError(f"{source.what}: only a group's last piece may go on")
        lengths.append(tag >> 2)
        goes_on.append(bool(tag & GOES_ON))
        start = source.varint() if tag & RANGE else 0
        ranges.append((start, source.varint(limits.zstd_dictionary_bytes) if tag & RANGE else None))
    if sum(lengths) > limits.delta_block_bytes:
        raise MalformedError(f"{source.what}: a group is longer than allowed")
    reference = window(source) if flags & WINDOW else b""
    room = limits.zstd_dictionary_bytes - len(reference)
    olds: list[bytes] = []
    for i, (start, length) in enumerate(ranges):
        before = b""
        if flags & COPIES or not flags & WINDOW or length is not None:
            before = old(first + i, start, length)
        room -= len(before)
        if room < 0:
            raise MalformedError(f"{source.what}: a group refers to more than allowed")
        olds.append(before)
    given = [before for before, (_, length) in zip(olds, ranges, strict=True) if length is not None]
    reference += b"".join(given if flags & WINDOW else olds)
    if flags & COPIES:
        pieces = _copied(source, lengths, olds, reference, limits)
    else:
        body = read_column(source, limits.delta_block_bytes, reference, limits)
        if len(body) != sum(lengths):
            raise MalformedError(f"{source.what}: a group is not as long as its pieces")
        pieces, at = [], 0
        for length in lengths:
            pieces.append(body[at : at + length])
            at += length
    return [Piece(first + i, pieces[i], goes_on[i]) for i in range(count)]


def _copied(source: Reader, lengths: list[int], olds: list[bytes], reference: bytes, limits: Limits) -> list[bytes]:
    copies = Reader(read_column(source, limits.delta_block_bytes, limits=limits), source.what)
    literals = Reader(read_column(source, limits.delta_block_bytes, reference, limits), source.what)
    pieces = []
    for length, old in zip(lengths, olds, strict=True):
        # Not a list of parts: a copy of one byte may cost two bytes here, and would cost many times that as an object.
        new = bytearray()
        left, end = length, 0
        while left:
            literal = copies.varint(left)
            new += literals.take(literal)
            left -= literal
            if not left:
                break
            run = copies.varint(left)
            if not literal and not run:
                raise MalformedError(f"{source.what}: a step without effect")
            if run:
                start = end + unzigzag(copies.varint())
                end = start + run
                if start < 0 or end > len(old):
                    raise MalformedError(f"{source.what}: a copy from outside the old file")
                new += old[start:end]
                left -= run
        pieces.append(bytes(new))
    copies.done()
    literals.done()
    return pieces
