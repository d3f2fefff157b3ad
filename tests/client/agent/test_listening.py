"""An agent that listens between its polls hears of a release at once, and no server can make it poll as it likes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from coldchain import canonical
from coldchain.agent.network import NetworkSettings
from coldchain.agent.news import NewsSettings, wait_for_news
from coldchain_server.web.origin import running as serving_origin
from tests.client.agent.publisher import FIRST, SECOND, Publisher, run
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server
from tests.client.agent.test_loop import Running, running
from tests.client.agent.test_news import somebody_waits
from tests.server.web.published import MemoryStorage

TIMESTAMP = "metadata/timestamp.json"
Script = Callable[[RawServer, Asked, Writer], Awaitable[None]]


class Scene:
    def __init__(self, folder: Path, policy: str = "[network]\nwait = true\n") -> None:
        self.publisher = Publisher(folder / "publisher", regions=("us",))
        self.publisher.publish(1, FIRST)
        self.storage = MemoryStorage(dict(self.publisher.files))
        self.client = self.publisher.client(folder / "client", "http://placeholder.invalid")
        (self.client.path / "policy.toml").write_text(policy)

    def publish(self) -> None:
        self.publisher.publish(2, SECOND)
        self.storage.files = dict(self.publisher.files)

    def forged(self) -> bytes:
        """A timestamp that says it is newer, and that nobody signed."""
        document = json.loads(self.publisher.files[TIMESTAMP])
        document["signed"]["version"] += 1000
        return canonical.encode(document)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def polls(server: RawServer) -> int:
    return sum(one.path == TIMESTAMP for one in server.asked)


def waits(server: RawServer) -> int:
    return sum(one.path.startswith("v1/wait") for one in server.asked)


def tree(files: dict[str, bytes], told: Callable[[], bytes]) -> Script:
    """A server of these files that answers whoever waits with what it is ``told``."""

    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        data = told() if asked.path.startswith("v1/wait") else files.get(asked.path)
        server.write(writer, answer(data) if data is not None else answer(b"", "404 Not Found"))

    return script


def told(one: Running, times: int) -> bool:
    return len(one.lines("news")) == times


async def first_poll(one: Running) -> None:
    await one.until(lambda: one.lines("started"))
    one.clock.on(30)
    assert (await one.polled(1))["event"] == "installed"


async def test_a_publish_is_polled_for_within_two_seconds_of_the_news(scene: Scene) -> None:
    async with serving_origin(scene.storage) as origin, running(scene.client, origin.url) as one:
        await first_poll(one)
        await somebody_waits(origin)
        scene.publish()
        await one.until(lambda: one.lines("news"))
        assert one.agent.polls == 1
        one.clock.on(1.0)  # half of the two seconds, as drawn
        done = await one.polled(2)
        assert (done["event"], done["release"]) == ("updated", 2)
        await somebody_waits(origin)  # for the next one


async def test_who_cries_news_is_not_listened_to_before_the_next_poll_that_is_due(scene: Scene) -> None:
    async with (
        raw_server(tree(scene.publisher.files, scene.forged)) as server,
        running(scene.client, server.url) as one,
    ):
        await first_poll(one)
        for turn in (1, 2):
            await one.until(partial(told, one, turn))
            one.clock.on(1.0)
            assert (await one.polled(2 * turn))["event"] == "current"
            await asyncio.sleep(0.1)
            assert waits(server) == turn
            one.clock.on(4500)
            await one.polled(2 * turn + 1)


async def test_an_edge_that_has_yet_to_pull_what_the_origin_told_of_is_listened_to_meanwhile(scene: Scene) -> None:
    """An edge that came back is polled first, the origin has the news first: nothing new there yet makes nobody deaf for an hour."""
    files = dict(scene.publisher.files)
    back, pulled = asyncio.Event(), asyncio.Event()

    async def edge(server: RawServer, asked: Asked, writer: Writer) -> None:
        if asked.path.startswith("v1/wait"):
            if not back.is_set():
                writer.transport.abort()  # it dies while the endpoint listens there
                return
            await pulled.wait()
        data = files[TIMESTAMP] if asked.path.startswith("v1/wait") else files.get(asked.path)
        server.write(writer, answer(data) if data is not None else answer(b"", "404 Not Found"))

    async with (
        raw_server(edge) as server,
        serving_origin(scene.storage) as origin,
        running(scene.client, server.url, origin.url) as one,
    ):
        await first_poll(one)
        await somebody_waits(origin)
        back.set()
        scene.publish()
        await one.until(partial(told, one, 1))
        one.clock.on(1.0)
        assert (await one.polled(2))["event"] == "current"
        files |= scene.publisher.files
        pulled.set()
        await one.until(partial(told, one, 2))
        one.clock.on(1.0)
        assert (await one.polled(3))["release"] == 2


@pytest.mark.parametrize("policy", ["[network]\n", "[network]\nwait = false\n"])
async def test_nobody_listens_who_was_not_told_to(tmp_path: Path, policy: str) -> None:
    scene = Scene(tmp_path, policy)
    async with (
        raw_server(tree(scene.publisher.files, scene.forged)) as server,
        running(scene.client, server.url) as one,
    ):
        await first_poll(one)
        await asyncio.sleep(0.1)
        assert waits(server) == 0


async def test_a_failed_poll_is_followed_by_its_pause_without_listening(scene: Scene) -> None:
    async def broken(server: RawServer, _: Asked, writer: Writer) -> None:
        server.write(writer, answer(b"", "500 Broken"))

    async with serving_origin(scene.storage) as origin:
        await run(scene.client, origin.url)
    async with raw_server(broken) as server, running(scene.client, server.url) as one:
        await one.until(lambda: one.lines("started"))
        await one.until(lambda: waits(server) > 0)  # it listens before its first poll, too
        one.clock.on(30)
        await one.polled(1)
        before = waits(server)
        await asyncio.sleep(0.1)
        assert waits(server) == before


async def test_a_server_that_is_behind_has_no_news(scene: Scene) -> None:
    old = scene.publisher.files[TIMESTAMP]
    scene.publish()
    async with serving_origin(scene.storage) as origin:
        await run(scene.client, origin.url)
    for said, expected in ((old, False), (b"{}", False), (scene.forged(), True)):
        async with raw_server(tree({}, partial(bytes, said))) as server:
            settings = NewsSettings((server.url,), NetworkSettings(direct=True), draw=lambda: 0.0)
            assert await wait_for_news(scene.client, 1, settings) == (server.url if expected else None)


async def test_a_server_that_was_down_is_asked_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldchain.agent.news.PAUSE_SECONDS", 0.01)
    cut = 3

    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        if waits(server) <= cut:
            writer.transport.abort()
        else:
            server.write(writer, answer(scene.forged()))

    async with serving_origin(scene.storage) as origin:
        await run(scene.client, origin.url)
    async with raw_server(script) as server:
        assert await wait_for_news(
            scene.client, 600, NewsSettings((server.url,), NetworkSettings(direct=True), draw=lambda: 0.0)
        )
        assert waits(server) == cut + 1
