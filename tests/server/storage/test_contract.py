"""What every backend promises: durable, whole, honest; see conftest.py for the backends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coldchain.errors import StorageError
from coldchain_server.storage.interface import Storage

NAME = "targets/us/stable/file.ccd"
LARGE = bytes(range(256)) * 4096 + b"end"
BAD_PATHS = (
    "",
    "/",
    "/etc/passwd",
    "a//b",
    "a/",
    "../a",
    "a/../b",
    "a/./b",
    ".hidden",
    "a/.hidden",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\n",
    "ä",
    "a b",
    "a:b",
    "a?b",
    "a%2e",
    "~",
)


async def body(storage: Storage, path: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([block async for block in storage.read(path, start, length)])


@pytest.mark.parametrize("data", [b"", b"x", LARGE])
async def test_what_is_put_is_there(storage: Storage, data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "source"
    file.write_bytes(data)
    for path, what in (("from/bytes", data), ("from/file", file)):
        await storage.put(path, what)
        assert await storage.get(path) == data
        assert await body(storage, path) == data
        entry = await storage.stat(path)
        assert entry is not None
        assert (entry.path, entry.length) == (path, len(data))


async def test_what_is_not_there_says_so(storage: Storage) -> None:
    assert await storage.stat(NAME) is None
    for attempt in (storage.get(NAME), body(storage, NAME)):
        with pytest.raises(StorageError):
            await attempt
    await storage.delete(NAME)
    assert [path async for path in storage.list()] == []


async def test_a_directory_is_not_a_file(storage: Storage) -> None:
    await storage.put(NAME, b"x")
    assert await storage.stat("targets/us") is None
    assert await storage.stat(f"{NAME}/below") is None
    for attempt in (storage.get("targets/us"), storage.put(f"{NAME}/below", b"y"), storage.put("targets/us", b"y")):
        with pytest.raises(StorageError):
            await attempt
    assert await storage.get(NAME) == b"x"


async def test_an_immutable_path_keeps_its_bytes(storage: Storage, tmp_path: Path) -> None:
    await storage.put(NAME, LARGE)
    await storage.put(NAME, LARGE)  # the same again is no change
    other = tmp_path / "other"
    for wrong in (LARGE[:-1], LARGE[:-1] + b"D", b"", LARGE + b"x"):
        other.write_bytes(wrong)
        for what in (wrong, other):
            with pytest.raises(StorageError, match="already published with other bytes") as caught:
                await storage.put(NAME, what)
            assert caught.value.kept
    other.write_bytes(LARGE)
    await storage.put(NAME, other)
    assert await storage.get(NAME) == LARGE


async def test_a_changing_path_changes_and_its_tag_with_it(storage: Storage) -> None:
    tags = set()
    for number in range(20):
        await storage.put("metadata/timestamp.json", b"%02d" % number, replace=True)
        assert await storage.get("metadata/timestamp.json") == b"%02d" % number
        entry = await storage.stat("metadata/timestamp.json")
        assert entry is not None
        tags.add(entry.tag)
    assert len(tags) == 20


async def test_a_reader_sees_the_old_or_the_new_file_whole(storage: Storage) -> None:
    old, new = b"o" * 700_000, b"n" * 500_000
    await storage.put(NAME, old, replace=True)
    done = asyncio.Event()

    async def write() -> None:
        for turn in range(20):
            await storage.put(NAME, (new, old)[turn % 2], replace=True)
        done.set()

    async def read() -> int:
        seen = 0
        while not done.is_set():
            assert await body(storage, NAME) in (old, new)
            assert await storage.get(NAME) in (old, new)
            seen += 1
        return seen

    _, *seen = await asyncio.gather(write(), read(), read())
    assert all(seen)


@pytest.mark.parametrize("path", BAD_PATHS)
async def test_paths_stay_within_the_tree(storage: Storage, path: str, memory: Path) -> None:
    await storage.put(NAME, b"x")
    before = sorted(memory.rglob("*"))
    for attempt in (
        storage.put(path, b"y"),
        storage.get(path),
        storage.stat(path),
        storage.delete(path),
        body(storage, path),
    ):
        with pytest.raises(StorageError, match="not a path of the published tree"):
            await attempt
    assert sorted(memory.rglob("*")) == before


async def test_a_name_that_is_too_long_is_an_error_of_the_medium(storage: Storage) -> None:
    with pytest.raises(StorageError):
        await storage.put("a" * 5000, b"x")


async def test_ranges_are_read_in_small_blocks(storage: Storage) -> None:
    await storage.put(NAME, LARGE)
    size = len(LARGE)
    for start in (0, 1, 262_143, 262_144, 262_145, size - 1, size, size + 1):
        for length in (None, 0, 1, 262_144, 262_145, size, size + 1):
            expected = LARGE[start:] if length is None else LARGE[start : start + length]
            blocks = [block async for block in storage.read(NAME, start, length)]
            assert b"".join(blocks) == expected
            assert all(0 < len(block) <= 262_144 for block in blocks)


async def test_listing_is_bytewise_and_by_prefix(storage: Storage) -> None:
    names = ["a", "a-b/c", "a.b", "b/c", "b/c.d", "b/d/e", "B", "b0"]
    for name in names:
        await storage.put(name, name.encode())
    assert [path async for path in storage.list()] == sorted(names)
    for prefix in ("a", "b/", "b/c", "c", "b/d/e"):
        assert [path async for path in storage.list(prefix)] == sorted(
            name for name in names if name.startswith(prefix)
        )


async def test_deleting_leaves_the_others(storage: Storage) -> None:
    for name in ("a/1", "a/2"):
        await storage.put(name, b"x")
    await storage.delete("a/1")
    await storage.delete("a/1")
    assert [path async for path in storage.list()] == ["a/2"]
    await storage.put("a/1", b"other bytes are in order now")


async def test_many_writers_of_one_path_give_one_file(storage: Storage) -> None:
    """Publishers are held apart by the catalogue; if they were not, a content-addressed name would still be whole."""
    got = await asyncio.gather(*(storage.put(f"a/{n % 3}", b"%d" % (n % 3)) for n in range(12)), return_exceptions=True)
    assert [path async for path in storage.list()] == ["a/0", "a/1", "a/2"]
    for number in range(3):
        assert await storage.get(f"a/{number}") == b"%d" % number
    assert got == [None] * 12


@pytest.mark.parametrize("head", [b"", b"head"])
@pytest.mark.parametrize("data", [b"", b"x", LARGE])
async def test_a_file_may_go_on_with_another(storage: Storage, head: bytes, data: bytes) -> None:
    await storage.put(NAME, data)
    for _ in range(2):  # the same again is no error
        await storage.put_joined("packs/one", head, NAME)
        assert await storage.get("packs/one") == head + data
    assert await storage.get(NAME) == data


async def test_what_goes_on_with_another_is_honest_and_whole_too(storage: Storage) -> None:
    await storage.put(NAME, LARGE)
    await storage.put("packs/one", b"old")
    for head, content in ((b"head", NAME), (b"old", NAME)):
        with pytest.raises(StorageError):
            await storage.put_joined("packs/one", head, content)
    for path, content in (("packs/two", "not/there"), ("../two", NAME), ("packs/two", "../x")):
        with pytest.raises(StorageError):
            await storage.put_joined(path, b"head", content, replace=True)
    assert await storage.get("packs/one") == b"old"
    assert [path async for path in storage.list("packs/")] == ["packs/one"]
    await storage.put_joined("packs/one", b"head", NAME, replace=True)
    assert await storage.get("packs/one") == b"head" + LARGE
