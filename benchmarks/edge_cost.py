"""What edges and waiting cost, with the real programs on real sockets: an origin, an edge of it, endpoints, and waiting clients.

::

    python -m benchmarks.edge_cost            about two minutes; the figures as text
    python -m benchmarks.edge_cost --json     the same as one object

Bytes are counted by a relay between two processes, headers and all. A publish begins when the origin's ``timestamp.json`` is renamed
into place (its change time); a client is notified when its answer's last byte is read. Both clocks are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.origin_tree import PROGRAMS, OriginTree

RECORDS: Final = 20_000
CHANGED: Final = 200
WAITING: Final = 200
MANY: Final = 2_000
TURNS: Final = 3
WAITS_AN_HOUR: Final = 12
"""An edge's waits are 300 s long (:mod:`coldchain_server.edge.follow`)."""
EICAR: Final = b"44d88612fea8a8f36de82e1278abb02f:68:Acme.Test.Eicar\n"
"""The gate asks for something that finds it."""
ODD: Final = "X-Odd: 1"
"""A field that sends a waiting request the ordinary way."""


@dataclass
class Meter:
    """What crossed a relay."""

    up: int = 0
    down: int = 0
    requests: int = 0

    def reset(self) -> None:
        """Counts from now on."""
        self.up = self.down = self.requests = 0

    def words(self) -> dict[str, int]:
        """For the figures."""
        return {"requests": self.requests, "up": self.up, "down": self.down}


@contextlib.asynccontextmanager
async def relay(port: int) -> AsyncIterator[tuple[str, Meter]]:
    """A port that passes everything on to another one, and counts it."""
    meter = Meter()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, up: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if up:
                    meter.up += len(data)
                    meter.requests += data.count(b" HTTP/1.1\r\n")
                else:
                    meter.down += len(data)
                sink.write(data)
                await sink.drain()
        sink.close()

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, forth, True), pump(back, writer, False))

    server = await asyncio.start_server(both, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", meter
    finally:
        server.close()


@dataclass
class Server:
    """A process that listens: its port, and its log's lines that came so far."""

    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]]

    @property
    def port(self) -> int:
        """Where it listens."""
        line = next(line for line in self.lines if line["message"] == "listening")
        return int(line["url"].rsplit(":", 1)[1])

    def said(self, message: str) -> int:
        """How often it said so."""
        return sum(line["message"] == message for line in self.lines)

    def memory(self) -> int:
        """Its resident memory in bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


@contextlib.asynccontextmanager
async def serving(*words: str) -> AsyncIterator[Server]:
    """``coldchain-server`` with these words, listening."""
    process = await asyncio.create_subprocess_exec(
        PROGRAMS / "coldchain-server",
        *words,
        "--port",
        "0",
        env=os.environ | {"COLDCHAIN_PASSPHRASE": "a passphrase for measurements"},
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    server = Server(process, [])

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            with contextlib.suppress(ValueError):
                server.lines.append(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        await until(lambda: server.said("listening") > 0)
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


async def until(condition: Any) -> None:
    """Waits for something that no event tells of."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def hashes(first: int) -> bytes:
    """A database of made-up records, each run of which shares all but the ends with the next."""
    lines = (
        f"{hashlib.sha256(b'%d' % n).hexdigest()}:{1000 + n}:Win.Trojan.Agent-{n}-0"
        for n in range(first, first + RECORDS)
    )
    return "".join(f"{line}\n" for line in sorted(lines)).encode()


def files(first: int) -> dict[str, bytes]:
    """A feed's files."""
    return {"acme.hsb": hashes(first), "eicar.hdb": EICAR}


