"""/healthz and /readyz: alive is not ready, and what a person should look at is no reason to turn endpoints away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from coldchain_server.web import health
from tests.client.tuf.repository import NOW, Repository
from tests.server.web.published import Client, MemoryStorage, serving


def timestamp() -> bytes:
    return Repository().files["metadata/timestamp.json"]


def expiry(raw: bytes) -> datetime:
    return datetime.fromisoformat(json.loads(raw)["signed"]["expires"])


async def ready(client: Client) -> tuple[int, dict[str, Any]]:
    answer = await client.get("/readyz")
    assert answer.fields["cache-control"] == "no-store"
    assert answer.fields["content-type"].startswith("application/json")
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "no timestamp is published"),
        (b"", "damaged"),
        (b"{}", "damaged"),
        (timestamp()[:-1], "damaged"),
        (timestamp().replace(b'"timestamp"', b'"snapshot"'), "damaged"),
    ],
)
async def test_alive_and_not_ready(data: bytes | None, reason: str) -> None:
    storage = MemoryStorage({} if data is None else {health.TIMESTAMP: data})
    async with serving(storage) as (_, client):
        alive = await client.get("/healthz")
        assert (alive.status, json.loads(alive.body)) == (200, {"alive": True})
        status, page = await ready(client)
        assert (status, page["ready"], len(page["reasons"])) == (503, False, 1)
        assert reason in page["reasons"][0]


async def test_ready_until_the_second_in_which_the_timestamp_expires() -> None:
    raw = timestamp()
    now = [NOW]
    async with serving(MemoryStorage({health.TIMESTAMP: raw}), now=lambda: now[0]) as (_, client):
        for ahead, status in ((timedelta(seconds=-1), 200), (timedelta(0), 503), (timedelta(days=3650), 503)):
            now[0] = expiry(raw) + ahead
            found, page = await ready(client)
            assert found == status
            assert [line.startswith("the timestamp expired 20") for line in page["reasons"]] == [True] * (status == 503)


async def test_a_storage_that_refuses_is_a_reason_and_not_an_error() -> None:
    storage = MemoryStorage({health.TIMESTAMP: timestamp()}, broken=True)
    async with serving(storage) as (_, client):
        assert await ready(client) == (503, {"ready": False, "reasons": ["the storage cannot be read"], "warnings": []})


async def test_checks_of_others_are_asked_and_may_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    says: list[str] = []

    async def check() -> Iterable[str]:
        if says == ["hang"]:
            await asyncio.Event().wait()
        return says

    storage = MemoryStorage({health.TIMESTAMP: timestamp()})
    async with serving(storage, checks=[check], now=lambda: NOW) as (_, client):
        assert (await ready(client))[0] == 200
        says.append("the edge is behind")
        assert await ready(client) == (503, {"ready": False, "reasons": ["the edge is behind"], "warnings": []})
        says[:] = ["hang"]
        status, page = await ready(client)
        assert status == 503
        assert "take longer" in page["reasons"][0]


async def test_a_job_that_fails_is_a_warning_while_what_is_served_is_good() -> None:
    async def sign() -> None:
        raise RuntimeError("with something secret")

    storage = MemoryStorage({health.TIMESTAMP: timestamp()})
    async with serving(storage, background=[sign], now=lambda: NOW) as (origin, client):
        status, page = await ready(client)
        assert (status, page["ready"], page["reasons"]) == (200, True, [])
        assert page["warnings"] == ["sign is failing: RuntimeError, 1 times in a row"]
        assert "coldchain_background_failing 1" in origin.counters.prometheus()


@pytest.mark.parametrize("page", ["/healthz", "/readyz"])
async def test_the_pages_answer_get_and_head_alone(page: str) -> None:
    async with serving(MemoryStorage({health.TIMESTAMP: timestamp()}), now=lambda: NOW) as (origin, client):
        assert (await client.get(page, method="HEAD")).status == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            async with await Client.to(origin) as other:
                answer = await other.get(page, method=method)
                assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")
