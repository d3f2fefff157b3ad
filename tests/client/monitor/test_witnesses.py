"""What witnesses show, and every odd way to show it, over real sockets: words, never an exception."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from coldchain.agent.transport import Traffic
from coldchain.limits import Limits
from coldchain.monitor.witnesses import Held, held
from coldchain.tlog.note import SignedNote
from coldchain.tlog.policy import parse_policy
from coldchain.tlog.vkey import Kind
from tests.client.tlog.logs import LOG, ONE, MemoryLog, Signer, signed

CHECKPOINT = MemoryLog.of(3).checkpoint()
GOOD = signed(CHECKPOINT, LOG, ONE)
OTHER_LOG = Signer("log.example/other", Kind.ED25519, 8)
STRANGER = Signer("wit.example/stranger", Kind.COSIGNATURE, 9)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def ask(handler: Handler, url: str = "http://127.0.0.1:{port}/w") -> Held:
    app = web.Application()
    name = hashlib.sha256(LOG.name.encode()).hexdigest()
    app.router.add_get(f"/w/{name}/checkpoint", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    policy = parse_policy(f"log {LOG.vkey}\nwitness one {ONE.vkey} {url.format(port=port)}\nquorum none\n".encode())
    try:
        (found,) = await held(policy, [LOG.key], Traffic(), Limits(connect_seconds=2.0, metadata_seconds=2.0))
    finally:
        await runner.cleanup()
    return found


def answers(body: bytes, status: int = 200, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return handler


async def test_what_it_holds() -> None:
    found = await ask(answers(GOOD.encode()))
    assert (found.checkpoint, found.note, found.problem) == (CHECKPOINT, GOOD, "")
    assert found.time is not None


async def test_that_it_holds_nothing_is_no_problem() -> None:
    assert await ask(answers(b"", 404)) == Held("one")


@pytest.mark.parametrize(
    "handler",
    [
        answers(b"", 200),
        answers(b"hello\n"),
        answers(GOOD.encode()[:-1]),
        answers(b"x" * 300_000),
        answers(b"", 500),
        answers(b"", 503, Retry_After="9"),
        answers(b"", 302, Location="/elsewhere"),
        answers(GOOD.encode(), Content_Encoding="gzip"),
        answers(signed(CHECKPOINT, LOG).encode()),
        answers(signed(CHECKPOINT, ONE).encode()),
        answers(signed(CHECKPOINT, LOG, STRANGER).encode()),
        answers(signed(MemoryLog(origin=OTHER_LOG.name).checkpoint(), OTHER_LOG, ONE).encode()),
        answers(SignedNote(GOOD.text.replace("\n3\n", "\n4\n"), GOOD.signatures).encode()),
    ],
)
async def test_odd_answers_become_words(handler: Handler) -> None:
    found = await ask(handler)
    assert found.checkpoint is None
    assert found.problem


async def test_silence_and_addresses_that_lead_nowhere_become_words() -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    for url in ("http://127.0.0.1:{port}/w", "http://127.0.0.1:1", "http://a..b", "ftp://x", "/tmp", "nothing"):
        found = await ask(silent, url)
        assert (found.checkpoint, bool(found.problem)) == (None, True), url


async def test_a_witness_without_an_address_is_not_asked() -> None:
    policy = parse_policy(f"log {LOG.vkey}\nwitness one {ONE.vkey}\nquorum none\n".encode())
    assert await held(policy, [LOG.key], Traffic()) == []
