"""The log itself: entries and hashes as tiles in the published tree, and a signed checkpoint. C2SP tlog-tiles; one writer.

::

    log/tile/entries/000.p/3    the entries, the release manifests, byte for byte
    log/tile/0/000.p/3          their hashes; tile/1, tile/2 … the roots over 256, 65,536 …
    log/pending                 size and root, signed by the log's key, while the witnesses are asked; not served
    log/checkpoint              the same with the witnesses' cosignatures, once they are a quorum

Appending writes bundles, then tiles, each durable, and the signed checkpoint last: whoever sees a checkpoint finds its tiles. It is
kept as pending before any witness sees it, because what is signed once must never be signed otherwise; and it is published only with
its quorum, so that nobody who follows the log finds a checkpoint that he cannot believe. A process that
dies before the checkpoint leaves tiles of a size that no checkpoint ever named; the next append writes over them, and nobody asks for
them meanwhile, since a reader only asks for what a signed checkpoint implies.

The log reads its own tiles back through :class:`~coldchain.tlog.tiles.TileReader`, so a tile that rotted on the disk is noticed before
anything is signed over it. Whoever appends holds the publisher's lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from coldchain.errors import ColdchainError, InternalError, MalformedError, StorageError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from coldchain.tlog.merkle import (
    EMPTY_ROOT,
    Node,
    consistency_ranges,
    inclusion_ranges,
    prove_consistency,
    prove_inclusion,
    subtrees,
    tree_root,
)
from coldchain.tlog.note import SignedNote, parse_note, sign_text
from coldchain.tlog.tiles import (
    ENTRIES,
    TOP_LEVEL,
    WIDTH,
    Tile,
    TileReader,
    edge_root,
    grow,
    read_entries,
    right_edge,
    tile_at,
    tiles_needed,
)
from coldchain.tlog.vkey import NoteKey
from coldchain_server.storage.interface import Storage

PREFIX: Final = "log/"
CHECKPOINT: Final = "log/checkpoint"
PENDING: Final = "log/pending"


Sign = Callable[[bytes], bytes]
"""Makes the log's 64-byte Ed25519 signature of a message."""


