"""``GET /v1/wait``: an answer that comes when there is news. A poll that takes its time, and like a poll it says nothing of who asks.

::

    GET /v1/wait?tag=5c1f0a9e33b07d12b6f0a1c2d3e4f506&seconds=300 HTTP/1.1
    Host: a.example

``tag`` is the entity tag of the ``metadata/timestamp.json`` that the client has, without its quotes: the same for every endpoint
that is as far. ``seconds``, 1 to 600, is how long it wants to wait; 300 where it does not say. Nothing else may be in the query.

=======  ==============================================================================================
200      the timestamp, another one than the client's; its tag is in ``ETag``
304      the time is over, or the server is ending (then with ``Connection: close``): nothing new
400      the query is not as above, or the request has a body
404      no timestamp is published
503      enough clients wait already; ``Retry-After``. Plain polling works all the same
=======  ==============================================================================================

The publisher is another process, so the file is looked at, four times a second, and only while somebody waits. An answer is always of
a look that began after its request came: a client that is ahead of the last look is never told old news.

A request that is written as above, the first of its connection, is held as a few words beside the connection and costs no handler of
aiohttp's; any other spelling goes the ordinary way and gets the same answer. While it is held the client may say nothing: who does is
cut off.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import re
import time
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import hdrs, web

from coldchain.errors import StorageError
from coldchain_server.web.connection_cap import Connection, Connections
from coldchain_server.web.counters import Counters
from coldchain_server.web.entity_tags import EntityTags, Tagged
from coldchain_server.web.health import TIMESTAMP, Copy, age_field
from coldchain_server.web.published_files import NEVER_KEEP, refusal
from coldchain_server.web.published_paths import published_path

PATH: Final = "/v1/wait"
DEFAULT_SECONDS: Final = 300
MOST_SECONDS: Final = 600
LOOK_SECONDS: Final = 0.25
RETRY_AFTER_SECONDS: Final = 60
_QUERY: Final = re.compile(rf"{re.escape(PATH)}\?tag=([0-9a-f]{{32}})(?:&seconds=([1-9][0-9]{{0,2}}))?\Z")
_WHOLE: Final = re.compile(
    rb"GET (/v1/wait\?[!-~]{1,64}) HTTP/1\.1\r\n"
    rb"Host: [!-~]{1,255}\r\n"
    rb"(?:(?:Accept|Accept-Encoding|User-Agent): [!-~][ -~]{0,255}\r\n){0,3}\r\n\Z"
)

Ending = Literal["news", "unchanged", "closing"]

_log = logging.getLogger("coldchain.origin")


def parse_wait(target: str) -> tuple[str, int] | None:
    """Tag and seconds of a request target, as it came, undecoded; None when it is not as the module says."""
    match = _QUERY.match(target)
    if match is None:
        return None
    seconds = int(match[2] or DEFAULT_SECONDS)
    return (match[1], seconds) if seconds <= MOST_SECONDS else None


@dataclass(slots=True, eq=False)
class _Waiter:
    """One request: what the client has, until when it waits, and who is told: a held connection, or a handler."""

    tag: str
    until: float
    whom: Connection | asyncio.Future[Ending]


class Waiting:
    """Everybody who waits. Belongs to one event loop.

    Args:
        tags: what the timestamp's tag is.
        counters: ``responses`` of kind ``wait`` by status, and the gauge ``waiting``.
        connections: the cap, of which waiting clients take half at most.
        copy: what is known of the age of what is served, where that is a copy.
        look_seconds: how often the timestamp is looked at while somebody waits.
    """

    def __init__(
        self,
        tags: EntityTags,
        counters: Counters,
        connections: Connections,
        copy: Copy | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._tags, self._counters, self._connections, self._copy = tags, counters, connections, copy
        self._look_seconds = look_seconds
        self._clock = connections.clock
        self._most = connections.bounds.connections // 2
        published = published_path(f"/{TIMESTAMP}")
        assert published is not None
        self._published = published
        self._waiters: dict[_Waiter, None] = {}
        self._fresh: list[_Waiter] = []
        self._of: dict[Connection, _Waiter] = {}
        self._known: Tagged | None = None
        self._kick = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._closing = False
        counters.gauge("waiting", lambda: len(self._waiters))
        connections.front = self

    def __len__(self) -> int:
        return len(self._waiters)

    async def close(self, _: web.Application | None = None) -> None:
        """Answers everybody; who comes later is answered at once."""
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()
        for waiter in list(self._waiters):
            self._tell(waiter, "closing")

    # -- the ordinary way --------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers when there is news, or when the time is over."""
        response = await self._answer(request)
        self._counters.add("responses", kind="wait", status=str(response.status))
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = parse_wait(request.raw_path)
        if asked is None or request.body_exists:
            response = refusal(400, f"ask for {PATH}?tag=<32 hex digits>&seconds=<1 to {MOST_SECONDS}>, without a body")
            if request.body_exists:
                response.force_close()
            return response
        if not self._room():
            return _enough("enough clients wait already; poll instead")
        told: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        waiter = self._begin(*asked, told)
        connection = self._connections.of(request.protocol)
        if connection is not None:
            self._of[connection] = waiter
            connection.wait(asked[1])
        try:
            ending = await told
        finally:
            self._waiters.pop(waiter, None)
            if connection is not None:
                self._of.pop(connection, None)
        if connection is not None:
            connection.expect(0)
        return self._response(ending)

    def _response(self, ending: Ending) -> web.Response:
        known = self._known
        if known is None or known.body is None:
            return _enough("this server is ending") if ending == "closing" else refusal(404, "not published")
        headers = {hdrs.ETAG: known.etag, hdrs.CACHE_CONTROL: NEVER_KEEP}
        if self._copy is not None:
            headers[hdrs.AGE] = age_field(self._copy)
        if ending != "news":
            response = web.Response(status=304, headers=headers)
        else:
            response = web.Response(
                body=known.body, headers={**headers, hdrs.CONTENT_TYPE: self._published.content_type}
            )
            response.headers["X-Content-Type-Options"] = "nosniff"
        if ending == "closing":
            response.force_close()
        return response

    # -- the way without a handler -----------------------------------------------------------------------------------

    def take(self, connection: Connection, data: bytes) -> bool:
        """Holds the request, if these bytes are the whole of one that is written plainly; else False, and nothing is done."""
        match = _WHOLE.match(data)
        asked = parse_wait(match[1].decode()) if match else None
        if asked is None or not self._room():
            return False
        connection.hold(asked[1])
        self._of[connection] = self._begin(*asked, connection)
        return True

    def holds(self, connection: Connection) -> bool:
        """Whether a request of this connection is held."""
        waiter = self._of.get(connection)
        return waiter is not None and waiter.whom is connection

    def gone(self, connection: Connection) -> None:
        """The connection is over; a handler that waits for it ends too, which aiohttp does not see to."""
        waiter = self._of.pop(connection, None)
        if waiter is None:
            return
        self._waiters.pop(waiter, None)
        if isinstance(waiter.whom, asyncio.Future):
            waiter.whom.cancel()

    def _write(self, connection: Connection, ending: Ending) -> None:
        del self._of[connection]
        status, data = self._rendered(ending)
        self._counters.add("responses", kind="wait", status=status)
        connection.answer_held(data, close=ending == "closing")

    def _rendered(self, ending: Ending) -> tuple[str, bytes]:
        """What :meth:`_response` is on the wire."""
        response = self._response(ending)
        body = response.body if isinstance(response.body, bytes) else b""
        fields = {**response.headers, hdrs.DATE: email.utils.formatdate(time.time(), usegmt=True)}
        if response.status != 304:
            fields[hdrs.CONTENT_LENGTH] = str(len(body))
        if ending == "closing":
            fields[hdrs.CONNECTION] = "close"
        head = [
            f"HTTP/1.1 {response.status} {response.reason}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        return str(response.status), "\r\n".join([*head, "", ""]).encode() + body

    # -- who waits ---------------------------------------------------------------------------------------------------

    def _room(self) -> bool:
        return len(self._waiters) < self._most

    def _begin(self, tag: str, seconds: int, whom: Connection | asyncio.Future[Ending]) -> _Waiter:
        etag = f'"{tag}"'
        if self._known is not None and self._known.etag == etag:
            etag = self._known.etag  # one string for all of them
        waiter = _Waiter(etag, self._clock() + (0 if self._closing else seconds), whom)
        self._waiters[waiter] = None
        self._fresh.append(waiter)
        self._kick.set()
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        return waiter

    def _tell(self, waiter: _Waiter, ending: Ending) -> None:
        if waiter not in self._waiters:
            return
        del self._waiters[waiter]
        if isinstance(waiter.whom, Connection):
            self._write(waiter.whom, ending)
        elif not waiter.whom.done():
            waiter.whom.set_result(ending)

    async def _watch(self) -> None:
        """Looks as long as somebody waits."""
        while self._waiters:
            self._kick.clear()
            await self._look()
            if self._fresh:
                await asyncio.sleep(self._look_seconds / 10)  # those who come together are answered by one look
            elif self._waiters:
                try:
                    async with asyncio.timeout(self._look_seconds):
                        await self._kick.wait()
                except TimeoutError:
                    continue

    async def _look(self) -> None:
        fresh, self._fresh = self._fresh, []
        before = self._known
        try:
            self._known = await self._tags.look_up(self._published)
        except StorageError:
            _log.exception("the storage refused", extra={"path": self._published.path})
            self._fresh += fresh
            fresh = []
        else:
            etag = self._known.etag if self._known is not None else None
            changed = before is None or before.etag != etag
            late = set(self._fresh)  # they came during this look, and may be ahead of it
            for waiter in list(self._waiters) if changed else fresh:
                if waiter.tag != etag and waiter not in late:
                    self._tell(waiter, "news")
        now = self._clock()
        for waiter in [one for one in self._waiters if one.until <= now]:
            self._tell(waiter, "closing" if self._closing else "unchanged")


def _enough(why: str) -> web.Response:
    response = refusal(503, why)
    response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_SECONDS)
    return response
