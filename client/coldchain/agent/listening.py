"""Between two polls an agent listens for news, where the customer wishes it (``wait = true``), and polls when there are any.

::

    a poll ended well            listen until the next one is due (:mod:`coldchain.agent.news`)
    news                         poll within two seconds, at random: whoever waits is told at once, and need not come at once
    that poll finds nothing new  who told it is not believed before the next poll that is due by itself
    a poll failed                the schedule's pauses, without listening

So a server that cries news costs an endpoint one poll per interval, and the servers' ``Retry-After`` counts as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
        self._task: asyncio.Task[bool] | None = None
        self._had: Known | None = None
        self._told = self._doubted = False

    def begin(self, seconds: float, settings: NewsSettings) -> None:
        """Listens for this long from now on, unless it does or did already, or there were no news when some were told.

        Raises:
            ColdchainError: the directory's configuration is not in order.
        """
        if self._task is not None:
            return
        have = known(self._directory, settings.limits)
        if have is None or (self._doubted and have == self._had):
            return
        self._had = have
        self._task = asyncio.create_task(wait_for_news(self._directory, seconds, settings))
        self._task.add_done_callback(lambda _: self._wake())

    def heard(self) -> bool:
        """Whether there are news; says so once."""
        task = self._task
        if self._told or task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return False
        self._told = task.result()
        return self._told

    async def end(self) -> ColdchainError | None:
        """A poll comes: stops listening. Returns what that had ended with, if it was an error."""
        task, self._task = self._task, None
        self._doubted, self._told = self._told, False
        if task is None:
            return None
        task.cancel()
        await asyncio.wait({task})
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ColdchainError):
            raise error
        return error
