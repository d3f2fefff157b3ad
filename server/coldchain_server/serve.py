"""``coldchain-server serve``: the origin's web room, with the re-signing of what expires, the rollouts' stages, and endpoints' reports.

Reports are taken with a signing key or without one. Who signs also judges them: a second after they came, and with each other look. So
where nobody serves with the key, nothing halts by itself, but with ``rollout advance``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from coldchain.errors import BusyError, ColdchainError, StateError, StorageError, UsageError
from coldchain.limits import LIMITS
from coldchain_server.home import Home
from coldchain_server.release.rollout import Halted, advance_due, course, halt_due
from coldchain_server.reports.hours import hour_of
from coldchain_server.reports.move import finish_logged
from coldchain_server.reports.origin import origin_reception
from coldchain_server.reports.stores import report_store
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import RoleState, load_state, now_utc
from coldchain_server.signing.rotation import expiring, renew
from coldchain_server.web import origin
from coldchain_server.web.connection_cap import BOUNDS
from coldchain_server.web.counters import Counters
from coldchain_server.web.json_log import log_as_json
from coldchain_server.web.listening import run_listening
from coldchain_server.web.report_intake import ReportIntake

_log = logging.getLogger("coldchain.signing")
LOOK_SECONDS = 60.0
JUDGE_SECONDS = 1.0
FORGET_SECONDS = 3600.0


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

    async def serving() -> None:
        news, counters = asyncio.Event(), Counters()

        async def keep_fresh() -> None:
            assert keyring is not None
            await keep_renewing(home, keyring, every, news=news)

        async def keep_forgetting() -> None:
            while True:
                await asyncio.to_thread(forget_old, home)
                await asyncio.sleep(FORGET_SECONDS)

        async def keep_moving() -> None:
            while True:
                await asyncio.to_thread(end_moves, home)
                await asyncio.sleep(LOOK_SECONDS)

        def count(name: str, amount: int, labels: Mapping[str, str]) -> None:
            counters.add(name, amount, **labels)

        intake = ReportIntake(
            origin_reception(home, news.set, count),
            LIMITS.report_bytes,
            LIMITS.report_batch_bytes,
            BOUNDS.header_seconds,
        )
        if keyring is not None:
            state = await load_state(home.storage)
            for role in ("snapshot", "timestamp", "rollout"):
                keyids, threshold = state.keyids(role)
                keyring.signers(keyids, threshold, f"role {role}")  # a wrong passphrase shows now, not in some hours
        await origin.serve(
            home.storage,
            host,
            port,
            background=[keep_forgetting, keep_moving, *([keep_fresh] if keyring is not None else [])],
            tls_cert=tls_cert,
            tls_key=tls_key,
            metrics_port=metrics_port,
            poll_seconds=settings.poll_seconds,
            reports=intake,
            counters=counters,
        )

    run_listening(serving(), host, port)


async def keep_renewing(
    home: Home,
    keyring: Keyring,
    every: float,
    look_seconds: float = LOOK_SECONDS,
    news: asyncio.Event | None = None,
) -> None:
    """Looks again and again whether something must be signed anew, or a rollout's stage is over; ends only with an error.

    A supervisor starts it again then. ``news`` (reports were counted) has it look within a second.
    """
    news = news or asyncio.Event()
    while True:
        news.clear()
        await renew_once(home, keyring, every)
        await advance_once(home, keyring)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(await until_next_stage(home, look_seconds)):
                await news.wait()
                await asyncio.sleep(JUDGE_SECONDS)  # more are likely to come: one look for all of them


def forget_old(home: Home) -> None:
    """Forgets counts that are older than the settings say. What cannot be opened now is for the next time."""
    with contextlib.suppress(ColdchainError):
        before = hour_of(now_utc() - timedelta(days=home.settings().reports_days))
        for region in home.regions().regions:
            with report_store(home, region) as store:
                store.forget(before)


def end_moves(home: Home) -> None:
    """Ends moves of reports that died after they were logged: until then their region's reports may be told to come again."""
    try:
        for one in finish_logged(home):
            _log.info("reports moved", extra={"region": one.region, "store": one.target})
    except ColdchainError as error:
        _log.error("a move of reports cannot be ended: %s", error.what)


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
    """Takes each rollout one stage on, where it is time, unless endpoints' reports say that it should halt; returns the channels.

    A rollout.toml that is not in order, or a store of reports that cannot be read, stops the rollouts and no other work.
    """
    moved: list[str] = []
    halted: dict[str, Halted] = {}
    async with home.catalogue() as catalogue:
        try:
            async with catalogue.publisher():
                state, channels = await load_state(home.storage), home.settings().channels
                halted = await _judged(home, state, keyring, channels)
                if halted:
                    state = await load_state(home.storage)
                moved = await advance_due(home, state, keyring, channels, now=now_utc())
        except BusyError:
            return []
        except UsageError as error:
            _log.error("rollouts stand still: %s", error.what)
    for channel, one in halted.items():
        _log.error("rollout halted itself", extra={"channel": channel, **one.as_json()})
    for channel in moved:
        shares = course(home, await load_state(home.storage), channel).shares
        _log.info("rollout", extra={"channel": channel, "shares": shares})
    return moved


async def _judged(home: Home, state: RoleState, keyring: Keyring, channels: Sequence[str]) -> dict[str, Halted]:
    """The rollouts that halt now. Raises UsageError where reports cannot be read: what nobody judges does not go on."""
    try:
        return await halt_due(home, state, keyring, channels, now=now_utc())
    except (StateError, StorageError) as error:
        raise UsageError(f"endpoints' reports cannot be read: {error.what}") from error


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
