"""Outcome reports of one endpoint: noted while an update runs, sent after it. Only where ``[reports] send = true``.

::

    update      trying release 42 ... installed, or refused            noted in reports.json (:mod:`coldchain.install.report_memory`)
    after it    POST /v1/reports to the sources in their order         plain `coldchain update`: at its end
                until one takes it                                     an agent: at a random moment within five minutes

A report is about a release that this endpoint took, or tried to take and gave up for what the release or an engine is; a network
that does not work, a held rollout, a full disk are nobody's business. Whatever becomes of a report, the update stands: nothing here
raises, each source has ten seconds, and a server that is busy with reports is asked for updates all the same. A report whose answer
was lost is sent again: rather counted twice than not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

import coldchain
from coldchain.agent.allowance import open_allowance
from coldchain.agent.network import NetworkSettings, network_of
from coldchain.agent.told import Told
from coldchain.agent.transport import HttpSource, Source, Traffic, open_sources
from coldchain.engines.activation import EngineOutcome
from coldchain.errors import (
    ColdchainError,
    EngineDownError,
    EngineError,
    EvidenceError,
    NewerFormatError,
    VerificationError,
)
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.policy_file import read_customer_policy
from coldchain.install.report_memory import ReportMemory, Sent, change_report_memory, read_report_memory
from coldchain.install.source_health import read_source_health
from coldchain.limits import LIMITS, Limits
from coldchain.outcome_report import MOST_CODE, PATH, OutcomeReport, ReportOutcome

LATER_SECONDS: Final = 300.0
_TAKEN: Final = (200, 202, 204)


class Noting:
    """What one update notes. The lock of the directory is held.

    Args:
        directory: the endpoint's.
        config: what it follows.
        on: whether outcomes are reported; nothing is written otherwise.
    """

    def __init__(self, directory: ClientDirectory, config: Config, on: bool) -> None:
        self._directory, self._config, self._on = directory, config, on
        self._trying: tuple[int, int] | None = None

    def trying(self, release: int, source: int | None) -> None:
        """From now on this release is being taken, from ``source``; None for nothing."""
        self._trying = (release, source or 0)

    def ended(self, release: int, engines: Iterable[EngineOutcome]) -> None:
        """An update ended with this release installed."""
        engines, trying = tuple(engines), self._trying
        failed = _failed(engines)
        came = trying is not None or any(one.action == "activated" for one in engines)
        applied = came and not any(one.error for one in engines)

        def change(memory: ReportMemory) -> ReportMemory:
            if trying is not None and trying[0] == release:
                memory = memory.installed(*trying)
            if failed is not None:
                return self._saying(memory, release, "engine-failed", failed.exit_code)
            return self._saying(memory, release, "applied", 0) if applied else memory

        self._change(change)

    def refused(self, error: ColdchainError) -> None:
        """An update ended with this error, and nothing new is installed."""
        trying = self._trying
        if trying is not None and isinstance(error, VerificationError | EvidenceError | NewerFormatError):
            self._change(lambda memory: self._saying(memory, trying[0], "refused", error.exit_code, trying[1]))

    def _saying(
        self, memory: ReportMemory, release: int, outcome: ReportOutcome, code: int, source: int | None = None
    ) -> ReportMemory:
        if source is None:
            source = memory.taken[1] if memory.taken is not None and memory.taken[0] == release else 0
        source = source if source < release else 0
        region, channel, client = self._config.region, self._config.channel, coldchain.__version__
        return memory.saying(OutcomeReport(region, channel, source, release, outcome, min(code, MOST_CODE), client))

    def _change(self, change: Callable[[ReportMemory], ReportMemory]) -> None:
        if self._on:
            with contextlib.suppress(ColdchainError):  # a disk that refuses costs a report, never an update
                change_report_memory(self._directory, change)


def _failed(engines: Iterable[EngineOutcome]) -> ColdchainError | None:
    """The error of an engine that the release is to blame for: it was refused, or was tried and the engine is down since.

    An engine that never ran any set was not there before, either.
    """
    for one in engines:
        tried = one.report is not None and one.release is not None
        if type(one.error) is EngineError or (isinstance(one.error, EngineDownError) and tried):
            return one.error
    return None


async def send_waiting(
    directory: ClientDirectory,
    now: Callable[[], datetime],
    *,
    urls: Sequence[str] | None = None,
    network: NetworkSettings | None = None,
    told: Told | None = None,
    limits: Limits = LIMITS,
) -> int:
    """Sends what is waiting, where reports are switched on; returns how many were taken. Raises nothing but a cancellation.

    Args:
        directory: the endpoint's; its lock is not needed.
        now: the clock.
        urls: instead of the configured ones.
        network: instead of the section of the directory's policy.toml.
        told: what servers asked for; one that is to be left alone gets no report either.
        limits: bounds; all of it together takes three times ``report_seconds`` at most.
    """
    taken = 0
    with contextlib.suppress(ColdchainError):
        policy = read_customer_policy(directory, limits)
        waiting = read_report_memory(directory).waiting if policy.reports else ()
        if not waiting:
            return 0
        network = network or network_of(policy)
        ordered = read_source_health(directory).order(tuple(urls or network.urls(directory.config().urls)), now())
        allowance = open_allowance(directory, network.most_bytes_per_day, network.most_bytes_per_update, now())
        bounds = replace(limits, connect_seconds=min(limits.connect_seconds, limits.report_seconds))
        servers = [url for url in ordered if "://" in url]
        async with open_sources(servers, Traffic(), bounds, network, told=told, allowance=allowance) as sources:
            until = asyncio.get_running_loop().time() + 3 * limits.report_seconds
            for one in waiting:
                url = await _post(sources, one.data, until, limits.report_seconds)
                change_report_memory(directory, partial(_sent, one.data, Sent(one.data, now(), url) if url else None))
                taken += url is not None
    return taken


def _sent(data: bytes, sent: Sent | None, memory: ReportMemory) -> ReportMemory:
    return memory.sent(sent) if sent is not None else memory.failed(data)


async def _post(sources: Iterable[Source], data: bytes, until: float, seconds: float) -> str | None:
    """The URL of the first source that takes the report; None when none does before the loop's clock says ``until``."""
    for source in sources:
        left = min(until - asyncio.get_running_loop().time(), seconds)
        if isinstance(source, HttpSource) and left > 0:
            with contextlib.suppress(ColdchainError):
                if await source.post(PATH, data, {}, left) in _TAKEN:
                    return source.url
    return None


class LaterReports:
    """Sends an agent's reports, each time at a random moment, beside whatever else the agent does.

    Args:
        directory: the endpoint's.
        send: :func:`send_waiting` with its arguments.
        within: seconds.
        draw: a number from 0 to below 1, at random.
    """

    def __init__(
        self,
        directory: ClientDirectory,
        send: Callable[[], Coroutine[None, None, int]],
        within: float,
        draw: Callable[[], float],
    ) -> None:
        self._directory, self._send, self._within, self._draw = directory, send, within, draw
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """After an update: what is waiting is sent in a while. What waits already keeps its moment."""
        with contextlib.suppress(ColdchainError):
            if (self._task is None or self._task.done()) and read_report_memory(self._directory).waiting:
                self._task = asyncio.create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(self._within * self._draw())
        await self._send()

    def stop(self) -> None:
        """Sends nothing more; what is waiting stays for the next time."""
        if self._task is not None:
            self._task.cancel()
