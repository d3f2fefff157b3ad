"""A log as its published files show it, believed only under one signed checkpoint.

Tiles are fetched when they are needed and kept while they are likely to be needed again; every hash and entry that is handed out
hangs under the checkpoint's root (:class:`coldchain.tlog.tiles.TileReader`). Worked example, a log of 70,000 entries::

    view = LogView(get, head)
    await view.root_at(65_536)       one tile of level 2: the root the log had then
    await view.entries(273)          tile/entries/273.p/112, and tile/0/273.p/112 that it hangs under
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from coldchain.errors import EvidenceError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import EMPTY_ROOT, Node, subtrees, tree_root
from coldchain.tlog.tiles import ENTRIES, WIDTH, Tile, TileReader, read_entries, tile_at, tiles_needed

PREFIX: Final = "log/"
_KEPT: Final = 256

Get = Callable[[str, int], Awaitable[bytes | None]]
"""A file of at most so many bytes; None when there is none. Raises TransportError when that cannot be told."""


class LogView:
    """The log under one checkpoint.

    Args:
        get: fetches published files.
        head: size and root, of a checkpoint whose signature was checked.
        limits: bounds.
    """

    def __init__(self, get: Get, head: Checkpoint, limits: Limits = LIMITS) -> None:
        self.head = head
        self._get, self._limits = get, limits
        self._tiles: dict[Tile, bytes] = {}

    async def root_at(self, size: int) -> bytes:
        """The root of the first ``size`` entries of this tree.

        Raises:
            EvidenceError, MalformedError: tiles are missing, or not those under the root.
            TransportError: they could not be had.
        """
        if size == 0:
            return EMPTY_ROOT
        if size == self.head.size:
            return self.head.root
        return tree_root(size, await self._reader(subtrees(0, size)))

    async def entries(self, bundle: int) -> list[bytes]:
        """The entries of a bundle (256 each, the last one fewer). Raises as :meth:`root_at`."""
        tile = tile_at(ENTRIES, bundle, self.head.size)
        if tile is None:
            raise EvidenceError(f"log: no bundle {bundle} in {self.head.size} entries")
        first = bundle * WIDTH
        reader = await self._reader([Node(0, first + number) for number in range(tile.width)])
        there: dict[Tile, bytes] = {}
        await self._fetch(tile, there)
        return read_entries(bundle, reader, there.get, self._limits)

    async def _reader(self, nodes: Iterable[Node]) -> TileReader:
        needed = tiles_needed(list(nodes), self.head.size)
        for tile in needed:
            if tile not in self._tiles and tile.full not in self._tiles:
                await self._fetch(tile, self._tiles)
        reader = TileReader(self.head.size, self.head.root, self._tiles.get, self._limits)
        while len(self._tiles) > max(_KEPT, 2 * len(needed)):
            del self._tiles[next(one for one in self._tiles if one not in needed)]
        return reader

    async def _fetch(self, tile: Tile, into: dict[Tile, bytes]) -> None:
        for one in dict.fromkeys((tile, tile.full)):
            most = one.width * (2 + self._limits.log_entry_bytes if one.level == ENTRIES else 32)
            data = await self._get(PREFIX + one.path, most)
            if data is not None:
                into[one] = data
                return
