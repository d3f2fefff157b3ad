"""The log in the published tree: whatever was signed can be proved, with the client's code, from the files that lie there."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from coldchain.errors import InternalError, MalformedError, StorageError
from coldchain.limits import LIMITS
from coldchain.tlog.checkpoint import Checkpoint, check_extends, open_checkpoint, parse_checkpoint
from coldchain.tlog.merkle import EMPTY_ROOT, check_inclusion, leaf_hash, root_from_leaves
from coldchain.tlog.note import SignedNote, parse_note
from coldchain.tlog.tiles import ENTRIES, Tile, TileReader, new_tiles, parse_tile_path, read_entries, tile_at
from coldchain_server.log.public_log import CHECKPOINT, PREFIX, PublicLog
from coldchain_server.storage.directory import DirectoryStorage
from coldchain_server.storage.interface import Storage
from tests.client.tlog.logs import LOG, ONE, Signer
from tests.server.web.published import MemoryStorage

BACKENDS: dict[str, Callable[[Path], Storage]] = {
    "directory": lambda folder: DirectoryStorage(folder / "public"),
    "memory": lambda _: MemoryStorage(),
}
MOST = 600


@pytest.fixture(params=BACKENDS)
def storage(request: pytest.FixtureRequest, memory: Path) -> Storage:
    return BACKENDS[request.param](memory)


def sign(message: bytes) -> bytes:
    return LOG.private.sign(message).signature


def entry(number: int) -> bytes:
    return b'{"release":%d}' % number


def entries(start: int, end: int) -> list[bytes]:
    return [entry(number) for number in range(start, end)]


async def files_of(storage: Storage) -> dict[str, bytes]:
    return {path: await storage.get(path) async for path in storage.list(PREFIX)}


async def filled(storage: Storage, size: int) -> PublicLog:
    log = PublicLog(storage, LOG.key)
    if size:
        await log.append(entries(0, size), sign)
    return log


def head_of(note: SignedNote) -> Checkpoint:
    """As a client reads it."""
    return open_checkpoint(note, [LOG.key]).checkpoint


def reader_of(files: dict[str, bytes], head: Checkpoint) -> tuple[TileReader, Callable[[Tile], bytes | None]]:
    def fetch(tile: Tile) -> bytes | None:
        return files.get(PREFIX + tile.path)

    return TileReader(head.size, head.root, fetch), fetch


async def test_every_size_appended_one_by_one_is_the_tree_of_its_entries(storage: Storage) -> None:
    log = PublicLog(storage, LOG.key)
    assert await log.head() is None
    assert await log.checkpoint() == Checkpoint(LOG.name, 0, EMPTY_ROOT)
    heads = [await log.checkpoint()]
    most = MOST if isinstance(storage, MemoryStorage) else 260  # on a disk as far as the second tile
    for size in range(1, most + 1):
        index, note = await log.append([entry(size - 1)], sign)
        head = head_of(note)
        assert (index, head.size) == (size - 1, size)
        assert await log.head() == note
        heads.append(head)
        edge = size % 256 in (255, 0, 1, 2) or size < 4
        for one in {0, size // 2, size - 1} if edge else {size * size * 31 % 257 % size}:
            check_inclusion(await log.inclusion(one, head), one, size, head.root, leaf_hash(entry(one)))
        for old in {1, size // 3 or 1, max(1, size - 1), size} if edge else {1 + size * 17 % 97 % size}:
            check_extends(heads[old], head, await log.growth(old, head))
        if size % 64 in (0, 1, 63) or size == most:
            assert head.root == root_from_leaves([leaf_hash(one) for one in entries(0, size)])
            assert await log.root_at(size // 2) == heads[size // 2].root
    files = await files_of(storage)
    for head in heads[1:]:
        # all that a reader of this checkpoint may ask for
        wanted = {PREFIX + tile.path for tile in new_tiles(0, head.size)}
        assert wanted <= set(files), f"a tile of the checkpoint of {head.size} entries is gone"
        if head.size % 16 in (0, 1):
            reader, fetch = reader_of(files, head)
            last = (head.size - 1) // 256
            assert read_entries(last, reader, fetch) == entries(last * 256, head.size)


@pytest.mark.parametrize("batch", [1, 2, 7, 255, 256, 257, MOST])
async def test_batches_make_the_same_tree(batch: int) -> None:
    one, other = MemoryStorage(), MemoryStorage()
    log = PublicLog(one, LOG.key)
    for start in range(0, MOST, batch):
        index, note = await log.append(entries(start, min(start + batch, MOST)), sign)
        assert index == start
        assert head_of(note).root == root_from_leaves(
            [leaf_hash(entry) for entry in entries(0, min(start + batch, MOST))]
        )
    whole = await filled(other, MOST)
    assert (await log.checkpoint()) == await whole.checkpoint()
    assert one.files[CHECKPOINT] == other.files[CHECKPOINT]
    assert set(other.files.items()) <= set(one.files.items())


async def test_over_65536_entries_a_third_level_begins() -> None:
    storage = MemoryStorage()
    log = await filled(storage, 65_534)
    old = await log.checkpoint()
    for size in range(65_535, 65_540):
        _, note = await log.append([entry(size - 1)], sign)
        head = head_of(note)
        assert {PREFIX + tile.path for tile in new_tiles(size - 1, size)} <= set(storage.files)
        check_extends(old, head, await log.growth(old.size, head))
        for one in (0, 255, 256, 65_535, size - 1):
            if one < size:
                check_inclusion(await log.inclusion(one, head), one, size, head.root, leaf_hash(entry(one)))
        old = head
    assert "log/tile/2/000.p/1" in storage.files
    assert "log/tile/0/255" in storage.files
    assert "log/tile/entries/256.p/3" in storage.files


async def test_paths_and_contents_are_those_of_c2sp_and_go(storage: Storage) -> None:
    log = await filled(storage, 70_000 % 600)
    await log.append(entries(400, MOST), sign)
    found = await files_of(storage)
    paths = [path.removeprefix(PREFIX) for path in found if path != CHECKPOINT]
    for path in paths:
        tile = parse_tile_path(path)
        assert tile.path == path
        assert tile.level == ENTRIES or len(found[PREFIX + path]) == 32 * tile.width
    assert {"tile/0/000", "tile/0/001.p/144", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/000"} <= set(paths)
    first = found["log/tile/entries/000"]
    assert first.startswith(len(entry(0)).to_bytes(2, "big") + entry(0))
    origin, size, root, *rest = found[CHECKPOINT].decode().split("\n")
    assert (origin, size) == (LOG.name, str(MOST))
    assert base64.b64decode(root) == root_from_leaves([leaf_hash(one) for one in entries(0, MOST)])
    assert rest[0] == ""
    assert rest[1].startswith(f"— {LOG.name} ")


# -- damage: noticed before anything is signed ------------------------------------------------------------------------


class Signing:
    """Counts what was signed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, message: bytes) -> bytes:
        self.count += 1
        return sign(message)


