"""Tiles: where everything lies, that growing in any steps writes the same files, and that no wrong tile is believed."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import ColdchainError, EvidenceError, MalformedError
from coldchain.limits import Limits
from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from coldchain.tlog.merkle import (
    EMPTY_ROOT,
    Node,
    check_consistency,
    check_inclusion,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_from_leaves,
    subtrees,
)
from coldchain.tlog.note import parse_note
from coldchain.tlog.tiles import (
    ENTRIES,
    TOP_LEVEL,
    Tile,
    TileReader,
    edge_root,
    encode_bundle,
    grow,
    new_tiles,
    parse_bundle,
    parse_tile_path,
    place,
    read_bundle,
    read_entries,
    right_edge,
    tile_at,
    tiles_needed,
)
from coldchain.tlog.vkey import parse_vkey
from tests.client.tlog.logs import MemoryLog, vectors

# Paths


def test_the_worked_examples_of_paths() -> None:
    for path, tile in {
        "tile/0/x001/x234/067": Tile(0, 1234067),
        "tile/1/000.p/17": Tile(1, 0, 17),
        "tile/entries/x001/000.p/7": Tile(ENTRIES, 1000, 7),
        "tile/entries/000": Tile(ENTRIES, 0),
        "tile/0/999": Tile(0, 999),
        "tile/7/000.p/127": Tile(7, 0, 127),
        "tile/0/x036/x028/x797/x018/x963/967.p/255": Tile(0, 2**55 - 1, 255),
    }.items():
        assert tile.path == path
        assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/x000/001",
        "tile/0/x001",
        "tile/0/001/001",
        "tile/0/x01/001",
        "tile/00/001",
        "tile/8/000.p/1",
        "tile/63/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/8/0/000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/",
        "tile/0/000.p",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/0/X001/000",
        "tile//000",
        "tile/7/000",
        "tile/7/000.p/128",
        "tile/7/001.p/1",
        "tile/0/x036/x028/x797/x018/x963/967",
        "tile/0/x036/x028/x797/x018/x963/968.p/1",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/x001/x999/x999/x999/x999/x999/x999/999",
        "../tile/0/000",
        "tile/0/../000",
    ],
)
def test_other_spellings_of_paths_are_refused(path: str) -> None:
    with pytest.raises(MalformedError, match="tile path"):
        parse_tile_path(path)


@given(st.integers(ENTRIES, TOP_LEVEL), st.integers(0, 2**56), st.integers(1, 256))
def test_every_path_comes_back(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    if (index * 256 + width) << 8 * max(level, 0) < 2**63:
        assert parse_tile_path(tile.path) == tile
    else:
        with pytest.raises(MalformedError):
            parse_tile_path(tile.path)


DIGITS = st.text("0123456789x", min_size=1, max_size=5)


@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(DIGITS, min_size=2, max_size=5).map(lambda parts: "tile/" + "/".join(parts)),
        st.builds("tile/{}/{}.p/{}".format, st.sampled_from(["entries", "0", "1"]), DIGITS, DIGITS),
    )
)
def test_a_path_has_one_spelling(text: str) -> None:
    with suppress(MalformedError):
        assert parse_tile_path(text).path == text


# Which tiles there are


def test_the_worked_examples_of_sizes() -> None:
    def levels(size: int) -> dict[int, tuple[int, list[str]]]:
        found: dict[int, tuple[int, list[str]]] = {}
        for tile in new_tiles(0, size):
            full, partial = found.get(tile.level, (0, []))
            found[tile.level] = (full + 1, partial) if tile.width == 256 else (full, [*partial, tile.path])
        found.pop(ENTRIES)
        return found

    assert levels(70000) == {
        0: (273, ["tile/0/273.p/112"]),
        1: (1, ["tile/1/001.p/17"]),
        2: (0, ["tile/2/000.p/1"]),
    }
    assert levels(65536) == {0: (256, []), 1: (1, []), 2: (0, ["tile/2/000.p/1"])}
    assert levels(256) == {0: (1, []), 1: (0, ["tile/1/000.p/1"])}
    assert list(new_tiles(0, 0)) == []


def test_new_tiles_are_those_that_the_old_size_has_not() -> None:
    sizes = [*range(5), *range(254, 260), *range(510, 515), 65535, 65536, 65537, 70000]
    for old, new in itertools.combinations_with_replacement(sizes, 2):
        expected = set(new_tiles(0, new)) - set(new_tiles(0, old))
        assert set(new_tiles(old, new)) == expected
        for tile in new_tiles(0, new):
            assert tile_at(tile.level, tile.index, new) == tile
            assert tile_at(tile.level, (new >> 8 * max(tile.level, 0)) // 256 + 1, new) is None


@given(st.integers(1, 2**63 - 1), st.data())
def test_every_subtree_has_a_place(size: int, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, size.bit_length() - 1))
    node = Node(level, data.draw(st.integers(0, (size >> level) - 1)))
    tile, first, end = place(node, size)
    assert parse_tile_path(tile.path) == tile
    assert 0 <= first < end <= tile.width <= 256
    # the hashes of the tile cover exactly the node's leaves
    assert (tile.index * 256 + first) << 8 * tile.level == node.index << node.level
    assert (tile.index * 256 + end) << 8 * tile.level == (node.index + 1) << node.level
    with pytest.raises(EvidenceError):
        place(Node(level, size >> level), size)
    with pytest.raises(EvidenceError):
        place(Node(level, -1), size)


# Growing


def by_definition(tile: Tile, leaves: list[bytes]) -> bytes:
    span = 256**tile.level
    roots = []
    for number in range(tile.width):
        start = (256 * tile.index + number) * span
        roots.append(root_from_leaves(leaves[start : start + span]))
    return b"".join(roots)


@pytest.mark.parametrize("steps", [[1] * 600, [255, 1, 1, 255, 256, 257], [0, 66000, 0, 3, 533], [70000]])
def test_growing_in_any_steps_writes_what_the_definition_says(steps: list[int]) -> None:
    log = MemoryLog()
    entries = [b"%d" % number for number in range(sum(steps))]
    leaves = [leaf_hash(entry) for entry in entries]
    sizes = [0]
    for step in steps:
        files = grow(log.size, entries[log.size : log.size + step], log.files.get)
        assert [tile for tile, _ in files] == list(new_tiles(log.size, log.size + step))
        log.append(entries[log.size : log.size + step])
        sizes.append(log.size)
        if len(sizes) < 50 or log.size % 64 == 0:
            assert log.root() == root_from_leaves(leaves[: log.size])
    # every size that was grown to has its files, also the ones in between
    assert set(log.files) == {tile for size in sizes for tile in new_tiles(0, size)}
    for tile, data in log.files.items():
        if tile.level == ENTRIES:
            start = tile.index * 256
            assert parse_bundle(data, tile.width) == entries[start : start + tile.width]
        else:
            assert data == by_definition(tile, leaves)


def test_a_log_that_lost_its_edge_does_not_grow() -> None:
    log = MemoryLog.of(300)
    for tile in [Tile(0, 1, 44), Tile(1, 0, 1), Tile(ENTRIES, 1, 44)]:
        without = {name: data for name, data in log.files.items() if name != tile}
        with pytest.raises(EvidenceError, match=r"is not there"):
            grow(300, [b"x"], without.get)
    with pytest.raises(EvidenceError, match="at most"):
        grow(2**63 - 1, [b"x"], log.files.get)
    with pytest.raises(MalformedError, match="65535"):
        grow(300, [b"x" * 65536], log.files.get)


# Reading: nothing is believed that is not under the root


def nodes_of(tile: Tile) -> list[Node]:
    return [Node(8 * tile.level, 256 * tile.index + number) for number in range(tile.width)]


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 600])
def test_every_hash_of_every_tile_is_read_and_any_change_is_seen(size: int) -> None:
    log = MemoryLog.of(size)
    root = log.root()
    assert root == root_from_leaves([leaf_hash(entry) for entry in log.entries])
    rng = random.Random(size)
    for tile in [tile for tile in log.files if tile.level != ENTRIES]:
        data = log.files[tile]
        hashes = TileReader(size, root, log.files.get)(nodes_of(tile))
        assert b"".join(hashes) == data
        for _ in range(8):
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            reader = TileReader(size, root, {**log.files, tile: bytes(damaged)}.get)
            with pytest.raises(EvidenceError, match="root"):
                reader(nodes_of(tile)[:1])
            with pytest.raises(EvidenceError, match="root"):
                reader(nodes_of(tile)[:1])  # and it is not believed at a second look
        for wrong in (b"", data[:-1], data + b"\0", data[:-32], data + b"\0" * 32):
            reader = TileReader(size, root, {**log.files, tile: wrong}.get)
            with pytest.raises(MalformedError, match="belong"):
                reader(nodes_of(tile))
        missing = {name: content for name, content in log.files.items() if name != tile}
        with pytest.raises(EvidenceError, match="is not there"):
            TileReader(size, root, missing.get)(nodes_of(tile))
    reader = TileReader(size, root_from_leaves([b"\0" * 32]), log.files.get)
    if size:
        with pytest.raises(EvidenceError, match="another root"):
            reader([Node(0, 0)])
    with pytest.raises(EvidenceError, match="do not hold"):
        log.reader()([Node(0, size)])


def test_no_forged_tile_passes_whatever_the_size() -> None:
    """CVE-2026-56865 of Go's reader: full tiles went unchecked where several subtrees of the root lie in one edge tile."""
    log = MemoryLog.of(256 * 256 + 600)
    for size in (256 + 3, 256 + 44, 512 + 255, 256 * 7 + 7, 256 * 255 + 255, 65536 + 3, 65536 + 256 + 7, 65536 + 600):
        part = MemoryLog()
        part.append(log.entries[:size])
        root = part.root()
        for tile in [Tile(0, 0), Tile(0, (size >> 8) - 1), *([Tile(1, 0)] if size >= 65536 else [])]:
            data = part.files[tile]
            forged = {**part.files, tile: leaf_hash(b"forged") + data[32:]}
            for node in nodes_of(tile)[:2]:
                with pytest.raises(EvidenceError, match="is not under the root"):
                    TileReader(size, root, forged.get)([node])


