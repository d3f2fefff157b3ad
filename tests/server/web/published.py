"""A published tree in memory, an origin on a real socket over it, and a client that counts bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coldchain.errors import StorageError
from coldchain_server.storage.interface import Entry
from coldchain_server.web.origin import Origin, running

BLOCK = 256 * 1024


@dataclass
class MemoryStorage:
    """Storage over a dictionary. ``broken`` refuses everything; ``breaks_after`` ends reads of large files early."""

    files: dict[str, bytes] = field(default_factory=dict)
    broken: bool = False
    breaks_after: int | None = None
    reads: int = 0

    async def put(self, path: str, data: bytes | Path, *, replace: bool = False) -> None:
        self.files[path] = data if isinstance(data, bytes) else data.read_bytes()

    async def put_joined(self, path: str, head: bytes, content: str, *, replace: bool = False) -> None:
        await self.put(path, head + self.files[content], replace=replace)

    async def get(self, path: str) -> bytes:
        self._touch(path)
        return self.files[path]

    async def stat(self, path: str) -> Entry | None:
        if self.broken:
            raise StorageError("the disk is gone")
        data = self.files.get(path)
        return None if data is None else Entry(path, len(data), hashlib.md5(data).hexdigest())

    async def read(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        self._touch(path)
        end = len(self.files[path]) if length is None else start + length
        for at in range(start, end, BLOCK):
            if self.breaks_after is not None and at - start >= self.breaks_after:
                raise StorageError("a bad sector")
            yield self.files[path][at : min(at + BLOCK, end)]

    async def delete(self, path: str) -> None:
        self.files.pop(path, None)

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        for path in sorted(self.files):
            if path.startswith(prefix):
                yield path

    def _touch(self, path: str) -> None:
        self.reads += 1
        if self.broken or path not in self.files:
            raise StorageError(f"{path} is not there")


SMALL = b'{"signatures":[],"signed":{}}'
LARGE = bytes(range(256)) * 4096 + b"end"  # 1 MiB and a bit
LARGE_PATH = f"targets/us/stable/{hashlib.sha256(LARGE).hexdigest()}.full.ccd"
PACK_PATH = "packs/us/stable/42.from-41.pack"


def tree() -> MemoryStorage:
    return MemoryStorage(
        {
            "metadata/timestamp.json": SMALL,
            "metadata/1.root.json": SMALL + b" ",
            LARGE_PATH: LARGE,
            PACK_PATH: LARGE[::-1],
            "log/checkpoint": b"coldchain\n1\n",
            "targets/us/stable/empty": b"",
            "metadata/.secret": b"x",
            "private/key": b"x",
        }
    )


def etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


@dataclass(frozen=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes
    bytes_down: int


class Client:
    """One connection, raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, origin: Origin, **options: Any) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", origin.port, limit=4 << 20, **options))

    def send(self, target: str, *fields: str, method: str = "GET") -> int:
        head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode("latin-1")
        self.writer.write(head)
        return len(head)

    async def answer(self, method: str = "GET") -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1")[:-4].split("\r\n")
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in fields, f"twice: {name}"
            fields[name.lower()] = value.strip()
        status = int(first.split()[1])
        assert "transfer-encoding" not in fields
        length = int(fields.get("content-length", 0)) if method != "HEAD" and status != 304 else 0
        body = await self.reader.readexactly(length)
        return Answer(status, fields, body, len(head) + length)

    async def get(self, target: str, *fields: str, method: str = "GET") -> Answer:
        self.send(target, *fields, method=method)
        return await self.answer(method)

    async def closed(self) -> bytes:
        """Reads until the server closes or resets the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            self.writer.transport.abort()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def serving(storage: MemoryStorage | None = None, **options: Any) -> AsyncIterator[tuple[Origin, Client]]:
    async with (
        running(storage if storage is not None else tree(), **options) as origin,
        await Client.to(origin) as client,
    ):
        yield origin, client


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that no event tells of; the test's own limit ends it where it never comes."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
