"""Jobs that run beside the server (such as signing the timestamp anew): watched, retried, and told about.

A job is a function that makes a coroutine. One that returns is done. One that raises is logged and started again after
1 s, 2 s, 4 s ... at most 60 s; one that ran longer than that before it failed starts from 1 s again. While it is waiting
to be retried, and for a minute after, :meth:`Supervisor.problems` names it, and ``/readyz`` shows it as a warning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

Job = Callable[[], Awaitable[None]]

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0

_log = logging.getLogger("coldchain.origin.background")


@dataclass(slots=True)
class _Watched:
    name: str
    job: Job
    failures: int = 0
    failed_at: float = 0.0
    error: str = ""
    waiting: bool = False


class Supervisor:
    """Runs jobs until it is stopped.

    Args:
        jobs: functions that make a coroutine; their names are shown.
        first_pause: seconds before the first retry.
        longest_pause: seconds; bound of the doubling, and how long a failure is told about after the restart.
    """

    def __init__(
        self, jobs: Iterable[Job], *, first_pause: float = FIRST_PAUSE, longest_pause: float = LONGEST_PAUSE
    ) -> None:
        self._watched = [_Watched(_name(job), job) for job in jobs]
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts each job as a task of the running loop."""
        self._tasks = [asyncio.create_task(self._keep_running(one), name=one.name) for one in self._watched]

    async def stop(self) -> None:
        """Cancels the jobs and waits for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problems(self) -> Sequence[str]:
        """One line for each job that is failing: its name and the kind of error, nothing of its text."""
        now = asyncio.get_running_loop().time()
        return [
            f"{one.name} is failing: {one.error}, {one.failures} times in a row"
            for one in self._watched
            if one.failures and (one.waiting or now - one.failed_at < self._longest_pause)
        ]

    async def _keep_running(self, one: _Watched) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await one.job()
            except Exception as error:  # noqa: BLE001  whatever a job raises must not end the others
                if clock() - started > self._longest_pause:
                    one.failures = 0
                one.failures += 1
                one.failed_at = clock()
                one.error = type(error).__name__
                pause = min(self._first_pause * 2 ** min(one.failures - 1, 30), self._longest_pause)
                _log.error("%s failed", one.name, exc_info=error, extra={"retry_seconds": pause})
                one.waiting = True
                await asyncio.sleep(pause)
                one.waiting = False
            else:
                one.failures = 0
                return


def _name(job: Job) -> str:
    return str(getattr(job, "__name__", type(job).__name__))
