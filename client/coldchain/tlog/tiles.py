"""Tiles: the files a log's hashes and entries lie in. C2SP tlog-tiles, tile height 8 (256 hashes a tile).

::

    tile/0/x001/x234/067        256 hashes of level 0: the leaves 256 * 1234067 and following; 8192 bytes
    tile/1/000.p/17             the first 17 hashes of level 1, each the root over 256 leaves; 544 bytes
    tile/entries/x001/000.p/7   7 entries, each as a 2-byte big-endian length and its bytes
        00 05 "entry" 00 00 ""  is a bundle of two entries

Tile ``(level, index)`` holds the roots of the complete subtrees of ``256**level`` leaves, from the ``256 * index``-th one; these
are the nodes ``(8 * level, 256 * index + i)`` of :mod:`coldchain.tlog.merkle`, and everything between two levels is
computed. A tree of ``size`` leaves has ``size >> 8 * level`` such roots; the last tile of a level is partial unless that number
is a multiple of 256. A tile of width 0 does not exist, a partial tile is never hashed upward::

    70000 leaves -> level 0: 273 full, .p/112    level 1: 1 full, .p/17    level 2: .p/1
    65536 leaves -> level 0: 256 full            level 1: 1 full           level 2: .p/1

Index in groups of three digits, all but the last with an x; full tiles without ``.p/256``. Levels above 7 would need more than
2**63 - 1 leaves and have no path here. A full tile may stand in for a partial one: its first hashes are the same.

Tiles carry no signature. :class:`TileReader` believes none of them before it hangs under the root of a signed checkpoint:
the partial tiles of all levels are exactly the complete subtrees whose hashes make up the root, so they are checked first, at
once; every full tile's root is one hash of the tile above it, up to such an edge. (Go's ``tlog.TileHashReader`` does the same
since x/mod 0.40; before, it left full tiles unchecked where several of the root's subtrees lay in one tile, CVE-2026-56865.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from coldchain.errors import EvidenceError, InternalError, MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.merkle import HASH_BYTES, Node, complete_root, join, leaf_hash, subtrees
from coldchain.tlog.spellings import MAX_NUMBER

WIDTH: Final = 256
TOP_LEVEL: Final = 7
ENTRIES: Final = -1
CHECKPOINT_PATH: Final = "checkpoint"

_PATH = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z")


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A tile, or with ``level`` :data:`ENTRIES` an entry bundle; ``width`` 1 to 256 hashes or entries."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def full(self) -> Tile:
        """The full tile at the same place."""
        return Tile(self.level, self.index)

    @property
    def path(self) -> str:
        """The path below the log's prefix."""
        index = self.index
        groups = f"{index % 1000:03d}"
        while index >= 1000:
            index //= 1000
            groups = f"x{index % 1000:03d}/{groups}"
        level = "entries" if self.level == ENTRIES else str(self.level)
        return f"tile/{level}/{groups}" + ("" if self.width == WIDTH else f".p/{self.width}")


Fetch = Callable[[Tile], bytes | None]
"""Returns a tile's bytes, or None when there is no such file. Asked for a partial tile, then for the full one."""


def parse_tile_path(text: str) -> Tile:
    """The tile a path names.

    Raises:
        MalformedError: not the one spelling of a tile that a log of up to 2**63 - 1 entries can have.
    """
    match = _PATH.match(text)
    if match is None:
        raise MalformedError(f"tile path {text[:80]!r}: not one")
    level = ENTRIES if match[1] == "entries" else int(match[1])
    index = int(match[2].replace("x", "").replace("/", ""))
    tile = Tile(level, index, int(match[3] or WIDTH))
    if tile.path != text or tile.width > WIDTH or index * WIDTH + tile.width > MAX_NUMBER >> 8 * max(level, 0):
        raise MalformedError(f"tile path {text[:80]!r}: not one")
    return tile


# Which tiles there are


def tile_at(level: int, index: int, size: int) -> Tile | None:
    """Tile ``index`` of ``level`` as wide as it is in a tree of ``size`` leaves; None when it is not there."""
    width = min(WIDTH, (size >> 8 * max(level, 0)) - index * WIDTH)
    return Tile(level, index, width) if width > 0 else None


def new_tiles(old: int, new: int) -> Iterator[Tile]:
    """The files a log must write when it grows from ``old`` to ``new`` entries: bundles first, then level by level.

    ``new_tiles(0, size)`` are all files of a log that signed only this size.
    """
    for level in range(ENTRIES, TOP_LEVEL + 1):
        yield from _new_of_level(level, old, new)


