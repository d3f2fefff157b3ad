"""The engines' part of an update, beside the event loop: what takes an engine minutes does not keep an agent from its other duties.

The work runs in a thread. Whoever cancels it waits until it has ended, for the lock of the directory must cover it; children are ended
and waiting is given up at once, and the next run goes on from what stands.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from coldchain.engines.activation import EngineOutcome
from coldchain.engines.endpoint import EndpointEngines
from coldchain.engines.settings import EngineSettings
from coldchain.install import versions
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.engine_memory import EngineMemory
from coldchain.limits import Limits

T = TypeVar("T")


class EngineSteps:
    """One run's steps; the arguments are those of :class:`coldchain.engines.endpoint.EndpointEngines`."""

    def __init__(
        self,
        directory: ClientDirectory,
        config: Config,
        settings: EngineSettings,
        memories: Mapping[str, EngineMemory],
        remember: Callable[[Mapping[str, EngineMemory]], None],
        now: Callable[[], datetime],
        limits: Limits,
    ) -> None:
        self._directory, self._stopped = directory, threading.Event()
        stopped = self._stopped.is_set
        self._engines = EndpointEngines(directory, config, settings, memories, remember, now, limits, stopped)

    async def settle(self, *, forgive: bool) -> None:
        """Ends what a killed run left. ``forgive``: refused releases are tried again."""
        await self._beside(lambda: self._engines.settle(forgive=forgive))

    async def follow(self) -> tuple[EngineOutcome, ...]:
        """Every engine to what is installed now, whatever became of the update."""
        version = versions.linked(self._directory, self._directory.current)
        return await self._beside(lambda: self._engines.follow(version)) if version is not None else ()

    async def _beside(self, work: Callable[[], T]) -> T:
        if not self._engines:
            return work()
        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._stopped.set()
            await asyncio.wait([running])
            raise
