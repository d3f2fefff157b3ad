"""``coldchain-server serve``: the origin's web room, with the re-signing of what expires and the rollouts' stages."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from coldchain.errors import BusyError, UsageError
from coldchain_server.home import Home
from coldchain_server.release.rollout import advance_due, course
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import load_state, now_utc
from coldchain_server.signing.rotation import expiring, renew
from coldchain_server.web import origin
from coldchain_server.web.json_log import log_as_json
from coldchain_server.web.listening import run_listening

_log = logging.getLogger("coldchain.signing")
LOOK_SECONDS = 60.0


def serve_origin(
    home: Home,
    keyring: Keyring | None,
    *,
    host: str,
    port: int,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    metrics_port: int | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        home: the origin.
        keyring: signs rollout, snapshot and timestamp anew; None leaves that to another process.
        host: address to listen on.
        port: TCP port, 0 for a free one.
        tls_cert: PEM file with the certificate chain.
        tls_key: PEM file with its key.
        metrics_port: port of ``/metrics`` on the loopback address.

    Raises:
        KeyringError: an online key is not here, or the passphrase is wrong.
        StorageError: the address cannot be listened on.
    """
    log_as_json(sys.stderr)
    settings = home.settings()
    every = settings.timestamp_hours * 3600.0

    async def keep_fresh() -> None:
        assert keyring is not None
        await keep_renewing(home, keyring, every)

    async def serving() -> None:
        if keyring is not None:
            state = await load_state(home.storage)
            for role in ("snapshot", "timestamp", "rollout"):
                keyids, threshold = state.keyids(role)
                keyring.signers(keyids, threshold, f"role {role}")  # a wrong passphrase shows now, not in some hours
        await origin.serve(
            home.storage,
            host,
            port,
            background=[keep_fresh] if keyring is not None else [],
            tls_cert=tls_cert,
            tls_key=tls_key,
            metrics_port=metrics_port,
            poll_seconds=settings.poll_seconds,
        )

    run_listening(serving(), host, port)


async def keep_renewing(home: Home, keyring: Keyring, every: float, look_seconds: float = LOOK_SECONDS) -> None:
    """Looks again and again whether something must be signed anew, or a rollout's stage is over; ends only with an error.

    A supervisor starts it again then.
    """
    while True:
        await renew_once(home, keyring, every)
        await advance_once(home, keyring)
        await asyncio.sleep(await until_next_stage(home, look_seconds))


async def until_next_stage(home: Home, most: float) -> float:
    """Seconds to the next look: ``most``, or less when a stage is over before that; at least one."""
    try:
        state = await load_state(home.storage)
        ends = [course(home, state, channel).due for channel in home.settings().channels]
    except UsageError:
        return most
    now = now_utc()
    return min([most, *(max(1.0, (end - now).total_seconds()) for end in ends if end is not None)])


async def advance_once(home: Home, keyring: Keyring) -> list[str]:
    """Takes each rollout one stage on, where it is time; returns the channels.

    A rollout.toml that is not in order stops the rollouts and no other work.
    """
    moved: list[str] = []
    async with home.catalogue() as catalogue:
        try:
            async with catalogue.publisher():
                state, channels = await load_state(home.storage), home.settings().channels
                moved = await advance_due(home, state, keyring, channels, now=now_utc())
        except BusyError:
            return []
        except UsageError as error:
            _log.error("rollouts stand still: %s", error.what)
    for channel in moved:
        shares = course(home, await load_state(home.storage), channel).shares
        _log.info("rollout", extra={"channel": channel, "shares": shares})
    return moved


async def renew_once(home: Home, keyring: Keyring, every: float) -> list[str]:
    """Signs anew what is due; returns the roles. A publisher at work is not waited for: the next look comes soon."""
    async with home.catalogue() as catalogue:
        try:
            async with catalogue.publisher():
                state = await load_state(home.storage)
                signed = await renew(state, keyring, home.storage, now=now_utc(), every=every)
        except BusyError:
            return []
    if signed:
        _log.info("signed anew", extra={"roles": " ".join(signed)})
        for sentence in expiring(state, now_utc()):  # with each signing, not with each look: a few times a day
            _log.warning(sentence)
    return signed
