r"""Text lines of a block: plain, front-coded, or reversed and front-coded; with plain content of the old bundle as dictionary.

One flag byte, then columns (:mod:`coldchain.bundle.columns`)::

    bit 0     front-coded: column *lengths* (varints: bytes shared with the line before) and column *suffixes* (joined by LF)
              otherwise one column, the lines joined by LF
    bit 1     the lines' bytes are reversed (domains share their ends); lines of one segment are then in order of the reversed text
    bits 2-3  reference of the last column: 0 none, 1 the removed lines of the block's sections, 2 their whole old content,
              3 a window (:mod:`coldchain.bundle.window`), which stands right before that column

Worked example, lines ``ab.example`` and ``abc.example``, flags 01: shared bytes ``00 02``, suffixes ``ab.example\nc.example``.
"""

from __future__ import annotations

from collections.abc import Callable

from coldchain.bundle.columns import read_column
from coldchain.bundle.varint import Reader
from coldchain.errors import MalformedError
from coldchain.limits import Limits

FRONT, REVERSED = 1, 2
NO_REFERENCE, REMOVED_LINES, OLD_CONTENT, WINDOW = range(4)

Reference = Callable[[int], bytes]


def read_text_lines(source: Reader, count: int, reference: Reference, limits: Limits) -> tuple[list[bytes], bool]:
    """Reads ``count`` lines; the second value says whether they stand in reversed order and want sorting.

    Raises:
        MalformedError: a count, length or flag that does not fit.
    """
    flags = source.varint(15)
    mode = flags >> 2
    if not count:
        raise MalformedError(f"{source.what}: text lines where there are none")
    lengths: list[int] = []
    if flags & FRONT:
        raw = Reader(read_column(source, min(5 * count, limits.delta_block_bytes), limits=limits), source.what)
        lengths = raw.varints(count, limits.line_bytes)
        raw.done()
    content = reference(mode) if mode else b""
    text = read_column(source, limits.delta_block_bytes, content, limits)
    # Counted before they are cut: a column of line ends alone would become a list of eight times its size.
    ends = text.count(b"\n")
    if ends != count - 1:
        raise MalformedError(f"{source.what}: {ends + 1} lines where {count} were declared")
    lines = text.split(b"\n")
    if lengths:
        lines = _unfront(lengths, lines, source.what, limits)
    if flags & REVERSED:
        lines = [line[::-1] for line in lines]
    return lines, bool(flags & REVERSED)


def _unfront(lengths: list[int], suffixes: list[bytes], what: str, limits: Limits) -> list[bytes]:
    lines = []
    last = b""
    total = 0
    for length, suffix in zip(lengths, suffixes, strict=True):
        if length > len(last):
            raise MalformedError(f"{what}: a line shares more than the line before holds")
        last = last[:length] + suffix
        # Shared beginnings multiply: without this sum a small block could unfold into gigabytes.
        total += len(last)
        if total > limits.delta_block_bytes:
            raise MalformedError(f"{what}: the lines of a block are longer than allowed")
        lines.append(last)
    return lines


def front(lines: list[bytes]) -> tuple[list[int], list[bytes]]:
    """The writer's half: shared lengths and suffixes of ``lines``."""
    lengths, suffixes = [], []
    last = b""
    for line in lines:
        most = min(len(last), len(line))
        shared = most if last[:most] == line[:most] else next(i for i in range(most) if last[i] != line[i])
        lengths.append(shared)
        suffixes.append(line[shared:])
        last = line
    return lengths, suffixes
