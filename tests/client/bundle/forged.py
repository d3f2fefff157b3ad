"""Deltas taken apart and put together again, so that a test can change one number or one column and keep all around it right.

A damaged delta mostly fails at its first length or its first compressed byte. What is changed here instead is a number that some
reader asked for, or the *content* of a column that it unpacked, so the change reaches the code behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from unittest import mock

from coldchain.bundle import address_lines, columns, delta, file_pieces, hash_lines, text_lines
from coldchain.bundle.delta import MAGIC, decode_block
from coldchain.bundle.description import BundleDescription
from coldchain.bundle.file_pieces import read_group
from coldchain.bundle.header import names_of, old_sections, parse_header
from coldchain.bundle.text_lines import OLD_CONTENT, REMOVED_LINES, WINDOW
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.bundle.window import read_window
from coldchain.limits import LIMITS, Limits
from coldchain_server.deltas.changes import BundleChange
from coldchain_server.deltas.pack import column, plain_column
from tests.client.bundle.bundles import Old, Store


@dataclass(frozen=True, slots=True)
class Parts:
    """A delta's parts, unframed: the header's content, the removed records, (records, body) of blocks, bodies of groups."""

    header: bytes
    removed: bytes = b""
    blocks: tuple[tuple[int, bytes], ...] = ()
    groups: tuple[bytes, ...] = ()

    def encode(self, old: BundleDescription | None, pack: Callable[[bytes, bytes], bytes] = column) -> bytes:
        """The delta, every length right."""
        out = MAGIC + pack(self.header, names_of(old)) + encode_varints([len(self.removed)]) + self.removed
        out += b"".join(encode_varints([count, len(body)]) + body for count, body in self.blocks)
        return out + b"".join(encode_varints([len(body)]) + body for body in self.groups)


def take_apart(data: bytes, old: BundleDescription | None) -> Parts:
    """The parts of a good delta."""
    source = Reader(data, "delta")
    assert source.take(4) == MAGIC
    header = columns.read_column(source, LIMITS.delta_block_bytes, names_of(old))
    found = parse_header(Reader(header, "header"), old, LIMITS)
    removed = source.take(source.varint())
    left = sum(change.added for change in found.changes)
    blocks = []
    while left:
        count = source.varint()
        blocks.append((count, source.take(source.varint())))
        left -= count
    groups = []
    while source.position < len(data):
        groups.append(source.take(source.varint()))
    return Parts(header, removed, tuple(blocks), tuple(groups))


@dataclass
class Recording(Reader):
    """A reader that remembers which numbers it was asked for and which columns it gave: (start, end, value)."""

    data: bytes
    what: str = "recorded"
    position: int = 0
    numbers: list[tuple[int, int, int]] = field(default_factory=list)
    columns: list[tuple[int, int, bytes]] = field(default_factory=list)

    def varint(self, most: int = 2**63 - 1) -> int:
        start = self.position
        value = super().varint(most)
        self.numbers.append((start, self.position, value))
        return value

    def with_number(self, index: int, value: int) -> bytes:
        """The bytes with another number at this place."""
        start, end, _ = self.numbers[index]
        return self.data[:start] + encode_varints([value]) + self.data[end:]

    def with_column(self, index: int, content: bytes) -> bytes:
        """The bytes with another content of this column."""
        start, end, _ = self.columns[index]
        return self.data[:start] + plain_column(content) + self.data[end:]


@contextlib.contextmanager
def _columns_seen() -> Iterator[None]:
    """Lets every module of the codec tell a recording reader about its columns."""
    real = columns.read_column

    def seen(source: Reader, limit: int, reference: bytes = b"", limits: Limits = LIMITS) -> bytes:
        start = source.position
        content = real(source, limit, reference, limits)
        if isinstance(source, Recording):
            source.columns.append((start, source.position, content))
        return content

    with contextlib.ExitStack() as stack:
        for module in (address_lines, delta, file_pieces, hash_lines, text_lines):
            stack.enter_context(mock.patch.object(module, "read_column", seen))
        yield


def record_header(parts: Parts, old: BundleDescription | None) -> Recording:
    """The header's numbers."""
    source = Recording(parts.header)
    parse_header(source, old, LIMITS)
    return source


def record_blocks(parts: Parts, change: BundleChange, store: Store) -> list[Recording]:
    """Every block's numbers and columns."""
    out = []
    pairs = [(o, n) for o, n in change.pairs() if n is not None]
    header = parse_header(Reader(parts.header, "header"), change.old, LIMITS)
    left = [found.added for found in header.changes if found.kind == "set"]
    names = [found.name for found in header.changes if found.kind == "set"]
    pairs = [pair for pair in pairs if pair[1].name in names]
    for count, body in parts.blocks:
        source, counts, at = Recording(body), [], []
        while count:
            index = next(i for i, some in enumerate(left) if some)
            counts.append(min(count, left[index]))
            at.append(index)
            left[index] -= counts[-1]
            count -= counts[-1]
        olds = [(found, change.sets[found.name]) for found in (pairs[index][0] for index in at) if found is not None]

        def reference(mode: int, source: Recording = source, olds: list = olds) -> bytes:  # type: ignore[type-arg]
            if mode == REMOVED_LINES:
                return b"".join(line + b"\n" for _, step in olds for _, line in step.removed)
            if mode == OLD_CONTENT:
                return b"".join(store(section.sha256).read_bytes() for section, _ in olds)
            assert mode == WINDOW
            assert change.old is not None
            return read_window(source, old_sections(change.old), Old(change.old, store).open, LIMITS)

        with _columns_seen():
            decode_block(source, counts, reference, LIMITS)
        out.append(source)
    return out


def record_groups(parts: Parts, old: BundleDescription | None, store: Store) -> list[Recording]:
    """Every group's numbers and columns."""
    files = [
        found for found in parse_header(Reader(parts.header, "header"), old, LIMITS).changes if found.kind == "file"
    ]

    def old_range(index: int, start: int, length: int | None) -> bytes:
        section = files[index].old
        content = store(section.sha256).read_bytes() if section else b""
        return content[start:] if length is None else content[start : start + length]

    def window(source: Reader) -> bytes:
        assert old is not None
        return read_window(source, old_sections(old), Old(old, store).open, LIMITS)

    out = []
    first = 0
    for body in parts.groups:
        source = Recording(body)
        with _columns_seen():
            pieces = read_group(source, first, len(files), old_range, window, LIMITS)
        first = pieces[-1].file + (not pieces[-1].goes_on)
        out.append(source)
    return out


def with_block(parts: Parts, index: int, body: bytes) -> Parts:
    """Another body of one block."""
    changed = list(parts.blocks)
    changed[index] = (changed[index][0], body)
    return replace(parts, blocks=tuple(changed))


def with_group(parts: Parts, index: int, body: bytes) -> Parts:
    """Another body of one group."""
    changed = list(parts.groups)
    changed[index] = body
    return replace(parts, groups=tuple(changed))
