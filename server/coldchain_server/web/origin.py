"""The origin: serves the published tree over HTTP or HTTPS, and lives and ends in good order.

::

    await serve(storage, "0.0.0.0", 8080, background=[sign_timestamp_anew])      # until SIGTERM or SIGINT

    async with running(storage) as origin:                                       # in a program of one's own
        print(origin.url)

On SIGTERM it takes no more connections, closes those that wait, lets the answers in progress end within
``bounds.shutdown_seconds`` and returns. Several processes may share a port with ``reuse_port``, so that a new version
takes over while the old one finishes.

aiohttp's own settings are narrowed: 2048 bytes for the request line and for each field, 32 fields, no decompression of
requests, 15 s of keep-alive (its default is an hour); no access log; no ``Server`` header.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from coldchain_server.storage.interface import Storage
from coldchain_server.web.connection_cap import BOUNDS, Bounds, Connections
from coldchain_server.web.counters import CONTENT_TYPE, Counters
from coldchain_server.web.health import Check, Clock, Health, utc_now
from coldchain_server.web.json_log import foreign_logger
from coldchain_server.web.published_files import PublishedFiles
from coldchain_server.web.supervision import Job, Supervisor

LINE_BYTES: Final = 2048
FIELDS: Final = 32
BACKLOG: Final = 1024
SPARE_FILES: Final = 128  # open files besides connections: the storage's, the log, the catalogue

_METRICS_SHUTDOWN_SECONDS: Final = 1.0

_log = logging.getLogger("coldchain.origin")


def make_app(
    storage: Storage,
    *,
    counters: Counters | None = None,
    connections: Connections | None = None,
    checks: Sequence[Check] = (),
    warnings: Sequence[Check] = (),
    now: Clock = utc_now,
    metrics: bool = False,
) -> web.Application:
    """The application: the published tree, ``/healthz``, ``/readyz`` and, if wanted, ``/metrics``.

    Args:
        storage: the published tree.
        counters: where to count.
        connections: gives requests their deadlines; see :mod:`~coldchain_server.web.connection_cap`.
        checks: further reasons for ``/readyz``.
        warnings: what ``/readyz`` shows beside them.
        now: the clock that expiry is judged by.
        metrics: whether ``/metrics`` is there. It tells how many endpoints ask, so it is not public by default.
    """
    counters = counters if counters is not None else Counters()
    files = PublishedFiles(storage, counters, connections)
    health = Health(storage, checks, now, warnings)
    app = web.Application(middlewares=[_timed(connections)] if connections is not None else [])
    app.on_response_prepare.append(_without_server_name)
    pages: list[tuple[str, Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]]] = [
        ("/healthz", health.healthz),
        ("/readyz", health.readyz),
    ]
    if metrics:
        pages.append(("/metrics", _metrics_page(counters)))
    for path, page in pages:
        app.router.add_get(path, page, expect_handler=_expect_nothing)
    app.router.add_route("*", "/{path:.*}", files.handle, expect_handler=_expect_nothing)
    return app


def _metrics_page(counters: Counters) -> Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=counters.prometheus().encode(),
            headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store"},
        )

    return page


def _timed(connections: Connections) -> Middleware:
    @web.middleware
    async def timed(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = connections.of(request.protocol)
        if connection is None:
            return await handler(request)
        await connection.begin()
        try:
            return await handler(request)
        finally:
            connection.end()

    return timed


async def _without_server_name(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall(hdrs.SERVER, None)
    if response.status == 304:
        response.headers.popall(hdrs.CONTENT_TYPE, None)


async def _expect_nothing(request: web.Request) -> NoReturn:
    raise web.HTTPExpectationFailed(text="this server expects no bodies\n")


@dataclass(slots=True)
class Origin:
    """A running origin: where it listens and what it counts."""

    host: str
    port: int
    scheme: str
    counters: Counters
    connections: Connections
    metrics_port: int | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@contextlib.asynccontextmanager
async def running(
    storage: Storage,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    bounds: Bounds = BOUNDS,
    background: Iterable[Job] = (),
    checks: Sequence[Check] = (),
    tls: ssl.SSLContext | None = None,
    reuse_port: bool = False,
    metrics_port: int | None = None,
    now: Clock = utc_now,
) -> AsyncIterator[Origin]:
    """Serves until the block ends; the arguments are those of :func:`serve`."""
    counters = Counters()
    connections = Connections(_within_open_files(bounds), counters)
    supervisor = Supervisor(background)

    async def jobs() -> Iterable[str]:
        return supervisor.problems()

    counters.gauge("background_failing", lambda: len(supervisor.problems()))
    app = make_app(storage, counters=counters, connections=connections, checks=checks, warnings=[jobs], now=now)
    runner = _runner(app, bounds, bounds.shutdown_seconds)
    await runner.setup()
    assert runner.server is not None
    connections.make_handler = runner.server
    loop = asyncio.get_running_loop()
    server: asyncio.Server | None = None
    metrics: web.AppRunner | None = None
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
        origin = Origin(host, server.sockets[0].getsockname()[1], "https" if tls else "http", counters, connections)
        if metrics_port is not None:
            pages = make_app(storage, counters=counters, checks=checks, warnings=[jobs], now=now, metrics=True)
            metrics = _runner(pages, bounds, _METRICS_SHUTDOWN_SECONDS)
            await metrics.setup()
            site = web.TCPSite(metrics, "127.0.0.1", metrics_port)
            await site.start()
            origin.metrics_port = metrics.addresses[0][1]
        supervisor.start()
        _log.info("listening", extra={"url": origin.url, "metrics_port": origin.metrics_port})
        yield origin
    finally:
        if server is not None:
            server.close()
        await supervisor.stop()
        connections.stop_waiting()
        until = loop.time() + bounds.shutdown_seconds
        await runner.cleanup()
        await connections.flushed(until - loop.time())
        connections.stop()
        if metrics is not None:
            await metrics.cleanup()
        _log.info("stopped")


def _runner(app: web.Application, bounds: Bounds, shutdown_seconds: float) -> web.AppRunner:
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


async def serve(
    storage: Storage,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    bounds: Bounds = BOUNDS,
    background: Iterable[Job] = (),
    checks: Sequence[Check] = (),
    ready: Callable[[Origin], None] | None = None,
    stop: asyncio.Event | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    reuse_port: bool = False,
    metrics_port: int | None = None,
    now: Clock = utc_now,
) -> None:
    """Serves the published tree until SIGTERM, SIGINT or ``stop``.

    Args:
        storage: the published tree.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        bounds: what clients may take.
        background: functions that make a coroutine each; run beside the server, retried when they raise.
        checks: further reasons for ``/readyz``: async functions that return lines.
        ready: called with the :class:`Origin` once connections are accepted.
        stop: an event that ends the server as SIGTERM does.
        tls_cert: PEM file with the certificate chain; with it HTTPS is served.
        tls_key: PEM file with its private key, when it is not in ``tls_cert``.
        reuse_port: share the port with other processes (SO_REUSEPORT).
        metrics_port: serve ``/metrics`` on this port of the loopback address; 0 takes a free one.
        now: the clock that expiry is judged by.

    Raises:
        OSError: the address cannot be listened on, or the certificate cannot be read.
    """
    stop = stop or asyncio.Event()
    with _told_to_stop(stop):
        async with running(
            storage,
            host,
            port,
            bounds=bounds,
            background=background,
            checks=checks,
            tls=tls_context(tls_cert, tls_key) if tls_cert else None,
            reuse_port=reuse_port,
            metrics_port=metrics_port,
            now=now,
        ) as origin:
            if ready is not None:
                ready(origin)
            await stop.wait()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs :func:`serve` on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


def tls_context(cert: Path, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate. Raises OSError (ssl.SSLError is one) when it cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context


@contextlib.contextmanager
def _told_to_stop(stop: asyncio.Event) -> Iterator[None]:
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


def _within_open_files(bounds: Bounds) -> Bounds:
    """Raises the soft limit of open files as far as it may go, and lowers the cap to what then fits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bounds.connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return bounds
    return replace(bounds, connections=max(soft - SPARE_FILES, 16))
