"""What a run of a mirror is told, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from coldchain.agent.told import Told
from coldchain.agent.transport import Progress
from coldchain.canonical import JSON, Object
from coldchain.install.source_health import Conduct
from coldchain.limits import LIMITS, Limits

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


def silent(_there: int, _length: int) -> None:
    """No progress."""


@dataclass
class PullSettings:
    """How a run goes.

    Attributes:
        check: hash again what is here, and fetch anew what is not as signed.
        now: the clock.
        progress: told how a download comes on.
        limits: bounds.
        conduct: told how the sources behave; None where nobody wants to know.
        told: takes what servers ask for; None where nobody wants to know.
    """

    check: bool = False
    now: Callable[[], datetime] = utc_now
    progress: Progress = silent
    limits: Limits = LIMITS
    conduct: Conduct | None = None
    told: Told | None = None


@dataclass
class Pulled:
    """What a run did.

    Attributes:
        action: ``mirrored`` the first time, ``updated``, or ``current``: nothing was new.
        releases: region, channel and release of what is served.
        files: files that came, and
        bytes: their lengths together.
        requests: requests sent.
        bytes_down: bytes of bodies received.
        removed: files removed after their grace, and
        removed_bytes: their lengths together.
        waiting: files that are no longer named and still in their grace.
        served: files that are served, and
        served_bytes: their lengths together.
        packs: the packs that are there, by path.
        good_until: when the first of the role files expires: run it again before.
    """

    action: str = "current"
    releases: list[tuple[str, str, int]] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    requests: int = 0
    bytes_down: int = 0
    removed: int = 0
    removed_bytes: int = 0
    waiting: int = 0
    served: int = 0
    served_bytes: int = 0
    packs: list[str] = field(default_factory=list)
    good_until: datetime = _NEVER

    def as_json(self) -> Object:
        """For ``--json``."""
        releases: list[JSON] = [
            {"region": region, "channel": channel, "release": release} for region, channel, release in self.releases
        ]
        packs: list[JSON] = [*self.packs]
        return {
            "action": self.action,
            "releases": releases,
            "new_files": self.files,
            "new_bytes": self.bytes,
            "requests": self.requests,
            "bytes_down": self.bytes_down,
            "removed_files": self.removed,
            "removed_bytes": self.removed_bytes,
            "waiting_files": self.waiting,
            "served_files": self.served,
            "served_bytes": self.served_bytes,
            "packs": packs,
            "good_until": f"{self.good_until:%Y-%m-%dT%H:%M:%SZ}",
        }