def damages(data: bytes) -> list[bytes | None]:
    return [data[:-1] + bytes([data[-1] ^ 1]), bytes([data[0] ^ 1]) + data[1:], data[:-1], data + b"\0", b"", None]


SIZES = (1, 2, 5, 255, 256, 257, 300, 511, 512, 513)


@pytest.mark.parametrize("size", SIZES)
async def test_rotted_files_at_the_edge_are_noticed_before_anything_is_signed(size: int) -> None:
    """The tiles that the next root is made from, and the bundle that the next one is copied from."""
    storage = MemoryStorage()
    log = await filled(storage, size)
    edge = [tile for level in range(3) if (tile := tile_at(level, (size >> 8 * level) // 256, size))]
    last = tile_at(ENTRIES, size // 256, size)
    for tile in [*edge, *([last] if last else [])]:
        path = PREFIX + tile.path
        good = storage.files[path]
        for bad in damages(good):
            storage.files.pop(path)
            if bad is not None:
                storage.files[path] = bad
            before, signing = dict(storage.files), Signing()
            with pytest.raises(StorageError) as caught:
                await log.append([b"next"], signing)
            assert caught.value.kept == "nothing was signed; the tree is as it was"
            assert "restore log/tile" in caught.value.todo
            assert (signing.count, storage.files) == (0, before), (tile, bad)
        storage.files[path] = good
    assert (await log.append([b"next"], sign))[0] == size


async def test_a_rotted_tile_anywhere_makes_no_proof(storage: Storage) -> None:
    log = await filled(storage, MOST)
    head = await log.checkpoint()
    old = Checkpoint(LOG.name, 3, root_from_leaves([leaf_hash(one) for one in entries(0, 3)]))
    for path in ("tile/0/000", "tile/1/000.p/2", "tile/0/002.p/88"):
        good = await storage.get(PREFIX + path)
        for bad in damages(good):
            await storage.delete(PREFIX + path)
            if bad is not None:
                await storage.put(PREFIX + path, bad, replace=True)
            for attempt in (log.inclusion(0, head), log.growth(3, head), log.root_at(3)):
                with pytest.raises(StorageError, match="the log's tiles are damaged"):
                    await attempt
        await storage.delete(PREFIX + path)
        await storage.put(PREFIX + path, good)
    check_extends(old, head, await log.growth(3, head))


async def test_a_checkpoint_that_is_not_this_logs_is_not_built_upon(storage: Storage) -> None:
    log = await filled(storage, 5)
    good = await storage.get(CHECKPOINT)
    head = await log.checkpoint()
    stranger = Signer(LOG.name, LOG.kind, 9)
    other_name = Signer("log.example/other", LOG.kind, 0)
    bads = [
        b"",
        b"rubbish",
        good[:-3],
        good.replace(b"\n5\n", b"\n4\n"),
        SignedNote(head.text, (stranger.sign(head.text),)).encode(),
        SignedNote(head.text, (ONE.sign(head.text),)).encode(),
        SignedNote(
            Checkpoint(other_name.name, 5, head.root).text,
            (other_name.sign(Checkpoint(other_name.name, 5, head.root).text),),
        ).encode(),
        SignedNote(head.text, ()).text.encode(),
    ]
    for bad in bads:
        await storage.put(CHECKPOINT, bad, replace=True)
        before, signing = await files_of(storage), Signing()
        for attempt in (log.head(), log.checkpoint(), log.append([b"x"], signing), log.find(entry(1)), log.root_at(2)):
            with pytest.raises(StorageError, match="not one of this log") as caught:
                await attempt
            assert caught.value.todo
        assert (signing.count, await files_of(storage)) == (0, before)
    await storage.put(CHECKPOINT, good, replace=True)
    with pytest.raises(StorageError, match="not one of this log"):
        await PublicLog(storage, stranger.key).append([b"x"], sign)
    assert (await log.append([b"x"], sign))[0] == 5


async def test_a_well_signed_checkpoint_of_another_tree_is_not_built_upon(storage: Storage) -> None:
    """An old copy of log/checkpoint, or a newer one, beside these tiles."""
    log = await filled(storage, 5)
    for size, root in ((5, bytes(32)), (4, bytes(32)), (6, bytes(32)), (700, bytes(32))):
        text = Checkpoint(LOG.name, size, root).text
        await storage.put(CHECKPOINT, SignedNote(text, (LOG.sign(text),)).encode(), replace=True)
        signing = Signing()
        with pytest.raises(StorageError):
            await log.append([b"x"], signing)
        assert signing.count == 0


async def test_an_entry_that_is_too_long_changes_nothing(storage: Storage) -> None:
    log = await filled(storage, 3)
    before = await files_of(storage)
    signing = Signing()
    with pytest.raises(MalformedError, match="65536 bytes"):
        await log.append([b"x" * (LIMITS.log_entry_bytes + 1)], signing)
    assert (signing.count, await files_of(storage)) == (0, before)
    await log.append([b"x" * LIMITS.log_entry_bytes, b""], sign)
    assert await log.find(b"") == 4


# -- a crash before the checkpoint ------------------------------------------------------------------------------------


class DiesError(Exception):
    """The process is gone."""


class DyingStorage(MemoryStorage):
    """Dies before the put with this number."""

    left = -1

    async def put(self, path: str, data: bytes | Path, *, replace: bool = False) -> None:
        if self.left == 0:
            raise DiesError
        self.left -= 1
        await super().put(path, data, replace=replace)


@pytest.mark.parametrize(("size", "batch"), list(itertools.product((0, 1, 254, 255, 256, 511, 512), (1, 2, 300))))
async def test_what_a_crash_before_the_checkpoint_left_is_written_over(size: int, batch: int) -> None:
    """At every put; the next try has another entry, or fewer, or more."""
    whole = DyingStorage()
    await filled(whole, size)
    counted = len(whole.files)
    await PublicLog(whole, LOG.key).append([b"special %d" % number for number in range(batch)], sign)
    puts = len(whole.files) - counted + (1 if size else 0)
    for at in range(puts):
        storage = DyingStorage()
        log = await filled(storage, size)
        head = await log.checkpoint()
        storage.left = at
        with pytest.raises(DiesError):
            await log.append([b"special %d" % number for number in range(batch)], sign)
        storage.left = -1
        assert await log.checkpoint() == head
        assert await log.find(b"special 0") is None
        if size:
            check_inclusion(await log.inclusion(0, head), 0, size, head.root, leaf_hash(entry(0)))
        for number in range(3):
            assert (await log.append([entry(size + number)], sign))[0] == size + number
        now = await log.checkpoint()
        assert now.root == root_from_leaves([leaf_hash(one) for one in entries(0, size + 3)])
        reader, fetch = reader_of(storage.files, now)
        for bundle in range((now.size + 255) // 256):
            assert read_entries(bundle, reader, fetch) == entries(bundle * 256, min(bundle * 256 + 256, now.size))
        if head.size:
            check_extends(head, now, await log.growth(head.size, now))


class Watching(MemoryStorage):
    """Notes in which order files came."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    async def put(self, path: str, data: bytes | Path, *, replace: bool = False) -> None:
        self.order.append(path)
        await super().put(path, data, replace=replace)


async def test_the_checkpoint_comes_last_and_bundles_come_first() -> None:
    storage = Watching()
    log = await filled(storage, 511)
    storage.order.clear()
    await log.append([b"x"], sign)
    assert storage.order == ["log/tile/entries/001", "log/tile/0/001", "log/tile/1/000.p/2", CHECKPOINT]


# -- find -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def sized(storage: Storage) -> tuple[Storage, PublicLog]:
    return storage, await filled(storage, 255)


async def test_find_knows_the_entries_of_the_last_bundle(sized: tuple[Storage, PublicLog]) -> None:
    log = sized[1]
    for size in range(255, 260):
        last = (size - 1) // 256 * 256
        for index in {last, (last + size) // 2, size - 1}:
            assert await log.find(entry(index)) == index
        assert await log.find(entry(size)) is None
        if last:
            assert await log.find(entry(0)) is None, "older bundles are not searched"
        await log.append([entry(size)], sign)
    assert await PublicLog(DirectoryStorage(Path("nowhere")), LOG.key).find(b"x") is None


async def test_find_believes_no_rotted_bundle(sized: tuple[Storage, PublicLog]) -> None:
    storage, log = sized
    path = "log/tile/entries/000.p/255"
    good = await storage.get(path)
    await storage.put(path, good.replace(entry(7), entry(8)), replace=True)
    for number in (7, 8, 9, 1000):
        with pytest.raises(StorageError, match=r"entry 7 in tile/entries/000\.p/255 is not the one in the tree"):
            await log.find(entry(number))


async def test_cosignatures_are_published_and_the_next_append_leaves_them_behind(storage: Storage) -> None:
    log = await filled(storage, 2)
    note = await log.head()
    assert note is not None
    cosigned = SignedNote(note.text, (*note.signatures, ONE.sign(note.text)))
    await log.publish(cosigned)
    assert await storage.get(CHECKPOINT) == cosigned.encode()
    assert await log.head() == cosigned
    _, after = await log.append([b"x"], sign)
    assert [one.name for one in after.signatures] == [LOG.name]
    assert parse_checkpoint(parse_note(await storage.get(CHECKPOINT)).text).size == 3


async def test_a_signature_of_another_key_is_not_published(storage: Storage) -> None:
    """The key that is at hand is not the one that the log is known by."""
    log = await filled(storage, 2)
    before = await storage.get(CHECKPOINT)
    other = SigningKey(b"\x07" * 32)
    with pytest.raises(InternalError, match="own signature does not verify"):
        await log.append([b"x"], lambda message: other.sign(message).signature)
    assert await storage.get(CHECKPOINT) == before
