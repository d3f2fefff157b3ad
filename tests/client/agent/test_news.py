"""An endpoint that waits is told within moments of a publish, by whoever can tell; and never waits for nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coldchain import cli
from coldchain.agent.network import NetworkSettings
from coldchain.agent.news import NewsSettings, wait_for_news
from coldchain.install.directory import ClientDirectory
from coldchain_server.web.origin import Origin, running
from tests.client.agent.publisher import FIRST, SECOND, Edge, Publisher, run, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server
from tests.client.tuf.repository import digest
from tests.server.web.published import MemoryStorage, until

NETWORK = NetworkSettings(direct=True)


class Scene:
    def __init__(self, folder: Path) -> None:
        self.publisher = Publisher(folder / "publisher", regions=("us",))
        self.publisher.publish(1, FIRST)
        self.storage = MemoryStorage(dict(self.publisher.files))
        self.client = self.publisher.client(folder / "client", "http://placeholder.invalid")

    def publish(self) -> None:
        self.publisher.publish(2, SECOND)
        self.storage.files = dict(self.publisher.files)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def wait(client: ClientDirectory, seconds: float, *urls: str) -> str | None:
    return await wait_for_news(client, seconds, NewsSettings(urls=urls, network=NETWORK, draw=lambda: 0.0))


async def somebody_waits(origin: Origin) -> None:
    await until(lambda: "coldchain_waiting 1\n" in origin.counters.prometheus())


async def test_a_publish_ends_the_wait_and_the_poll_finds_it(scene: Scene) -> None:
    async with running(scene.storage) as origin:
        assert await wait(scene.client, 600, origin.url)  # nothing is installed: no reason to wait
        await run(scene.client, origin.url)
        waiting = asyncio.create_task(wait(scene.client, 600, origin.url))
        await somebody_waits(origin)
        assert not waiting.done()
        scene.publish()
        assert await waiting
        assert (await run(scene.client, origin.url)).release == 2


async def test_the_wait_ends_in_time_whoever_is_asked(scene: Scene) -> None:
    async with running(scene.storage) as origin, serving(Edge(scene.publisher.files)) as cannot:
        await run(scene.client, origin.url)
        for urls in ((origin.url,), (cannot,), ("http://127.0.0.1:9",), (str(scene.client.path),)):
            assert not await wait(scene.client, 1, *urls)


async def test_who_cannot_tell_is_passed_over(scene: Scene) -> None:
    async with running(scene.storage) as origin, serving(Edge(scene.publisher.files)) as cannot:
        await run(scene.client, origin.url)
        waiting = asyncio.create_task(wait(scene.client, 600, "http://127.0.0.1:9", cannot, origin.url))
        await somebody_waits(origin)
        scene.publish()
        assert await waiting


async def test_a_server_that_ends_hands_over_to_the_next(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldchain.agent.news.PAUSE_SECONDS", 0.05)
    async with running(scene.storage) as stays:
        async with running(scene.storage) as ends:
            await run(scene.client, ends.url)
            waiting = asyncio.create_task(wait(scene.client, 600, ends.url, stays.url))
            await somebody_waits(ends)
        await somebody_waits(stays)
        scene.publish()
        assert await waiting


async def test_the_request_says_what_the_endpoint_has_and_nothing_else(scene: Scene) -> None:
    newer = scene.publisher.files["metadata/timestamp.json"]

    async def script(server: RawServer, _: Asked, writer: Writer) -> None:
        server.write(writer, answer(newer))

    async with running(scene.storage) as origin:
        await run(scene.client, origin.url)
    tag = digest(newer)[:32]
    scene.publish()
    newer = scene.publisher.files["metadata/timestamp.json"]
    async with raw_server(script) as server:
        assert await wait(scene.client, 10_000, server.url)
    (asked,) = server.asked
    assert set(asked.fields) == {"host"}
    assert asked.path == f"v1/wait?tag={tag}&seconds=240"


def test_waiting_and_a_pack_are_two_things(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["update", str(scene.client.path), "--wait", "5", "--pack", "x.pack"]) == 2
    assert "--wait asks servers" in capsys.readouterr().err
