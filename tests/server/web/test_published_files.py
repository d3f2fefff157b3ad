"""The published tree over a real socket, from memory and from a directory: every answer byte by byte."""

from __future__ import annotations

import asyncio
import email.utils
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest

from coldchain_server.storage.directory import DirectoryStorage
from coldchain_server.storage.interface import Storage
from coldchain_server.web.origin import Origin, running
from coldchain_server.web.published_paths import ASK_FIRST, FOREVER
from tests.server.web.published import (
    LARGE,
    LARGE_PATH,
    PACK_PATH,
    SMALL,
    Client,
    MemoryStorage,
    etag,
    serving,
    tree,
)

FILES = {
    "metadata/timestamp.json": (SMALL, ASK_FIRST, "application/json"),
    "metadata/1.root.json": (SMALL + b" ", FOREVER, "application/json"),
    LARGE_PATH: (LARGE, FOREVER, "application/octet-stream"),
    PACK_PATH: (LARGE[::-1], FOREVER, "application/octet-stream"),
    "log/checkpoint": (b"coldchain\n1\n", ASK_FIRST, "text/plain; charset=utf-8"),
}


@asynccontextmanager
async def origin_of(kind: str, directory: Path) -> AsyncIterator[Origin]:
    storage: Storage = tree()
    if kind == "directory":
        storage = DirectoryStorage(directory)
        for path, (data, _, _) in FILES.items():
            await storage.put(path, data)
        (directory / "private").mkdir()
        (directory / "private" / "key").write_bytes(b"x")
        (directory / "metadata" / ".secret").write_bytes(b"x")
        (directory / "metadata" / f".timestamp.json.{os.getpid()}").write_bytes(b"x")
        (directory / "metadata" / "link.json").symlink_to(directory / "private" / "key")
        (directory / "targets" / "jp").symlink_to(directory / "private")
    async with running(storage) as origin:
        yield origin


KINDS = pytest.mark.parametrize("kind", ["memory", "directory"])


@KINDS
@pytest.mark.parametrize("path", FILES)
async def test_a_file_and_everything_that_is_said_of_it(kind: str, path: str, tmp_path: Path) -> None:
    data, cached, content_type = FILES[path]
    async with origin_of(kind, tmp_path) as origin, await Client.to(origin) as client:
        for method in ("GET", "HEAD", "GET"):
            answer = await client.get(f"/{path}", method=method)
            date = answer.fields.pop("date")
            assert email.utils.parsedate_to_datetime(date).utcoffset() is not None
            assert answer.status == 200
            assert answer.body == (data if method == "GET" else b"")
            assert answer.fields == {
                "content-length": str(len(data)),
                "content-type": content_type,
                "etag": etag(data),
                "cache-control": cached,
                "accept-ranges": "bytes",
                "x-content-type-options": "nosniff",
            }


CONDITIONS = [("{}", 304), ("W/{}", 304), ("*", 304), ('"x", {}', 304), ('"x",W/{} , "y"', 304)]
CONDITIONS += [('"x"', 200), ('W/"x"', 200), ("", 200), ("{} x", 200)]


@pytest.mark.parametrize(("path", "condition", "method"), list(product(FILES, CONDITIONS, ["GET", "HEAD"])))
async def test_if_none_match(path: str, condition: tuple[str, int], method: str) -> None:
    data, cached, _ = FILES[path]
    value, status = condition
    async with serving() as (_, client):
        answer = await client.get(
            f"/{path}", f"If-None-Match: {value.format(etag(data))}", "Range: bytes=0-0" if status == 304 else "X: y", method=method
        )  # fmt: skip
        assert answer.status == status
        if status == 304:
            assert set(answer.fields) == {"etag", "cache-control", "date"}
            assert (answer.fields["etag"], answer.fields["cache-control"]) == (etag(data), cached)
        assert (await client.get(f"/{path}")).body == data  # the connection goes on, in step


async def test_lines_of_one_field_are_one_list() -> None:
    async with serving() as (_, client):
        fields = ['If-None-Match: "a"', f"If-None-Match: {etag(SMALL)}", 'If-None-Match: "b"']
        assert (await client.get("/metadata/timestamp.json", *fields)).status == 304


@pytest.mark.parametrize(("condition", "status"), [("{}", 200), ("*", 200), ('"x"', 412), ("W/{}", 412), ("", 412)])
async def test_if_match(condition: str, status: int) -> None:
    async with serving() as (_, client):
        answer = await client.get("/metadata/timestamp.json", f"If-Match: {condition.format(etag(SMALL))}")
        assert answer.status == status


N = len(LARGE)
RANGES: list[tuple[str, tuple[int, int] | int | None]] = [
    ("bytes=0-0", (0, 1)),
    ("bytes=0-", (0, N)),
    ("bytes=1-", (1, N)),
    (f"bytes={N - 1}-", (N - 1, N)),
    ("bytes=-1", (N - 1, N)),
    (f"bytes=-{N + 5}", (0, N)),
    ("bytes=65535-262145", (65535, 262146)),
    (f"bytes=5-{N * 2}", (5, N)),
    (f"bytes={N}-", 416),
    ("bytes=-0", 416),
    (f"bytes={N}-{N + 1}", 416),
    ("bytes=0-1,3-4", None),
    ("bytes=0-99,50-150,0-", None),
    (f"bytes={','.join(['0-'] * 200)}", None),
    ("bytes=5-1", None),
    ("bytes=x-", None),
    ("lines=0-1", None),
]