def test_an_empty_log_has_no_tiles() -> None:
    assert edge_root(right_edge(0, lambda _: None)) == EMPTY_ROOT
    assert TileReader(0, EMPTY_ROOT, lambda _: None)([]) == []


def test_a_full_tile_stands_in_for_a_partial_one() -> None:
    log = MemoryLog.of(300)
    early = log.reader()
    root = log.root()
    log.append([b"more %d" % number for number in range(70000)])
    pruned = {tile: data for tile, data in log.files.items() if tile.width == 256}
    pruned |= {tile: data for tile, data in log.files.items() if tile in set(new_tiles(0, log.size))}
    assert Tile(0, 1, 44) not in pruned
    reader = TileReader(300, root, pruned.get)
    for index in (0, 255, 256, 299):
        assert prove_inclusion(index, 300, reader) == prove_inclusion(index, 300, early)
    assert read_entries(1, reader, pruned.get) == [b"entry %d" % number for number in range(256, 300)]


def test_the_tiles_needed_are_the_tiles_fetched() -> None:
    log = MemoryLog.of(70000)
    size, root = log.size, log.root()
    rng = random.Random(1)
    for _ in range(60):
        index, old = rng.randrange(size), rng.randrange(1, size + 1)
        for ranges in (inclusion_ranges(index, size), consistency_ranges(old, size)):
            nodes = [node for row in ranges for node in row]
            asked: list[Tile] = []

            def fetch(tile: Tile, asked: list[Tile] = asked) -> bytes | None:
                asked.append(tile)
                return log.files[tile]

            TileReader(size, root, fetch)(nodes)
            needed = tiles_needed(nodes, size)
            assert set(asked) <= set(needed)
            assert len(asked) == len(set(asked))
            if nodes:
                assert set(needed) == set(asked) | {place(node, size)[0] for node in subtrees(0, size)}
            assert len(needed) <= 12


