"""What changed between two bundles: one pass at the speed of comparing memory.

Both sections are mapped. Where their next lines are equal, the stretch up to the next difference is found by comparing ever larger
pieces and then halving, so an update of a large database costs its reading, not its number of lines.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from coldchain.bundle.description import BundleDescription
from coldchain_server.deltas.changes import BundleChange, ContentStore, Record, SetChange

Bytes = bytes | mmap.mmap


def diff_bundles(old: BundleDescription | None, new: BundleDescription, content: ContentStore) -> BundleChange:
    """The change from ``old`` to ``new``, whose sections ``content`` finds by digest."""
    change = BundleChange(old, new)
    for before, after in change.changed_sets():
        removed, added = diff_files(content(before.sha256), content(after.sha256))
        change.sets[after.name] = SetChange(after.name, before, after, removed, added)
    return change


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[Bytes]:
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            yield view


def diff_files(old: Path, new: Path) -> tuple[list[Record], list[Record]]:
    """(removed with ordinals in old, added with ordinals in new) of two canonical set sections."""
    with _mapped(old) as a, _mapped(new) as b:
        return diff_lines(a, b)


def diff_lines(a: Bytes, b: Bytes) -> tuple[list[Record], list[Record]]:
    """The same for bytes at hand."""
    removed: list[Record] = []
    added: list[Record] = []
    i = j = at_i = at_j = 0
    end_a, end_b = len(a), len(b)
    while i < end_a and j < end_b:
        next_i = a.find(b"\n", i) + 1
        next_j = b.find(b"\n", j) + 1
        line_a, line_b = a[i:next_i], b[j:next_j]
        if line_a == line_b:
            length = _common(a, i, b, j)
            stop = a.rfind(b"\n", i, i + length) + 1
            lines = _count(a, i, stop)
            at_i += lines
            at_j += lines
            j += stop - i
            i = stop
        elif line_a[:-1] < line_b[:-1]:
            removed.append((at_i, line_a[:-1]))
            at_i += 1
            i = next_i
        else:
            added.append((at_j, line_b[:-1]))
            at_j += 1
            j = next_j
    removed.extend(_rest(a, i, at_i))
    added.extend(_rest(b, j, at_j))
    return removed, added


def _rest(data: Bytes, at: int, ordinal: int) -> Iterator[Record]:
    while at < len(data):
        end = data.find(b"\n", at)
        yield ordinal, data[at:end]
        ordinal += 1
        at = end + 1


def _count(data: Bytes, start: int, end: int) -> int:
    """Line ends within a range, in slices so that a mapped file is never copied whole."""
    return sum(data[at : min(at + (1 << 20), end)].count(b"\n") for at in range(start, end, 1 << 20))


def _common(a: Bytes, i: int, b: Bytes, j: int) -> int:
    """How many bytes are equal from i in a and j in b."""
    most = min(len(a) - i, len(b) - j)
    length, step = 0, 512
    while length < most:
        size = min(step, most - length)
        if a[i + length : i + length + size] == b[j + length : j + length + size]:
            length += size
            step = min(step * 2, 1 << 20)
            continue
        low, high = 0, size
        while high - low > 1:
            middle = (low + high) // 2
            if a[i + length + low : i + length + middle] == b[j + length + low : j + length + middle]:
                low = middle
            else:
                high = middle
        return length + low
    return most