@KINDS
@pytest.mark.parametrize("path", [LARGE_PATH, PACK_PATH])
async def test_ranges(kind: str, path: str, tmp_path: Path) -> None:
    data = FILES[path][0]
    async with origin_of(kind, tmp_path) as origin, await Client.to(origin) as client:
        for value, expected in RANGES:
            answer = await client.get(f"/{path}", f"Range: {value}")
            if expected == 416:
                assert (answer.status, answer.fields["content-range"]) == (416, f"bytes */{N}"), value
                assert answer.fields["cache-control"] == "no-store"
                continue
            assert answer.fields["etag"] == etag(data)
            if isinstance(expected, tuple):
                start, end = expected
                assert (answer.status, answer.fields["content-range"]) == (206, f"bytes {start}-{end - 1}/{N}"), value
                assert answer.body == data[start:end]
            else:
                assert (answer.status, answer.body) == (200, data), value
                assert "content-range" not in answer.fields
            head = await client.get(f"/{path}", f"Range: {value}", method="HEAD")
            assert (head.status, head.fields["content-length"]) == (200, str(N))  # a range is a matter of GET alone


async def test_ranges_of_small_files() -> None:
    async with serving() as (_, client):
        for start, end in product(range(0, len(SMALL) + 3, 4), repeat=2):
            answer = await client.get("/metadata/timestamp.json", f"Range: bytes={start}-{end}")
            if start >= len(SMALL) and end >= start:
                assert answer.status == 416
            elif end < start:
                assert (answer.status, answer.body) == (200, SMALL)
            else:
                assert (answer.status, answer.body) == (206, SMALL[start : end + 1])


async def test_ranges_of_an_empty_file() -> None:
    async with serving() as (_, client):
        assert (await client.get("/targets/us/stable/empty")).fields["content-length"] == "0"
        for value in ("bytes=0-", "bytes=-1", "bytes=0-0"):
            answer = await client.get("/targets/us/stable/empty", f"Range: {value}")
            assert (answer.status, answer.fields["content-range"]) == (416, "bytes */0")


@pytest.mark.parametrize("path", [LARGE_PATH, PACK_PATH, "metadata/timestamp.json"])
async def test_if_range_goes_on_only_with_our_strong_tag(path: str) -> None:
    data = FILES[path][0]
    async with serving() as (_, client):
        for value, status in [
            (etag(data), 206), (f"W/{etag(data)}", 200), ('"x"', 200), ("Wed, 25 Nov 2026 09:00:00 GMT", 200),
            (etag(data).strip('"'), 200), ("", 200),
        ]:  # fmt: skip
            answer = await client.get(f"/{path}", "Range: bytes=7-", f"If-Range: {value}")
            assert (answer.status, answer.body) == (status, data[7:] if status == 206 else data), value


async def test_a_download_broken_off_anywhere_goes_on_from_there() -> None:
    async with serving() as (origin, client):
        for cut in (1, 65536, 262144, N - 1):
            async with await Client.to(origin) as first:
                first.send(f"/{LARGE_PATH}")
                await first.reader.readuntil(b"\r\n\r\n")
                start = await first.reader.readexactly(cut)
            rest = await client.get(f"/{LARGE_PATH}", f"Range: bytes={cut}-", f"If-Range: {etag(LARGE)}")
            assert start + rest.body == LARGE


HIDDEN = [
    "/", "/private/key", "/metadata/.secret", f"/metadata/.timestamp.json.{os.getpid()}", "/metadata/../private/key",
    "/metadata/%2e%2e/private/key", "/metadata/..%2fprivate/key", "/metadata/%2e%2e%2fprivate%2fkey", "//private/key",
    "/metadata//timestamp.json", "/metadata/timestamp.json%00", "/metadata/timestamp.json%00.x", "/metadata/link.json",
    "/targets/jp/key", "/metadata", "/metadata/", "/metadata/timestamp.json/", "/metadata/timestamp.json?", "/metadata/99.us.json",
    "/metadata/timestamp.jsonx", "/metadata/timestamp%2ejson", "/METADATA/timestamp.json", "/favicon.ico", "/metrics",
    "/metadata/\\..\\private", "/metadata/" + "a" * 500, "/./metadata/timestamp.json", "/metadata/./timestamp.json",
]  # fmt: skip


@KINDS
async def test_nothing_else_is_there(kind: str, tmp_path: Path) -> None:
    async with origin_of(kind, tmp_path) as origin, await Client.to(origin) as client:
        for target, method in product(HIDDEN, ("GET", "HEAD")):
            answer = await client.get(target, "If-None-Match: *", "Range: bytes=0-", method=method)
            assert (answer.status, answer.fields["cache-control"]) == (404, "no-store"), target
            assert answer.body in (b"", b"not published\n")


