"""kill -9 of an edge and of the origin while reports and batches go: nothing that was answered for is lost, nothing counts twice.

Real processes on real sockets. Every report says another version of the client, so each one can be found again in the origin's counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from coldchain_server.reports.edges import FILE, EdgeList
from coldchain_server.signing.roles import now_utc
from tests.server import origins
from tests.server.edge.edges import edge, serves, url_of
from tests.server.memory import memory_folder
from tests.server.reports.sending import counted, post, report
from tests.server.test_serve import Process, serving
from tests.system.test_edges import words

Start = Callable[[int], contextlib.AbstractAsyncContextManager[Process]]


class Restarted:
    """A process that is killed now and then, and started again on its port."""

    def __init__(self, start: Start) -> None:
        self.start, self.port = start, 0
        self.stack = contextlib.AsyncExitStack()

    async def up(self) -> Process:
        process = await self.stack.enter_async_context(self.start(self.port))
        self.port = process.port
        return process

    async def kill(self, process: Process) -> Process:
        await process.end(signal.SIGKILL)
        return await self.up()


@contextlib.asynccontextmanager
async def chain(
    folder: Path,
) -> AsyncIterator[tuple[Restarted, Process, Restarted, Process, Callable[[], Counter[str]]]]:
    home = await origins.make(folder / "origin", now=now_utc())
    await origins.release(home, origins.FIRST, now=now_utc())
    token = folder / "token"
    token.write_text(EdgeList(home.directory / FILE).add("tokyo-1", ["jp"]))
    origin = Restarted(lambda port: serving(home.directory, "--no-sign", "--port", str(port)))
    async with origin.stack:
        first = await origin.up()
        told = [*words(home, first), "--report-token", str(token)]
        told += ["--reports-every", "0.1", "--reports-per-network", "0"]
        one = Restarted(lambda port: edge(folder / "edge", *told, port=port))
        async with one.stack:
            second = await one.up()
            assert url_of(first) in told
            await serves(second, 1)

            def found() -> Counter[str]:
                sums: Counter[str] = Counter()
                for row in counted(home):
                    assert row.sender == "tokyo-1"
                    sums[row.version] += row.count
                return sums

            yield origin, first, one, second, found


async def rounds(count: int, each: int, seed: int) -> None:
    draw = random.Random(seed)
    answered: set[str] = set()
    sent: set[str] = set()
    with memory_folder() as folder:
        async with chain(folder) as (origin, first, one, second, found):
            body = report()

            async def send(version: str) -> None:
                sent.add(version)
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    if await post(one.port, body.replace(b"0.1.0", version.encode())) == 204:
                        answered.add(version)

            for turn in range(count):
                sending = [asyncio.create_task(send(f"{turn}.{number}")) for number in range(each)]
                await asyncio.sleep(draw.uniform(0.0, 0.4))
                if turn % 2:
                    first = await origin.kill(first)
                else:
                    second = await one.kill(second)
                await asyncio.gather(*sending)
                await send(f"{turn}.last")
            while not set(found()) >= answered:  # noqa: ASYNC110  the test's own limit ends it where something is lost
                await asyncio.sleep(0.1)
            sums = found()
            assert set(sums) <= sent
            assert set(sums.values()) == {1}, "counted twice"
            assert len(answered) >= count


@pytest.mark.timeout(120)
async def test_an_edge_and_an_origin_die_now_and_then() -> None:
    await rounds(2, 8, seed=1)


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(2, 6))
async def test_they_die_again_and_again(seed: int) -> None:
    await rounds(20, 9, seed)
