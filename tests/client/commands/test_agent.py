"""``coldchain agent`` as a process of its own: its signals, its manager, its end, and what it leaves when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from coldchain.install.agent_state import read_agent_state
from coldchain.install.directory import ClientDirectory
from tests.client.agent.publisher import Edge, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server
from tests.client.agent.world import World, left_over, make_world

AGENT = [sys.executable, "-m", "coldchain.cli", "agent"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def follow(directory: ClientDirectory, url: str, more: str = "") -> None:
    (directory.path / "policy.toml").write_text(f'[network]\nmirrors = ["{url}"]\nonly_mirrors = true\n{more}')


class Process:
    """The process, what it wrote to stderr, and what its manager heard."""

    def __init__(self, process: asyncio.subprocess.Process, manager: socket.socket) -> None:
        self.process, self._manager = process, manager
        self.errors = ""
        self.heard: list[str] = []

    async def until(self, met: Callable[[], object]) -> None:
        assert self.process.stderr is not None
        for _ in range(3000):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    self.errors += (await self.process.stderr.read(65536)).decode()
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.heard += self._manager.recv(65536).decode().split("\n")
            if met():
                return
        pytest.fail(f"{self.errors}\n{self.heard}")

    async def said(self, words: str, count: int = 1) -> None:
        await self.until(lambda: self.errors.count(words) >= count)


@contextlib.asynccontextmanager
async def started(directory: ClientDirectory, *words: str, watchdog: int = 0) -> AsyncIterator[Process]:
    """Everything about the environment that matters is set; a killed agent is waited for."""
    name = f"coldchain-test-{secrets.token_hex(8)}"
    environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": f"@{name}", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"WATCHDOG_USEC": str(watchdog)} if watchdog else {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *AGENT, str(directory.path), *words, env=environment, stderr=-1, stdout=-1
        )
        one = Process(process, manager)
        try:
            yield one
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            # the transport of a process is closed when its pipes are
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                await stream.read()


async def test_a_whole_life(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.fresh, tmp_path / "endpoint")
    metrics = tmp_path / "coldchain.prom"
    edge = Edge(world.one)
    async with serving(edge) as url:
        follow(directory, url)
        async with started(directory, "--metrics", str(metrics), watchdog=200_000) as one:
            await one.said(" info started: ")
            await one.until(lambda: "READY=1" in one.heard)
            one.process.send_signal(signal.SIGUSR1)
            await one.said("installed: release 1")
            await one.until(lambda: "coldchain_agent_release 1\n" in metrics.read_text())

            # a second agent is refused, an update by hand is not
            second = await asyncio.create_subprocess_exec(*AGENT, str(directory.path), stderr=-1)
            _, errors = await second.communicate()
            assert second.returncode == 42
            assert b"another agent is running" in errors
            edge.files = world.two
            by_hand = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "coldchain.cli", "update", str(directory.path), stdout=-1
            )
            told, _ = await by_hand.communicate()
            assert b"updated: release 2" in told
            one.process.send_signal(signal.SIGUSR1)
            await one.said("current: release 2")

            follow(directory, url, "poll_seconds = 600\n")
            one.process.send_signal(signal.SIGHUP)
            await one.said("policy.toml read: it is new")
            await one.until(lambda: one.heard.count("READY=1") == 2)
            assert "RELOADING=1" in one.heard
            await one.until(lambda: one.heard.count("WATCHDOG=1") > 5)

            one.process.send_signal(signal.SIGTERM)
            assert await one.process.wait() == 0
            await one.until(lambda: "STOPPING=1" in one.heard)
            assert one.process.stdout is not None
            assert b"what was installed stays in use" in await one.process.stdout.read()
        assert any(line.startswith("STATUS=release 2; next poll ") for line in one.heard)
    assert left_over(directory) == []


async def test_the_end_in_the_middle_of_a_look_up_or_a_download_is_at_once_and_clean(
    world: World, tmp_path: Path
) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    asked = asyncio.Event()

    async def stall(_server: RawServer, _asked: Asked, _writer: Writer) -> None:
        asked.set()
        await asyncio.sleep(3600)

    async with raw_server(stall) as server:
        follow(directory, server.url)
        async with started(directory, "--json") as one:
            await one.said('"event": "started"')
            one.process.send_signal(signal.SIGUSR1)
            await asked.wait()
            one.process.send_signal(signal.SIGTERM)
            assert await one.process.wait() == 0
            assert one.process.stdout is not None
            assert json.loads(await one.process.stdout.read()) == {"polls": 1}
    assert read_agent_state(directory).failures == 0


async def test_killed_in_an_update_it_leaves_the_old_set_and_comes_back_with_patience(
    world: World, tmp_path: Path
) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    asked = asyncio.Event()

    async def cut(server: RawServer, asked_: Asked, writer: Writer) -> None:
        data = world.two.get(asked_.path)
        if data is None or not asked_.path.startswith("targets"):
            server.write(writer, answer(data or b"", "200 OK" if data else "404 Not Found"))
            return
        server.write(writer, answer(data)[:-5])
        await writer.drain()
        asked.set()
        await asyncio.sleep(3600)

    async with raw_server(cut) as server:
        follow(directory, server.url)
        async with started(directory) as one:
            await one.said("started: ")
            one.process.send_signal(signal.SIGUSR1)
            await asked.wait()
            one.process.kill()
            assert await one.process.wait() == -signal.SIGKILL
    assert directory.current.readlink().name.startswith("1-")
    assert read_agent_state(directory).failures == 1
    async with serving(Edge(world.two)) as url:
        follow(directory, url)
        async with started(directory) as one:
            await one.said("; release 1; next poll")
            one.process.send_signal(signal.SIGUSR1)  # somebody is there, who knows
            await one.said("updated: release 2")
            one.process.send_signal(signal.SIGINT)
            assert await one.process.wait() == 0
    assert left_over(directory) == []
    assert read_agent_state(directory).failures == 0


async def test_a_directory_that_is_none(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(*AGENT, str(tmp_path), "--json", stdout=-1, stderr=-1)
    told, _ = await process.communicate()
    assert process.returncode == 41
    assert json.loads(told)["error"] == "NotInstalledError"
