"""Outcome reports of the real client on real sockets: what is said, once, in which bytes; and that no update is touched by it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.agent import allowance, reporting
from coldchain.agent.network import network_settings
from coldchain.agent.reporting import LATER_SECONDS, LaterReports, send_waiting
from coldchain.agent.told import Told
from coldchain.engines.activation import EngineOutcome
from coldchain.engines.interface import LoadReport
from coldchain.errors import (
    ColdchainError,
    EngineDownError,
    EngineError,
    HeldError,
    OwnPolicyError,
    StorageError,
    TransportError,
    VerificationError,
)
from coldchain.install.directory import ClientDirectory
from coldchain.install.report_memory import ReportMemory, change_report_memory, read_report_memory
from coldchain.install.status import status
from coldchain.limits import LIMITS
from coldchain.outcome_report import OutcomeReport, parse_report
from tests.client.agent.proxy_servers import proxying
from tests.client.agent.publisher import Edge, metered, run, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server
from tests.client.agent.test_loop import Clock, running
from tests.client.agent.world import World, contents

ON = "[reports]\nsend = true\n"
APPLIED = OutcomeReport("us", "stable", 1, 2, "applied", 0, "0.1.0")
SHORT = replace(LIMITS, report_seconds=0.2)


@dataclass
class Taking(Edge):
    """A server that serves the tree and takes reports; ``status`` is what it answers to them."""

    status: int = 204
    reports: list[OutcomeReport] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.reports.append(parse_report(await request.read()))
        return web.Response(status=self.status)


@contextlib.asynccontextmanager
async def taking(edge: Taking) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/reports", edge.take)
    app.router.add_get("/{path:.*}", edge.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def client(world: World, tmp_path: Path) -> ClientDirectory:
    """An endpoint with release 1 that reports."""
    directory = world.copy(world.first, tmp_path / "endpoint")
    (directory.path / "policy.toml").write_text(ON)
    return directory


async def test_every_byte_of_it(world: World, client: ClientDirectory) -> None:
    """What docs/reports.md shows is what goes over the wire, and `status` shows the same."""
    async with taking(Taking(world.two)) as url, metered(url) as (meter_url, meter):
        assert (await run(client, meter_url)).action == "updated"
        head, _, body = meter.sent.partition(b"POST ")[2].partition(b"\r\n\r\n")
        host = meter_url.partition("://")[2]
        assert head.decode().split("\r\n") == ["/v1/reports HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
        assert body == APPLIED.encode()
        found = status(client, datetime.now(UTC))
        assert found.reports.last is not None
        assert (found.reports.last.data, found.reports.last.url) == (body, meter_url)
        (first, second) = found.report_lines()
        assert first.startswith("reports      on (policy.toml, [reports]); the last one, ")
        assert second.strip() == body.decode()
        meter.sent = b""
        assert (await run(client, meter_url)).action == "current"
        assert b"POST" not in meter.sent
    page = (Path(__file__).parents[3] / "docs" / "reports.md").read_text()
    (shown,) = re.findall(r"```\n(POST .*?)```", page, re.DOTALL)
    example = replace(APPLIED, source=41, release=42).encode().decode()
    length = len(example)
    assert shown == f"POST /v1/reports HTTP/1.1\nHost: edge.example\nContent-Length: {length}\n\n{example}\n"


async def test_nothing_is_said_without_the_word(world: World, client: ClientDirectory) -> None:
    for policy in (None, "[reports]\nsend = false\n", "# nothing\n"):
        directory = world.copy(world.first, client.path)
        if policy is not None:
            (directory.path / "policy.toml").write_text(policy)
        async with taking(edge := Taking(world.two)) as url:
            assert (await run(directory, url)).action == "updated"
        assert edge.reports == []
        assert not (directory.path / "reports.json").exists()
        assert status(directory, datetime.now(UTC)).report_lines() == ["reports      off: nothing is sent"]


async def test_the_first_source_that_takes_it(world: World, client: ClientDirectory) -> None:
    """A server that does not take reports, one that is down, a directory: the next is asked, with one request each."""
    async with (
        serving(Edge(world.two)) as plain,
        taking(busy := Taking(world.two, status=429)) as full,
        taking(good := Taking(world.two)) as url,
        taking(spare := Taking(world.two)) as last,
    ):
        assert (await run(client, plain, "http://127.0.0.1:9", full, url, last)).action == "updated"
    assert [len(one.reports) for one in (busy, good, spare)] == [1, 1, 0]
    assert read_report_memory(client).waiting == ()


async def test_what_nobody_takes_waits_for_the_next_run(world: World, client: ClientDirectory) -> None:
    async with serving(Edge(world.two)) as url:
        assert (await run(client, url)).action == "updated"
        assert [one.tries for one in read_report_memory(client).waiting] == [1]
        assert (await run(client, url)).action == "current"
        assert [one.tries for one in read_report_memory(client).waiting] == [2]
    async with taking(edge := Taking(world.two)) as url:
        assert (await run(client, url)).action == "current"
    assert edge.reports == [APPLIED]


async def test_a_server_that_never_answers_costs_seconds_and_nothing_else(
    world: World, client: ClientDirectory
) -> None:
    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        if asked.path == "v1/reports":
            await asyncio.sleep(60)
        data = world.two.get(asked.path)
        server.write(writer, answer(data) if data is not None else answer(b"", "404 Not Found"))

    async with raw_server(script) as server:
        done = await run(client, server.url, limits=SHORT)
    assert (done.action, done.release) == ("updated", 2)
    assert [one.tries for one in read_report_memory(client).waiting] == [1]


@pytest.mark.parametrize("told", [answer(b"x" * 99, "500 Oh"), answer(b"", "302 Found", "Location: /"), b"\0\0\0"])
async def test_whatever_a_server_answers_the_update_stands(world: World, client: ClientDirectory, told: bytes) -> None:
    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        data = world.two.get(asked.path)
        found = answer(data) if data is not None else answer(b"", "404 Not Found")
        server.write(writer, told if asked.path == "v1/reports" else found)

    async with raw_server(script) as server:
        assert (await run(client, server.url)).action == "updated"
    assert len(read_report_memory(client).waiting) == 1


async def test_a_server_busy_with_reports_is_polled_all_the_same(world: World, client: ClientDirectory) -> None:
    told = Told()
    async with taking(Taking(world.two, status=503)) as url:
        assert (await run(client, url, told=told)).action == "updated"
        assert told.until() == {}
        told.busy(url, 60)
        assert await send_waiting(client, lambda: datetime.now(UTC), urls=[url], told=told) == 0


@pytest.mark.parametrize("kind", ["http", "socks"])
async def test_it_goes_by_the_customer_s_proxy(world: World, client: ClientDirectory, kind: str) -> None:
    scheme = "socks5h" if kind == "socks" else "http"
    async with taking(edge := Taking(world.two)) as url, proxying(kind) as proxy:
        network = network_settings({"proxy": f"{scheme}://127.0.0.1:{proxy.port}"})
        assert (await run(client, url, network=network)).action == "updated"
    assert edge.reports == [APPLIED]
    assert proxy.asked[-1][0] == ("POST" if kind == "http" else proxy.asked[0][0])
    assert len({host for _, host, _ in proxy.asked}) == 1


async def test_a_disk_that_refuses_costs_a_report_and_never_an_update(
    world: World, client: ClientDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise StorageError("no")

    for name in ("change_report_memory", "read_report_memory"):
        monkeypatch.setattr(reporting, name, refuses)
    async with taking(edge := Taking(world.two)) as url:
        assert (await run(client, url)).action == "updated"
    assert edge.reports == []


async def test_the_day_s_bytes_are_kept_to(world: World, client: ClientDirectory) -> None:
    async with taking(edge := Taking(world.two)) as url:
        assert (await run(client, url, reports_later=True)).action == "updated"
        now = datetime.now(UTC)
        (client.path / allowance.NAME).write_bytes(allowance.encode_usage(now.date(), 1_000_000))
        network = network_settings({"most_bytes_per_day": 1_000_000})
        assert await send_waiting(client, lambda: now, urls=[url], network=network) == 0
        assert edge.reports == []
        assert await send_waiting(client, lambda: now, urls=[url]) == 1
    assert edge.reports == [APPLIED]


async def test_a_refused_release_is_said_once_with_its_code(world: World, client: ClientDirectory) -> None:
    edge = Taking(world.two, lie=lambda request, data: bytes(len(data)) if request.path.endswith(".ccd") else None)
    async with taking(edge) as url:
        for _ in range(2):
            with pytest.raises(VerificationError) as refused:
                await run(client, url)
            assert refused.value.exit_code == 12
        assert edge.reports == [replace(APPLIED, outcome="refused", code=12)]
        edge.lie = lambda _request, _data: None
        assert (await run(client, url)).action == "updated"
        assert edge.reports[1:] == [APPLIED]
    assert contents(client)


async def test_what_is_nobody_s_business(world: World, client: ClientDirectory) -> None:
    """Held, one's own policy, no network, a repair, a pack: not a word."""
    async with taking(edge := Taking(world.one)) as url:
        assert (await run(client, url, repair=True)).action == "repaired"
    assert edge.reports == []
    for files, policy, error in (
        (world.two, ON + "[release]\nhold = true\n", OwnPolicyError),
        ({}, ON, TransportError),
    ):
        (client.path / "policy.toml").write_text(policy)
        async with taking(edge := Taking(files)) as url:
            with pytest.raises(error):
                await run(client, url)
        assert edge.reports == []
    assert read_report_memory(client).waiting == ()


