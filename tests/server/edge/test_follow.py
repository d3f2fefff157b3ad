"""An edge's loop against real servers: what it asks, whom it believes, what it remembers, and that it pulls once for each change."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.agent.told import Told
from coldchain.agent.transport import Traffic, open_sources
from coldchain.errors import ColdchainError
from coldchain.install.source_health import read_source_health
from coldchain.limits import LIMITS, Limits
from coldchain.mirror.directory import MirrorDirectory
from coldchain_server.edge.follow import PULL_EVERY, Follower, FollowSettings
from coldchain_server.edge.freshness import Freshness
from coldchain_server.edge.served_tree import ServedTree
from coldchain_server.web.origin import running
from tests.client.agent.publisher import FIRST, SECOND, Edge, Lie, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server
from tests.client.mirror.test_pull import plain_server
from tests.server.edge.edges import Place, requests

IMPATIENT = replace(LIMITS, metadata_seconds=1.0, download_floor_seconds=1.0)
TIMESTAMP = "metadata/timestamp.json"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.publish(1, FIRST)
    return made


@dataclass
class Edgy:
    """An edge's loop, one turn at a time."""

    place: Place
    follower: Follower
    freshness: Freshness

    async def turn(self) -> None:
        await self.follower.turn()

    async def refused(self) -> ColdchainError:
        with pytest.raises(ColdchainError) as caught:
            await self.turn()
        return caught.value

    @property
    def serves(self) -> int:
        """The release that a fresh endpoint gets from what is served."""
        return self.place.fresh_release()

    @property
    def late(self) -> dict[str, str]:
        return {url: one.why for url, one in read_source_health(self.place.mirror.own).late.items()}


@contextlib.asynccontextmanager
async def edgy(place: Place, *urls: str, grace: int = 24, limits: Limits = LIMITS) -> AsyncIterator[Edgy]:
    """A process' life: what an earlier one left is on the disk."""
    config = replace(place.config, urls=urls, grace=grace)
    place.prepare(place.mirror, config)
    freshness = Freshness(place.mirror, lambda: place.now)
    settings = FollowSettings(
        wait_seconds=1, poll_seconds=0.01, first_pause=0.01, now=lambda: place.now, draw=lambda: 0.5, limits=limits
    )
    follower = Follower(place.mirror, config, freshness, settings)
    async with open_sources(config.urls, follower.traffic, limits, told=follower._told) as opened:
        follower._sources = {one.url: one for one in opened}
        yield Edgy(place, follower, freshness)


async def in_thread(work: Callable[[], int]) -> int:
    return await asyncio.to_thread(work)


async def test_one_pull_for_each_change_and_one_request_when_there_is_none(place: Place) -> None:
    async with place.origin() as origin, edgy(place, origin.url) as one:
        await one.turn()
        assert one.freshness.served.releases == (("us", "stable", 1),)
        assert one.freshness.age() is None  # pulled, and nobody said since that it is the newest
        for _ in range(3):
            before = requests(origin)
            await one.turn()
            assert requests(origin) - before == 1
            assert one.freshness.age() == 0
        place.publish(2, SECOND)
        before = origin.counters.value("responses", kind="targets")
        await one.turn()
        assert one.freshness.served.releases == (("us", "stable", 2),)
        assert origin.counters.value("responses", kind="targets") - before == 3  # evidence, full bundle, delta
        assert await in_thread(lambda: one.serves) == 2
        before = requests(origin)
        await one.turn()
        assert requests(origin) - before == 1


async def test_how_often_endpoints_are_asked_to_poll_comes_down_a_chain_of_edges(place: Place, tmp_path: Path) -> None:
    async def asked(url: str) -> float | None:
        told = Told()
        async with open_sources([url], Traffic(), told=told) as (source,):
            await source.get(TIMESTAMP, LIMITS.timestamp_bytes)
        return told.poll_seconds

    for origin_asks, expected in ((600, 600.0), (0, None)):
        async with place.origin(poll_seconds=origin_asks) as origin, edgy(place, origin.url) as one:
            await one.turn()  # pulls
            await one.turn()  # is told that this is the newest
            async with running(ServedTree(place.mirror), copy=one.freshness) as near:
                assert await asked(near.url) == expected
                below = Freshness(place.mirror, lambda: place.now)
                config = replace(place.config, urls=(near.url,))
                follower = Follower(place.mirror, config, below, FollowSettings(now=lambda: place.now))
                async with open_sources(config.urls, follower.traffic, told=follower._told) as opened:
                    follower._sources = {one.url: one for one in opened}
                    for age in (0, 40):
                        one.freshness.confirm(place.now - timedelta(seconds=age))
                        follower._at_once = True
                        await follower.turn()
                        async with running(ServedTree(place.mirror), copy=below) as far:
                            assert await asked(far.url) == expected


