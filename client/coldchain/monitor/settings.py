"""How a run of the monitor goes: what it watches, by whose policy, and how patient it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from coldchain.agent.transport import Progress
from coldchain.agent.update import silent, utc_now
from coldchain.limits import LIMITS, Limits


def say_nothing(_text: str) -> None:
    """For pipes and scripts."""


@dataclass
class WatchSettings:
    """How a run goes; tests and the command change what they need.

    Attributes:
        url: a base URL, or a directory with a copy of the published tree.
        root: the pinned root.json; needed on a first run.
        policy: the customer's own log policy; None takes the root's.
        product: whose log it is.
        every: on a first run, check the bundles of all entries, not only of each channel's newest.
        acknowledge: what stands from earlier runs is settled.
        metrics: where metrics are written; None for nowhere.
        patience: seconds that a witness may be behind or silent.
        tries: how often a checkpoint without a quorum is looked at again: witnesses take a moment.
        pause: seconds between those.
        now: the clock.
        progress: told how a download comes on.
        say: told what is being done.
        limits: bounds.
    """

    url: str
    root: bytes | None = None
    policy: bytes | None = None
    product: str = "coldchain"
    every: bool = False
    acknowledge: bool = False
    metrics: Path | None = None
    patience: float = 3600.0
    tries: int = 3
    pause: float = 5.0
    now: Callable[[], datetime] = utc_now
    progress: Progress = silent
    say: Callable[[str], None] = say_nothing
    limits: Limits = LIMITS
