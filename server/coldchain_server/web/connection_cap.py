"""Every connection of the origin: how many there may be, and how long each may take for what it is doing.

aiohttp speaks HTTP; this wraps it so that a client that says nothing, never ends its header or does not read costs a
bounded amount of memory for a bounded time. A connection is in one of two states, each with one deadline:

=========  ==========================================  =====================================================
state      from                                        deadline
=========  ==========================================  =====================================================
waiting    accepted, or the last answer is written     ``idle_seconds``; from the first byte of a request on
                                                       ``header_seconds`` (the header must be whole by then)
answering  the request is whole                        ``answer_floor_seconds`` + size / ``answer_min_rate``
=========  ==========================================  =====================================================

A request that waits for news (:mod:`~coldchain_server.web.waiting`) is answering, with the time that it waits on top.

One sweep a second (or finer, when a bound is small) aborts whatever is late. At the cap a new connection takes the place
of the one that has waited longest; only when all are answering is it refused. So idle connections cannot keep
good clients out. A handshake of TLS counts towards the cap and has its own limit in the event loop.

Worked example with the defaults: a client that asks for 10 MiB and reads nothing is gone after 30 + 10 MiB / 8 KiB/s =
1310 s at the latest; one that sends half a header, after 10 s; one that is silent, after 15 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from coldchain_server.web.counters import Counters

Handler = Callable[[], asyncio.Protocol]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may take. Times in seconds, rates in bytes per second.

    Attributes:
        connections: at most this many at once.
        idle_seconds: between requests, and before the first.
        header_seconds: from the first byte of a request to the end of its header.
        answer_floor_seconds: to take an answer, whatever its size.
        answer_min_rate: what a client must read at, beyond the floor.
        handshake_seconds: for the TLS handshake.
        shutdown_seconds: how long answers in progress may go on after the server was told to stop.
    """

    connections: int = 4096
    idle_seconds: float = 15.0
    header_seconds: float = 10.0
    answer_floor_seconds: float = 30.0
    answer_min_rate: int = 8 * 1024
    handshake_seconds: float = 5.0
    shutdown_seconds: float = 20.0

    @property
    def sweep_seconds(self) -> float:
        """How often deadlines are looked at."""
        return min(1.0, self.idle_seconds / 4, self.header_seconds / 4, self.answer_floor_seconds / 4)


BOUNDS: Final = Bounds()


class Front(Protocol):
    """Who takes some requests before aiohttp's handler sees them, one at a time for a connection."""

    def take(self, connection: Connection, data: bytes) -> bool:
        """Takes the bytes that begin a connection, or leaves them."""

    def holds(self, connection: Connection) -> bool:
        """Whether it has a request of this connection."""

    def gone(self, connection: Connection) -> None:
        """The connection is over."""


class Refused(asyncio.Protocol):
    """Closes the connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Aborts it."""
        cast(asyncio.Transport, transport).abort()