class PublicLog:
    """A log in the published tree.

    Args:
        storage: the published tree.
        key: the log's public key; its name is the log's origin.
        limits: bounds.
    """

    def __init__(self, storage: Storage, key: NoteKey, limits: Limits = LIMITS) -> None:
        self.storage, self.key, self.limits = storage, key, limits

    async def head(self) -> SignedNote | None:
        """The newest checkpoint that was signed, published or pending; None before the first entry.

        Raises:
            StorageError: it is not a checkpoint that this log's key signed.
        """
        found = [note for path in (CHECKPOINT, PENDING) if (note := await self._note(path)) is not None]
        return max(found, key=lambda note: parse_checkpoint(note.text).size, default=None)

    async def published(self) -> SignedNote | None:
        """The checkpoint that readers see, with its quorum; None before the first. Raises StorageError as :meth:`head`."""
        return await self._note(CHECKPOINT)

    async def _note(self, path: str) -> SignedNote | None:
        if await self.storage.stat(path) is None:
            return None
        try:
            note = parse_note(await self.storage.get(path), self.limits)
            open_checkpoint(note, [self.key])
        except StorageError:
            raise
        except ColdchainError as error:
            raise StorageError(
                f"{path} holds a checkpoint that is not one of this log: {error.what}",
                kept="nothing was signed; the tree is as it was",
                todo=f"restore {path} from a backup or a mirror",
            ) from error
        return note

    async def checkpoint(self) -> Checkpoint:
        """Size and root now. Raises StorageError as :meth:`head`."""
        note = await self.head()
        origin = self.key.name
        if note is None:
            return Checkpoint(origin, 0, EMPTY_ROOT)
        return open_checkpoint(note, [self.key]).checkpoint

    async def append(self, entries: Sequence[bytes], sign: Sign, *, pending: bool = False) -> tuple[int, SignedNote]:
        """Adds entries; returns the index of the first and the new checkpoint, signed, and published unless it is ``pending``.

        Raises:
            StorageError: the tree's tiles are not those under its checkpoint, or the disk refused.
            MalformedError: an entry is too long.
            InternalError: ``sign`` makes another key's signatures; the checkpoint stays the old one.
        """
        if longest := max((len(entry) for entry in entries if len(entry) > self.limits.log_entry_bytes), default=0):
            raise MalformedError(f"log entry: {longest} bytes, more than {self.limits.log_entry_bytes}")
        old = await self.checkpoint()
        new = old.size + len(entries)
        edge = [tile for level in range(TOP_LEVEL + 1) if (tile := _partial(level, old.size))]
        last = tile_at(ENTRIES, old.size // WIDTH, old.size)
        there = await self._tiles([*edge, *([last] if last else [])])
        with _damaged():
            if edge_root(right_edge(old.size, there.get)) != old.root:
                raise StorageError(
                    "the log's tiles are not those under its checkpoint",
                    kept="nothing was signed; the tree is as it was",
                    todo=_RESTORE,
                )
            if last is not None:
                # grow copies the bundle's entries into the next one: what rotted must not be written again
                read_entries(last.index, TileReader(old.size, old.root, there.get, self.limits), there.get, self.limits)
            files = grow(old.size, entries, there.get, self.limits)
        for tile, data in files:
            # no checkpoint ever named these: what lies there is what a crash left
            await self.storage.put(PREFIX + tile.path, data, replace=True)
        grown = {**there, **dict(files)}
        root = edge_root(right_edge(new, grown.get))
        text = Checkpoint(self.key.name, new, root).text
        note = SignedNote(text, (sign_text(text, self.key, sign),))
        try:
            open_checkpoint(note, [self.key])
        except ColdchainError as error:
            raise InternalError(f"the log's own signature does not verify: {error.what}") from error
        await (self.keep(note) if pending else self.publish(note))
        return old.size, note

    async def keep(self, note: SignedNote) -> None:
        """Keeps a checkpoint that has no quorum yet, with whatever cosignatures it has."""
        await self.storage.put(PENDING, note.encode(), replace=True)

    async def publish(self, note: SignedNote) -> None:
        """Publishes a checkpoint, with its quorum."""
        await self.storage.put(CHECKPOINT, note.encode(), replace=True)
        await self.storage.delete(PENDING)

    async def inclusion(self, index: int, head: Checkpoint) -> list[bytes]:
        """The proof that entry ``index`` is under ``head``. Raises StorageError when tiles are damaged."""
        reader = await self._reader(head, (node for nodes in inclusion_ranges(index, head.size) for node in nodes))
        with _damaged():
            return prove_inclusion(index, head.size, reader)

    async def growth(self, old: int, head: Checkpoint) -> list[bytes]:
        """The proof that ``head`` continues the log's first ``old`` entries."""
        reader = await self._reader(head, (node for nodes in consistency_ranges(old, head.size) for node in nodes))
        with _damaged():
            return prove_consistency(old, head.size, reader)

    async def root_at(self, size: int) -> bytes:
        """The root of the log's first ``size`` entries."""
        head = await self.checkpoint()
        reader = await self._reader(head, subtrees(0, size))
        with _damaged():
            return tree_root(size, reader)

    async def last_entries(self, head: Checkpoint) -> tuple[int, list[bytes]]:
        """The entries of the newest bundle, proved to be under ``head``, and the index of the first."""
        if head.size == 0:
            return 0, []
        bundle = (head.size - 1) // WIDTH
        return bundle * WIDTH, await self._bundle(head, bundle)

    async def entries(self, head: Checkpoint, first: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """Every entry from index ``first`` on with its index, each proved to be under ``head``."""
        for bundle in range(first // WIDTH, -(-head.size // WIDTH)):
            for index, entry in enumerate(await self._bundle(head, bundle), bundle * WIDTH):
                if index >= first:
                    yield index, entry

    async def find(self, entry: bytes, first: int | None = None) -> int | None:
        """The index of an entry from index ``first`` on (None: among those of the last bundle); None when it is not there."""
        head = await self.checkpoint()
        start = (head.size - 1) // WIDTH * WIDTH if first is None else first
        async for index, found in self.entries(head, max(start, 0)):
            if found == entry:
                return index
        return None

    async def _bundle(self, head: Checkpoint, bundle: int) -> list[bytes]:
        tile = tile_at(ENTRIES, bundle, head.size)
        assert tile is not None
        first = bundle * WIDTH
        nodes = [Node(0, first + number) for number in range(tile.width)]
        there = await self._tiles([tile, *tiles_needed(nodes, head.size)])
        with _damaged():
            reader = TileReader(head.size, head.root, there.get, self.limits)
            return read_entries(bundle, reader, there.get, self.limits)

    async def _reader(self, head: Checkpoint, nodes: Iterable[Node]) -> TileReader:
        there = await self._tiles(tiles_needed(list(nodes), head.size))
        return TileReader(head.size, head.root, there.get, self.limits)

    async def _tiles(self, wanted: Iterable[Tile]) -> Mapping[Tile, bytes]:
        there: dict[Tile, bytes] = {}
        for tile in dict.fromkeys(wanted):
            for one in dict.fromkeys((tile, tile.full)):
                if await self.storage.stat(PREFIX + one.path) is not None:
                    there[one] = await self.storage.get(PREFIX + one.path)
                    break
        return there


_RESTORE: Final = "restore log/tile from a backup or a mirror; every tile can be checked against the checkpoint"


def _partial(level: int, size: int) -> Tile | None:
    count = size >> 8 * level
    return Tile(level, count // WIDTH, count % WIDTH) if count % WIDTH else None


@contextmanager
def _damaged() -> Iterator[None]:
    """What a reader refuses about our own tiles is damage of the disk."""
    try:
        yield
    except StorageError:
        raise
    except ColdchainError as error:
        raise StorageError(
            f"the log's tiles are damaged: {error.what}",
            kept="nothing was signed; the tree is as it was",
            todo=_RESTORE,
        ) from error
