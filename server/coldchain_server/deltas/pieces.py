"""File sections of a delta: groups of pieces against old content, the smallest of several forms.

The writer's half of :mod:`coldchain.bundle.file_pieces`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coldchain.bundle.file_pieces import COPIES, GOES_ON, RANGE, WINDOW, read_group
from coldchain.bundle.varint import Reader, encode_varints, put_varint, zigzag
from coldchain.errors import InternalError, MalformedError
from coldchain.limits import LIMITS
from coldchain_server.deltas.pack import column
from coldchain_server.deltas.windows import Window

GROUP_BYTES = 3 << 20
PIECE_BYTES = 2 << 20
OLD_BYTES = 3 << 20
NEAREST = 16
WINDOWED_BYTES = 1 << 20


@dataclass(slots=True)
class NewPiece:
    """A piece to be written: its bytes, the old bytes it may copy from, and where it stands."""

    name: str
    data: bytes
    old: bytes
    goes_on: bool = False
    range: tuple[int, int] | None = None


def cut(name: str, new: bytes, old: bytes | None) -> Iterator[NewPiece]:
    """A file as pieces: whole where it fits, otherwise parts, each against the part of the old file at the same place.

    A file that comes (old is None) begins with its name.
    """
    if old is None:
        new, old = name.encode() + b"\n" + new, b""
    if len(new) <= PIECE_BYTES and len(old) <= OLD_BYTES:
        yield NewPiece(name, new, old)
        return
    for start in range(0, max(1, len(new)), PIECE_BYTES):
        end = min(start + PIECE_BYTES, len(new))
        place = start * len(old) // max(1, len(new))
        low = max(0, min(place - (OLD_BYTES - PIECE_BYTES) // 2, len(old) - OLD_BYTES))
        length = min(OLD_BYTES, len(old) - low)
        yield NewPiece(name, new[start:end], old[low : low + length], end < len(new), (low, length) if old else None)


def group(pieces: Iterator[NewPiece]) -> Iterator[list[NewPiece]]:
    """Pieces gathered until a group is full; a piece that goes on ends its group."""
    gathered: list[NewPiece] = []
    room = 0
    for piece in pieces:
        size = len(piece.data) + len(piece.old)
        if gathered and room + size > GROUP_BYTES + PIECE_BYTES:
            yield gathered
            gathered, room = [], 0
        gathered.append(piece)
        room += size
        if piece.goes_on:
            yield gathered
            gathered, room = [], 0
    if gathered:
        yield gathered


def encode_group(pieces: list[NewPiece], window: Window | None, model_bytes: int = 0) -> bytes:
    """The smallest form of a group; ``window`` is what may be offered beside the old files, ``model_bytes`` what the model may code."""
    for form in sorted(forms(pieces, window, model_bytes), key=len):
        if _reads_back(form, pieces, window):
            return form
    raise InternalError("a group of files has no form that reads back as it was written")


def _reads_back(form: bytes, pieces: list[NewPiece], window: Window | None) -> bool:
    """Whether the client makes exactly these pieces of a form; one that it refuses or misreads is not used."""
    source = Reader(form, "group")

    def content(source: Reader) -> bytes:
        assert window is not None
        source.take(len(window.head))
        return window.content

    try:
        found = read_group(source, 0, len(pieces), lambda index, _start, _length: pieces[index].old, content, LIMITS)
        source.done()
    except MalformedError:
        return False
    return [(piece.data, piece.goes_on) for piece in found] == [(piece.data, piece.goes_on) for piece in pieces]


def forms(pieces: list[NewPiece], window: Window | None, model_bytes: int = 0) -> list[bytes]:
    """A group in every form worth trying."""
    body = b"".join(piece.data for piece in pieces)
    olds = b"".join(piece.old for piece in pieces)
    plain = [(_head(pieces, 0, None), olds)]
    # What a window adds hardly shows in a large group, and large files bring their own ranges.
    if window and len(body) <= WINDOWED_BYTES and not any(piece.range for piece in pieces):
        plain.append((_head(pieces, WINDOW, window), window.content))
    found = [head + column(body, reference, model_bytes) for head, reference in plain]
    if olds:
        steps, literals = bytearray(), bytearray()
        for piece in pieces:
            copies(piece.old, piece.data, steps, literals)
        packed = column(bytes(steps))
        for head, reference in plain:
            found.append(_with_copies(head) + packed + column(bytes(literals), reference, model_bytes))
    return found


def _with_copies(head: bytes) -> bytes:
    return bytes([head[0] | COPIES]) + head[1:]


def _head(pieces: list[NewPiece], flags: int, window: Window | None) -> bytes:
    out = bytearray([flags])
    put_varint(out, len(pieces))
    for piece in pieces:
        put_varint(out, len(piece.data) << 2 | (GOES_ON if piece.goes_on else 0) | (RANGE if piece.range else 0))
        if piece.range:
            out += encode_varints(list(piece.range))
    return bytes(out) + (window.head if window else b"")


def copies(old: bytes, new: bytes, steps: bytearray, literals: bytearray) -> None:
    """Appends the copies and literals that make ``new`` out of ``old``.

    Whole equal lines are found by content, preferring the one that follows the copy before; every run is then widened byte by byte
    into the lines beside it, so a changed date costs its digits.
    """
    runs = _runs(old, new)
    at = end = 0
    for start_new, start_old, length in runs:
        put_varint(steps, start_new - at)
        literals += new[at:start_new]
        put_varint(steps, length)
        put_varint(steps, zigzag(start_old - end))
        end = start_old + length
        at = start_new + length
    if at < len(new):
        put_varint(steps, len(new) - at)
        literals += new[at:]


def _runs(old: bytes, new: bytes) -> list[tuple[int, int, int]]:
    places: dict[bytes, list[int]] = {}
    at = 0
    for line in old.splitlines(keepends=True):
        found = places.setdefault(line, [])
        if len(found) < NEAREST:
            found.append(at)
        at += len(line)
    runs: list[tuple[int, int, int]] = []
    i = done = follow = 0
    while i < len(new):
        stop = new.find(b"\n", i) + 1 or len(new)
        line = new[i:stop]
        starts = places.get(line, [])
        if old.startswith(line, follow):
            starts = [follow, *starts]
        best = max(((_equal(old, s, new, i), -abs(s - follow), s) for s in starts), default=(0, 0, 0))
        length, _, start = best
        if length < 8:
            i = stop
            continue
        back = 0
        while i - back > done and start - back > 0 and new[i - back - 1] == old[start - back - 1]:
            back += 1
        runs.append((i - back, start - back, length + back))
        done = i + length
        follow = start + length
        # A line that was only partly copied is passed by: its rest is a literal, and the next line is looked up anew.
        next_line = new.find(b"\n", done - 1) + 1 if done else 0
        i = max(done, next_line or len(new)) if done < len(new) and new[done - 1 : done] != b"\n" else done
        if i > done:
            gap = old.find(b"\n", follow) + 1
            follow = gap or follow
    return runs


def _equal(a: bytes, i: int, b: bytes, j: int) -> int:
    most = min(len(a) - i, len(b) - j)
    length, step = 0, 64
    while length < most:
        size = min(step, most - length)
        if a[i + length : i + length + size] == b[j + length : j + length + size]:
            length += size
            step *= 2
        elif size == 1:
            break
        else:
            step = max(1, size // 2)
    return length
