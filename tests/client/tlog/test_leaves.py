"""Finding entries in a log, and the proof of its growth since: from as few tiles as are needed, each under the root."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import pytest

from coldchain.errors import EvidenceError
from coldchain.tlog.leaves import LogTiles
from coldchain.tlog.merkle import leaf_hash, prove_consistency
from coldchain.tlog.tiles import Tile, TileReader
from tests.client.tlog.memory_log import MemoryLog

T = TypeVar("T")
SIZES = (1, 2, 3, 255, 256, 257, 700)


def entry(number: int) -> bytes:
    return b"entry %d" % number


def log_of(size: int) -> MemoryLog:
    log = MemoryLog()
    log.append(*map(entry, range(size)))
    return log


def driven(steps: Generator[Tile, bytes | None, T], fetch: Callable[[Tile], bytes | None]) -> T:
    data: bytes | None = None
    while True:
        try:
            tile = steps.send(data)
        except StopIteration as done:
            found: T = done.value
            return found
        data = fetch(tile)


@pytest.mark.parametrize("size", SIZES)
def test_every_entry_is_found_and_no_other(size: int) -> None:
    log = log_of(size)
    wanted = sorted({0, size // 2, size - 1})
    tiles = LogTiles(log.head)
    leaves = [leaf_hash(entry(number)) for number in (*wanted, size)]
    assert driven(tiles.find(leaves), log._fetch) == {leaf_hash(entry(number)): number for number in wanted}


def test_it_is_looked_for_from_the_newest_down_and_no_further_than_wanted() -> None:
    log, asked = log_of(700), list[Tile]()

    def fetch(tile: Tile) -> bytes | None:
        asked.append(tile)
        return log._fetch(tile)

    leaf = leaf_hash(entry(600))
    assert driven(LogTiles(log.head).find([leaf]), fetch) == {leaf: 600}
    assert Tile(0, 0) not in asked
    asked.clear()
    assert driven(LogTiles(log.head).find([leaf_hash(entry(3))], 2), fetch) == {}
    assert Tile(0, 0) not in asked


@pytest.mark.parametrize("size", SIZES)
def test_the_proof_of_growth_is_that_of_the_whole_log(size: int) -> None:
    log = log_of(size)
    read = TileReader(size, log.head.root, log._fetch)
    for old in sorted({1, size // 2, max(size - 1, 1), size} - {0}):
        assert driven(LogTiles(log.head).consistency(old), log._fetch) == prove_consistency(old, size, read)


def test_where_only_the_full_tile_is_left_its_beginning_is_used() -> None:
    log = log_of(255)
    head = log.head
    log.append(*map(entry, range(255, 600)))
    files = {tile: data for tile, data in ((one, log._fetch(one)) for one in (Tile(0, 0), Tile(0, 1))) if data}
    assert driven(LogTiles(head).find([leaf_hash(entry(9))]), files.get) == {leaf_hash(entry(9)): 9}


@pytest.mark.parametrize("bad", [lambda _: None, lambda data: data[:-1], lambda data: bytes(len(data)), lambda _: b""])
def test_a_tile_that_is_nowhere_or_not_under_the_root_is_refused(bad: Callable[[bytes], bytes | None]) -> None:
    log = log_of(300)
    with pytest.raises(Exception) as found:
        driven(LogTiles(log.head).find([leaf_hash(entry(7))]), lambda tile: bad(log._fetch(tile) or b""))
    assert isinstance(found.value, EvidenceError) or type(found.value).__name__ == "MalformedError"
