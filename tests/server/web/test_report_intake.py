"""``POST /v1/reports`` on a socket: what is read before it is known who sends, every answer, and that no body takes long or much."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import pytest

from coldchain_server.web.report_intake import STATUS, ReportIntake
from tests.server.web.published import Answer, Client, serving


@dataclass
class Rules:
    """Takes what it is told to; the only token is ``good``."""

    verdict: str = "taken"
    singles: list[tuple[bytes, str | None]] = field(default_factory=list)
    batches: list[tuple[bytes, str]] = field(default_factory=list)

    def edge_of(self, token: str) -> str | None:
        return "tokyo-1" if token == "good" else None

    async def single(self, body: bytes, address: str | None) -> str:
        self.singles.append((body, address))
        return self.verdict

    async def batch(self, body: bytes, edge: str) -> str:
        self.batches.append((body, edge))
        return self.verdict


def intake(rules: Rules, seconds: float = 10.0) -> ReportIntake[str]:
    return ReportIntake(rules, 100, 1000, seconds)


async def post(client: Client, body: bytes, *fields: str, length: int | None = -1) -> Answer:
    told = [f"Content-Length: {len(body) if length == -1 else length}"] if length is not None else []
    client.send("/v1/reports", *told, *fields, method="POST")
    client.writer.write(body)
    return await client.answer("POST")


@pytest.mark.parametrize(("verdict", "status"), STATUS.items())
async def test_every_answer_and_the_connection_goes_on(verdict: str, status: int) -> None:
    rules = Rules(verdict)
    async with serving(reports=intake(rules)) as (origin, client):
        for _ in range(2):
            for fields in ((), ("Authorization: Bearer good",)):
                found = await post(client, b"a report", *fields)
                assert (found.status, found.fields["cache-control"]) == (status, "no-store")
                assert found.body == (b"" if status == 204 else f"{verdict}\n".encode())
                assert "server" not in found.fields
        assert (await client.get("/metadata/timestamp.json")).status == 200
        assert rules.singles == [(b"a report", "127.0.0.1")] * 2
        assert rules.batches == [(b"a report", "tokyo-1")] * 2
        assert origin.counters.value("connections_refused") == 0


@pytest.mark.parametrize(
    ("fields", "length", "status"),
    [
        ((), None, 411),
        (("Transfer-Encoding: chunked",), None, 411),
        ((), 101, 413),
        ((), 10**12, 413),
        (("Authorization: Bearer good",), 1001, 413),
        (("Authorization: Bearer bad",), 10**12, 401),
        (("Authorization: good",), 5, 401),
        (("Authorization: Basic good",), 5, 401),
        (("Expect: 100-continue",), 5, 417),
    ],
)
async def test_what_is_refused_before_a_byte_of_it_is_read(
    fields: tuple[str, ...], length: int | None, status: int
) -> None:
    rules = Rules()
    async with serving(reports=intake(rules)) as (_, client):
        found = await post(client, b"", *fields, length=length)
        assert found.status == status
        if status != 417:
            assert await client.closed() == b""
    assert (rules.singles, rules.batches) == ([], [])


async def test_a_body_that_does_not_come_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rules = Rules()
    async with serving(reports=intake(rules, 0.1)) as (origin, client):
        assert (await post(client, b"a bit", length=50)).status == 408
        assert await client.closed() == b""
        async with await Client.to(origin) as gone:
            gone.send("/v1/reports", "Content-Length: 50", method="POST")
            gone.writer.write(b"a bit")
            gone.writer.close()
        async with await Client.to(origin) as other:
            assert (await other.get("/healthz")).status in (200, 503)
    assert rules.singles == []
    assert "127.0.0.1:" not in caplog.text.replace("http://127.0.0.1:", "")


async def test_where_none_are_taken_and_by_other_methods() -> None:
    async with serving() as (_, client):
        assert (await post(client, b"")).status == 405
    async with serving(reports=intake(Rules())) as (origin, _):
        for method, path, status in (("GET", "reports", 404), ("DELETE", "reports", 405), ("POST", "report", 405)):
            async with await Client.to(origin) as client:
                assert (await client.get(f"/v1/{path}", method=method)).status == status


async def test_many_at_once() -> None:
    rules = Rules()
    async with serving(reports=intake(rules)) as (origin, _):

        async def one(number: int) -> int:
            async with await Client.to(origin) as client:
                return (await post(client, b"report %d" % number)).status

        assert set(await asyncio.gather(*map(one, range(200)))) == {204}
    assert len({body for body, _ in rules.singles}) == 200
