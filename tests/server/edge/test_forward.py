"""Sending counts on over real sockets: what each answer means, that a batch is at one upstream at most, and that it counts once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.mirror.directory import MirrorConfig
from coldchain_server.edge.forward import Forwarder
from coldchain_server.reports.batch import parse_batch
from coldchain_server.reports.hours import hour_of
from coldchain_server.reports.spool import Spool
from coldchain_server.reports.store import Batch, ReportStore
from tests.server.reports.test_batch import ONE

NOT_COUNTED = (401, 403, 404, 405, 411, 429, 503)


@dataclass
class Upstream:
    """Counts what it is sent into a store of its own, and then answers ``status`` (0: breaks off)."""

    path: Path
    status: int = 204
    seen: list[int] = field(default_factory=list)
    url: str = ""

    async def take(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer the-token"
        assert set(request.headers) == {"Host", "Authorization", "Content-Length"}
        found = parse_batch(await request.read(), "edge")
        self.seen.append(found.number)
        if self.status not in NOT_COUNTED:
            with ReportStore.open(self.path) as store:
                store.add(found.counts, Batch(found.region, "edge", found.number))
        if not self.status:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=self.status or 500)

    def count(self) -> int:
        with ReportStore.open(self.path) as store:
            return sum(one.count for one in store.rows("us"))

    @contextlib.asynccontextmanager
    async def up(self, port: int = 0) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/reports", self.take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.url
        finally:
            await runner.cleanup()


@dataclass
class Sender:
    path: Path
    ends: Counter[str] = field(default_factory=Counter)

    def forwarder(self, *urls: str) -> Forwarder:
        def count(_: str, amount: int, labels: Mapping[str, str]) -> None:
            self.ends[labels["end"]] += amount

        config = MirrorConfig("coldchain", ("us",), "0" * 64, urls)
        return Forwarder(lambda: Spool.open(self.path), config, "the-token", every=0.01, count=count)

    def add(self, count: int = 1, ago: timedelta = timedelta()) -> None:
        with Spool.open(self.path) as spool:
            spool.add([replace(ONE, count=count, hour=hour_of(datetime.now(UTC) - ago))])

    def pending(self) -> list[str]:
        with Spool.open(self.path) as spool:
            return spool.pending()


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    return Sender(tmp_path / "spool")


@pytest.fixture
def one(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "one")


@pytest.fixture
def two(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "two")


async def test_each_look_sends_what_there_is(sender: Sender, one: Upstream) -> None:
    async with one.up() as url:
        forwarder = sender.forwarder(url)
        assert await forwarder.turn() == 0
        for count in (3, 4):
            sender.add(count)
            assert await forwarder.turn() == 1
        assert (one.count(), sender.pending()) == (7, [])
        assert one.seen == sorted(set(one.seen))
        sender.add(5)
        running = asyncio.create_task(forwarder.run())
        while sender.ends["counted"] < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
    assert (one.count(), sender.ends) == (12, {"counted": 3})


@pytest.mark.parametrize("status", NOT_COUNTED)
async def test_who_says_that_it_did_not_count_lets_the_next_be_asked(
    sender: Sender, one: Upstream, two: Upstream, status: int
) -> None:
    one.status = status
    sender.add(3)
    async with one.up() as first, two.up() as second:
        assert await sender.forwarder(first, second).turn() == 1
    assert (one.count(), two.count(), sender.pending()) == (0, 3, [])


@pytest.mark.parametrize("status", [0, 500, 502, 504, 302])
async def test_who_may_have_counted_it_gets_it_again_and_nobody_else(
    sender: Sender, one: Upstream, two: Upstream, status: int
) -> None:
    one.status = status
    sender.add(3)
    async with two.up() as second:
        async with one.up() as first:
            for _ in range(2):
                assert await sender.forwarder(first, second).turn() == 0
        assert await sender.forwarder(first, second).turn() == 0  # it is down now
        one.status = 204
        async with one.up(int(first.rsplit(":", 1)[1])) as again:
            assert again == first
            assert await sender.forwarder(first, second).turn() == 1
    assert len(one.seen) >= 3  # aiohttp itself repeats no POST
    assert len(set(one.seen)) == 1
    assert (one.count(), two.count(), sender.pending()) == (3, 0, [])


async def test_a_refusal_after_a_lost_answer_does_not_set_it_free(sender: Sender, one: Upstream, two: Upstream) -> None:
    """It was counted there, and its later 503 is about the repetition."""
    one.status = 0
    sender.add(3)
    async with one.up() as first, two.up() as second:
        for status in (0, 503, 401):
            one.status = status
            assert await sender.forwarder(first, second).turn() == 0
        one.status = 204
        assert await sender.forwarder(first, second).turn() == 1
    assert (one.count(), two.count()) == (3, 0)


async def test_without_the_mark_it_would_be_counted_twice(
    sender: Sender, one: Upstream, two: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "asked", lambda *_: None)
    one.status = 0
    sender.add(3)
    async with one.up() as first, two.up() as second:
        await sender.forwarder(first, second).turn()
        await sender.forwarder(second, first).turn()
    assert one.count() + two.count() == 6


async def test_one_that_is_down_is_passed_over_and_with_nobody_there_it_waits(sender: Sender, one: Upstream) -> None:
    nowhere = "http://127.0.0.1:9"
    sender.add(3)
    assert await sender.forwarder(nowhere).turn() == 0
    async with one.up() as url:
        assert await sender.forwarder(nowhere, url).turn() == 1
    assert (one.count(), sender.ends) == (3, {"not now": 2, "counted": 1})


async def test_an_upstream_taken_off_the_list_may_have_had_it(sender: Sender, one: Upstream, two: Upstream) -> None:
    one.status = 0
    sender.add(3)
    async with one.up() as first, two.up() as second:
        assert await sender.forwarder(first).turn() == 0
        sender.add(4)
        assert await sender.forwarder(second).turn() == 2
    assert (one.count(), two.count(), sender.ends) == (3, 4, {"not now": 1, "given up": 1, "counted": 1})


async def test_what_an_edge_is_cut_off_with_is_kept_for_a_month(sender: Sender, one: Upstream) -> None:
    for days in (31, 29):
        sender.add(days, timedelta(days=days))
    async with one.up() as url:
        assert await sender.forwarder(url).turn() == 1
    assert one.count() == 29


@pytest.mark.parametrize("status", [400, 413])
async def test_what_nobody_will_ever_count_is_not_in_the_way(sender: Sender, one: Upstream, status: int) -> None:
    one.status = status
    sender.add(3)
    async with one.up() as url:
        await sender.forwarder(url).turn()
        one.status = 204
        sender.add(4)
        assert await sender.forwarder(url).turn() == 1
    assert sender.ends["refused"] == 1
    assert sender.pending() == []
