"""Strong entity tags of published files, and the few small files kept in memory.

A tag is ``"`` + the first 32 hex digits of the content's SHA-256 + ``"``. Where the name states the hash nothing is read;
otherwise the file is hashed once for each (path, tag of the storage) and remembered, within bounds. Small files
(``timestamp.json`` above all) are kept whole with their tag, so that bytes and tag are always of the same version.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from coldchain_server.storage.interface import Entry, Storage
from coldchain_server.web.conditions import strong_etag
from coldchain_server.web.published_paths import PublishedPath

SMALL_BYTES: Final = 64 * 1024
KEPT_FILES: Final = 256
KEPT_TAGS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Tagged:
    """A file ready to be answered: its length, its entity tag, and its bytes when it is small.

    A large file's ``entry`` is what the tag belongs to: whoever reads it makes sure that it is still there.
    """

    length: int
    etag: str
    body: bytes | None
    entry: Entry | None = None


class EntityTags:
    """Answers "what is this file's tag" with as little reading as can be.

    Args:
        storage: where the files are.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._files: OrderedDict[tuple[str, str], Tagged] = OrderedDict()
        self._tags: OrderedDict[tuple[str, str], Tagged] = OrderedDict()
        self._hashing = asyncio.Lock()

    async def look_up(self, published: PublishedPath) -> Tagged | None:
        """The file as it is now; None when it is not there.

        Raises:
            StorageError: the medium refused.
        """
        entry = await self._storage.stat(published.path)
        if entry is None:
            return None
        if entry.length <= SMALL_BYTES:
            return await self._small(published, entry)
        if published.sha256 is not None:
            return Tagged(entry.length, strong_etag(published.sha256), None, entry)
        return await self._large(entry)

    async def _small(self, published: PublishedPath, entry: Entry) -> Tagged:
        key = entry.path, entry.tag
        found = self._files.get(key)
        if found is None:
            body = await self._storage.get(entry.path)
            found = Tagged(len(body), strong_etag(published.sha256 or hashlib.sha256(body).hexdigest()), body)
            # A replaced file may have been read after its old tag was taken: then these bytes are right for this
            # answer, but not for that key.
            if await self._storage.stat(entry.path) == entry:
                _keep(self._files, key, found, KEPT_FILES)
        else:
            self._files.move_to_end(key)
        return found

    async def _large(self, entry: Entry) -> Tagged:
        key = entry.path, entry.tag
        if key not in self._tags:
            async with self._hashing:  # one after the other: many clients asking for a new file make one reader
                if key not in self._tags:
                    digest = hashlib.sha256()
                    async for block in self._storage.read(entry.path):
                        digest.update(block)
                    tagged = Tagged(entry.length, strong_etag(digest.hexdigest()), None, entry)
                    _keep(self._tags, key, tagged, KEPT_TAGS)
        self._tags.move_to_end(key)
        return self._tags[key]


def _keep(cache: OrderedDict[tuple[str, str], Tagged], key: tuple[str, str], value: Tagged, most: int) -> None:
    cache[key] = value
    while len(cache) > most:
        cache.popitem(last=False)
