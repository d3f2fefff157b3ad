"""Answers a request for a published file: GET and HEAD, conditional, by range, never more than was asked.

=======  ==============================================================================================
200      the file, with ``ETag``, ``Cache-Control`` and ``Accept-Ranges``
206      one range of it
304      the client's entity tag is the current one: status line, ETag, Date, Cache-Control and nothing else
400      the request has a body
404      nothing is published under this name (never to be cached: it may be published next)
405      another method
412      If-Match names another version
416      the range lies outside the file
417      the client expects something
503      the storage refused; Retry-After
=======  ==============================================================================================

Worked example, the whole answer to an unchanged poll, 133 bytes::

    HTTP/1.1 304 Not Modified
    ETag: "5c1f0a…"
    Cache-Control: no-cache
    Date: Wed, 25 Nov 2026 09:00:00 GMT

Source: RFC 9110 and RFC 9111; ``immutable`` is RFC 8246.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from aiohttp import hdrs, web

from coldchain.errors import StorageError
from coldchain_server.storage.interface import Entry, Storage
from coldchain_server.web.conditions import Unsatisfiable, byte_range, range_still_valid, tag_listed
from coldchain_server.web.connection_cap import Connections
from coldchain_server.web.counters import Counters
from coldchain_server.web.entity_tags import EntityTags, Tagged
from coldchain_server.web.published_paths import PublishedPath, published_path

ALLOWED: Final = ("GET", "HEAD")
RETRY_AFTER_SECONDS: Final = 5
NEVER_KEEP: Final = "no-store"
TIMESTAMP: Final = "metadata/timestamp.json"
TRIES: Final = 3
Blocks = AsyncIterator[bytes]
Opened = tuple[bytes, Blocks]
"""The first block of a file, and the others."""

_log = logging.getLogger("coldchain.origin")


class PublishedFiles:
    """The request handler of the published tree.

    Args:
        storage: where the files are.
        counters: ``responses`` by kind of file and status, ``response_bytes`` of their bodies.
        connections: gives each request its deadline; None in an application without :class:`Connections`.
        poll_seconds: says how often endpoints are asked to poll, which is ``timestamp.json``'s max-age; 0 leaves that to them.
            Shared caches are told to ask every time all the same (s-maxage).
    """

    def __init__(
        self,
        storage: Storage,
        counters: Counters,
        connections: Connections | None = None,
        poll_seconds: Callable[[], int] = lambda: 0,
    ) -> None:
        self._storage = storage
        self._counters = counters
        self._connections = connections
        self._poll_seconds = poll_seconds
        self.tags = EntityTags(storage)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers, and returns when the client has taken the answer (or the connection is gone)."""
        published = published_path(request.raw_path)
        opened: Opened | None = None
        try:
            response = await self._judge(request, published)
            if isinstance(response, _Part) and request.method == "GET":
                response, opened = await self._open(request, published, response)
        except StorageError:
            name = published.path if published is not None else ""
            _log.exception("the storage refused", extra={"path": name})
            response = refusal(503, "the storage refused")
            response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_SECONDS)
        self._counters.add("responses", kind=_kind(published), status=str(response.status))
        if isinstance(response, _Part):
            return await self._send(request, response, opened)
        await response.prepare(request)
        await response.write_eof()
        body = response.body if isinstance(response, web.Response) and request.method != "HEAD" else None
        self._counters.add("response_bytes", len(body) if isinstance(body, bytes) else 0)
        return response

    async def _open(
        self, request: web.Request, published: PublishedPath | None, part: _Part
    ) -> tuple[web.StreamResponse, Opened | None]:
        """The part with its first block read, so that its bytes are of the version that the entity tag names.

        A file that changes may have been replaced between the look at its tag and the opening: then the request is judged anew.
        """
        for _ in range(TRIES):
            blocks = self._storage.read(part.path, part.start, part.length)
            first = await anext(blocks, b"")
            if await self._storage.stat(part.path) == part.entry:
                return part, (first, blocks)
            await _close(blocks)
            response = await self._judge(request, published)
            if not isinstance(response, _Part):
                return response, None
            part = response
        raise StorageError(f"{part.path} was replaced again and again")

    async def _judge(self, request: web.Request, published: PublishedPath | None) -> web.StreamResponse:
        if request.method not in ALLOWED:
            response = refusal(405, "only GET and HEAD")
            response.headers[hdrs.ALLOW] = ", ".join(ALLOWED)
            response.force_close()
            return response
        if request.body_exists:
            response = refusal(400, "a request here has no body")
            response.force_close()
            return response
        if published is None:
            return refusal(404, "not published")
        tagged = await self.tags.look_up(published)
        if tagged is None:
            return refusal(404, "not published")
        if published.path == TIMESTAMP and (seconds := self._poll_seconds()):
            published = replace(published, cache_control=f"max-age={seconds}, s-maxage=0")
        return choose(request, published, tagged)

    async def _send(self, request: web.Request, part: _Part, opened: Opened | None) -> web.StreamResponse:
        """Streams a part of a large file; breaks the connection off rather than end short of the stated length."""
        connection = self._connections.of(request.protocol) if self._connections is not None else None
        if connection is not None:
            connection.expect(part.length)
        sent = 0
        try:
            await part.prepare(request)
            if opened is None:
                await part.write_eof()
                return part
            block, blocks = opened
            while block:
                sent += len(block)
                await part.write(block)
                block = await anext(blocks, b"")
        except StorageError:
            _log.exception("the storage refused", extra={"path": part.path})
        finally:
            self._counters.add("response_bytes", sent)
            if opened is not None:
                await _close(opened[1])
        if sent != part.length:
            if request.transport is not None:
                request.transport.abort()
            return part
        await part.write_eof()
        return part