async def test_a_restart_fetches_nothing(place: Place) -> None:
    async with place.origin() as origin:
        async with edgy(place, origin.url) as one:
            await one.turn()
            await one.turn()
        before, sent = requests(origin), origin.counters.value("response_bytes")
        async with edgy(place, origin.url) as one:
            assert one.freshness.served.releases == (("us", "stable", 1),)
            await one.turn()
            assert one.freshness.age() == 0
        assert requests(origin) - before == 1
        assert origin.counters.value("response_bytes") == sent
        assert origin.counters.value("responses", kind="timestamp", status="304") >= 1
        for damage in ("missing", "damaged", "of another generation"):
            file = place.mirror.own.path / "edge.json"
            data = file.read_bytes()
            file.unlink()
            if damage == "damaged":
                file.write_bytes(data[:-1])
            if damage == "of another generation":
                file.write_bytes(data.replace(one.freshness.served.generation.encode(), b"0" * 16))
            sent = origin.counters.value("responses", kind="targets")
            async with edgy(place, origin.url) as one:
                await one.turn()
                assert one.freshness.served.releases == (("us", "stable", 1),)
            assert origin.counters.value("responses", kind="targets") == sent  # files that are there do not come again


async def test_cut_off_it_serves_on_and_says_how_old(place: Place) -> None:
    async with place.origin() as origin, edgy(place, origin.url) as one:
        await one.turn()
        await one.turn()
    async with edgy(place, origin.url) as one:
        for hours in (1, 5):
            place.later = timedelta(hours=hours)
            assert (await one.refused()).exit_code == 20
            assert one.freshness.age() == hours * 3600
            assert [line for line in await one.freshness.behind() if f"{hours * 3600:,} seconds" in line]
            assert await one.freshness.expired() == []
            assert await in_thread(lambda: one.serves) == 1
        assert one.late == {}  # the network failed, not the upstream
        place.later = timedelta(days=3)
        await one.refused()
        assert await one.freshness.expired()


def swap(path_part: str, data: bytes) -> Lie:
    return lambda request, _: data if path_part in request.path else None


def lies(place: Place, old: dict[str, bytes]) -> dict[str, Lie]:
    """What a stolen upstream may serve in place of release 2."""
    files = place.publisher.files
    region = place.publisher.repository.name("us")
    other = files[place.publisher.repository.name("jp")]

    def mixed(request: web.Request, data: bytes) -> bytes | None:
        path = request.path.lstrip("/")
        return None if path == TIMESTAMP else old.get(path, data if path.startswith("targets") else old[TIMESTAMP])

    return {
        "truncated": lambda _, data: data[:-1],
        "truncated files": lambda request, data: data[:-1] if "/targets/" in request.path else None,
        "other bytes": lambda request, data: bytes([data[0] ^ 1]) + data[1:] if "/targets/" in request.path else None,
        "mixed": mixed,
        "another region's": swap(region, other),
        "invented timestamp": swap(TIMESTAMP, files[TIMESTAMP].replace(b'"version":', b'"version":9')),
        "endless": lambda request, data: data + bytes(1 << 20) if TIMESTAMP in request.path else None,
        "errors": lambda _, __: web.Response(status=500),
        "nothing there": lambda _, __: web.Response(status=404),
        "redirects": lambda _, __: web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
    }


async def test_an_upstream_that_lies_changes_nothing_and_a_good_one_makes_up_for_it(
    place: Place, subtests: pytest.Subtests
) -> None:
    old = dict(place.publisher.files)
    await place.apull()
    template = place.path / "template"
    copy_tree(place.mirror, template)
    place.publish(2, SECOND)
    for name, lie in lies(place, old).items():
        with subtests.test(name):
            async with serving(Edge(place.publisher.files, lie)) as bad, place.origin() as good:
                reset(place.mirror, template)
                async with edgy(place, bad) as one:
                    before = metadata(place.mirror)
                    for _ in range(2):
                        with contextlib.suppress(ColdchainError):
                            await one.turn()
                    assert metadata(place.mirror) == before
                    assert one.freshness.served.releases in ((), (("us", "stable", 1),))
                reset(place.mirror, template)
                async with edgy(place, bad, good.url) as one:
                    for _ in range(2):
                        with contextlib.suppress(ColdchainError):
                            await one.turn()
                    assert one.freshness.served.releases == (("us", "stable", 2),)
                    assert await in_thread(lambda: one.serves) == 2
                    assert list(one.late) == [bad]


def metadata(mirror: MirrorDirectory) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (mirror.path / "metadata").iterdir()}


