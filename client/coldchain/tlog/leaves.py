"""Where entries are in a log, and what leads from the tree that ends with one of them to the newest: from tiles, as they are needed.

Bytes in, bytes out: the caller brings the tiles that are asked for, from wherever he has them::

    log = LogTiles(head)                         a checkpoint that was verified
    steps = log.find({leaf of release 41})       yields Tile(0, 0, 42), is sent its bytes (None: there is no such file)
                                                 …
                                                 returns {leaf of release 41: 40}
    steps = log.consistency(41)                  in the same way: the proof that 41 entries became those of the head

Every tile is checked against the head's root before a hash of it counts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import TypeAlias, TypeVar

from coldchain.errors import EvidenceError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import Node, consistency_ranges, prove_consistency
from coldchain.tlog.tiles import WIDTH, Tile, TileReader, tile_at, tiles_needed

T = TypeVar("T")
Steps: TypeAlias = Generator[Tile, bytes | None, T]


class LogTiles:
    """The tiles of one tree.

    Args:
        head: its size and root.
        limits: bounds.

    Attributes:
        files: the tiles that came, by name.
    """

    def __init__(self, head: Checkpoint, limits: Limits = LIMITS) -> None:
        self.head = head
        self.files: dict[Tile, bytes] = {}
        self._read = TileReader(head.size, head.root, self.files.get, limits)

    def need(self, tiles: Iterable[Tile]) -> Steps[None]:
        """Asks for those of these tiles that are not here.

        Raises:
            EvidenceError: one is nowhere.
        """
        for tile in tiles:
            if tile in self.files:
                continue
            data = yield tile
            if data is None and tile.width < WIDTH:  # only the full tile is left: its beginning is the same
                whole = yield tile.full
                data = whole[: 32 * tile.width] if whole is not None else None
            if data is None:
                raise EvidenceError(
                    f"the log's {tile.path} is not there", todo="the server is half published; try again later"
                )
            self.files[tile] = data

    def hashes(self, nodes: Sequence[Node]) -> Steps[list[bytes]]:
        """The hashes of these subtrees.

        Raises:
            EvidenceError, MalformedError: a tile is nowhere, or not the one under the root.
        """
        yield from self.need(tiles_needed(nodes, self.head.size))
        return self._read(nodes)

    def find(self, leaves: Iterable[bytes], most: int | None = None) -> Steps[dict[bytes, int]]:
        """The index of each of these leaf hashes that the log holds, looked for from the newest entry down.

        Args:
            leaves: the hashes.
            most: how many tiles are looked through; None for all.

        Raises:
            EvidenceError, MalformedError: as :meth:`hashes`.
        """
        missing, out = set(leaves), dict[bytes, int]()
        last = (self.head.size - 1) // WIDTH
        for index in range(last, max(-1, last - most if most is not None else -1), -1):
            if not missing:
                break
            tile = tile_at(0, index, self.head.size)
            assert tile is not None  # the index is below the size
            first = index * WIDTH
            for i, one in enumerate((yield from self.hashes([Node(0, first + i) for i in range(tile.width)]))):
                if one in missing:
                    out[one] = first + i
            missing -= out.keys()
        return out

    def path(self, old: int) -> list[Tile]:
        """The tiles that connect the tree of the first ``old`` entries with this one."""
        nodes = [node for nodes in consistency_ranges(old, self.head.size) for node in nodes]
        return tiles_needed(nodes, self.head.size)

    def consistency(self, old: int) -> Steps[list[bytes]]:
        """The proof that the first ``old`` entries became these.

        Raises:
            EvidenceError, MalformedError: as :meth:`hashes`.
        """
        yield from self.need(self.path(old))
        return prove_consistency(old, self.head.size, self._read)
