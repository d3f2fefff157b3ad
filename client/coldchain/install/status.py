"""``coldchain status``: what runs, how fresh it is, and what is known to come. Reads only, asks nobody, trusts no clock but its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coldchain.canonical import Object
from coldchain.errors import ColdchainError
from coldchain.install import durable, trusted, versions
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.log_status import LogStatus, log_status
from coldchain.install.state import State
from coldchain.install.versions import Version
from coldchain.limits import LIMITS, Limits
from coldchain.verify import region_release, rollout_state


@dataclass(frozen=True, slots=True)
class Status:
    """The answer.

    Attributes:
        config: what the endpoint follows.
        state: when it last checked.
        version: what runs; None when nothing is installed.
        previous: what ran before, if it is still there.
        damage: what is wrong with the running version at first sight; ``coldchain verify`` looks closely.
        good_until: when the metadata in force expires; None without metadata.
        offered: the newest release known for this region and channel; None when none is known.
        rollout: how far the newest release's rollout is, in words.
        log: what is known of the public log.
        now: the time this was asked.
    """

    config: Config
    state: State
    version: Version | None
    previous: Version | None
    damage: str | None
    good_until: datetime | None
    offered: int | None
    rollout: str
    log: LogStatus
    now: datetime

    @property
    def release(self) -> int | None:
        """The release that runs."""
        return self.version.release if self.version else None

    @property
    def stale(self) -> bool:
        """Whether the metadata in force has expired, or there is none."""
        return self.good_until is None or self.good_until <= self.now

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "release": self.release,
            "previous": self.previous.release if self.previous else None,
            "product": self.config.product,
            "region": self.config.region,
            "channel": self.config.channel,
            "root": self.config.root,
            "urls": list(self.config.urls),
            "stale": self.stale,
            "good_until": _stamp(self.good_until),
            "last_success": _stamp(self.state.last_success),
            "last_full": _stamp(self.state.last_full),
            "offered": self.offered,
            "rollout": self.rollout,
            "damage": self.damage,
            "log": self.log.as_json(),
            "engines": {name: {**one.as_json(), "release": one.release} for name, one in self.state.engines.items()},
        }


def _stamp(time: datetime | None) -> str | None:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}" if time else None


def status(directory: ClientDirectory, now: datetime, limits: Limits = LIMITS) -> Status:
    """What the directory holds.

    Raises:
        NotInstalledError: it was never initialised.
        DamagedError: its configuration or its links are damaged.
        StorageError: the disk refused.
    """
    with durable.disk(directory.path):
        return _status(directory, now, limits)


def _status(directory: ClientDirectory, now: datetime, limits: Limits) -> Status:
    config = directory.config()
    version = versions.linked(directory, directory.current)
    before = [one for one in versions.installed(directory) if one != version]
    until = trusted.known_good_until(directory, config, limits)
    offered, rollout = None, "nothing is known yet"
    try:
        kept = trusted.recall(trusted.stored(directory, config, limits), config, limits=limits)
        role = kept.role(config.region)
        offered = region_release(role, config.region, config.channel, product=config.product, limits=limits).release
        state = rollout_state(kept.role("rollout"), config.region, config.channel)
        if state is None:
            rollout = "has not begun"
        else:
            rollout = f"release {state.release} to {state.share} % of endpoints{', held' if state.held else ''}"
    except ColdchainError as error:
        rollout = error.what
    return Status(
        config=config,
        state=directory.state(),
        version=version,
        previous=before[0] if before else None,
        damage=version.glance(limits) if version else None,
        good_until=until,
        offered=offered,
        rollout=rollout,
        log=log_status(directory, config, version, now, limits),
        now=now,
    )