def copy_tree(mirror: MirrorDirectory, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(mirror.path, target, symlinks=True)


def reset(mirror: MirrorDirectory, template: Path) -> None:
    shutil.rmtree(mirror.path)
    shutil.copytree(template, mirror.path, symlinks=True)


async def test_slow_and_endless_upstreams_are_given_up(place: Place, subtests: pytest.Subtests) -> None:
    await place.apull()
    place.publish(2, SECOND)

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

    async def silent(_: RawServer, __: Asked, ___: Writer) -> None:
        await asyncio.sleep(3600)

    async def garbage(server: RawServer, _: Asked, writer: Writer) -> None:
        server.write(writer, answer(b"\x00" * 100, "200 OK", "Content-Encoding: gzip"))

    template = place.path / "template"
    copy_tree(place.mirror, template)
    for script in (drip, endless, silent, garbage):
        with subtests.test(script.__name__):
            reset(place.mirror, template)
            async with (
                raw_server(script) as bad,
                place.origin() as good,
                edgy(place, bad.url, good.url, limits=IMPATIENT) as one,
            ):
                for _ in range(3):
                    with contextlib.suppress(ColdchainError):
                        await one.turn()
                assert one.freshness.served.releases == (("us", "stable", 2),)
                assert list(one.late) == [bad.url]
                assert bad.sent < 16 << 20


async def test_an_upstream_that_stands_still_is_found_out_by_another_within_one_wait(place: Place) -> None:
    await place.apull()
    frozen = dict(place.publisher.files)
    place.publish(2, SECOND)
    async with serving(Edge(frozen)) as still, place.origin() as good, edgy(place, still, good.url) as one:
        await one.turn()  # what an earlier process pulled is not known to this one
        await one.turn()
        assert one.freshness.served.releases == (("us", "stable", 2),)
        assert one.late == {still: "behind"}
        before = requests(good)
        await one.turn()
        assert requests(good) > before  # it is asked first now
        place.later = timedelta(hours=2)
        assert one.follower._order()[0] == still  # and has its place again after a while


async def test_an_upstream_that_was_cut_off_itself_is_asked_later(place: Place) -> None:
    await place.apull()

    def aged(_: web.Request, data: bytes) -> web.StreamResponse:
        return web.Response(body=data, headers={"Age": "5000"})

    async with serving(Edge(place.publisher.files, aged)) as old:
        async with edgy(place, old) as one:
            await one.turn()
            await one.turn()
            assert one.freshness.age() == 5000  # ages add up along a chain
            assert one.late == {}
        async with place.origin() as good, edgy(place, old, good.url) as one:
            await one.turn()
            assert one.freshness.age() == 0
            assert one.late == {old: "behind"}


async def test_an_upstream_that_cannot_wait_is_polled(place: Place) -> None:
    with plain_server(place.upstream) as url:
        async with edgy(place, url) as one:
            await one.turn()
            for _ in range(3):
                await one.turn()
                assert one.freshness.age() == 0
            place.publish(2, SECOND)
            await one.turn()
            assert one.freshness.served.releases == (("us", "stable", 2),)


async def test_an_upstream_where_enough_wait_is_polled(place: Place) -> None:
    def lie(request: web.Request, data: bytes) -> web.StreamResponse | None:
        return web.Response(status=503, headers={"Retry-After": "60"}) if request.path == "/v1/wait" else None

    async with serving(Edge({**place.publisher.files, "v1/wait": b""}, lie)) as url, edgy(place, url) as one:
        for _ in range(4):
            await one.turn()
        assert one.freshness.age() == 0
        assert one.freshness.served.releases == (("us", "stable", 1),)


async def test_a_new_root_without_a_new_timestamp_comes_within_hours(place: Place) -> None:
    async with place.origin() as origin, edgy(place, origin.url) as one:
        await one.turn()
        await one.turn()
        place.publisher.repository.publish_root()
        place.publisher.write(place.upstream)
        await one.turn()
        served = place.mirror.path / "metadata" / "2.root.json"
        assert not served.exists()
        place.later = PULL_EVERY
        await one.turn()
        assert served.exists()


async def test_the_disk_stays_bounded(place: Place) -> None:
    """Releases come every two hours, the grace is one: what is served is the newest, and for a while the one before."""
    async with place.origin() as origin, edgy(place, origin.url, grace=1) as one:
        sizes = []
        for release, contents in enumerate((SECOND, FIRST, SECOND, FIRST), 2):
            place.later += timedelta(hours=2)
            place.publisher.releases = {"us": dict(list(place.publisher.releases["us"].items())[-1:])}
            place.publish(release, contents)
            await one.turn()
            await one.turn()
            assert one.freshness.served.releases == (("us", "stable", release),)
            sizes.append(sum(file.stat().st_size for file in place.mirror.path.rglob("*.ccd")))
            assert len(list((place.mirror.own.path / "generations").iterdir())) == 1
        assert max(sizes) <= 3 * sizes[0], sizes
        assert not (place.mirror.path / "metadata" / "2.snapshot.json").exists()


async def test_another_process_on_the_same_directory_is_let_pull(place: Place) -> None:
    async with place.origin() as origin, edgy(place, origin.url) as one:
        with MirrorDirectory(place.mirror.path).own.locked():
            await one.turn()
        assert not one.freshness.served.releases
        await one.turn()
        assert one.freshness.served.releases == (("us", "stable", 1),)


async def test_failures_in_a_row_are_further_and_further_apart(place: Place) -> None:
    async with edgy(place, "http://127.0.0.1:9") as one:
        one.follower.settings.first_pause, one.follower.settings.longest_pause = 1.0, 60.0
        pauses = []
        for failures in range(1, 30):
            one.follower._failures = failures
            pauses.append(one.follower._pause())
        assert pauses == sorted(pauses)
        assert (pauses[0], pauses[-1]) == (0.75, 45.0)
