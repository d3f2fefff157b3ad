"""A stolen edge before a good origin: the endpoint keeps its protection, gets the newest release in the same run, and remembers.

An edge that shows nothing wrong because it stands still, or lags and moves on, is found out by a second opinion, at the latest seven
hours later and within one poll, for one conditional request to each other source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.agent.second_opinion import newer
from coldchain.errors import ColdchainError
from coldchain.install.directory import ClientDirectory
from coldchain.install.source_health import DOUBT_AFTER, DOUBT_EVERY, read_source_health
from coldchain.limits import LIMITS
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, Lie, Publisher, run, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, raw_server
from tests.client.agent.world import World, contents

TIMESTAMP = "metadata/timestamp.json"
IMPATIENT = replace(LIMITS, metadata_seconds=1.0, download_floor_seconds=1.0)


def late(directory: ClientDirectory) -> dict[str, str]:
    return {url: one.why for url, one in read_source_health(directory).late.items()}


def lies(world: World) -> Mapping[str, tuple[Lie, set[str]]]:
    """What it serves, and what an endpoint with release 1 may blame it for."""
    old, names = world.one, world.names

    def in_place_of(name: str, data: bytes) -> Lie:
        return lambda request, _: data if request.path == f"/{name}" else None

    return {
        "old": (lambda request, data: old.get(request.path[1:], data), {"behind", ""}),
        "mixed": (in_place_of(names["us"], old[TIMESTAMP]), {"refused"}),
        "truncated": (lambda request, data: data[:-1] if request.path != f"/{TIMESTAMP}" else None, {"refused"}),
        "truncated bundle": (
            lambda request, data: data[:-1] if request.path.startswith("/targets/") else None,
            {"behind"},
        ),
        "other bundle": (
            lambda request, data: data[:-1] + b"x" if request.path.startswith("/targets/") else None,
            {"refused"},
        ),
        "errors": (lambda _, __: web.Response(status=500), {"behind"}),
        "nothing": (lambda _, __: web.Response(status=404), {"behind", "refused"}),
    }


async def test_it_gains_nothing_and_is_asked_later(world: World, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name, (lie, whys) in lies(world).items():
        with subtests.test(name):
            client = world.copy(world.first, tmp_path / "client")
            async with serving(Edge(world.two, lie)) as bad, serving(Edge(world.two)) as good:
                first = await run(client, bad, good)
                if name != "old":  # nothing wrong can be seen of it yet
                    assert first.release == 2
                    assert late(client)[bad] in whys
                    edge = Edge(world.two, lie)
                    edge.url = bad
                    again = await run(client, bad, good)
                    assert (again.release, again.action) == (2, "current")
                assert contents(client) == (SECOND if first.release == 2 else FIRST)
                assert good not in late(client)


async def test_alone_it_is_refused_and_what_ran_runs(world: World, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name, (lie, _) in lies(world).items():
        with subtests.test(name):
            client = world.copy(world.first, tmp_path / "client")
            async with serving(Edge(world.two, lie)) as bad:
                if name == "old":
                    assert (await run(client, bad)).release == 1
                else:
                    with pytest.raises(ColdchainError) as caught:
                        await run(client, bad)
                    assert caught.value.kept == "release 1 stays in use"
                assert contents(client) == FIRST


async def test_slow_and_endless_ones_are_left_in_time(world: World, tmp_path: Path, subtests: pytest.Subtests) -> None:
    async def drip(server: RawServer, _: Asked, writer: Writer) -> None:
        server.write(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            server.write(writer, b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def endless(server: RawServer, _: Asked, writer: Writer) -> None:
        server.write(writer, b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            server.write(writer, bytes(65536))
            await writer.drain()

    for script, why in ((drip, "unreachable"), (endless, "behind")):
        with subtests.test(script.__name__):
            client = world.copy(world.first, tmp_path / "client")
            async with raw_server(script) as bad, serving(Edge(world.two)) as good:
                assert (await run(client, bad.url, good, limits=IMPATIENT)).release == 2
                assert late(client) == {bad.url: why}
                asked = len(bad.asked)
                assert (await run(client, bad.url, good, limits=IMPATIENT)).action == "current"
                assert len(bad.asked) == asked  # the next poll goes to the good one first, and ends there


async def test_who_comes_back_has_its_place_again(world: World, tmp_path: Path) -> None:
    client = world.copy(world.first, tmp_path / "client")
    edge = Edge(world.two)
    async with serving(edge) as good:
        assert (await run(client, "http://127.0.0.1:9", good)).release == 2
        assert late(client) == {"http://127.0.0.1:9": "unreachable"}
    async with serving(Edge(world.two)) as back, serving(Edge(world.two)) as other:
        health = client.path / "sources.json"
        health.write_bytes(health.read_bytes().replace(b"http://127.0.0.1:9", back.encode()))
        now = world.publisher.now
        await run(client, back, other, now=lambda: now)
        assert late(client) == {back: "unreachable"}
        await run(client, back, other, now=lambda: now + timedelta(hours=1))
        assert late(client) == {}


async def test_a_network_that_fails_is_nobodys_fault(world: World, tmp_path: Path) -> None:
    client = world.copy(world.first, tmp_path / "client")
    with pytest.raises(ColdchainError):
        await run(client, "http://127.0.0.1:9", "http://127.0.0.1:10")
    assert late(client) == {}


async def test_one_source_alone_leaves_no_memory(world: World, tmp_path: Path) -> None:
    client = world.copy(world.first, tmp_path / "client")
    async with serving(Edge(world.two)) as good:
        await run(client, good)
    assert not (client.path / "sources.json").exists()


class Standing:
    """An edge that stands still at release 2 while the origin signs on: what each poll of an endpoint finds, hour by hour."""

    def __init__(self, folder: Path) -> None:
        self.publisher = Publisher(folder / "publisher", regions=("us",))
        self.publisher.publish(1, FIRST)
        self.publisher.publish(2, SECOND)
        self.still = Edge(dict(self.publisher.files))
        self.client = self.publisher.client(folder / "client", "http://placeholder.invalid")
        self.origin = Edge(self.publisher.files)


@pytest.mark.parametrize("news", [True, False])
async def test_who_stands_still_is_found_out(news: bool, tmp_path: Path) -> None:
    scene = Standing(tmp_path)
    start = scene.publisher.now
    async with serving(scene.still) as bad, serving(scene.origin) as good:
        await run(scene.client, bad, good, now=lambda: start)
        if news:
            scene.publisher.publish(3, THIRD)
        asked = len(scene.origin.log)
        assert asked == 1  # the first time everybody is asked
        for minutes in range(0, 8 * 60, 30):
            now = start + timedelta(minutes=minutes)
            found = await run(scene.client, bad, good, now=lambda: now)  # noqa: B023
            doubts = len(scene.origin.log) > asked
            asked = len(scene.origin.log)
            due = timedelta(minutes=minutes) >= DOUBT_AFTER
            if found.release == 3:
                assert news
                assert due
                assert late(scene.client) == {bad: "behind"}
                assert contents(scene.client) == THIRD
                break
            assert not (news and due)
            assert doubts == (due and minutes % (DOUBT_EVERY.total_seconds() // 60) == 0)
        else:
            assert not news
            assert late(scene.client) == {}
        if not news:
            assert {path for path, _ in scene.origin.log} == {TIMESTAMP}


async def test_who_lags_and_moves_on_is_found_out(tmp_path: Path) -> None:
    """It has news at every poll, and never the newest."""
    scene = Standing(tmp_path)
    start = scene.publisher.now
    states = [dict(scene.publisher.files)]
    for _ in range(8):
        scene.publisher.repository.publish_timestamp()
        states.append(dict(scene.publisher.files))
    lagging, now = Edge(states[0]), start
    async with serving(lagging) as bad, serving(scene.origin) as good:
        for hours in range(8):
            scene.origin.files, lagging.files = states[hours], states[max(hours - 1, 0)]
            now = start + timedelta(hours=hours)
            await run(scene.client, bad, good, now=lambda: now)  # noqa: B023
            if late(scene.client):
                break
        assert late(scene.client) == {bad: "behind"}
        assert now - start == DOUBT_AFTER


async def test_who_says_that_it_is_old_is_doubted_at_once(tmp_path: Path) -> None:
    scene = Standing(tmp_path)
    start = scene.publisher.now
    aged = replace(scene.still, lie=lambda _, data: web.Response(body=data, headers={"Age": "4000"}))
    async with serving(aged) as bad, serving(scene.origin) as good:
        await run(scene.client, good, now=lambda: start)
        scene.publisher.publish(3, THIRD)
        found = await run(scene.client, bad, good, now=lambda: start)
        assert found.release == 3
        assert late(scene.client) == {bad: "behind"}


async def test_a_liar_that_claims_to_be_newer_is_asked_once_and_believed_never(tmp_path: Path) -> None:
    scene = Standing(tmp_path)
    start = scene.publisher.now
    version = scene.publisher.files[TIMESTAMP].replace(b'"version":', b'"version":9')
    liar = Edge({**scene.publisher.files, TIMESTAMP: version})
    assert newer(version, 90, LIMITS)
    assert not newer(version[:-1], 1, LIMITS)
    async with serving(scene.still) as honest, serving(liar) as bad:
        await run(scene.client, honest, now=lambda: start)
        await run(scene.client, honest, bad, now=lambda: start)
        later = start + DOUBT_AFTER
        found = await run(scene.client, honest, bad, now=lambda: later)
        assert (found.release, found.action) == (2, "current")
        assert late(scene.client) == {bad: "refused"}


async def test_a_liar_does_not_stand_before_who_has_news(tmp_path: Path) -> None:
    """One that stands still, one that promises what it does not have, and an honest one behind them."""
    scene = Standing(tmp_path)
    start = scene.publisher.now
    async with serving(scene.still) as still, serving(scene.origin) as honest:
        await run(scene.client, still, now=lambda: start)
        scene.publisher.publish(3, THIRD)
        version = scene.publisher.files[TIMESTAMP].replace(b'"version":', b'"version":9')
        async with serving(Edge({**scene.publisher.files, TIMESTAMP: version})) as liar:
            found = await run(scene.client, still, liar, honest, now=lambda: start)
        assert found.release == 3
        assert late(scene.client) == {still: "behind", liar: "refused"}
