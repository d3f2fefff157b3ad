"""A log read through its published files: every old root, every entry, and no file that is not under the root."""

from __future__ import annotations

import asyncio

import pytest

from coldchain.errors import ColdchainError, ResponseError
from coldchain.monitor.log_view import LogView
from coldchain.tlog.tiles import ENTRIES, parse_tile_path
from tests.client.tlog.logs import MemoryLog

SIZES = (1, 2, 3, 7, 255, 256, 257, 511, 512, 700)


class Files:
    """The published files of a log, altered as a test wants, and how often each was asked for."""

    def __init__(self, log: MemoryLog) -> None:
        self.files = {f"log/{tile.path}": data for tile, data in log.files.items()}
        self.asked: list[str] = []

    async def get(self, path: str, most: int) -> bytes | None:
        self.asked.append(path)
        data = self.files.get(path)
        if data is not None and len(data) > most:
            raise ResponseError("longer than allowed")
        return data


@pytest.mark.parametrize("size", SIZES)
def test_every_old_root_and_every_entry(size: int) -> None:
    log = MemoryLog.of(size)
    files = Files(log)

    async def read() -> None:
        view = LogView(files.get, log.checkpoint())
        for old in {0, *SIZES, *range(size - 3, size + 1)}:
            if 0 <= old <= size:
                assert await view.root_at(old) == MemoryLog.of(old).root()
        entries = []
        for bundle in range(-(-size // 256)):
            entries += await view.entries(bundle)
        assert entries == log.entries
        with pytest.raises(ColdchainError):
            await view.entries(-(-size // 256))

    asyncio.run(read())
    # hash tiles are kept: no file is asked for twice
    assert len(files.asked) == len(set(files.asked))


@pytest.mark.parametrize("size", [3, 257, 700])
def test_every_file_that_is_altered_missing_or_of_another_log_is_noticed(size: int) -> None:
    log = MemoryLog.of(size)
    needed = Files(log)

    async def read(files: Files) -> list[bytes]:
        view = LogView(files.get, log.checkpoint())
        entries = []
        for bundle in range(-(-size // 256)):
            entries += await view.entries(bundle)
        return entries

    assert asyncio.run(read(needed)) == log.entries
    for path in set(needed.asked):
        data = needed.files[path]
        for changed in (
            None,
            data[:-1],
            data + b"x",
            data[:-1] + bytes([data[-1] ^ 1]),
            bytes([data[0] ^ 1]) + data[1:],
        ):
            files = Files(log)
            files.files.pop(path)
            if changed is not None:
                files.files[path] = changed
            full = f"log/{parse_tile_path(path.removeprefix('log/')).full.path}"
            if changed is None and full != path and full in files.files:
                assert asyncio.run(read(files)) == log.entries  # the full tile stands in for the partial one
                continue
            with pytest.raises(ColdchainError):
                asyncio.run(read(files))


def test_a_long_log_is_read_with_little_in_memory_and_few_requests() -> None:
    log = MemoryLog.of(70_000)
    files = Files(log)
    view = LogView(files.get, log.checkpoint())

    async def read() -> None:
        for bundle in range(-(-70_000 // 256)):
            await view.entries(bundle)
            assert len(view._tiles) <= 256 + 4

    asyncio.run(read())
    tiles = [parse_tile_path(path.removeprefix("log/")) for path in files.asked]
    assert sum(tile.level == ENTRIES for tile in tiles) == 274
    assert len(tiles) - 274 <= 274 + 8