@pytest.mark.parametrize(
    "target", ["/metadata/\0", "/metadata/a\x01", "/metadata/\x7f", "http://x/metadata/timestamp.json", "x:443", "*"]
)
async def test_targets_that_no_client_sends_get_nothing(target: str) -> None:
    async with serving() as (origin, client):
        client.send(target)
        said = await asyncio.wait_for(client.reader.read(100), 20)
        assert said.split()[1] in (b"400", b"404"), said
        async with await Client.to(origin) as other:
            assert (await other.get("/metadata/timestamp.json")).status == 200


METHODS = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "get", "FOO"]


@pytest.mark.parametrize(
    ("method", "target"), list(product(METHODS, ["/metadata/timestamp.json", "/nothing", "/healthz"]))
)
async def test_other_methods_are_refused_and_the_allowed_named(method: str, target: str) -> None:
    async with serving() as (_, client):
        client.send(target, method=method)
        answer = await client.answer()
        if method in ("get", "FOO"):  # no method of any registry: not HTTP at all, for the parser
            assert (answer.status, "etag" in answer.fields) == (400, False)
            return
        assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")
        assert answer.fields["connection"] == "close"
        assert await client.closed() == b""


async def test_requests_with_bodies_are_refused_and_the_body_not_taken_for_a_request() -> None:
    for extra, body in (
        ("Content-Length: 5", b"hello"),
        ("Content-Length: 38", b"GET /metadata/1.root.json HTTP/1.1\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    ):
        async with serving() as (_, client):
            client.send("/metadata/timestamp.json", extra)
            client.writer.write(body)
            assert (await client.answer()).status == 400
            assert await client.closed() == b""


async def test_a_client_that_expects_something_is_told_that_we_do_not() -> None:
    async with serving() as (_, client):
        client.send("/metadata/timestamp.json", "Expect: 100-continue", "Content-Length: 5")
        assert (await client.answer()).status == 417


@pytest.mark.parametrize("path", FILES)
async def test_a_storage_that_refuses_is_503_and_then_good_again(path: str) -> None:
    storage = tree()
    async with serving(storage) as (origin, client):
        storage.broken = True
        answer = await client.get(f"/{path}")
        assert (answer.status, answer.fields["retry-after"], answer.fields["cache-control"]) == (503, "5", "no-store")
        storage.broken = False
        assert (await client.get(f"/{path}")).status == 200
        assert origin.counters.value("responses", status="503") == 1


async def test_a_storage_that_breaks_in_the_middle_breaks_the_connection() -> None:
    storage = tree()
    storage.breaks_after = 512 * 1024
    async with serving(storage) as (_, client):
        client.send(f"/{LARGE_PATH}")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        assert len(await client.closed()) < N


async def test_bytes_and_tag_are_of_one_version_also_when_a_large_file_is_replaced_while_it_is_opened() -> None:
    path = "packs/us/stable/latest.pack"
    old, new = b"old" * 100_000, b"newer" * 90_000

    class Racing(MemoryStorage):
        """Replaces the file between the look at its tag and its opening, ``times`` times."""

        times = 1

        async def read(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
            if length is not None and self.times:
                self.times -= 1
                self.files[path] = new if self.files[path] == old else old
            async for block in super().read(path, start, length):
                yield block

    for times, status in ((1, 200), (2, 200), (3, 503)):
        storage = Racing({path: old})
        storage.times = times
        async with serving(storage) as (_, client):
            answer = await client.get(f"/{path}")
            assert answer.status == status
            if status == 200:
                assert answer.body == storage.files[path]
                assert answer.fields["etag"] == etag(answer.body)


async def test_answers_are_counted_by_kind_and_status_and_bytes() -> None:
    async with serving() as (origin, client):
        for _ in range(3):
            await client.get("/metadata/timestamp.json", f"If-None-Match: {etag(SMALL)}")
        await client.get("/metadata/timestamp.json")
        await client.get(f"/{LARGE_PATH}", "Range: bytes=0-99999")
        await client.get(f"/{LARGE_PATH}", method="HEAD")
        await client.get("/no/such")
        counters = origin.counters
        assert counters.value("responses", kind="timestamp", status="304") == 3
        assert counters.value("responses", kind="timestamp", status="200") == 1
        assert counters.value("responses", kind="targets", status="206") == 1
        assert counters.value("responses", kind="targets", status="200") == 1
        assert counters.value("responses", kind="other", status="404") == 1
        refused = len(b"not published\n")
        assert counters.value("response_bytes") == len(SMALL) + 100_000 + refused


async def test_an_unchanged_poll_costs_at_most_180_bytes_down() -> None:
    async with serving() as (_, client):
        for _ in range(3):
            answer = await client.get("/metadata/timestamp.json", f"If-None-Match: {etag(SMALL)}")
            assert (answer.status, answer.bytes_down <= 180) == (304, True)
