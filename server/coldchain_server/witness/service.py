"""The witness over HTTP.

::

    POST /add-checkpoint                            a question; see :mod:`~coldchain_server.witness.cosigner`
    GET  /<hex SHA256(origin)>/checkpoint           the largest checkpoint cosigned, with both signatures; 404 before the first
    GET  /healthz                                   200: the process lives
    GET  /readyz                                    200: the memory answers and a log is followed; else 503 with the reasons

It listens as the origin does (:mod:`~coldchain_server.web.listening`): capped connections, a deadline for every request with its
body, 64 KiB for a body, no client's address anywhere. Questions are answered one after the other in a thread of their own,
since each ends with a write to the disk; when too many wait, the next gets 429 and comes again. A memory that cannot be
written is 503, and nothing is cosigned.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, TypeVar

from aiohttp import hdrs, web

from coldchain.errors import StorageError
from coldchain_server.web.connection_cap import Bounds, Connections
from coldchain_server.web.counters import Counters
from coldchain_server.web.listening import Listening, listening, timed, within_open_files, without_server_name
from coldchain_server.witness.cosigner import TEXT, Cosigner, Reply
from coldchain_server.witness.home import Sign, WitnessHome

T = TypeVar("T")

BOUNDS: Final = Bounds(connections=256, idle_seconds=15.0, header_seconds=5.0, answer_floor_seconds=15.0)
BODY_BYTES: Final = 64 * 1024
WAITING: Final = 64

_log = logging.getLogger("coldchain.witness")
_HEX: Final = re.compile(r"[0-9a-f]{64}\Z")
_UNKEPT: Final = {hdrs.CACHE_CONTROL: "no-store"}
_BUSY: Final = Reply(HTTPStatus.TOO_MANY_REQUESTS, b"busy; come again\n", "busy")
_BROKEN: Final = Reply(HTTPStatus.SERVICE_UNAVAILABLE, b"the witness cannot use its memory\n", "storage")


class Service:
    """The pages over one cosigner.

    Args:
        cosigner: answers questions.
        shown: the cosigned checkpoint of the log whose origin has this SHA-256.
        follows: how many keys of logs are followed.

    All three are called in one thread of this service's own.
    """

    def __init__(self, cosigner: Cosigner, shown: Callable[[str], bytes | None], follows: Callable[[], int]) -> None:
        self._cosigner = cosigner
        self._shown = shown
        self._follows = follows
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="witness")
        self._waiting = 0
        self.counters = Counters()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def add_checkpoint(self, request: web.Request) -> web.Response:
        """Answers a question."""
        body = await request.read()
        if self._waiting >= WAITING:
            reply = _BUSY
        else:
            self._waiting += 1
            try:
                reply = await self._in_thread(lambda: self._cosigner.add_checkpoint(body))
            except StorageError as error:
                _log.error("the memory refused", extra={"what": error.what, "next": error.todo})
                reply = _BROKEN
            finally:
                self._waiting -= 1
        self.counters.add("questions", outcome=reply.word)
        headers = {hdrs.CONTENT_TYPE: reply.content_type, **_UNKEPT}
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    async def checkpoint(self, request: web.Request) -> web.Response:
        """The largest checkpoint of a log."""
        name = request.match_info["name"]
        try:
            note = await self._in_thread(lambda: self._shown(name)) if _HEX.match(name) else None
        except StorageError as error:
            _log.error("the memory refused", extra={"what": error.what, "next": error.todo})
            return web.Response(status=_BROKEN.status, body=_BROKEN.body, headers={hdrs.CONTENT_TYPE: TEXT, **_UNKEPT})
        if note is None:
            return web.Response(status=404, text="nothing was cosigned of a log with this name\n", headers=_UNKEPT)
        return web.Response(body=note, headers={hdrs.CONTENT_TYPE: TEXT, hdrs.CACHE_CONTROL: "no-cache"})

    async def healthz(self, request: web.Request) -> web.Response:
        """200 as long as the event loop turns."""
        return web.json_response({"alive": True}, headers=_UNKEPT)

    async def readyz(self, request: web.Request) -> web.Response:
        """200 or 503, with the reasons."""
        try:
            async with asyncio.timeout(5):
                reasons = [] if await self._in_thread(self._follows) else ["no log is followed"]
        except StorageError:
            reasons = ["the memory cannot be read"]
        except TimeoutError:
            reasons = ["the memory does not answer within 5 seconds"]
        status = 503 if reasons else 200
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=status, headers=_UNKEPT)

    def app(self, connections: Connections) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[timed(connections)], client_max_size=BODY_BYTES)
        app.on_response_prepare.append(without_server_name)
        app.router.add_post("/add-checkpoint", self.add_checkpoint)
        app.router.add_get("/{name}/checkpoint", self.checkpoint)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        return app

    def close(self) -> None:
        """Waits for the question in progress."""
        self._thread.shutdown()


def unix_now() -> int:
    """The system's clock, Unix seconds."""
    return int(time.time())


@asynccontextmanager
async def witnessing(
    home: WitnessHome,
    sign: Sign,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    bounds: Bounds = BOUNDS,
    tls: ssl.SSLContext | None = None,
    now: Callable[[], int] = unix_now,
) -> AsyncIterator[Listening]:
    """Serves a witness until the block ends.

    Args:
        home: its directory.
        sign: makes signatures with its private key.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        bounds: what clients may take.
        tls: serve HTTPS.
        now: Unix seconds, for the cosignatures.

    Raises:
        StateError, StorageError: see :meth:`Memory.open`.
        OSError: the address cannot be listened on.
    """
    memory = home.memory()
    service = Service(Cosigner(memory, home.key, sign, now), memory.shown, lambda: len(memory.logs()))
    try:
        connections = Connections(within_open_files(bounds), service.counters)
        async with listening(service.app(connections), connections, host, port, tls=tls) as server:
            _log.info("listening", extra={"url": server.url})
            yield server
    finally:
        service.close()
        memory.close()
        _log.info("stopped")