def _new_of_level(level: int, old: int, new: int) -> Iterator[Tile]:
    before, after = old >> 8 * max(level, 0), new >> 8 * max(level, 0)
    if after > before:
        for index in range(before // WIDTH, -(-after // WIDTH)):
            yield Tile(level, index, min(WIDTH, after - index * WIDTH))


def place(node: Node, size: int) -> tuple[Tile, int, int]:
    """Where a complete subtree's hash comes from: a tile, and which of its hashes (first, after the last) are joined.

    Raises:
        EvidenceError: a tree of ``size`` leaves does not hold that subtree.
    """
    level, inner = divmod(node.level, 8)
    first = node.index << inner
    if node.level < 0 or node.index < 0 or (node.index + 1) << node.level > size:
        raise EvidenceError(f"log: {size} entries do not hold the subtree ({node.level}, {node.index})")
    tile = tile_at(level, first // WIDTH, size)
    if tile is None:
        raise InternalError(f"no tile holds the subtree ({node.level}, {node.index}) of {size} entries")
    return tile, first % WIDTH, first % WIDTH + (1 << inner)


def tiles_needed(nodes: Sequence[Node], size: int) -> list[Tile]:
    """The tiles :class:`TileReader` will fetch for these nodes: what to bring here before, all at once."""
    needed = dict.fromkeys(place(node, size)[0] for node in subtrees(0, size))
    for node in nodes:
        tile: Tile | None = place(node, size)[0]
        while tile is not None and tile not in needed:
            needed[tile] = None
            tile = tile_at(tile.level + 1, tile.index // WIDTH, size)
    return list(needed)


# Reading


class TileReader:
    """A hash reader (see :data:`coldchain.tlog.merkle.HashReader`) over tiles nobody vouches for.

    Args:
        size: entries of the tree.
        root: its root, from a checkpoint whose signature was checked.
        fetch: returns tiles; the first bytes of a full tile are used where the partial one is gone.
        limits: how many tiles are kept in memory besides the ones at the right edge.
    """

    def __init__(self, size: int, root: bytes, fetch: Fetch, limits: Limits = LIMITS) -> None:
        self.size = size
        self.root = root
        self._fetch = fetch
        self._most = limits.log_tiles_kept
        self._edge: dict[int, list[bytes]] | None = None
        self._kept: dict[Tile, list[bytes]] = {}

    def __call__(self, nodes: Sequence[Node]) -> list[bytes]:
        """The hashes of these subtrees, each proved to be in the tree.

        Raises:
            EvidenceError: a tile is missing or is not the one under the root.
            MalformedError: a tile of a wrong length.
        """
        hashes = []
        for node in nodes:
            tile, first, end = place(node, self.size)
            hashes.append(complete_root(self._read(tile)[first:end]))
        return hashes

    def _read(self, tile: Tile) -> list[bytes]:
        if tile.width < WIDTH:
            return self._right_edge()[tile.level]
        kept = self._kept.get(tile)
        if kept is None:
            kept = read_tile(tile, self._fetch)
            (expected,) = self([Node(8 * (tile.level + 1), tile.index)])
            if complete_root(kept) != expected:
                raise EvidenceError(f"log: {tile.path} is not under the root of {self.size} entries")
            if len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
            self._kept[tile] = kept
        return kept

    def _right_edge(self) -> dict[int, list[bytes]]:
        """The partial tiles of all levels, checked against the root."""
        if self._edge is None:
            edge = right_edge(self.size, self._fetch)
            if edge_root(edge) != self.root:
                raise EvidenceError(f"log: the tiles at the right edge of {self.size} entries have another root")
            self._edge = edge
        return self._edge


def read_tile(tile: Tile, fetch: Fetch) -> list[bytes]:
    """The hashes of a tile, unchecked but for their number.

    Raises:
        EvidenceError: neither the tile nor the full one in its place is there.
        MalformedError: a wrong length.
    """
    data, found = _fetch_or_full(tile, fetch)
    if len(data) != found.width * HASH_BYTES:
        raise MalformedError(f"log: {found.path}: {len(data)} bytes where {found.width * HASH_BYTES} belong")
    return [data[i : i + HASH_BYTES] for i in range(0, tile.width * HASH_BYTES, HASH_BYTES)]


def right_edge(size: int, fetch: Fetch) -> dict[int, list[bytes]]:
    """The hashes of the partial tile of every level that has one. Unchecked: a log reads its own files with it.

    Raises:
        EvidenceError: a tile is missing.
        MalformedError: a tile of a wrong length.
    """
    edge = {}
    for level in range(TOP_LEVEL + 1):
        count = size >> 8 * level
        if count % WIDTH:
            edge[level] = read_tile(Tile(level, count // WIDTH, count % WIDTH), fetch)
    return edge


def edge_root(edge: dict[int, list[bytes]]) -> bytes:
    """The root of the tree whose right edge this is."""
    row = []
    for level in sorted(edge, reverse=True):
        tile = edge[level]
        row += [complete_root(tile[node.index << node.level :][: 1 << node.level]) for node in subtrees(0, len(tile))]
    return join(row)


def _fetch_or_full(tile: Tile, fetch: Fetch) -> tuple[bytes, Tile]:
    for candidate in dict.fromkeys((tile, tile.full)):
        data = fetch(candidate)
        if data is not None:
            return data, candidate
    raise EvidenceError(f"log: {tile.path} is not there")


# Entry bundles


def encode_bundle(entries: Sequence[bytes], limits: Limits = LIMITS) -> bytes:
    """The bytes of an entry bundle.

    Raises:
        MalformedError: none or more than 256 entries, or one that is too long.
    """
    if not 0 < len(entries) <= WIDTH:
        raise MalformedError(f"entry bundle: {len(entries)} entries")
    for entry in entries:
        if len(entry) > limits.log_entry_bytes:
            raise MalformedError(f"log entry: {len(entry)} bytes, more than {limits.log_entry_bytes}")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_bundle(data: bytes, width: int, limits: Limits = LIMITS) -> list[bytes]:
    """The ``width`` entries of a bundle.

    Raises:
        MalformedError: fewer or more bytes than they need, or an entry that is too long.
    """
    entries, position = [], 0
    for _ in range(width):
        start = position + 2
        length = int.from_bytes(data[position:start], "big")
        position = start + length
        if position > len(data) or length > limits.log_entry_bytes:
            raise MalformedError("entry bundle: an entry is too long or breaks off")
        entries.append(data[start:position])
    if position != len(data):
        raise MalformedError(f"entry bundle: {len(data) - position} bytes too many")
    return entries


def read_bundle(tile: Tile, fetch: Fetch, limits: Limits = LIMITS) -> list[bytes]:
    """The entries of bundle ``tile``, unchecked but for their number; from the full bundle where the partial one is gone.

    Raises:
        EvidenceError: neither is there.
        MalformedError: as :func:`parse_bundle`.
    """
    data, found = _fetch_or_full(tile, fetch)
    return parse_bundle(data, found.width, limits)[: tile.width]


def read_entries(index: int, reader: TileReader, fetch: Fetch, limits: Limits = LIMITS) -> list[bytes]:
    """The entries of bundle ``index`` of the reader's tree, each proved to be in it.

    Raises:
        EvidenceError: no such bundle, a file is missing, an entry is not the one in the tree.
        MalformedError: a file that does not follow its format.
    """
    tile = tile_at(ENTRIES, index, reader.size)
    if tile is None:
        raise EvidenceError(f"log: no bundle {index} in {reader.size} entries")
    entries = read_bundle(tile, fetch, limits)
    first = index * WIDTH
    for i, known in enumerate(reader([Node(0, first + i) for i in range(tile.width)])):
        if leaf_hash(entries[i]) != known:
            raise EvidenceError(f"log: entry {first + i} in {tile.path} is not the one in the tree")
    return entries


# Growing


def grow(size: int, entries: Sequence[bytes], fetch: Fetch, limits: Limits = LIMITS) -> list[tuple[Tile, bytes]]:
    """The files to write so that a log of ``size`` entries also holds ``entries``; bundles first, then level by level.

    Write them in this order, make them durable, then sign and write the checkpoint (:func:`edge_root` of
    :func:`right_edge` of the new size): whoever sees a checkpoint must find its tiles.

    Args:
        size: entries so far.
        entries: the new ones, in order.
        fetch: the log's own files; only partial tiles of ``size`` are asked for.
        limits: bounds.

    Raises:
        EvidenceError: a file of the old size is missing.
        MalformedError: such a file is damaged, or an entry is too long.
    """
    new = size + len(entries)
    if new > MAX_NUMBER:
        raise EvidenceError("a log has at most 2^63-1 entries")
    rows = right_edge(size, fetch)
    last = tile_at(ENTRIES, size // WIDTH, size)
    bundle = [*(read_bundle(last, fetch, limits) if last else []), *entries]
    files = [(tile, encode_bundle(part, limits)) for tile, part in _cut(bundle, ENTRIES, size, new)]
    hashes = [leaf_hash(entry) for entry in entries]
    for level in range(TOP_LEVEL + 1):
        cut = list(_cut([*rows.get(level, []), *hashes], level, size, new))
        files += [(tile, b"".join(part)) for tile, part in cut]
        hashes = [complete_root(part) for tile, part in cut if tile.width == WIDTH]
    return files


def _cut(row: Sequence[bytes], level: int, old: int, new: int) -> Iterator[tuple[Tile, Sequence[bytes]]]:
    """The new tiles of a level with their part of ``row``, which begins where the level's old partial tile does."""
    for number, tile in enumerate(_new_of_level(level, old, new)):
        yield tile, row[number * WIDTH : number * WIDTH + tile.width]
