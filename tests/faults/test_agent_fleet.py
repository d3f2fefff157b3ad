"""Real agents, real sockets, a server that is too busy: none comes earlier than told, and all get their release afterwards.

The quick sample draws a twentieth of the waits. The long one is a hundred agents as they are, five of them ``coldchain agent``
processes of their own; its histogram is printed. A thousand are in ``tests/client/agent/test_schedule.py``, on a virtual clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.install.agent_state import read_agent_state
from coldchain.install.directory import ClientDirectory
from tests.client.agent.world import World, make_world

CHILD = Path(__file__).with_name("fleet_child.py")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@dataclass
class Server:
    """Every agent has a path of its own, so that the server can tell them apart, which it cannot otherwise."""

    world: World
    retry: int
    busy: bool = True
    asked: dict[str, list[tuple[float, bool]]] = field(default_factory=lambda: defaultdict(list))

    async def handle(self, request: web.Request) -> web.Response:
        name, path = request.match_info["agent"], request.match_info["path"]
        self.asked[name].append((time.monotonic(), self.busy))
        if self.busy:
            return web.Response(status=503, headers={"Retry-After": str(self.retry)})
        data = self.world.one.get(path)
        return web.Response(status=404) if data is None else web.Response(body=data)

    def early(self) -> list[tuple[str, float]]:
        """Who came earlier than told, and by how much (the server's own clock)."""
        return [
            (name, self.retry - (after - before))
            for name, times in self.asked.items()
            for (before, busy), (after, _) in itertools.pairwise(times)
            if busy and after - before < self.retry
        ]


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{agent}/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def processes(commands: Sequence[Sequence[str]]) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    out = [
        await asyncio.create_subprocess_exec(sys.executable, *words, stdin=-1, stdout=-1, stderr=-3, env=environment)
        for words in commands
    ]
    try:
        yield out
    finally:
        for process in out:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()


async def until(met: Callable[[], bool]) -> None:
    """Looks now and then: it is other processes that are waited for."""
    while not met():  # noqa: ASYNC110  nothing of them could set an event
        await asyncio.sleep(0.2)


def settled(path: Path) -> bool:
    """Whether a release is installed and its agent has written down that it succeeded."""
    return (path / "current").exists() and read_agent_state(ClientDirectory(path)).failures == 0


async def fleet(
    world: World, folder: Path, sizes: Sequence[int], alone: int, hurry: float, retry: int, busy: float
) -> Server:
    """Agents in as many processes as there are sizes, and ``alone`` more as users start them; the server recovers after a while."""
    server = Server(world, retry)
    async with serving(server) as url:
        names = [f"agent-{number}" for number in range(sum(sizes) + alone)]
        paths = []
        for name in names:
            paths.append(world.copy(world.fresh, folder / name).path)
            (paths[-1] / "policy.toml").write_text(f'[network]\nmirrors = ["{url}/{name}"]\nonly_mirrors = true\n')
        shares = iter(map(str, paths))
        commands = [[str(CHILD), str(hurry), *(next(shares) for _ in range(size))] for size in sizes]
        commands += [["-m", "coldchain.cli", "agent", path] for path in shares]
        begun = time.monotonic()
        async with processes(commands):
            async with asyncio.timeout(100 + busy + 20 * retry):
                await until(lambda: time.monotonic() - begun >= busy and len(server.asked) == len(names))
                server.busy = False
                await until(lambda: all(map(settled, paths)))
        first = Counter(int(times[0][0] - begun) // 5 * 5 for times in server.asked.values())
        every = Counter(int(at - begun) // 5 * 5 for times in server.asked.values() for at, _ in times)
        print(
            f"\n{len(names)} agents, 503 with Retry-After {retry}: requests (first ones) in each 5 s, early: {server.early()}"
        )
        for second in range(0, max(every) + 1, 5):
            print(f"{second:4} s {every[second]:4} ({first[second]})")
    shutil.rmtree(folder)
    return server


async def test_a_dozen_in_a_hurry(world: World, tmp_path: Path) -> None:
    server = await fleet(world, tmp_path / "fleet", [6, 6], 0, 0.05, 2, 6.0)
    assert server.early() == []
    assert len(server.asked) == 12
    assert all(times[0][1] for times in server.asked.values())  # each was turned away at least once


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_a_hundred_as_they_are(world: World, tmp_path: Path) -> None:
    server = await fleet(world, tmp_path / "fleet", [19] * 5, 5, 1.0, 20, 90.0)
    assert server.early() == []
    assert len(server.asked) == 100
    firsts = sorted(times[0][0] for times in server.asked.values())
    assert firsts[-1] - firsts[0] > 40  # spread over the first minute
