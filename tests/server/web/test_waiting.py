"""``GET /v1/wait`` over real sockets: news at once, nothing old, nothing forgotten, and never more than half of the places."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.storage.interface import Entry
from coldchain_server.web.connection_cap import Bounds
from coldchain_server.web.health import UNKNOWN_AGE
from coldchain_server.web.origin import Origin, running
from coldchain_server.web.waiting import DEFAULT_SECONDS, MOST_SECONDS, parse_wait
from tests.server.web.published import SMALL, Answer, Client, MemoryStorage, etag, serving, tree, until

TIMESTAMP = "metadata/timestamp.json"
NEWER = SMALL + b"\n"
TAG = etag(SMALL).strip('"')
NEWER_TAG = etag(NEWER).strip('"')
ODD = "X-Odd: 1"  # a field that the plain way does not know: the ordinary one answers


def target(tag: str = TAG, seconds: int | None = None) -> str:
    return f"/v1/wait?tag={tag}" + (f"&seconds={seconds}" if seconds is not None else "")


def waiting(origin: Origin) -> int:
    return int(
        next(
            line for line in origin.counters.prometheus().splitlines() if line.startswith("coldchain_waiting ")
        ).split()[1]
    )


@contextlib.asynccontextmanager
async def clients(origin: Origin, count: int) -> AsyncIterator[list[Client]]:
    found = [await Client.to(origin) for _ in range(count)]
    try:
        yield found
    finally:
        for one in found:
            one.writer.transport.abort()


async def test_news_are_told_in_both_ways(subtests: pytest.Subtests) -> None:
    for fields in ((), (ODD,)):
        with subtests.test(fields=fields):
            storage = tree()
            async with serving(storage) as (origin, client):
                client.send(target(), *fields)
                await until(lambda: waiting(origin) == 1)
                storage.files[TIMESTAMP] = NEWER
                answer = await client.answer()
                assert (answer.status, answer.body, answer.fields["etag"]) == (200, NEWER, etag(NEWER))
                assert answer.fields["cache-control"] == "no-store"
                assert waiting(origin) == 0
                assert origin.counters.value("responses", kind="wait", status="200") == 1
                assert (await client.get("/metadata/timestamp.json")).body == NEWER  # the connection goes on


async def test_both_ways_say_the_same() -> None:
    """Byte for byte but for the date and the order of the fields."""

    def without_date(answer: Answer) -> tuple[int, dict[str, str], bytes]:
        return answer.status, {name: value for name, value in answer.fields.items() if name != "date"}, answer.body

    for tag, seconds in ((NEWER_TAG, None), (TAG, 1)):
        async with serving() as (origin, plain), await Client.to(origin) as ordinary:
            plain.send(target(tag, seconds))
            ordinary.send(target(tag, seconds), ODD)
            one, two = await plain.answer(), await ordinary.answer()
            assert without_date(one) == without_date(two)
            assert one.status == (200 if tag == NEWER_TAG else 304)
            assert one.fields["date"].endswith(" GMT")


async def test_who_is_behind_is_answered_at_once() -> None:
    async with serving() as (_, client):
        for _ in range(3):
            answer = await client.get(target(NEWER_TAG, MOST_SECONDS))
            assert (answer.status, answer.body) == (200, SMALL)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        f"?tag={TAG[:-1]}",
        f"?tag={TAG}0",
        f"?tag={TAG.upper()}",
        f'?tag="{TAG}"',
        f"?tag={TAG}&",
        f"?tag={TAG}&seconds=",
        f"?tag={TAG}&seconds=0",
        f"?tag={TAG}&seconds=01",
        f"?tag={TAG}&seconds=601",
        f"?tag={TAG}&seconds=1e2",
        f"?tag={TAG}&seconds=-1",
        f"?tag={TAG}&seconds=5&id=7",
        f"?seconds=5&tag={TAG}",
        f"?tag={TAG}&tag={TAG}",
        f"?tag={TAG};seconds=5",
        f"?tag=%35{TAG[1:]}",
    ],
)
async def test_another_query_is_refused(query: str) -> None:
    async with serving() as (origin, client):
        answer = await client.get(f"/v1/wait{query}")
        assert answer.status == 400
        assert answer.fields["cache-control"] == "no-store"
        assert waiting(origin) == 0


@given(
    st.text('/v1wait?tag=&second0123456789abcdef\n %"', max_size=80) | st.just(target()) | st.just(target(seconds=5))
)
def test_parsing_takes_one_spelling_only(text: str) -> None:
    found = parse_wait(text)
    if found is not None:
        assert text in (target(*found), target(found[0]))
        assert 1 <= found[1] <= MOST_SECONDS
    assert parse_wait(target()) == (TAG, DEFAULT_SECONDS)


async def test_a_body_is_refused_and_so_are_other_methods() -> None:
    async with serving() as (origin, client), await Client.to(origin) as other:
        client.send(target(), "Content-Length: 1")
        assert (await client.answer()).status == 400
        for method, status in (("HEAD", 404), ("POST", 405)):
            assert (await other.get(target(), method=method)).status == status
            if status == 405:
                break


async def test_everybody_is_answered_when_the_server_ends() -> None:
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(running(tree()))
        found = await stack.enter_async_context(clients(origin, 40))
        for number, client in enumerate(found):
            client.send(target(), *((ODD,) if number % 2 else ()))
        await until(lambda: waiting(origin) == len(found))
        answers = asyncio.gather(*(client.answer() for client in found))
        await origin_ends(stack)
        for answer in await answers:
            assert (answer.status, answer.fields["etag"]) == (304, etag(SMALL))
            assert answer.fields["connection"] == "close"


async def origin_ends(stack: contextlib.AsyncExitStack) -> None:
    """Ends the server; the clients, opened after it, stay."""
    pushed = stack.pop_all()
    callbacks = list(pushed._exit_callbacks)  # type: ignore[attr-defined]
    stack._exit_callbacks.append(callbacks.pop())  # type: ignore[attr-defined]
    pushed._exit_callbacks.clear()  # type: ignore[attr-defined]
    pushed._exit_callbacks.extend(callbacks)  # type: ignore[attr-defined]
    await pushed.aclose()


async def test_a_thousand_wait_and_are_told() -> None:
    storage = tree()
    async with running(storage) as origin, clients(origin, 1000) as found:
        for client in found:
            client.send(target())
        await until(lambda: waiting(origin) == 1000)
        storage.files[TIMESTAMP] = NEWER
        answers = await asyncio.gather(*(client.answer() for client in found))
        assert {(answer.status, answer.body) for answer in answers} == {(200, NEWER)}
        assert (waiting(origin), len(origin.connections.by_handler)) == (0, 0)


async def test_half_of_the_places_are_for_waiting_and_polls_go_on() -> None:
    async with running(tree(), bounds=Bounds(connections=8)) as origin, clients(origin, 4) as found:
        for number, client in enumerate(found):
            client.send(target(), *((ODD,) if number % 2 else ()))
        await until(lambda: waiting(origin) == 4)
        for fields in ((), (ODD,)):
            async with await Client.to(origin) as other:
                answer = await other.get(target(), *fields)
                assert answer.status == 503
                assert int(answer.fields["retry-after"]) > 0
                assert (await other.get("/metadata/timestamp.json")).status == 200
        found[0].writer.transport.abort()
        await until(lambda: waiting(origin) == 3)
        async with await Client.to(origin) as other:
            other.send(target())
            await until(lambda: waiting(origin) == 4)


class Slow(MemoryStorage):
    """Looks are counted; the first one waits for ``gate``."""

    gate: asyncio.Event
    looking: int = 0

    async def stat(self, path: str) -> Entry | None:
        self.looking += 1
        if self.looking == 1:
            await self.gate.wait()
        return await super().stat(path)


class Behind(Slow):
    """A store of many machines: the first look (two calls of ``stat``, and ``get`` between) is all of an old state."""

    old: dict[str, bytes]

    async def stat(self, path: str) -> Entry | None:
        found = await super().stat(path)
        return await MemoryStorage(self.old).stat(path) if self.looking <= 2 else found

    async def get(self, path: str) -> bytes:
        return self.old[path] if self.looking <= 2 else await super().get(path)


async def test_who_is_ahead_of_a_look_is_not_told_what_it_saw() -> None:
    storage = Behind(tree().files)
    storage.gate, storage.old = asyncio.Event(), tree().files
    async with serving(storage) as (origin, behind), await Client.to(origin) as ahead:
        behind.send(target("0" * 32))
        await until(lambda: storage.looking == 1)
        storage.files = {**storage.files, TIMESTAMP: NEWER}
        ahead.send(target(NEWER_TAG, 1))
        await until(lambda: waiting(origin) == 2)
        storage.gate.set()
        assert (await behind.answer()).body == SMALL
        assert (await ahead.answer()).status == 304


async def test_the_timestamp_is_looked_at_only_while_somebody_waits() -> None:
    storage = Slow(tree().files)
    storage.gate = asyncio.Event()
    storage.gate.set()
    async with serving(storage) as (origin, client):
        await client.get("/metadata/timestamp.json")
        before = storage.looking
        await asyncio.sleep(0.6)
        assert storage.looking == before
        client.send(target())  # the ordinary way: this connection has a handler
        async with await Client.to(origin) as held:
            held.send(target())
            await until(lambda: waiting(origin) == 2 and storage.looking > before + 1)
        client.writer.transport.abort()
        await until(lambda: waiting(origin) == 0)
        await asyncio.sleep(0.4)
        before = storage.looking
        await asyncio.sleep(0.6)
        assert storage.looking == before


async def test_a_storage_that_refuses_for_a_while_ends_no_wait() -> None:
    storage = tree()
    async with serving(storage) as (origin, client):
        client.send(target())
        await until(lambda: waiting(origin) == 1)
        storage.broken = True
        await asyncio.sleep(0.4)
        storage.files[TIMESTAMP] = NEWER
        storage.broken = False
        assert (await client.answer()).body == NEWER


async def test_nothing_is_published_yet() -> None:
    for fields in ((), (ODD,)):
        async with serving(MemoryStorage()) as (_, client):
            assert (await client.get(target(), *fields)).status == 404


async def test_who_speaks_while_it_is_held_is_cut_off() -> None:
    async with serving() as (origin, client):
        client.send(target())
        await until(lambda: waiting(origin) == 1)
        client.send("/metadata/timestamp.json")
        assert await client.closed() == b""
        await until(lambda: waiting(origin) == 0)


async def test_a_request_in_pieces_goes_the_ordinary_way() -> None:
    async with serving() as (origin, client):
        data = f"GET {target(seconds=1)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        client.writer.write(data[:30])
        await client.writer.drain()
        await until(lambda: len(origin.connections.by_handler) == 1)
        client.writer.write(data[30:])
        assert (await client.answer()).status == 304


async def test_a_held_client_that_does_not_read_is_gone_in_time() -> None:
    bounds = Bounds(answer_floor_seconds=0.4, idle_seconds=0.4)
    async with serving(bounds=bounds) as (origin, client):
        client.send(target(seconds=1))
        assert (await client.answer()).status == 304
        assert await client.closed() == b""
        assert waiting(origin) == 0


class Copied:
    """What a copy knows of its age."""

    def __init__(self, seconds: int | None) -> None:
        self.seconds = seconds

    def age(self) -> int | None:
        return self.seconds

    def poll_seconds(self) -> int:
        return 0

    def facts(self) -> dict[str, object]:
        return {}

    async def expired(self) -> list[str]:
        return []

    async def behind(self) -> list[str]:
        return []


@pytest.mark.parametrize(("seconds", "said"), [(0, "0"), (40, "40"), (None, str(UNKNOWN_AGE))])
async def test_a_copy_says_its_age_and_when_it_does_not_know_it(seconds: int | None, said: str) -> None:
    """An answer without an age would look like an origin's."""
    async with serving(copy=Copied(seconds)) as (_, client):
        whole = await client.get(f"/{TIMESTAMP}")
        for answer in (
            whole,
            await client.get(f"/{TIMESTAMP}", f'If-None-Match: "{TAG}"'),
            await client.get(target("0" * 32)),
            await client.get(target(seconds=1)),
        ):
            assert answer.fields["age"] == said
        assert "age" not in (await client.get("/metadata/1.root.json")).fields
