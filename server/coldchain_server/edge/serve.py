"""``coldchain-server edge``: the web room over what the loop beside it pulls."""

from __future__ import annotations

import sys
from pathlib import Path

from coldchain.mirror.directory import MirrorConfig, MirrorDirectory
from coldchain_server.edge.follow import Follower, FollowSettings
from coldchain_server.edge.freshness import Freshness
from coldchain_server.edge.own_thread import in_own_thread
from coldchain_server.edge.served_tree import ServedTree
from coldchain_server.web import origin
from coldchain_server.web.json_log import log_as_json
from coldchain_server.web.listening import run_listening


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

    Raises:
        StorageError: the address cannot be listened on.
    """
    log_as_json(sys.stderr)
    freshness = Freshness(directory)
    follower = Follower(directory, config, freshness, settings or FollowSettings(), changed)

    async def follow() -> None:
        await in_own_thread(follower.run)

    serving = origin.serve(
        ServedTree(directory),
        host,
        port,
        background=[follow],
        tls_cert=tls_cert,
        tls_key=tls_key,
        metrics_port=metrics_port,
        copy=freshness,
    )
    run_listening(serving, host, port)
