"""A server that answers with any bytes at all, at any speed: what a hostile or broken mirror may do on a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Writer = asyncio.StreamWriter
Script = Callable[["Asked", Writer], Awaitable[None]]


@dataclass(frozen=True)
class Asked:
    """One request: its path without the slash, and its fields by lower-case name."""

    path: str
    fields: dict[str, str]


@dataclass
class RawServer:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    sent: int = 0

    def write(self, writer: Writer, data: bytes) -> None:
        self.sent += len(data)
        writer.write(data)


@contextlib.asynccontextmanager
async def raw_server(script: Callable[[RawServer, Asked, Writer], Awaitable[None]]) -> AsyncIterator[RawServer]:
    """``script`` answers each request; the connection is closed after it."""
    server = RawServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head[:-4].split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            asked = Asked(first.split(" ")[1].lstrip("/"), fields)
            server.asked.append(asked)
            await script(server, asked, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer(
    body: bytes = b"", status: str = "200 OK", *fields: str, length: int | None = -1, close: bool = True
) -> bytes:
    """An HTTP answer; ``length`` None leaves Content-Length out, -1 gives the true one."""
    lines = [f"HTTP/1.1 {status}", *fields]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body
