"""What an edge serves from a mirror's directory: all of it, through the switch, and nothing of its own memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coldchain.errors import StorageError
from coldchain.mirror import generation
from coldchain_server.edge.served_tree import ServedTree
from coldchain_server.web.origin import running
from tests.client.agent.publisher import FIRST
from tests.client.mirror.mirrored import served
from tests.server.edge.edges import Place
from tests.server.web.published import Client

TIMESTAMP = "metadata/timestamp.json"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path, ("us",))
    made.publish(1, FIRST)
    made.pull()
    return made


async def test_every_file_is_served_as_it_is(place: Place) -> None:
    storage = ServedTree(place.mirror)
    for path, data in served(place.mirror).items():
        assert await storage.get(path) == data
        entry = await storage.stat(path)
        assert entry is not None
        assert (entry.path, entry.length) == (path, len(data))
        assert b"".join([block async for block in storage.read(path, 3, 5)]) == data[3:8]
    listed = {path async for path in storage.list()}
    assert listed == {path for path in served(place.mirror) if not path.startswith("metadata/")}


async def test_nothing_of_its_own_is_served_and_nothing_is_written(place: Place) -> None:
    storage = ServedTree(place.mirror)
    async with running(storage) as server, await Client.to(server) as client:
        for path in (".mirror/mirror.json", "mirror.json", "metadata/../.mirror/mirror.json", "metadata/", "metadata"):
            assert (await client.get(f"/{path}")).status == 404
    assert await storage.stat("metadata/nothing.json") is None
    for path in ("metadata/nothing.json", "targets/nothing"):
        with pytest.raises(StorageError):
            await storage.get(path)
    with pytest.raises(StorageError):
        await storage.put("targets/us/x", b"")
    with pytest.raises(StorageError):
        await storage.delete(TIMESTAMP)


async def test_readers_find_every_file_while_generations_come_and_go(place: Place) -> None:
    """Each generation is removed as soon as the next is there; a file that is in all of them is never missing."""
    storage = ServedTree(place.mirror)
    files = generation.whole(place.mirror)
    done = asyncio.Event()

    def switch() -> None:
        for turn in range(150):
            generation.publish(place.mirror, {**files, "extra.json": bytes([turn])}, {})

    async def read() -> int:
        seen = 0
        while not done.is_set():
            entry = await storage.stat(TIMESTAMP)
            assert entry is not None
            assert await storage.get(TIMESTAMP) == files["timestamp.json"]
            assert b"".join([block async for block in storage.read(TIMESTAMP)]) == files["timestamp.json"]
            seen += 1
        return seen

    readers = [asyncio.create_task(read()) for _ in range(4)]
    await asyncio.to_thread(switch)
    done.set()
    assert min(await asyncio.gather(*readers)) > 0


async def test_a_plain_folder_of_metadata_is_served_too(place: Place) -> None:
    link = place.mirror.path / "metadata"
    files = generation.whole(place.mirror)
    link.unlink()
    link.mkdir()
    for name, data in files.items():
        (link / name).write_bytes(data)
    assert await ServedTree(place.mirror).get(TIMESTAMP) == files["timestamp.json"]
