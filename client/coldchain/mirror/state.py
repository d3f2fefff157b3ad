"""``.mirror/state.json``: what a mirror remembers that nobody signed. Losing it costs a later tidying and packs made again, no safety.

Canonical JSON, shown with line breaks::

    {"format":"coldchain-mirror-state-1",
     "packs":{"packs/us/stable/latest.pack":"5f0c1a9e33b07d12"},
     "unnamed":{"metadata/6.snapshot.json":"2026-06-01T09:00:00Z","targets/us/stable/<sha256>.full.ccd":"2026-06-01T09:00:00Z"}}

``unnamed`` says since when no generation names a file: it goes when the grace is over, so that a client, or a cache, that began with
the old metadata ends well. ``packs`` says of which generation a pack was made. A file that is missing or damaged counts as empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from coldchain import canonical
from coldchain.canonical import Fields
from coldchain.errors import ColdchainError, MalformedError

FORMAT: Final = "coldchain-mirror-state-1"
MOST_BYTES: Final = 16 * 1024 * 1024
MOST_FILES: Final = 100_000
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class MirrorState:
    """Both by path below the mirror's directory; times are UTC."""

    unnamed: Mapping[str, datetime] = field(default_factory=dict)
    packs: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The file's bytes."""
        unnamed: canonical.Object = {path: f"{time:{_TIME}}" for path, time in self.unnamed.items()}
        return canonical.encode({"format": FORMAT, "unnamed": unnamed, "packs": dict(self.packs)})


def parse_mirror_state(data: bytes | None) -> MirrorState:
    """The state; an empty one for a file that is not there or not as this program writes it."""
    if data is None:
        return MirrorState()
    try:
        return _parse(data)
    except ColdchainError:
        return MirrorState()


def _parse(data: bytes) -> MirrorState:
    fields = Fields(canonical.read_canonical(data, "state.json"), "state.json")
    fields.constant("format", FORMAT)
    times = Fields(fields.object("unnamed", MOST_FILES), "state.json: unnamed")
    made = Fields(fields.object("packs", MOST_FILES), "state.json: packs")
    try:
        unnamed = {
            path: datetime.strptime(times.text(path, 32), _TIME).replace(tzinfo=UTC)
            for path in fields.object("unnamed", MOST_FILES)
        }
    except ValueError as error:
        raise MalformedError("state.json: 'unnamed' holds something else than times") from error
    state = MirrorState(unnamed, {path: made.text(path, 64) for path in fields.object("packs", MOST_FILES)})
    fields.done()
    if state.encode() != data:
        raise MalformedError("state.json: not as this program writes it")
    return state
