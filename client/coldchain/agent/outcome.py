"""What an update did, as it is told to a person, to a program (``--json``) and to the agent's log.

Worked example, an update through a pack: two requests, the poll and the pack::

    {"action":"updated","release":42,"previous":41,"way":"delta","check":"quick","why":null,"fallback":null,"requests":2,
     "bytes_down":9154,"good_until":"2026-06-02T09:00:00Z","engines":[]}
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coldchain.canonical import JSON
from coldchain.engines.activation import EngineOutcome
from coldchain.engines.endpoint import first_error
from coldchain.errors import ColdchainError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an update did.

    Attributes:
        action: installed (the first set), updated, repaired, or current (nothing to do).
        release: the release that runs now.
        previous: the release that ran before; None when none did.
        way: delta, full, or None when nothing was fetched.
        check: quick (one conditional request, and with news perhaps one for a pack) or full.
        why: why the full workflow ran; None after a quick check.
        fallback: why the delta was given up for the full bundle; None when it was not.
        requests: requests sent.
        bytes_down: bytes of bodies received.
        good_until: when the metadata in force expires.
        engines: how each configured engine stands.
    """

    action: str
    release: int
    previous: int | None
    way: str | None
    check: str
    why: str | None
    fallback: str | None
    requests: int
    bytes_down: int
    good_until: datetime
    engines: tuple[EngineOutcome, ...] = ()

    @property
    def error(self) -> ColdchainError | None:
        """Why an engine does not run ``release``; None when all do (or none is configured). Who asks for an update ends with it."""
        return first_error(self.engines)

    def as_json(self) -> dict[str, JSON]:
        """The same for ``--json``."""
        return {
            "action": self.action,
            "release": self.release,
            "previous": self.previous,
            "way": self.way,
            "check": self.check,
            "why": self.why,
            "fallback": self.fallback,
            "requests": self.requests,
            "bytes_down": self.bytes_down,
            "good_until": f"{self.good_until:%Y-%m-%dT%H:%M:%SZ}",
            "engines": [one.as_json() for one in self.engines],
        }
