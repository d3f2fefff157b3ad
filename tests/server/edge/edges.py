"""A publisher whose tree an origin serves, edges of it as processes of their own, and what they say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldchain_server.storage.directory import DirectoryStorage
from coldchain_server.web.origin import Origin, running
from tests.client.mirror.mirrored import Scene
from tests.server.test_serve import Process
from tests.server.web.published import until

PROGRAM = Path(sys.executable).parent / "coldchain-server"


class Place(Scene):
    """``root`` is the pinned root as a file; :meth:`origin` serves ``upstream`` on a real socket."""

    def __init__(self, path: Path, regions: tuple[str, ...] = ("us", "jp")) -> None:
        super().__init__(path, regions)
        self.root = path / "root.json"
        self.root.write_bytes(self.publisher.repository.pinned)

    def origin(self, port: int = 0, poll_seconds: int = 0) -> contextlib.AbstractAsyncContextManager[Origin]:
        return running(DirectoryStorage(self.upstream), port=port, poll_seconds=poll_seconds)

    def words(self, *urls: str, region: str = "us") -> list[str]:
        """What a first run of an edge is told."""
        given = [word for url in urls for word in ("--upstream", url)]
        return ["--region", region, "--root", str(self.root), *given]


@contextlib.asynccontextmanager
async def edge(directory: Path, *words: str, port: int = 0) -> AsyncIterator[Process]:
    """An edge that listens; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "edge", directory, "--port", str(port), *words,
        stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    found = Process(process)
    found.reading = asyncio.create_task(found.read())
    try:
        await until(lambda: found.said("listening") is not None or process.returncode is not None)
        yield found
    finally:
        if process.returncode is None:
            process.kill()
            await found.ended()


@dataclass(frozen=True)
class Page:
    status: int
    facts: dict[str, Any]


async def page(process: Process, path: str = "/readyz") -> Page:
    status, body = await process.get(path)
    return Page(status, json.loads(body))


async def serves(process: Process, release: int) -> None:
    """Waits until the edge says that it serves this release."""
    while True:
        found = (await page(process, "/healthz")).facts["releases"]
        if any(one["release"] == release for one in found):
            return
        await asyncio.sleep(0.05)


def requests(origin: Origin) -> int:
    return origin.counters.value("responses")


def url_of(process: Process) -> str:
    return f"http://127.0.0.1:{process.port}"