def test_proofs_from_tiles_of_a_large_log() -> None:
    log = MemoryLog.of(70000)
    size, root, reader = log.size, log.root(), log.reader()
    rng = random.Random(2)
    for _ in range(60):
        index = rng.randrange(size)
        proof = prove_inclusion(index, size, reader)
        check_inclusion(proof, index, size, root, leaf_hash(log.entries[index]))
    for old in (1, 255, 256, 257, 65535, 65536, 65537, 69999, 70000):
        old_root = root_from_leaves([leaf_hash(entry) for entry in log.entries[:old]])
        check_consistency(prove_consistency(old, size, reader), old, old_root, size, root)


def test_memory_stays_bounded_while_a_whole_log_is_read() -> None:
    log = MemoryLog.of(5000)
    fetched: list[Tile] = []

    def fetch(tile: Tile) -> bytes | None:
        fetched.append(tile)
        return log.files.get(tile)

    reader = TileReader(5000, log.root(), fetch, Limits(log_tiles_kept=2))
    for index in range(20):
        assert read_entries(index, reader, log.files.get) == log.entries[index * 256 : index * 256 + 256]
        assert len(reader._kept) <= 2
    assert len(fetched) == len(set(fetched))
    with pytest.raises(EvidenceError, match="no bundle"):
        read_entries(20, reader, log.files.get)


