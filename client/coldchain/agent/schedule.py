"""When an agent polls next. Pure: it is told how a poll ended and draws from randomness it is given; it owns no clock.

======================================================  =============================================================
what happened                                           seconds until the next poll (a range: uniform at random)
======================================================  =============================================================
the agent starts                                        what is left of the earliest time it remembers, and 0 to 60
a poll ended well (current, updated, held)              I to 1.25 I, where I is the interval
another process holds the directory                     30 to 90
a server answered 429 or 503 and said "in R seconds"    R to R + max(60, min(B, I)): never earlier than told
no server could be reached                              B/2 to B with B up to I, since none was bothered
anything else failed                                    B/2 to B with B up to a day
======================================================  =============================================================

I is the customer's ``poll_seconds``; without one what the server suggests (``Cache-Control: max-age`` of ``timestamp.json``, less its
``Age``), within the customer's bounds; else an hour. A server's word never shortens what the customer said. B, the backoff, is a
minute after the first failure in a row and twice as long after each further one.

So endpoints that were started together are apart by their first poll, drift further apart with every good poll, and come back
from an outage spread over the last waits, which differ by up to half of them. Worked example, a server that is down from noon to
one and answers 503 with "Retry-After: 120"::

    12:00:31 poll, 503    12:02:31 at the earliest, 12:03:31 at the latest; drawn: 12:03:02
    12:03:02 poll, 503    12:05:02 … 12:07:02
    12:06:40 poll, 503    12:08:40 … 12:12:40, and so on: at most an hour after what was asked for

Times that a server asked for are the same for the signal to poll now; the other waits it cuts short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

FIRST_SECONDS: Final = 60.0
BACKOFF_SECONDS: Final = 60.0
DAY_SECONDS: Final = 86_400.0
DEFAULT_INTERVAL: Final = 3600.0
LOCKED_SECONDS: Final = (30.0, 90.0)
SPREAD: Final = 0.25
MOST_FAILURES: Final = 1_000_000

Ending = Literal["good", "locked", "unreachable", "failed"]
"""How a poll ended; that a server asked to stay away is told beside it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The customer's wishes in seconds; ``poll_seconds`` None leaves the interval to the server."""

    poll_seconds: int | None = None
    least_poll_seconds: int = 300
    most_poll_seconds: int = 86_400


@dataclass(frozen=True, slots=True)
class Next:
    """What follows from a poll.

    Attributes:
        wait: seconds until the next one.
        earliest: seconds before which not even an agent that is started anew polls.
        failures: failed polls in a row.
    """

    wait: float
    earliest: float
    failures: int


def first_wait(earliest_left: float, draw: Callable[[], float]) -> float:
    """Seconds from an agent's start to its first poll.

    Args:
        earliest_left: what is left of the time that was remembered from before; 0 for none.
        draw: a number from 0 to below 1, at random.
    """
    return max(earliest_left, 0.0) + FIRST_SECONDS * draw()


def backoff(failures: int, most: float) -> float:
    """The longest wait after this many failures in a row, in seconds, at most ``most``."""
    return min(BACKOFF_SECONDS * 2.0 ** min(max(failures - 1, 0), 20), most)


def interval(rules: Rules, hint: float | None) -> float:
    """The seconds from one good poll to the next, before they are spread."""
    if rules.poll_seconds is not None:
        wanted = max(float(rules.poll_seconds), hint or 0.0)
    else:
        wanted = DEFAULT_INTERVAL if hint is None else hint
    return min(max(wanted, float(rules.least_poll_seconds)), float(rules.most_poll_seconds))


def after(
    ending: Ending, failures: int, told: float, hint: float | None, rules: Rules, draw: Callable[[], float]
) -> Next:
    """When to poll next.

    Args:
        ending: how the poll ended.
        failures: failed polls in a row before it.
        told: seconds before which the servers do not want to be asked (the least of all of them); 0 when one may be.
        hint: the interval that the server suggests; None when it says nothing.
        rules: the customer's.
        draw: a number from 0 to below 1, at random.
    """
    told = min(max(told, 0.0), DAY_SECONDS)
    every = interval(rules, hint)
    if ending == "locked":
        least, most = LOCKED_SECONDS
        return Next(max(told, least + (most - least) * draw()), told, failures)
    if ending == "good":
        suggested = min(hint or 0.0, float(rules.most_poll_seconds))
        return Next(max(told, every * (1.0 + SPREAD * draw())), max(told, suggested), 0)
    failures = min(failures + 1, MOST_FAILURES)
    if told > 0.0:
        wait = told + max(FIRST_SECONDS, backoff(failures, every)) * draw()
    else:
        most = backoff(failures, every if ending == "unreachable" else DAY_SECONDS)
        wait = most * (1.0 + draw()) / 2.0
    return Next(wait, wait, failures)


def poll_now(told: float) -> float:
    """Seconds until a poll that somebody asks for with a signal: at once, or when the servers may be asked again."""
    return min(max(told, 0.0), DAY_SECONDS)
