"""``POST /v1/reports``: an endpoint's outcome report, or an edge's batch of counted ones.

::

    POST /v1/reports                              204   counted, and on the disk
    {"channel":"stable",...}                      400   not a report            403   a region or release that is not served here
                                                  429   enough for this hour    503   not now; again later
    POST /v1/reports                              401   a token that is on no list
    Authorization: Bearer <the edge's token>
    {"counts":[...],...}

A body is read when its length is announced and within its bound, a batch's only when its token is good; it has the time that a
request's header has. The address of the connection goes to the rules as an argument and is neither kept nor logged; what becomes of
the body is theirs (:class:`Reception`).
"""

from __future__ import annotations

import asyncio
from typing import Final, Generic, Protocol, TypeVar

from aiohttp import hdrs, web

PATH: Final = "/v1/reports"
STATUS: Final = {"taken": 204, "malformed": 400, "nobody": 401, "unknown": 403, "too-many": 429, "busy": 503}
"""By what the rules say."""
_BEARER: Final = "Bearer "

E = TypeVar("E")


class Reception(Protocol[E]):
    """The rules; see :class:`coldchain_server.reports.reception.Reception`."""

    def edge_of(self, token: str) -> E | None:
        """Whose token this is."""

    async def single(self, body: bytes, address: str | None) -> str:
        """What becomes of a report."""

    async def batch(self, body: bytes, edge: E) -> str:
        """What becomes of a batch."""


class ReportIntake(Generic[E]):
    """The page.

    Args:
        reception: the rules.
        most_single: bytes of a report.
        most_batch: bytes of a batch.
        seconds: that a body may take.
    """

    def __init__(self, reception: Reception[E], most_single: int, most_batch: int, seconds: float) -> None:
        self._reception, self._most, self._seconds = reception, (most_single, most_batch), seconds

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        said = request.headers.get(hdrs.AUTHORIZATION)
        edge: E | None = None
        if said is not None:
            edge = self._reception.edge_of(said.removeprefix(_BEARER)) if said.startswith(_BEARER) else None
            if edge is None:
                return _answer(401, "this token is on no list", close=True)
        length = request.content_length
        if length is None:
            return _answer(411, "the body's length is missing", close=True)
        if length > self._most[edge is not None]:
            return _answer(413, f"a body has at most {self._most[edge is not None]} bytes", close=True)
        try:
            async with asyncio.timeout(self._seconds):
                body = await request.content.readexactly(length)
        except (TimeoutError, asyncio.IncompleteReadError):
            return _answer(408, "the body did not come", close=True)
        if edge is not None:
            verdict = await self._reception.batch(body, edge)
        else:
            verdict = await self._reception.single(body, _address(request))
        return _answer(STATUS[verdict], verdict)


def _address(request: web.Request) -> str | None:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return peer[0] if isinstance(peer, tuple) else None


def _answer(status: int, words: str, *, close: bool = False) -> web.Response:
    response = web.Response(status=status, text=f"{words}\n" if status != 204 else None)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    if close:
        response.force_close()
    return response