# Entry bundles


def test_the_worked_example_of_a_bundle() -> None:
    assert encode_bundle([b"entry", b""]) == b"\0\5entry\0\0"
    assert parse_bundle(b"\0\5entry\0\0", 2) == [b"entry", b""]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_bundles_come_back(entries: list[bytes]) -> None:
    data = encode_bundle(entries)
    assert parse_bundle(data, len(entries)) == entries
    for wrong in (data[:-1], data + b"\0", data[1:]):
        if wrong != data:
            with pytest.raises(MalformedError):
                parse_bundle(wrong, len(entries))
    with pytest.raises(MalformedError):
        parse_bundle(data, len(entries) + 1)
    with pytest.raises(MalformedError):
        parse_bundle(data, len(entries) - 1)


@given(st.binary(max_size=2000), st.integers(1, 256))
def test_bundles_have_one_spelling(data: bytes, width: int) -> None:
    with suppress(MalformedError):
        assert encode_bundle(parse_bundle(data, width)) == data


def test_the_bounds_of_a_bundle() -> None:
    assert parse_bundle(encode_bundle([b"x" * 65535] * 256), 256) == [b"x" * 65535] * 256
    for entries in ([], [b""] * 257, [b"x" * 65536]):
        with pytest.raises(MalformedError):
            encode_bundle(entries)
    with pytest.raises(MalformedError):
        parse_bundle(encode_bundle([b"x" * 11]), 1, Limits(log_entry_bytes=10))


def test_an_altered_entry_is_seen() -> None:
    log = MemoryLog.of(300)
    for tile in (Tile(ENTRIES, 0), Tile(ENTRIES, 1, 44)):
        data = log.files[tile]
        assert read_entries(tile.index, log.reader(), log.files.get) == read_bundle(tile, log.files.get)
        for position in range(0, len(data), 7):
            damaged = bytearray(data)
            damaged[position] ^= 1
            with pytest.raises((EvidenceError, MalformedError)):
                read_entries(tile.index, log.reader(), {**log.files, tile: bytes(damaged)}.get)
        swapped = parse_bundle(data, tile.width)
        swapped[3], swapped[4] = swapped[4], swapped[3]
        with pytest.raises(EvidenceError, match="not the one in the tree"):
            read_entries(tile.index, log.reader(), {**log.files, tile: encode_bundle(swapped)}.get)


# Another implementation's log


def test_a_log_that_tessera_wrote() -> None:
    folder = vectors("tiles") / "tessera-log-15"
    key = parse_vkey("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")
    assert key is not None

    def fetch(tile: Tile) -> bytes | None:
        path = folder / tile.path
        return path.read_bytes() if path.exists() else None

    heads: list[Checkpoint] = []
    for size in range(16):
        note = parse_note((folder / f"checkpoint.{size}").read_bytes())
        checkpoint = open_checkpoint(note, [key]).checkpoint
        assert checkpoint.size == size
        assert parse_checkpoint(note.text) == checkpoint
        assert edge_root(right_edge(size, fetch)) == checkpoint.root
        reader = TileReader(size, checkpoint.root, fetch)
        entries = read_entries(0, reader, fetch) if size else []
        for index, entry in enumerate(entries):
            proof = prove_inclusion(index, size, reader)
            check_inclusion(proof, index, size, checkpoint.root, leaf_hash(entry))
        for old in heads:
            proof = prove_consistency(old.size, size, reader)
            check_consistency(proof, old.size, old.root, size, checkpoint.root)
        heads.append(checkpoint)
    # and our log writes the same bytes
    ours: dict[Tile, bytes] = {}
    everything = read_bundle(Tile(ENTRIES, 0, 15), fetch)
    for size in range(15):
        ours.update(grow(size, everything[size : size + 1], ours.get))
    assert len(ours) == 30
    for tile, data in ours.items():
        assert data == fetch(tile)


@given(st.binary(max_size=200), st.integers(0, 2**63 - 1))
def test_no_bytes_crash_a_reader(data: bytes, size: int) -> None:
    reader = TileReader(size, EMPTY_ROOT, lambda _: data)
    with suppress(ColdchainError):
        reader([Node(0, size // 2), Node(0, 0)])
        assert not size