REPORT = LoadReport.__new__(LoadReport)


@pytest.mark.parametrize(
    ("engines", "outcome"),
    [
        ([], ("applied", 0)),
        ([EngineOutcome("a", "activated", 2)], ("applied", 0)),
        (
            [EngineOutcome("a", "activated", 2), EngineOutcome("b", "kept", 1, error=EngineError("no"))],
            ("engine-failed", 30),
        ),
        ([EngineOutcome("a", "kept", 1, REPORT, error=EngineDownError("died of it"))], ("engine-failed", 31)),
        ([EngineOutcome("a", "kept", 1, error=EngineDownError("was down before"))], None),
        ([EngineOutcome("a", "kept", None, REPORT, error=EngineDownError("never ran"))], None),
    ],
)
def test_what_engines_make_of_it(
    client: ClientDirectory, engines: list[EngineOutcome], outcome: tuple[str, int] | None
) -> None:
    noting = reporting.Noting(client, client.config(), True)
    noting.trying(2, 1)
    noting.ended(2, engines)
    found = [parse_report(one.data) for one in read_report_memory(client).waiting]
    assert [(one.outcome, one.code) for one in found] == ([outcome] if outcome else [])
    assert [(one.source, one.release) for one in found] == ([(1, 2)] if outcome else [])


