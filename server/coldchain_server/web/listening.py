"""A server that lives and ends in good order: any application of aiohttp behind capped connections with deadlines.

::

    async with listening(app, connections, "0.0.0.0", 8080) as server:      # in a program of one's own
        print(server.url)

    with told_to_stop(stop):                                                # SIGTERM and SIGINT set the event
        ...

When it ends it takes no more connections, closes those that wait, lets the answers in progress end within
``bounds.shutdown_seconds`` and returns. Several processes may share a port with ``reuse_port``, so that a new version
takes over while the old one finishes.

aiohttp's own settings are narrowed: 2048 bytes for the request line and for each field, 32 fields, no decompression of
requests, 15 s of keep-alive (its default is an hour); no access log; no ``Server`` header.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from coldchain.errors import StorageError
from coldchain_server.web.connection_cap import Bounds, Connections
from coldchain_server.web.counters import Counters
from coldchain_server.web.json_log import foreign_logger
from coldchain_server.web.supervision import Supervisor

LINE_BYTES: Final = 2048
FIELDS: Final = 32
BACKLOG: Final = 1024
SPARE_FILES: Final = 128  # open files besides connections: the storage's, the log, the catalogue


@dataclass(slots=True)
class Listening:
    """A running server: where it listens and what it counts."""

    host: str
    port: int
    scheme: str
    counters: Counters
    connections: Connections

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@contextlib.asynccontextmanager
async def listening(
    app: web.Application,
    connections: Connections,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    supervisor: Supervisor | None = None,
    tls: ssl.SSLContext | None = None,
    reuse_port: bool = False,
) -> AsyncIterator[Listening]:
    """Serves an application until the block ends.

    Args:
        app: the application; :func:`timed` with the same ``connections`` and :func:`without_server_name` belong into it.
        connections: the cap and the deadlines.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        supervisor: its jobs run while connections are accepted.
        tls: serve HTTPS.
        reuse_port: share the port with other processes (SO_REUSEPORT).

    Raises:
        OSError: the address cannot be listened on.
    """
    bounds = connections.bounds
    runner = make_runner(app, bounds, bounds.shutdown_seconds)
    await runner.setup()
    assert runner.server is not None
    connections.make_handler = runner.server
    loop = asyncio.get_running_loop()
    server: asyncio.Server | None = None
    try:
        server = await loop.create_server(
            connections,
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=bounds.handshake_seconds if tls else None,
            ssl_shutdown_timeout=bounds.handshake_seconds if tls else None,
            backlog=BACKLOG,
            reuse_address=True,
            reuse_port=reuse_port,
        )
        connections.start()
        scheme = "https" if tls else "http"
        found = Listening(host, server.sockets[0].getsockname()[1], scheme, connections.counters, connections)
        if supervisor is not None:
            supervisor.start()
        yield found
    finally:
        if server is not None:
            server.close()
        if supervisor is not None:
            await supervisor.stop()
        connections.stop_waiting()
        until = loop.time() + bounds.shutdown_seconds
        await runner.cleanup()
        await connections.flushed(until - loop.time())
        connections.stop()


def make_runner(app: web.Application, bounds: Bounds, shutdown_seconds: float) -> web.AppRunner:
    """Aiohttp's runner with the settings that the module's description names."""
    return web.AppRunner(
        app,
        access_log=None,
        logger=foreign_logger(),
        keepalive_timeout=bounds.idle_seconds,
        lingering_time=1,
        max_line_size=LINE_BYTES,
        max_field_size=LINE_BYTES,
        max_headers=FIELDS,
        auto_decompress=False,
        shutdown_timeout=shutdown_seconds,
    )


def timed(connections: Connections) -> Middleware:
    """The middleware that gives each request its deadline."""

    @web.middleware
    async def with_deadline(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = connections.of(request.protocol)
        if connection is None:
            return await handler(request)
        await connection.begin()
        try:
            return await handler(request)
        finally:
            connection.end()

    return with_deadline


async def without_server_name(request: web.Request, response: web.StreamResponse) -> None:
    """For ``on_response_prepare``: no ``Server`` header, and no type of a body that is not there."""
    response.headers.popall(hdrs.SERVER, None)
    if response.status == 304:
        response.headers.popall(hdrs.CONTENT_TYPE, None)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a server on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


def run_listening(main: Coroutine[Any, Any, None], host: str, port: int) -> None:
    """As :func:`run`, for a server that listens there.

    Raises:
        StorageError: the address cannot be listened on, or a certificate cannot be read.
    """
    try:
        run(main)
    except OSError as error:
        raise StorageError(
            f"cannot serve on {host}:{port}: {error.strerror or error}", todo="take another --port"
        ) from error


def tls_context(cert: Path, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate. Raises OSError (ssl.SSLError is one) when it cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context


@contextlib.contextmanager
def told_to_stop(stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop`` until the block ends; in threads other than the main one nothing does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for one in signals:
        loop.add_signal_handler(one, stop.set)
    try:
        yield
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


def within_open_files(bounds: Bounds) -> Bounds:
    """Raises the soft limit of open files as far as it may go, and lowers the cap to what then fits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bounds.connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return bounds
    return replace(bounds, connections=max(soft - SPARE_FILES, 16))
