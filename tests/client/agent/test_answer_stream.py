"""An answer read in pieces: only reading costs time, every byte is counted, and it ends where it must."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.agent.allowance import Allowance
from coldchain.agent.answer_fields import beginning_of
from coldchain.agent.network import NetworkSettings
from coldchain.agent.transport import HttpSource, Traffic, open_sources
from coldchain.errors import AllowanceError, ResponseError, ThrottledError, TransportError
from coldchain.limits import LIMITS
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server

BODY = bytes(range(256)) * 40


def answers(data: bytes) -> object:
    async def script(server: RawServer, _: Asked, writer: Writer) -> None:
        server.write(writer, data)

    return script


async def stream_of(data: bytes, most: int = 0, **options: object) -> tuple[bytes, Traffic]:
    """All of the answer, read seven bytes at a time."""
    traffic, out = Traffic(), b""
    async with raw_server(answers(data)) as server:  # type: ignore[arg-type]
        async with open_sources([server.url], traffic, **options) as (source,):  # type: ignore[arg-type]
            assert isinstance(source, HttpSource)
            stream = await source.stream("a/file", most)
            assert stream is not None
            try:
                while data := await stream.read(7):
                    assert len(data) <= 7
                    out += data
            finally:
                stream.close()
        assert server.asked[0].fields.get("range") == (f"bytes=0-{most - 1}" if most else None)
    return out, traffic


async def test_what_comes_is_what_was_sent_and_is_counted() -> None:
    for length in (-1, None):
        out, traffic = await stream_of(answer(BODY, length=length))
        assert (out, traffic.requests, traffic.bytes) == (BODY, 1, len(BODY))


async def test_a_file_that_is_not_there_is_none_and_other_answers_are_what_they_are_for_any_file() -> None:
    for status, kind in (("404 X", None), ("403 X", None), ("500 X", ResponseError), ("503 X", ThrottledError)):
        async with (
            raw_server(answers(answer(b"x", status))) as server,  # type: ignore[arg-type]
            open_sources([server.url], Traffic()) as (source,),
        ):
            assert isinstance(source, HttpSource)
            if kind is None:
                assert await source.stream("a/file") is None
            else:
                with pytest.raises(kind):
                    await source.stream("a/file")
    with pytest.raises(ResponseError, match="encoded"):
        await stream_of(answer(BODY, "200 OK", "Content-Encoding: gzip"))
    with pytest.raises(ResponseError, match="206"):
        await stream_of(answer(BODY, "206 Partial", f"Content-Range: bytes 0-9/{len(BODY)}"))


async def test_an_answer_that_ends_early_is_an_error() -> None:
    with pytest.raises(TransportError, match="broke off"):
        await stream_of(answer(BODY[:100], length=len(BODY)))
    async with (
        raw_server(answers(answer(BODY[:100]))) as server,  # type: ignore[arg-type]
        open_sources([server.url], Traffic()) as (source,),
    ):
        assert isinstance(source, HttpSource)
        stream = await source.stream("a/file")
        assert stream is not None
        assert await stream.exactly(60) == BODY[:60]
        with pytest.raises(TransportError, match="ended after 40 of 41 bytes"):
            await stream.exactly(41)
        stream.close()


async def test_what_the_reader_does_in_between_costs_no_time_and_waiting_for_bytes_does() -> None:
    limits = replace(LIMITS, download_floor_seconds=0.4)

    async def script(server: RawServer, _: Asked, writer: Writer) -> None:
        server.write(writer, answer(BODY[:500], length=len(BODY)))
        await asyncio.sleep(5)

    async with raw_server(script) as server, open_sources([server.url], Traffic(), limits) as (source,):
        assert isinstance(source, HttpSource)
        stream = await source.stream("a/file")
        assert stream is not None
        assert await stream.exactly(10) == BODY[:10]
        await asyncio.sleep(0.8)
        assert await stream.exactly(490) == BODY[10:500]
        with pytest.raises(TransportError, match="no whole answer within"):
            await stream.read(1)
        stream.close()


async def test_the_customers_caps_and_speed_hold() -> None:
    with pytest.raises(AllowanceError):
        await stream_of(answer(BODY), allowance=Allowance(0, len(BODY) - 1))
    with pytest.raises(AllowanceError):
        await stream_of(answer(BODY), allowance=Allowance(len(BODY) // 2))
    clock = asyncio.get_running_loop().time
    begun = clock()
    out, _ = await stream_of(answer(BODY), network=NetworkSettings(most_bytes_per_second=20_000))
    assert out == BODY
    assert clock() - begun >= len(BODY) / 20_000 * 0.9, "no faster; how much slower depends on the machine"


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_only_the_beginning_that_was_asked_for_is_one(most: int, start: int, last: int, length: int) -> None:
    value = f"bytes {start}-{last}/{length}"
    if start == 0 and last + 1 == min(most, length):
        assert beginning_of("u", "p", value, most) == length
    else:
        with pytest.raises(ResponseError, match="asked for"):
            beginning_of("u", "p", value, most)


@pytest.mark.parametrize("value", ["", "bytes */10", "bytes 0-9/*", "bytes 0-9", "items 0-9/10", "bytes 0-9/10 "])
def test_a_range_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ResponseError):
        beginning_of("u", "p", value, 10)


async def test_the_beginning_of_a_longer_file_says_how_long_that_is() -> None:
    for most, status, field in (
        (100, "206 Partial", f"Content-Range: bytes 0-99/{len(BODY)}"),
        (len(BODY), "206 Partial", f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}"),
        (100, "200 OK", "X-Nothing: 1"),
    ):
        body = BODY[:most] if status.startswith("206") else BODY
        async with (
            raw_server(answers(answer(body, status, field))) as server,  # type: ignore[arg-type]
            open_sources([server.url], Traffic()) as (source,),
        ):
            assert isinstance(source, HttpSource)
            stream = await source.stream("a/file", most)
            assert stream is not None
            assert (stream.length, stream.whole) == (len(BODY), len(body) == len(BODY))
            stream.close()
