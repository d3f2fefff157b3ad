"""Slow, silent and too many clients: each is gone within its bound, and good ones are served meanwhile.

No test asserts a time: a connection that the server never closed would run into the test's own limit.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine

import pytest

from coldchain_server.web.connection_cap import Bounds
from coldchain_server.web.listening import FIELDS, LINE_BYTES
from coldchain_server.web.origin import Origin, running
from tests.server.web.published import LARGE_PATH, SMALL, Client, MemoryStorage, etag, serving, tree, until

BOUNDS = Bounds(idle_seconds=0.4, header_seconds=0.3, answer_floor_seconds=0.4, answer_min_rate=1 << 30)
HUGE_PATH = "targets/us/stable/" + "00" * 32 + ".full.ccd"


def with_a_huge_file() -> MemoryStorage:
    storage = tree()
    storage.files[HUGE_PATH] = bytes(64 << 20)
    return storage


async def small_reader(origin: Origin) -> Client:
    """A client whose kernel takes little, so that what it does not read stays in the server."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", origin.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    return Client(reader, writer)


async def drip(client: Client, data: bytes) -> None:
    while not client.writer.transport.is_closing():
        client.writer.write(data)
        await asyncio.sleep(0.02)


async def silent(client: Client) -> None:
    return


async def half_a_request_line(client: Client) -> None:
    client.writer.write(b"GET /metadata/times")