class Connection(asyncio.Protocol):
    """One client's connection: passes everything on to aiohttp's handler, and knows what it is doing since when."""

    __slots__ = ("__weakref__", "_drained", "_header", "_owner", "_writing_paused", "deadline", "inner", "transport")

    def __init__(self, owner: Connections) -> None:
        self._owner = owner
        self._drained: asyncio.Future[None] | None = None
        self._header = False
        self._writing_paused = False
        self.deadline = float("inf")
        self.inner: asyncio.Protocol | None = None
        self.transport: asyncio.Transport | None = None

    # -- as the transport sees it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts to wait for a request."""
        self.transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def _handler(self) -> asyncio.Protocol:
        """The handler of aiohttp's, made when there is something for it to read."""
        assert self.transport is not None
        inner = self._owner.make_handler()
        self.inner = inner
        self._owner.by_handler[inner] = self
        inner.connection_made(self.transport)
        if self._writing_paused:
            inner.pause_writing()
        return inner

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        front = self._owner.front
        if front is not None and self.inner is None:
            if front.holds(self):  # it has to wait for its answer
                return self.abort()
            if not self._header and front.take(self, data):
                return None
        if not self._header and self in self._owner.waiting:
            self._header = True
            self.deadline = min(self.deadline, self._owner.clock() + self._owner.bounds.header_seconds)
        if self.transport is None or self.transport.is_closing():
            return None
        (self.inner or self._handler()).data_received(data)
        return None

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self.inner.eof_received() if self.inner is not None else None

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self._writing_paused = True
        if self.inner is not None:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writing_paused = False
        if self.inner is not None:
            self.inner.resume_writing()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._owner.closed(self)
        if self._owner.front is not None:
            self._owner.front.gone(self)
        self._wake()
        if self.inner is not None:
            self._owner.by_handler.pop(self.inner, None)
            self.inner.connection_lost(exc)
            self.inner = None

    # -- as the one who answers sees it

    async def begin(self) -> None:
        """A request is whole. Returns when the answers before it have left, so that unread ones do not pile up."""
        self._owner.waiting.pop(self, None)
        self._header = False
        self.expect(0)
        while self._writing_paused and self.transport is not None and not self.transport.is_closing():
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def expect(self, length: int) -> None:
        """Gives the client the time that an answer of ``length`` bytes may take."""
        bounds = self._owner.bounds
        self.deadline = self._owner.clock() + bounds.answer_floor_seconds + length / bounds.answer_min_rate

    def wait(self, seconds: float) -> None:
        """Gives the client the time that an answer may take which comes after ``seconds`` at the latest."""
        self.expect(0)
        self.deadline += seconds

    def hold(self, seconds: float) -> None:
        """A request is whole that is answered after ``seconds`` at the latest, by :meth:`answer_held`."""
        self._owner.waiting.pop(self, None)
        self.wait(seconds)

    def answer_held(self, data: bytes, *, close: bool) -> None:
        """Writes the whole answer to a request that was held."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
            if close:
                self.transport.close()
            else:
                self.end()

    def end(self) -> None:
        """The answer is written: waits for the next request, and for what the client has yet to read."""
        if self.transport is None or self not in self._owner.open:
            return
        bounds = self._owner.bounds
        unread = self.transport.get_write_buffer_size() / bounds.answer_min_rate
        self.deadline = self._owner.clock() + bounds.idle_seconds + unread
        self._owner.waiting[self] = None

    def abort(self) -> None:
        """Drops it without sending what is still buffered."""
        if self.transport is not None:
            self.transport.abort()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None


class Connections:
    """The protocol factory of the server, and the sweep. Belongs to one event loop.

    Args:
        bounds: what clients may take.
        counters: ``connections``, ``connections_refused``, ``connections_late``, ``connections_displaced`` are kept there.
    """

    def __init__(self, bounds: Bounds, counters: Counters) -> None:
        self.bounds = bounds
        self.counters = counters
        self.clock = asyncio.get_running_loop().time
        self.make_handler: Handler = Refused
        self.front: Front | None = None
        self.open: set[Connection] = set()
        self.waiting: dict[Connection, None] = {}  # in the order in which they began to wait
        self.by_handler: dict[asyncio.Protocol, Connection] = {}
        self._handshakes: weakref.WeakKeyDictionary[Connection, float] = weakref.WeakKeyDictionary()
        self._sweep: asyncio.TimerHandle | None = None
        self._closing = False
        self._empty: asyncio.Event | None = None
        counters.gauge("connections", lambda: len(self.open))

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that was just accepted."""
        if self._closing or not self._room():
            self.counters.add("connections_refused")
            return Refused()
        connection = Connection(self)
        self._handshakes[connection] = self.clock() + self.bounds.handshake_seconds
        return connection

    def _room(self) -> bool:
        if len(self.open) + len(self._handshakes) < self.bounds.connections:
            return True
        now = self.clock()
        for connection, until in list(self._handshakes.items()):
            if until < now:  # the event loop gave it up without telling us
                del self._handshakes[connection]
        if len(self.open) + len(self._handshakes) < self.bounds.connections:
            return True
        longest = next(iter(self.waiting), None)
        if longest is None:
            return False
        self.counters.add("connections_displaced")
        self.closed(longest)
        longest.abort()
        return True

    def opened(self, connection: Connection) -> None:
        """The connection can be used (over TLS: the handshake is done)."""
        self._handshakes.pop(connection, None)
        connection.deadline = self.clock() + self.bounds.idle_seconds
        self.open.add(connection)
        self.waiting[connection] = None

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""
        self._handshakes.pop(connection, None)
        self.open.discard(connection)
        self.waiting.pop(connection, None)
        if self._empty is not None and not self.open:
            self._empty.set()

    def of(self, handler: asyncio.Protocol) -> Connection | None:
        """The connection that aiohttp's handler works for; None for handlers that were not made here."""
        return self.by_handler.get(handler)

    def start(self) -> None:
        """Starts the sweep."""
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self.bounds.sweep_seconds, self._look)

    def _look(self) -> None:
        now = self.clock()
        for connection in [one for one in self.open if one.deadline < now]:
            self.counters.add("connections_late", state="waiting" if connection in self.waiting else "answering")
            connection.abort()
        self.start()

    def stop_waiting(self) -> None:
        """Takes no more connections, and closes those without a request in progress."""
        self._closing = True
        for connection in list(self.waiting):
            if connection.transport is not None:
                connection.transport.close()

    async def flushed(self, seconds: float) -> None:
        """Waits until clients have taken the answers that are written and still in our buffers, at most ``seconds``."""
        self._empty = asyncio.Event()
        if self.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty.wait()

    def stop(self) -> None:
        """Aborts what is left, and ends the sweep."""
        self._closing = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.open):
            connection.abort()
