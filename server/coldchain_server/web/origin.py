"""The origin: serves the published tree over HTTP or HTTPS, and lives and ends in good order.

::

    await serve(storage, "0.0.0.0", 8080, background=[sign_timestamp_anew])      # until SIGTERM or SIGINT

    async with running(storage) as origin:                                       # in a program of one's own
        print(origin.url)

How it listens, and how it ends on SIGTERM, is :mod:`~coldchain_server.web.listening`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from aiohttp import hdrs, web

from coldchain_server.storage.interface import Storage
from coldchain_server.web.connection_cap import BOUNDS, Bounds, Connections
from coldchain_server.web.counters import CONTENT_TYPE, Counters
from coldchain_server.web.health import TIMESTAMP, Check, Clock, Copy, Health, age_field, utc_now
from coldchain_server.web.listening import (
    Listening,
    listening,
    make_runner,
    timed,
    tls_context,
    told_to_stop,
    within_open_files,
    without_server_name,
)
from coldchain_server.web.published_files import PublishedFiles
from coldchain_server.web.report_intake import PATH as REPORTS_PATH
from coldchain_server.web.report_intake import ReportIntake
from coldchain_server.web.supervision import Job, Supervisor
from coldchain_server.web.waiting import PATH as WAIT_PATH
from coldchain_server.web.waiting import Waiting

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
    poll_seconds: int = 0,
    copy: Copy | None = None,
    reports: ReportIntake[Any] | None = None,
) -> web.Application:
    """The application: the published tree, ``/healthz``, ``/readyz``, ``/v1/wait`` and, if wanted, ``/v1/reports``, ``/metrics``.

    Args:
        storage: the published tree.
        counters: where to count.
        connections: gives requests their deadlines; see :mod:`~coldchain_server.web.connection_cap`. Nobody waits without.
        checks: further reasons for ``/readyz``.
        warnings: what ``/readyz`` shows beside them.
        now: the clock that expiry is judged by.
        metrics: whether ``/metrics`` is there. It tells how many endpoints ask, so it is not public by default.
        poll_seconds: how often endpoints are asked to poll; 0 leaves that to them. A copy says what its upstream says.
        copy: what is known of the age of what is served, where that is a copy of another server's.
        reports: takes outcome reports; None where none are taken.
    """
    counters = counters if counters is not None else Counters()
    files = PublishedFiles(
        storage, counters, connections, copy.poll_seconds if copy is not None else lambda: poll_seconds
    )
    health = Health(storage, checks, now, warnings, copy)
    app = web.Application(middlewares=[timed(connections)] if connections is not None else [])
    app.on_response_prepare.append(without_server_name)
    if copy is not None:
        app.on_response_prepare.append(_with_age(copy))
    pages: list[tuple[str, Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]]] = [
        ("/healthz", health.healthz),
        ("/readyz", health.readyz),
    ]
    if metrics:
        pages.append(("/metrics", _metrics_page(counters)))
    if connections is not None:
        waiting = Waiting(files.tags, counters, connections, copy)
        app.on_shutdown.append(waiting.close)
        app.router.add_get(WAIT_PATH, waiting.handle, expect_handler=_expect_nothing, allow_head=False)
    if reports is not None:
        app.router.add_post(REPORTS_PATH, reports.handle, expect_handler=_expect_nothing)
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


def _with_age(copy: Copy) -> Callable[[web.Request, web.StreamResponse], Coroutine[Any, Any, None]]:
    async def with_age(request: web.Request, response: web.StreamResponse) -> None:
        if request.path == f"/{TIMESTAMP}" and response.status in (200, 304):
            response.headers[hdrs.AGE] = age_field(copy)

    return with_age


async def _expect_nothing(request: web.Request) -> NoReturn:
    raise web.HTTPExpectationFailed(text="this server expects no bodies\n")


@dataclass(slots=True)
class Origin(Listening):
    """A running origin: where it listens and what it counts."""

    metrics_port: int | None = None


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
    poll_seconds: int = 0,
    copy: Copy | None = None,
    reports: ReportIntake[Any] | None = None,
    counters: Counters | None = None,
) -> AsyncIterator[Origin]:
    """Serves until the block ends; the arguments are those of :func:`serve`."""
    counters = counters if counters is not None else Counters()
    connections = Connections(within_open_files(bounds), counters)
    supervisor = Supervisor(background)

    async def jobs() -> Iterable[str]:
        return supervisor.problems()

    counters.gauge("background_failing", lambda: len(supervisor.problems()))
    app = make_app(
        storage,
        counters=counters,
        connections=connections,
        checks=checks,
        warnings=[jobs],
        now=now,
        poll_seconds=poll_seconds,
        copy=copy,
        reports=reports,
    )
    metrics: web.AppRunner | None = None
    try:
        async with listening(
            app, connections, host, port, supervisor=supervisor, tls=tls, reuse_port=reuse_port
        ) as server:
            origin = Origin(server.host, server.port, server.scheme, counters, connections)
            if metrics_port is not None:
                pages = make_app(storage, counters=counters, checks=checks, warnings=[jobs], now=now, metrics=True)
                metrics = make_runner(pages, bounds, _METRICS_SHUTDOWN_SECONDS)
                await metrics.setup()
                site = web.TCPSite(metrics, "127.0.0.1", metrics_port)
                await site.start()
                origin.metrics_port = metrics.addresses[0][1]
            _log.info("listening", extra={"url": origin.url, "metrics_port": origin.metrics_port})
            yield origin
    finally:
        if metrics is not None:
            await metrics.cleanup()
        _log.info("stopped")


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
    poll_seconds: int = 0,
    copy: Copy | None = None,
    reports: ReportIntake[Any] | None = None,
    counters: Counters | None = None,
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
        poll_seconds: how often endpoints are asked to poll; 0 leaves that to them. A copy says what its upstream says.
        copy: what is known of the age of what is served, where that is a copy of another server's.
        reports: takes outcome reports; None where none are taken.
        counters: where to count; None for new ones.

    Raises:
        OSError: the address cannot be listened on, or the certificate cannot be read.
    """
    stop = stop or asyncio.Event()
    with told_to_stop(stop):
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
            poll_seconds=poll_seconds,
            copy=copy,
            reports=reports,
            counters=counters,
        ) as origin:
            if ready is not None:
                ready(origin)
            await stop.wait()