def test_an_engine_that_comes_along_later_went_from_where_the_installation_did(client: ClientDirectory) -> None:
    first = reporting.Noting(client, client.config(), True)
    first.trying(2, 1)
    first.ended(2, [EngineOutcome("a", "kept", 1, error=EngineDownError("down"))])
    for engine in (EngineOutcome("a", "current", 2), EngineOutcome("a", "activated", 2)):
        later = reporting.Noting(client, client.config(), True)
        later.ended(2, [engine])
    assert [one.data for one in read_report_memory(client).waiting] == [APPLIED.encode()]


@pytest.mark.parametrize("error", [TransportError("x"), HeldError("x"), EngineError("x")])
def test_only_what_the_release_is_counts_as_refused(client: ClientDirectory, error: ColdchainError) -> None:
    noting = reporting.Noting(client, client.config(), True)
    noting.refused(VerificationError("before any release was known"))
    noting.trying(2, 1)
    noting.refused(error)
    assert read_report_memory(client) == ReportMemory()


async def test_an_agent_reports_later_and_at_random(world: World, client: ClientDirectory) -> None:
    assert LATER_SECONDS == 300
    async with taking(edge := Taking(world.two)) as url:
        async with running(client, url, clock=Clock(datetime.now(UTC)), reports_within=3600.0) as one:
            await one.until(lambda: one.lines("started"))
            one.clock.on(60)
            assert (await one.polled(1))["event"] == "updated"
            await asyncio.sleep(0.2)
            assert edge.reports == []
            assert len(read_report_memory(client).waiting) == 1
        async with running(client, url, clock=Clock(datetime.now(UTC)), reports_within=0.01) as one:
            await one.until(lambda: one.lines("started"))
            one.clock.on(60)
            assert (await one.polled(1))["event"] == "current"
            await one.until(lambda: read_report_memory(client).last)
    assert edge.reports == [APPLIED]


async def test_moments_are_drawn_within_the_span(client: ClientDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    change_report_memory(client, lambda memory: memory.saying(APPLIED))
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    async def send() -> int:
        return 1

    monkeypatch.setattr("coldchain.agent.reporting.asyncio.sleep", note)
    for draw in (0.0, 0.25, 0.999):
        drawn: Callable[[], float] = lambda draw=draw: draw  # type: ignore[misc]  # noqa: E731
        later = LaterReports(client, send, LATER_SECONDS, drawn)
        later.soon()
        later.soon()
        assert later._task is not None
        await later._task
        later.stop()
    assert slept == [0.0, 75.0, 299.7]
