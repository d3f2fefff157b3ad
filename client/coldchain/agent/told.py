"""What servers asked of this endpoint: to stay away for a time, and how often to poll. Kept between the polls of an agent.

A server that answered 429 or 503 is not asked for anything before its time is over: not by another file of the same update, not by
the next poll. Times are seconds of a clock that runs on while the machine sleeps and that nobody sets, so neither a suspended
laptop nor a wrong clock shortens or lengthens them::

    told.busy("https://a.example/mirror", 120.0)
    told.wait("https://a.example/other")     120.0    one server, whatever the path
    told.wait("https://b.example")             0.0
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

UNSAID_SECONDS: Final = 60.0
"""How long a server is left alone that is too busy and does not say for how long."""

DAY: Final = 86_400.0


def boot_seconds() -> float:
    """Seconds since the machine was started, sleep included."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def server_of(url: str) -> str:
    """Scheme, host and port of a base URL; a directory as it is."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}" if parts.netloc else url


class Told:
    """What the servers said; empty at first.

    Args:
        clock: :func:`boot_seconds`, or a test's.
    """

    def __init__(self, clock: Callable[[], float] = boot_seconds) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self.poll_seconds: float | None = None

    def busy(self, url: str, seconds: float | None) -> None:
        """The server of ``url`` answered 429 or 503, and said for how long (at most a day), or did not."""
        seconds = UNSAID_SECONDS if seconds is None else seconds
        self._until[server_of(url)] = self._clock() + min(max(seconds, 0.0), DAY)

    def wait(self, url: str) -> float:
        """Seconds before the server of ``url`` may be asked again; 0 when it may."""
        return max(self._until.get(server_of(url), 0.0) - self._clock(), 0.0)

    def least_wait(self, urls: Iterable[str]) -> float:
        """Seconds before the first of these may be asked; 0 when one may."""
        return min(map(self.wait, urls), default=0.0)

    def until(self) -> dict[str, float]:
        """By server, when it may be asked again, for those that may not yet."""
        now = self._clock()
        return {server: until for server, until in self._until.items() if until > now}
