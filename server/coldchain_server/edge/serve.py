"""``coldchain-server edge``: the web room over what the loop beside it pulls, and what endpoints report, counted and sent on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldchain.limits import LIMITS
from coldchain.mirror.directory import MirrorConfig, MirrorDirectory
from coldchain_server.edge.follow import Follower, FollowSettings
from coldchain_server.edge.forward import EVERY_SECONDS, Forwarder
from coldchain_server.edge.freshness import Freshness
from coldchain_server.edge.own_thread import in_own_thread
from coldchain_server.edge.served_tree import ServedTree
from coldchain_server.reports.edges import FILE, EdgeList
from coldchain_server.reports.ledger import Ledger
from coldchain_server.reports.reception import PER_NETWORK, Newest, Reception
from coldchain_server.reports.spool import Spool, edge_reports
from coldchain_server.web import origin
from coldchain_server.web.connection_cap import BOUNDS
from coldchain_server.web.counters import Counters
from coldchain_server.web.json_log import log_as_json
from coldchain_server.web.listening import run_listening
from coldchain_server.web.report_intake import ReportIntake


@dataclass(frozen=True, slots=True)
class EdgeReports:
    """How an edge takes outcome reports: its token, its caps, and how often (seconds) it sends on."""

    token: str
    per_network: int = PER_NETWORK
    every: float = EVERY_SECONDS


def serve_edge(
    directory: MirrorDirectory,
    config: MirrorConfig,
    *,
    host: str,
    port: int,
    changed: bool = False,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    metrics_port: int | None = None,
    settings: FollowSettings | None = None,
    reports: EdgeReports | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; what is there already from the first moment on.

    Args:
        directory: the edge's, made and configured.
        config: what it follows.
        host: address to listen on.
        port: TCP port, 0 for a free one.
        changed: the configuration is another one than what is there was pulled by.
        tls_cert: PEM file with the certificate chain.
        tls_key: PEM file with its key.
        metrics_port: port of ``/metrics`` on the loopback address.
        settings: how it follows.
        reports: takes outcome reports and sends them on; None: endpoints take theirs elsewhere.

    Raises:
        StorageError: the address cannot be listened on.
    """
    log_as_json(sys.stderr)
    freshness = Freshness(directory)
    follower = Follower(directory, config, freshness, settings or FollowSettings(), changed)

    async def follow() -> None:
        await in_own_thread(follower.run)

    async def serving() -> None:
        counters = Counters()
        jobs: list[Callable[[], Coroutine[Any, Any, None]]] = [follow]
        intake = None
        if reports is not None:
            intake, forwarder = _reporting(directory, config, freshness, counters, reports)
            jobs.append(forwarder.run)
        await origin.serve(
            ServedTree(directory),
            host,
            port,
            background=jobs,
            tls_cert=tls_cert,
            tls_key=tls_key,
            metrics_port=metrics_port,
            copy=freshness,
            reports=intake,
            counters=counters,
        )

    run_listening(serving(), host, port)


def _reporting(
    directory: MirrorDirectory, config: MirrorConfig, freshness: Freshness, counters: Counters, reports: EdgeReports
) -> tuple[ReportIntake[Any], Forwarder]:
    """What takes reports here, and what sends them on; both in the loop that serves."""
    folder = edge_reports(directory.path)

    def count(name: str, amount: int, labels: Mapping[str, str]) -> None:
        counters.add(name, amount, **labels)

    async def newest() -> Newest:
        return {(region, channel): release for region, channel, release in freshness.served.releases}

    reception = Reception(
        Ledger(lambda _: Spool.open(folder)),
        EdgeList(folder / FILE),
        newest,
        per_network=reports.per_network,
        count=count,
    )
    intake = ReportIntake(reception, LIMITS.report_bytes, LIMITS.report_batch_bytes, BOUNDS.header_seconds)
    return intake, Forwarder(lambda: Spool.open(folder), config, reports.token, reports.every, count)
