"""Entity tags: from the name where it states the hash, else from the bytes, hashed once, always of the version answered."""

from __future__ import annotations

import asyncio

from coldchain_server.web import entity_tags
from coldchain_server.web.entity_tags import EntityTags, Tagged
from coldchain_server.web.published_paths import PublishedPath, published_path
from tests.server.web.published import LARGE, LARGE_PATH, PACK_PATH, SMALL, MemoryStorage, etag, tree


def path(text: str) -> PublishedPath:
    found = published_path("/" + text)
    assert found is not None
    return found


async def test_small_files_are_kept_whole_and_read_once() -> None:
    storage = tree()
    tags = EntityTags(storage)
    for _ in range(3):
        assert await tags.look_up(path("metadata/timestamp.json")) == Tagged(len(SMALL), etag(SMALL), SMALL)
    assert storage.reads == 1


async def test_a_replaced_file_is_another_one_at_once() -> None:
    storage = tree()
    tags = EntityTags(storage)
    for version in range(5):
        data = b'{"version":%d}' % version
        await storage.put("metadata/timestamp.json", data, replace=True)
        assert await tags.look_up(path("metadata/timestamp.json")) == Tagged(len(data), etag(data), data)


async def test_a_name_that_states_the_hash_costs_no_reading() -> None:
    storage = tree()
    found = await EntityTags(storage).look_up(path(LARGE_PATH))
    assert found is not None
    assert (found.length, found.etag, found.body) == (len(LARGE), etag(LARGE), None)
    assert storage.reads == 0


async def test_many_who_ask_for_a_large_file_make_one_reader() -> None:
    storage = tree()
    tags = EntityTags(storage)
    found = await asyncio.gather(*(tags.look_up(path(PACK_PATH)) for _ in range(50)))
    assert {one.etag for one in found if one} == {etag(LARGE[::-1])}
    assert storage.reads == 1


async def test_what_is_not_there_has_no_tag() -> None:
    assert await EntityTags(tree()).look_up(path("metadata/99.us.json")) is None


async def test_a_file_replaced_while_it_is_read_is_not_kept_under_its_old_tag() -> None:
    class Racing(MemoryStorage):
        async def get(self, path: str) -> bytes:
            self.files[path] = b"new"
            return await super().get(path)

    storage = Racing({"metadata/timestamp.json": b"old"})
    tags = EntityTags(storage)
    assert await tags.look_up(path("metadata/timestamp.json")) == Tagged(3, etag(b"new"), b"new")
    storage.files["metadata/timestamp.json"] = b"old"
    found = await tags.look_up(path("metadata/timestamp.json"))
    assert found is not None
    assert found.etag == etag(found.body or b"")


async def test_memory_is_bounded() -> None:
    storage = MemoryStorage({f"metadata/{i}.us.json": b"%d" % i for i in range(entity_tags.KEPT_FILES + 50)})
    tags = EntityTags(storage)
    for name in storage.files:
        await tags.look_up(path(name))
    assert len(tags._files) == entity_tags.KEPT_FILES