async def _close(blocks: Blocks) -> None:
    """Frees what the storage holds open, now and not when the garbage is collected."""
    if isinstance(blocks, AsyncGenerator):
        await blocks.aclose()


class _Part(web.StreamResponse):
    """A range of a large file, to be streamed."""

    def __init__(self, entry: Entry, start: int, length: int, status: int) -> None:
        super().__init__(status=status)
        self.entry = entry
        self.path = entry.path
        self.start = start
        self.length = length
        self.content_length = length


def choose(request: web.BaseRequest, published: PublishedPath, tagged: Tagged) -> web.StreamResponse:
    """The answer to a GET or HEAD of a file that is there. Pure; the order of preconditions is RFC 9110, 13.2.2."""
    if_match = _field(request, hdrs.IF_MATCH)
    if if_match is not None and not (tag_listed(if_match, tagged.etag) and f"W/{tagged.etag}" not in if_match):
        return refusal(412, "another version is published")
    if_none_match = _field(request, hdrs.IF_NONE_MATCH)
    if if_none_match is not None and tag_listed(if_none_match, tagged.etag):
        return web.Response(status=304, headers={hdrs.ETAG: tagged.etag, hdrs.CACHE_CONTROL: published.cache_control})
    selected = None
    if request.method == "GET" and range_still_valid(_field(request, hdrs.IF_RANGE), tagged.etag):
        selected = byte_range(_field(request, hdrs.RANGE), tagged.length)
    if isinstance(selected, Unsatisfiable):
        response: web.StreamResponse = refusal(416, "the file ends before this range")
        response.headers[hdrs.CONTENT_RANGE] = f"bytes */{tagged.length}"
        return response
    start, end = (selected.start, selected.end) if selected is not None else (0, tagged.length)
    status = 206 if selected is not None else 200
    if tagged.body is not None:
        response = web.Response(status=status, body=tagged.body[start:end])
    else:
        assert tagged.entry is not None
        response = _Part(tagged.entry, start, end - start, status)
    response.headers[hdrs.CONTENT_TYPE] = published.content_type
    response.headers[hdrs.ETAG] = tagged.etag
    response.headers[hdrs.CACHE_CONTROL] = published.cache_control
    response.headers[hdrs.ACCEPT_RANGES] = "bytes"
    response.headers["X-Content-Type-Options"] = "nosniff"  # feeds' files are foreign bytes: no browser may guess
    if selected is not None:
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{tagged.length}"
    return response


def refusal(status: int, why: str) -> web.Response:
    """A short answer that no cache keeps."""
    return web.Response(status=status, text=why + "\n", headers={hdrs.CACHE_CONTROL: NEVER_KEEP})


def _field(request: web.BaseRequest, name: str) -> str | None:
    lines = request.headers.getall(name, None)
    return ", ".join(lines) if lines is not None else None


def _kind(published: PublishedPath | None) -> str:
    if published is None:
        return "other"
    if published.path == TIMESTAMP:
        return "timestamp"
    return published.path.partition("/")[0]
