r"""File sections of a delta: pieces of new files, packed in groups against old content.

Rule files change a little in many files at once, so all changed and added files of a release share groups. A group is::

    varint flags     bit 0 line copies, bit 1 the reference also holds the neighbour of each added file
    varint pieces    how many pieces follow
    per piece        varint length * 4 + (1: the file goes on in a later piece) + (2: an old range is given)
                     with an old range: varint start, varint length (otherwise: all of the old file, of an added file nothing)
    column           without bit 0: the pieces' new bytes one after the other
    columns          with bit 0: *copies* (varints) and *literals*

The reference of the last column is the old ranges one after the other. *Copies*, per piece until its length is reached:
``varint literal length``, then ``varint copy length`` and, for a copy, ``zigzag varint`` of its start less the end of the copy
before, within the piece's old range. Everything counts bytes.

The *neighbour* of an added file is the old file section next before it in name order: new rules resemble the rules beside
them. One above 1 MiB counts as empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coldchain.bundle.columns import read_column
from coldchain.bundle.varint import Reader, unzigzag
from coldchain.errors import MalformedError
from coldchain.limits import Limits

COPIES, NEIGHBOURS = 1, 2
GOES_ON, RANGE = 1, 2
NEIGHBOUR_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """A decoded piece: the file section it belongs to (by position in the delta's list), its bytes, whether it goes on."""

    file: int
    data: bytes
    goes_on: bool


OldRange = Callable[[int, int, int | None], bytes]
"""(file, start, length or None for all) -> old bytes; b"" for an added file."""

Neighbour = Callable[[int], bytes]
"""The old neighbour's content of an added file; b"" for a changed one or where there is none."""


def read_group(
    source: Reader, first: int, files: int, old: OldRange, neighbour: Neighbour, limits: Limits
) -> list[Piece]:
    """The pieces of one group; ``first`` is the file its first piece belongs to, ``files`` their number.

    Raises:
        MalformedError: lengths or copies that do not fit.
    """
    flags = source.varint(3)
    count = source.varint(files - first)
    if not count:
        raise MalformedError(f"{source.what}: a group without a piece")
    lengths, goes_on, olds = [], [], []
    reference = b""
    room = limits.zstd_dictionary_bytes
    for i in range(count):
        tag = source.varint()
        lengths.append(tag >> 2)
        goes_on.append(bool(tag & GOES_ON))
        start = source.varint() if tag & RANGE else 0
        length = source.varint(limits.zstd_dictionary_bytes) if tag & RANGE else None
        before = old(first + i, start, length)
        olds.append(before)
        near = neighbour(first + i) if flags & NEIGHBOURS else b""
        room -= len(before) + len(near)
        if room < 0:
            raise MalformedError(f"{source.what}: a group refers to more than allowed")
        reference += near + before
        if goes_on[-1] and i + 1 != count:
            raise MalformedError(f"{source.what}: only a group's last piece may go on")
    if sum(lengths) > limits.delta_block_bytes:
        raise MalformedError(f"{source.what}: a group is longer than allowed")
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
        parts: list[bytes] = []
        left, end = length, 0
        while left:
            literal = copies.varint(left)
            parts.append(literals.take(literal))
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
                parts.append(old[start:end])
                left -= run
        pieces.append(b"".join(parts))
    copies.done()
    literals.done()
    return pieces
