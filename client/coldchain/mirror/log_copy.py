"""The public log's hashes in a mirror: every tile of the trees that the releases' evidence speaks of, each checked before it is kept.

A client may have seen the log at any size, so any tile may be what connects its tree with the new one. All of them are little:
8 KiB for 256 releases. They are fetched from the top level down, and none is believed before it hangs under the signed root::

    70,000 entries, nothing here yet      tile/2/000.p/1   tile/1/001.p/17   tile/0/273.p/112   then 1 + 273 full ones
    the next day, 70,004 entries          tile/0/273.p/116, and nothing else

Entries are not mirrored: who reads those reads the origin's log (``coldchain monitor``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from coldchain.agent.transport import Source
from coldchain.errors import EvidenceError, ResponseError
from coldchain.evidence import DO_NOT, refused
from coldchain.limits import Limits
from coldchain.mirror.tree import Tree
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import HASH_BYTES, Node
from coldchain.tlog.tiles import ENTRIES, WIDTH, Tile, TileReader, new_tiles


@dataclass
class LogCopy:
    """One run's copying.

    Attributes:
        tree: where the tiles go.
        limits: bounds.
        named: the paths of every tile that the trees copied so far need.
        files: tiles written, and
        written: their lengths together.
    """

    tree: Tree
    limits: Limits
    named: set[str] = field(default_factory=set)
    files: int = 0
    written: int = 0

    async def copy(self, source: Source, head: Checkpoint, *, check: bool) -> None:
        """Brings what is missing of the tree under a checkpoint.

        Args:
            source: where tiles come from; it need not be trusted.
            head: a checkpoint whose signature was checked.
            check: fetch and check those too that are here.

        Raises:
            EvidenceError: a tile is not under the root.
            TransportError: one could not be had.
        """
        tiles = [tile for tile in new_tiles(0, head.size) if tile.level != ENTRIES]
        tiles.sort(key=lambda one: (one.width == WIDTH, -one.level, one.index))
        missing = [one for one in tiles if check or not self._here(one)]
        try:
            await self._bring(source, head, missing, tiles)
        except EvidenceError:
            if len(missing) == len(tiles):
                raise
            await self._bring(source, head, tiles, tiles)  # what is here may be what is damaged
        self.named |= {_path(one) for one in tiles}

    def _here(self, tile: Tile) -> bool:
        return self.tree.length(_path(tile)) == tile.width * HASH_BYTES

    async def _bring(self, source: Source, head: Checkpoint, missing: Sequence[Tile], every: Sequence[Tile]) -> None:
        came: dict[Tile, bytes] = {}
        asked = set(missing)

        def here(tile: Tile) -> bytes | None:
            if tile in came or tile in asked:
                return came.get(tile)
            return self.tree.read(_path(tile), WIDTH * HASH_BYTES)

        reader = TileReader(head.size, head.root, here, self.limits)
        edge = [one for one in missing if one.width < WIDTH]
        for tile in edge:
            came[tile] = await _fetch(source, tile)
        with refused("the log's tiles"):
            if every:
                reader([Node(8 * every[0].level, every[0].index * WIDTH)])
        for tile in edge:
            self._keep(tile, came[tile])
        for tile in missing[len(edge) :]:
            came[tile] = await _fetch(source, tile)
            with refused("the log's tiles"):
                reader([Node(8 * tile.level, tile.index * WIDTH)])
            self._keep(tile, came.pop(tile))
            asked.discard(tile)

    def _keep(self, tile: Tile, data: bytes) -> None:
        written = self.tree.put(_path(tile), data)
        self.written += written
        self.files += bool(written)


def _path(tile: Tile) -> str:
    return f"log/{tile.path}"


async def _fetch(source: Source, tile: Tile) -> bytes:
    """A tile, unchecked; the beginning of the full one where only that is left."""
    for one in dict.fromkeys((tile, tile.full)):
        data = (await source.get(_path(one), HASH_BYTES * one.width)).data
        if data is not None:
            return data[: HASH_BYTES * tile.width]
    raise ResponseError(f"the log's {tile.path} is not there", todo="the server is half published; try again later")


def of_one_log(heads: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints of the last one's log, the smallest tree first, each tree once: only one log's tiles are published.

    Raises:
        EvidenceError: two roots for one size.
    """
    out: dict[int, Checkpoint] = {}
    for one in sorted((one for one in heads if one.origin == heads[-1].origin), key=lambda one: one.size):
        if out.setdefault(one.size, one).root != one.root:
            raise EvidenceError(f"the log {one.origin} has two roots for {one.size:,} entries", todo=DO_NOT)
    return list(out.values())
