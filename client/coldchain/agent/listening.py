"""Between two polls an agent listens for news, where the customer wishes it (``wait = true``), and polls when there are any.

::

    a poll ended well            listen until the next one is due (:mod:`coldchain.agent.news`)
    news                         poll within two seconds, at random: whoever waits is told at once, and need not come at once
    that poll finds nothing new  who told it is not asked before the next poll that is due by itself; the others are
    a poll failed                the schedule's pauses, without listening

So a server that cries news costs an endpoint one poll per interval, and the servers' ``Retry-After`` counts as ever. The others are
asked on, because the poll asks an edge first: one that has yet to pull what the origin told of tells of it itself a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from coldchain.agent.news import Known, NewsSettings, known, wait_for_news
from coldchain.errors import ColdchainError
from coldchain.install.directory import ClientDirectory

SPREAD_SECONDS: Final = 2.0


class Listening:
    """One agent's listening; belongs to its loop.

    Args:
        directory: of the endpoint.
        wake: called when the listening ends, with news or without.
    """

    def __init__(self, directory: ClientDirectory, wake: Callable[[], None]) -> None:
        self._directory, self._wake = directory, wake
        self._task: asyncio.Task[str | None] | None = None
        self._had: Known | None = None
        self._told: str | None = None
        self._doubted: set[str] = set()

    def begin(self, seconds: float, settings: NewsSettings) -> None:
        """Listens for this long from now on, unless it does or did already; not to those that told of news when there were none.

        Raises:
            ColdchainError: the directory's configuration is not in order.
        """
        if self._task is not None:
            return
        have = known(self._directory, settings.limits)
        if have is None:
            return
        if have != self._had:
            self._doubted.clear()
        self._had = have
        settings = replace(settings, doubted=frozenset(self._doubted))
        self._task = asyncio.create_task(wait_for_news(self._directory, seconds, settings))
        self._task.add_done_callback(lambda _: self._wake())

    def heard(self) -> bool:
        """Whether there are news; says so once."""
        task = self._task
        if (
            self._told is not None
            or task is None
            or not task.done()
            or task.cancelled()
            or task.exception() is not None
        ):
            return False
        self._told = task.result()
        return self._told is not None

    async def end(self) -> ColdchainError | None:
        """A poll comes: stops listening. Returns what that had ended with, if it was an error."""
        task, self._task = self._task, None
        if self._told is not None:
            self._doubted.add(self._told)  # forgotten again when the poll finds something new
        else:
            self._doubted.clear()
        self._told = None
        if task is None:
            return None
        task.cancel()
        await asyncio.wait({task})
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ColdchainError):
            raise error
        return error