async def update(directory: Path, url: str) -> None:
    """``coldchain update`` from there."""
    done = await asyncio.to_thread(
        subprocess.run,
        [str(PROGRAMS / "coldchain"), "update", str(directory), "--url", url, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)


@contextlib.asynccontextmanager
async def waiting(server: Server, count: int, tag: str, *fields: str) -> AsyncIterator[list[asyncio.Task[float]]]:
    """So many clients that wait; each task ends with the time at which its answer was whole."""
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
    request = "\r\n".join([f"GET /v1/wait?tag={tag}&seconds=600 HTTP/1.1", "Host: a.example", *fields, "", ""]).encode()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        return time.time()

    tasks = [asyncio.create_task(one(*pair)) for pair in connections]
    await asyncio.sleep(1.0 + count / 2000)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in connections:
            writer.transport.abort()


def tag_of(tree: OriginTree) -> str:
    """The timestamp's entity tag."""
    return hashlib.sha256((tree.public / "metadata" / "timestamp.json").read_bytes()).hexdigest()[:32]


def share(times: list[float], part: float) -> int:
    """A percentile, in milliseconds."""
    return round(1000 * sorted(times)[min(int(len(times) * part), len(times) - 1)])


async def measure(folder: Path, turns: int) -> dict[str, Any]:
    """All of it; ``turns`` publishes are waited for."""
    out: dict[str, Any] = {}
    tree = OriginTree(folder)
    tree.publish(files(0))
    async with serving("serve", str(tree.home), "--no-sign") as origin, relay(origin.port) as (upstream, at_origin):
        words = ["edge", str(folder / "edge"), "--region", "us", "--upstream", upstream, "--root", str(tree.root)]
        async with serving(*words) as edge:
            await until(lambda: edge.said("mirrored") > 0)
            await asyncio.sleep(1)
            out["edge, first pull, at the origin"] = at_origin.words()
            endpoint = tree.endpoint(folder / "endpoint", f"http://127.0.0.1:{edge.port}")
            async with relay(edge.port) as (url, meter):
                await update(endpoint, url)
                out["endpoint, first set"] = meter.words()
                meter.reset()
                await update(endpoint, url)
                out["endpoint, poll"] = meter.words()
                notified: dict[str, list[float]] = {"origin": [], "edge": []}
                for turn in range(1, turns + 1):
                    at_origin.reset()
                    tag = tag_of(tree)
                    async with waiting(origin, WAITING, tag) as ones, waiting(edge, WAITING, tag) as others:
                        await asyncio.to_thread(tree.publish, files(turn * CHANGED))
                        published = (tree.public / "metadata" / "timestamp.json").stat().st_ctime
                        for name, tasks in (("origin", ones), ("edge", others)):
                            notified[name] += [one - published for one in await asyncio.gather(*tasks)]
                    await until(lambda: edge.said("updated") >= turn)  # noqa: B023
                    await asyncio.sleep(0.5)
                    out["edge, one publish, at the origin"] = at_origin.words()
                    meter.reset()
                    await update(endpoint, url)
                    out["endpoint, update"] = meter.words()
                for name, times in notified.items():
                    out[f"{WAITING} waiting at the {name}, publish to notified, ms"] = {
                        "p50": share(times, 0.5),
                        "p99": share(times, 0.99),
                        "most": share(times, 1.0),
                    }
            out["edge, one wait without news, at the origin"] = await one_wait(origin, tag_of(tree))
            out["edge, idle hour, at the origin"] = {
                name: WAITS_AN_HOUR * value for name, value in out["edge, one wait without news, at the origin"].items()
            }
        at_origin.reset()
        async with serving("edge", str(folder / "edge")) as edge:
            await asyncio.sleep(3)
            out["edge, restart, at the origin"] = at_origin.words()
            for way, fields in (("plain", ()), ("ordinary", (ODD,))):
                before = edge.memory()
                async with waiting(edge, MANY, tag_of(tree), *fields):
                    out[f"{MANY} waiting, {way} way, bytes of memory each"] = round((edge.memory() - before) / MANY)
    return out


async def one_wait(server: Server, tag: str) -> dict[str, int]:
    """A wait as an edge sends it that ends without news, byte for byte but for its seconds."""
    async with relay(server.port) as (url, meter):
        from coldchain.agent.transport import HttpSource, Traffic, open_sources

        async with open_sources([url], Traffic()) as (source,):
            assert isinstance(source, HttpSource)
            answer = await source.wait(f'"{tag}"', 1, 16384)
            assert answer.data is None
        words = meter.words()
    return {**words, "up": words["up"] + len("300") - len("1")}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=TURNS, help="publishes to measure")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="coldchain-edge-cost-"))
    try:
        found = asyncio.run(measure(folder / "work", options.turns))
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        words = (
            ", ".join(f"{key} {number:,}" for key, number in value.items()) if isinstance(value, dict) else f"{value:,}"
        )
        print(f"{name:58} {words}")


if __name__ == "__main__":
    main()