async def dripped_header(client: Client) -> None:
    client.writer.write(b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\nX: ")
    await drip(client, b"a")


async def dripped_fields(client: Client) -> None:
    client.writer.write(b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\n")
    await drip(client, b"")


async def empty_lines(client: Client) -> None:
    await drip(client, b"\r\n")


async def idle_after_an_answer(client: Client) -> None:
    assert (await client.get("/metadata/timestamp.json")).status == 200


async def half_a_second_request(client: Client) -> None:
    await client.get("/metadata/timestamp.json")
    client.writer.write(b"GET /metadata/timestamp.json HTTP/1.1\r\n")


async def dripped_body(client: Client) -> None:
    client.writer.write(b"POST /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
    await drip(client, b"a")


async def endless_body(client: Client) -> None:
    client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await drip(client, b"400\r\n" + b"a" * 0x400 + b"\r\n")


@pytest.mark.parametrize(
    "misbehave",
    [
        silent, half_a_request_line, dripped_header, dripped_fields, empty_lines, idle_after_an_answer, half_a_second_request,
        dripped_body, endless_body,
    ],
)  # fmt: skip
async def test_a_slow_client_is_dropped_and_a_good_one_served_meanwhile(
    misbehave: Callable[[Client], Coroutine[None, None, None]],
) -> None:
    async with serving(bounds=BOUNDS) as (origin, _), await Client.to(origin) as slow:
        task = asyncio.create_task(misbehave(slow))
        closed = (
            asyncio.create_task(slow.closed())
            if misbehave not in (idle_after_an_answer, half_a_second_request)
            else None
        )
        async with await Client.to(origin) as good:
            assert (await good.get("/metadata/timestamp.json")).body == SMALL
        if closed is None:
            await task
            await slow.closed()
        else:
            await closed
            task.cancel()


async def test_a_client_that_does_not_read_is_dropped_with_all_that_was_kept_for_it() -> None:
    async with serving(with_a_huge_file(), bounds=BOUNDS) as (origin, _), await small_reader(origin) as slow:
        slow.send(f"/{HUGE_PATH}")
        await until(lambda: origin.counters.value("connections_late", state="answering") == 1)
        assert len(await slow.closed()) < 16 << 20
        async with await Client.to(origin) as good:
            assert (await good.get("/metadata/timestamp.json")).status == 200


@pytest.mark.parametrize("path", [LARGE_PATH, "metadata/1.root.json"])
async def test_requests_in_a_row_whose_answers_nobody_reads_do_not_pile_up(path: str) -> None:
    storage = tree()
    storage.files["metadata/1.root.json"] = bytes(60_000)
    async with serving(storage, bounds=BOUNDS) as (origin, _), await small_reader(origin) as slow:
        slow.writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 2000)
        await until(lambda: origin.counters.value("connections_late") >= 1)
        assert origin.counters.value("response_bytes") < 16 << 20  # the kernel's share, and one answer


async def test_a_slow_but_honest_reader_gets_all_of_its_file() -> None:
    bounds = Bounds(idle_seconds=0.4, header_seconds=0.4, answer_floor_seconds=30, answer_min_rate=1 << 20)
    storage = with_a_huge_file()
    async with serving(storage, bounds=bounds) as (origin, _), await small_reader(origin) as slow:
        slow.send(f"/{HUGE_PATH}", "Range: bytes=0-3999999")
        await slow.reader.readuntil(b"\r\n\r\n")
        got = 0
        for _ in range(10):  # for longer than a connection may be idle
            got += len(await slow.reader.read(1024))
            await asyncio.sleep(0.06)
        while got < 4_000_000:
            got += len(await slow.reader.read(1 << 20))
        assert got == 4_000_000
        assert (await slow.get("/metadata/timestamp.json")).status == 200


async def test_at_the_cap_the_one_that_waits_longest_makes_room() -> None:
    bounds = Bounds(connections=8)
    async with running(tree(), bounds=bounds) as origin:
        idle = [await Client.to(origin) for _ in range(8)]
        for one in idle:
            await one.get("/metadata/timestamp.json")
        await idle[0].get("/metadata/timestamp.json")  # the first has waited least now
        async with await Client.to(origin) as good:
            assert (await good.get("/metadata/timestamp.json")).status == 200
        assert await idle[1].closed() == b""
        assert (await idle[0].get("/metadata/timestamp.json")).status == 200
        assert origin.counters.value("connections_displaced") == 1
        assert origin.counters.value("connections_refused") == 0
        for one in idle:
            one.writer.transport.abort()


async def test_when_all_are_answering_the_next_is_refused_and_they_go_on() -> None:
    bounds = Bounds(connections=4)
    async with running(with_a_huge_file(), bounds=bounds) as origin:
        busy = [await small_reader(origin) for _ in range(4)]
        for one in busy:
            one.send(f"/{HUGE_PATH}", "Range: bytes=0-9999999")
            await one.reader.readuntil(b"\r\n\r\n")
        async with await Client.to(origin) as late:
            assert await late.closed() == b""
        assert origin.counters.value("connections_refused") == 1
        for one in busy:
            got = 0
            while got < 10_000_000:
                got += len(await one.reader.read(1 << 20))
            assert got == 10_000_000
            one.writer.transport.abort()


async def test_a_flood_of_idle_connections_keeps_no_good_client_out() -> None:
    bounds = Bounds(connections=64)
    async with running(tree(), bounds=bounds) as origin:
        flood: list[Client] = []

        async def pour() -> None:
            while True:
                flood.append(await Client.to(origin))

        pouring = asyncio.create_task(pour())
        await until(lambda: origin.counters.value("connections_displaced") > 200)
        served = 0
        while served < 50:
            async with await Client.to(origin) as good:
                try:
                    answer = await good.get("/metadata/timestamp.json", f"If-None-Match: {etag(SMALL)}")
                except (asyncio.IncompleteReadError, ConnectionError):
                    continue  # displaced before its request came: it asks again, as clients do
                assert answer.status == 304
                served += 1
        # The good client's leaving frees a place: the flood has to take it before all are held again.
        await until(lambda: "coldchain_connections 64\n" in origin.counters.prometheus())
        pouring.cancel()
        for one in flood:
            one.writer.transport.abort()
        await until(lambda: "coldchain_connections 0" in origin.counters.prometheus())


OVER = [
    f"GET /{'a' * (LINE_BYTES + 1)} HTTP/1.1\r\nHost: x\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\nX: {'a' * (LINE_BYTES + 1)}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\n{'X' * (LINE_BYTES + 1)}: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n" + "".join(f"X{i}: a\r\n" for i in range(FIELDS + 1)) + "\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n" + "X: a\r\n" * 100_000 + "\r\n",
    f"GET /{'a' * (8 << 20)}",
    f"{'G' * (8 << 20)}",
    f"GET / HTTP/1.1\r\nX: {'a' * (8 << 20)}",
    "GET / HTTP/9.9\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", [text.encode("latin-1") for text in OVER], ids=range(len(OVER)))
async def test_what_is_too_large_or_no_http_is_refused_and_the_connection_closed(request_bytes: bytes) -> None:
    async with serving(bounds=Bounds(header_seconds=2)) as (origin, good):
        async with await Client.to(origin) as bad:
            bad.writer.write(request_bytes)
            said = await bad.closed()
            assert said.split(b" ", 2)[1:2] in ([b"400"], [])
            assert said.count(b"HTTP/1.") <= 1
        assert (await good.get("/metadata/timestamp.json")).body == SMALL


async def test_what_is_just_within_the_bounds_is_answered() -> None:
    async with serving() as (_, client):
        fields = [f"X{i}: a" for i in range(FIELDS - 2)]
        assert (await client.get("/metadata/timestamp.json", *fields)).status == 200
        assert (await client.get("/metadata/timestamp.json", f"X: {'a' * (LINE_BYTES - 10)}")).status == 200
        assert (await client.get("/metadata/" + "a" * (LINE_BYTES - 100))).status == 404
