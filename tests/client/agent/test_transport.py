"""Getting bytes from a server that may do anything: bounded in bytes and in time, resumed, and every refusal its own kind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.agent.answer_fields import retry_after
from coldchain.agent.transport import Answer, DirectorySource, Source, Traffic, computed_etag, open_sources
from coldchain.errors import (
    ColdchainError,
    DigestError,
    ResponseError,
    StorageError,
    ThrottledError,
    TransportError,
    UsageError,
)
from coldchain.install.directory import ClientDirectory
from coldchain.install.part import Part
from coldchain.limits import LIMITS
from tests.client.agent.publisher import Edge, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server

BODY = bytes(range(256)) * 64
SHA256 = hashlib.sha256(BODY).hexdigest()
TAG = computed_etag(SHA256)
QUICK = replace(
    LIMITS, connect_seconds=0.4, metadata_seconds=0.4, download_floor_seconds=0.4, download_min_bytes_per_second=1 << 30
)
Script = Callable[[RawServer, Asked, Writer], Awaitable[None]]


@pytest.fixture
def part(tmp_path: Path) -> Part:
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    return Part(directory, len(BODY), SHA256)


@contextlib.asynccontextmanager
async def source_of(url: str) -> AsyncIterator[tuple[Source, Traffic]]:
    traffic = Traffic()
    async with open_sources([url], traffic, QUICK) as (source,):
        yield source, traffic


def ignore(_there: int, _length: int) -> None:
    return


async def get(
    script: Script, most: int = len(BODY), etag: str | None = None
) -> tuple[Answer | ColdchainError, RawServer]:
    async with raw_server(script) as server, source_of(server.url) as (source, _):
        try:
            return await source.get("metadata/timestamp.json", most, etag=etag), server
        except ColdchainError as error:
            return error, server


async def download(script: Script, part: Part) -> tuple[ColdchainError | None, RawServer]:
    async with raw_server(script) as server, source_of(server.url) as (source, _):
        try:
            await source.download("targets/x", part, ignore)
        except ColdchainError as error:
            return error, server
        return None, server


def fixed(data: bytes) -> Script:
    async def script(server: RawServer, _asked: Asked, writer: Writer) -> None:
        server.write(writer, data)

    return script


def ranged(content: bytes = BODY, tag: str = TAG) -> Script:
    """A good server."""

    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        match = re.match(r"bytes=(\d+)-$", asked.fields.get("range", ""))
        if match and asked.fields.get("if-range") == tag:
            start = int(match[1])
            field = f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}"
            server.write(writer, answer(content[start:], "206 Partial Content", field, f"ETag: {tag}"))
        else:
            server.write(writer, answer(content, "200 OK", f"ETag: {tag}"))

    return script


# -- the request -----------------------------------------------------------------------------------------------------


async def test_a_request_carries_nothing_that_tells_endpoints_apart() -> None:
    for etag in (None, '"x"'):
        _, server = await get(fixed(answer(b"x")), etag=etag)
        (asked,) = server.asked
        assert set(asked.fields) == {"host"} | ({"if-none-match"} if etag else set())


async def test_cookies_are_not_kept_and_redirects_not_followed() -> None:
    async with raw_server(fixed(answer(b"elsewhere"))) as elsewhere:
        for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "300 Choices"):
            data = answer(b"", status, f"Location: {elsewhere.url}/x", "Set-Cookie: id=1")
            # By name: no client keeps cookies of an address.
            async with (
                raw_server(fixed(data)) as server,
                source_of(server.url.replace("127.0.0.1", "localhost")) as (source, traffic),
            ):
                for _ in range(2):
                    with pytest.raises(ResponseError, match="redirects are not followed"):
                        await source.get("x", 100)
                assert traffic.requests == 2
                assert all("cookie" not in asked.fields for asked in server.asked)
        assert elsewhere.asked == []


# -- what an answer means --------------------------------------------------------------------------------------------


async def test_a_small_file_and_its_tag() -> None:
    for tag, kept in (
        ('"abc"', '"abc"'),
        ('W/"abc"', 'W/"abc"'),
        ("abc", None),
        ('"a b"', None),
        (f'"{"x" * 200}"', None),
    ):
        found, _ = await get(fixed(answer(BODY, "200 OK", f"ETag: {tag}")))
        assert found == Answer(BODY, etag=kept), tag
    assert (await get(fixed(answer(BODY, length=None))))[0] == Answer(BODY)  # its end is the connection's


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found"])
async def test_there_is_none(status: str) -> None:
    assert (await get(fixed(answer(b"x" * 10, status))))[0] == Answer(None, missing=True)


async def test_not_modified_is_an_answer_only_to_our_question() -> None:
    data = answer(b"", "304 Not Modified", length=None)
    assert (await get(fixed(data), etag='"x"'))[0] == Answer(None)
    assert isinstance((await get(fixed(data)))[0], ResponseError)


@pytest.mark.parametrize(
    "status", [201, 202, 204, 205, 206, 226, 400, 401, 402, 405, 406, 408, 410, 416, 451, 500, 501, 502, 504, 599]
)
async def test_any_other_status_is_refused(status: int, part: Part) -> None:
    data = answer(b"" if status in (204, 205) else BODY, f"{status} Word")
    found, _ = await get(fixed(data))
    assert isinstance(found, ResponseError)
    assert f"answers {status}" in found.what
    error, _ = await download(fixed(data), part)
    assert isinstance(error, ResponseError)
    assert part.there() == 0


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("99999999999999999999", 86400.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
    ],
)
async def test_too_busy_says_when(status: int, field: str | None, seconds: float | None, part: Part) -> None:
    data = answer(b"busy", f"{status} Busy", *([f"Retry-After: {field}"] if field else []))
    for error in ((await get(fixed(data)))[0], (await download(fixed(data), part))[0]):
        assert isinstance(error, ThrottledError)
        assert (error.retry_after, error.exit_code) == (seconds, 21)
        assert error.todo.startswith("run it again" if seconds is None else f"run it again in {seconds:.0f} seconds")


def test_retry_after_as_a_date() -> None:
    now = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after("Mon, 01 Jun 2026 12:02:00 GMT", now) == 120.0
    assert retry_after("Mon, 01 Jun 2026 12:02:00 -0000", now) == 120.0
    assert retry_after("Mon, 01 Jun 2026 11:00:00 GMT", now) == 0.0
    assert retry_after("Mon, 01 Jun 2036 12:00:00 GMT", now) == 86400.0
    for wrong in (
        "Mon, 01 Jun 99999999999999999999 12:00:00 GMT",
        "Mon, 99 Jun 2026 12:00:00 GMT",
        "Mon, 01 Jun 2026 12:00:00 +99999999",
        "",
        ",",
    ):
        assert retry_after(wrong, now) is None, wrong


DATES = st.from_regex(
    r"[A-Z][a-z]{2}, \d{1,12} [A-Z][a-z]{2} -?\d{1,25} \d{1,12}:\d{1,9}:\d{1,9} [+-]?\w{1,12}", fullmatch=True
)


@given(st.text(max_size=40) | DATES)
def test_any_retry_after_is_understood_or_ignored(text: str) -> None:
    found = retry_after(text, datetime(2026, 6, 1, tzinfo=UTC))
    assert found is None or 0 <= found <= 86400


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "compress", "x"])
async def test_an_encoded_body_is_refused_unread(encoding: str, part: Part) -> None:
    import zlib

    bomb = zlib.compress(bytes(32 << 20))
    data = answer(bomb, "200 OK", f"Content-Encoding: {encoding}")
    for error in ((await get(fixed(data), most=1 << 20))[0], (await download(fixed(data), part))[0]):
        assert isinstance(error, ResponseError)
        assert "encoded" in error.what
    assert part.there() == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(500),
    ],
    ids=range(16),
)
async def test_what_is_not_http_is_a_bad_answer_or_a_broken_connection(data: bytes, part: Part) -> None:
    for error in ((await get(fixed(data)))[0], (await download(fixed(data), part))[0]):
        assert isinstance(error, TransportError), error
        assert not isinstance(error, ThrottledError)


# -- bounded in bytes ------------------------------------------------------------------------------------------------


async def test_an_announced_excess_is_refused_unread(part: Part) -> None:
    found, _ = await get(fixed(answer(BODY)), most=len(BODY) - 1)
    assert isinstance(found, ResponseError)
    assert "announced" in found.what
    for data in (BODY + b"x", BODY[:-1]):
        error, _ = await download(fixed(answer(data)), part)
        assert isinstance(error, ResponseError)
        assert part.there() == 0


async def endless(server: RawServer, _asked: Asked, writer: Writer) -> None:
    server.write(writer, b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        server.write(writer, bytes(65536))
        await writer.drain()


async def endless_chunks(server: RawServer, _asked: Asked, writer: Writer) -> None:
    server.write(writer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        server.write(writer, b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()


async def endless_header(server: RawServer, _asked: Asked, writer: Writer) -> None:
    server.write(writer, b"HTTP/1.1 200 OK\r\n")
    while True:
        server.write(writer, b"X: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def endless_informational(server: RawServer, _asked: Asked, writer: Writer) -> None:
    while True:
        server.write(writer, b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("script", [endless, endless_chunks, endless_header, endless_informational])
async def test_endless_data_ends_at_the_bound(script: Script, part: Part) -> None:
    found, server = await get(script)
    assert isinstance(found, TransportError)
    # What lies in the buffers between two sockets, not what the server would like to send.
    assert server.sent < 16 << 20
    error, server = await download(script, part)
    assert isinstance(error, TransportError)
    assert server.sent < 16 << 20
    written = part.directory.staging / part.name
    assert not written.exists() or written.stat().st_size <= part.length


# -- bounded in time -------------------------------------------------------------------------------------------------


async def stall(_server: RawServer, _asked: Asked, _writer: Writer) -> None:
    await asyncio.sleep(3600)


async def stall_in_header(server: RawServer, _asked: Asked, writer: Writer) -> None:
    server.write(writer, b"HTTP/1.1 200 OK\r\n")
    await asyncio.sleep(3600)


async def stall_in_body(server: RawServer, _asked: Asked, writer: Writer) -> None:
    server.write(writer, answer(BODY)[:-1])
    await asyncio.sleep(3600)


async def drip(server: RawServer, _asked: Asked, writer: Writer) -> None:
    for byte in answer(BODY):
        server.write(writer, bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.005)


async def drip_body(server: RawServer, _asked: Asked, writer: Writer) -> None:
    server.write(writer, answer(b"", length=len(BODY)))
    for byte in BODY:
        server.write(writer, bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("script", [stall, stall_in_header, stall_in_body, drip, drip_body])
async def test_one_deadline_for_the_whole_of_a_file(script: Script, part: Part) -> None:
    for error in ((await get(script))[0], (await download(script, part))[0]):
        assert isinstance(error, TransportError)
        assert "no whole answer within 0.4 seconds" in error.what
    assert part.there() < part.length


async def test_no_connection(part: Part) -> None:
    for url in ("http://127.0.0.1:1", "http://name.invalid", "http://a..b", "http://127.0.0.1:1/x"):
        async with source_of(url) as (source, _):
            for ask in (source.get("x", 10), source.download("x", part, ignore)):
                with pytest.raises(TransportError) as found:
                    await ask
                assert type(found.value) is TransportError
                assert found.value.exit_code == 20
                assert found.value.todo


# -- resume ------------------------------------------------------------------------------------------------------------


def put(part: Part, data: bytes) -> None:
    (part.directory.staging / part.name).write_bytes(data)


def content(part: Part) -> bytes:
    return (part.directory.staging / part.name).read_bytes()


async def test_a_download_goes_on_where_it_stopped(part: Part) -> None:
    for start in (0, 1, 4096, len(BODY) - 1, len(BODY)):
        put(part, BODY[:start])
        error, server = await download(ranged(), part)
        assert error is None
        assert content(part) == BODY
        ranges = [asked.fields.get("range") for asked in server.asked]
        assert ranges == ([] if start == len(BODY) else [f"bytes={start}-" if start else None])
        assert all(asked.fields.get("if-range") == TAG for asked in server.asked if "range" in asked.fields)


async def test_a_server_with_other_tags_sends_the_whole_file(part: Part) -> None:
    for data in (BODY[:5000], b"x" * 5000):
        put(part, data)
        error, server = await download(ranged(tag='"other"'), part)
        assert error is None
        assert len(server.asked) == 1
        assert content(part) == BODY


async def test_a_beginning_that_is_none_is_given_up(part: Part) -> None:
    put(part, BODY + b"x")
    error, server = await download(ranged(), part)
    assert error is None
    assert "range" not in server.asked[0].fields

    put(part, b"x" + BODY[1:100])
    error, _ = await download(ranged(), part)
    assert isinstance(error, DigestError)
    assert part.there() == 0  # nothing wrong stays
    assert (await download(ranged(), part))[0] is None


async def test_a_file_that_changed_meanwhile_is_not_the_signed_one(part: Part) -> None:
    other = BODY[:-1] + b"!"
    put(part, BODY[:100])
    error, _ = await download(ranged(other), part)
    assert isinstance(error, DigestError)
    assert part.there() == 0


@pytest.mark.parametrize(
    "field",
    [
        "bytes 99-16383/16384",
        "bytes 101-16383/16384",
        "bytes 100-16382/16384",
        "bytes 100-16383/16385",
        "bytes 100-16383/*",
        "bytes */16384",
        "bytes 100-16383",
        "items 100-16383/16384",
        "bytes 0100-16383/16384x",
        "bytes -16283/16384",
        "bytes 99999999999999999999-1/1",
        "",
    ],
)
async def test_another_range_than_the_one_asked_for_is_refused(field: str, part: Part) -> None:
    put(part, BODY[:100])
    data = answer(BODY[100:], "206 Partial Content", f"Content-Range: {field}")
    error, _ = await download(fixed(data), part)
    assert isinstance(error, ResponseError)
    assert content(part) == BODY[:100]


async def test_a_part_nobody_asked_for_is_refused(part: Part) -> None:
    data = answer(BODY, "206 Partial Content", f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}")
    error, _ = await download(fixed(data), part)
    assert isinstance(error, ResponseError)


async def test_a_range_the_server_cannot_satisfy_starts_anew(part: Part) -> None:
    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        server.write(writer, answer(b"", "416 No") if "range" in asked.fields else answer(BODY))

    put(part, b"x" * 100)
    error, server = await download(script, part)
    assert error is None
    assert len(server.asked) == 2

    put(part, b"x" * 100)
    error, server = await download(fixed(answer(b"", "416 No")), part)
    assert isinstance(error, ResponseError)
    assert len(server.asked) == 2


async def test_a_connection_cut_anywhere_keeps_what_came(part: Part) -> None:
    whole = answer(BODY)
    head = len(whole) - len(BODY)
    for at in (1, head - 1, head, head + 1, head + 5000, len(whole) - 1):
        part.remove()
        error, _ = await download(fixed(whole[:at]), part)
        assert isinstance(error, TransportError)
        assert part.there() <= max(0, at - head)
        assert BODY.startswith(content(part) if part.there() else b"")
    assert (await download(ranged(), part))[0] is None


async def test_wrong_bytes_are_refused_and_forgotten(part: Part) -> None:
    for at in (0, 1, 5000, len(BODY) - 1):
        wrong = BODY[:at] + bytes([BODY[at] ^ 0x80]) + BODY[at + 1 :]
        error, _ = await download(fixed(answer(wrong)), part)
        assert isinstance(error, DigestError)
        assert error.exit_code == 12
        assert part.there() == 0


async def test_the_disk_is_told_from_the_network(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("coldchain.install.durable.write_all", full)
    error, _ = await download(ranged(), part)
    assert isinstance(error, StorageError)
    assert "No space" in error.what


async def test_progress_and_traffic_are_told(part: Part) -> None:
    told: list[tuple[int, int]] = []
    put(part, BODY[:1000])
    async with raw_server(ranged()) as server, source_of(server.url) as (source, traffic):
        await source.download("targets/x", part, lambda there, length: told.append((there, length)))
    assert told[-1] == (len(BODY), len(BODY))
    assert [there for there, _ in told] == sorted(there for there, _ in told)
    assert (traffic.requests, traffic.bytes) == (1, len(BODY) - 1000)


# -- directories -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    path = tmp_path / "mirror"
    (path / "targets").mkdir(parents=True)
    (path / "targets" / "x").write_bytes(BODY)
    return path


async def test_a_directory_is_a_source_too(mirror: Path, part: Part) -> None:
    async with source_of(str(mirror)) as (source, traffic):
        assert await source.get("targets/x", len(BODY)) == Answer(BODY, etag=TAG)
        assert await source.get("targets/x", len(BODY), etag=TAG) == Answer(None)
        assert await source.get("targets/y", 10) == Answer(None, missing=True)
        with pytest.raises(ResponseError, match="longer"):
            await source.get("targets/x", len(BODY) - 1)
        for start in (0, 100, len(BODY)):
            put(part, BODY[:start])
            await source.download("targets/x", part, ignore)
            assert content(part) == BODY
        put(part, b"x" * 100)
        with pytest.raises(DigestError):
            await source.download("targets/x", part, ignore)
        assert traffic.requests == 8


async def test_other_things_in_the_place_of_a_file_do_not_hang(mirror: Path, part: Part) -> None:
    os.mkfifo(mirror / "fifo")
    (mirror / "loop").symlink_to("loop")
    (mirror / "short").write_bytes(BODY[:-1])
    async with source_of(str(mirror)) as (source, _):
        for name in ("fifo", "loop", "targets"):
            with pytest.raises(ResponseError):
                await source.get(name, 10)
        for name in ("fifo", "loop", "targets", "short", "missing"):
            with pytest.raises(ResponseError):
                await source.download(name, part, ignore)
    with pytest.raises(TransportError, match="No such file"):
        await DirectorySource(str(mirror / "gone")).get("x", 10)


# -- without the extra -------------------------------------------------------------------------------------------------


async def test_without_aiohttp_a_directory_still_works(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "aiohttp", None)
    async with source_of(str(mirror)) as (source, _):
        assert (await source.get("targets/x", len(BODY))).data == BODY
    with pytest.raises(UsageError, match="aiohttp") as found:
        async with source_of("https://a.example"):
            pass
    assert "coldchain[agent]" in found.value.todo


async def test_the_edge_of_the_other_tests_is_a_good_one(part: Part) -> None:
    edge = Edge({"targets/x": BODY})
    async with serving(edge) as url, source_of(url) as (source, _):
        await source.download("targets/x", part, ignore)
    assert content(part) == BODY
