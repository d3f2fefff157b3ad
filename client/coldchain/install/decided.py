"""``decided.json``: what this endpoint decided about the newest release it knew, and why, for ``coldchain status``.

Canonical JSON, shown here with line breaks::

    {"action":"minimum-age","format":"coldchain-decided-1","policy":"<sha256 of policy.toml, or empty>",
     "reason":"release 42 is in public since …","release":42,"since":"2026-06-01T09:00:00Z"}

``action`` is ``current`` or ``applied``, ``held`` or ``wait`` (the publisher's rollout), or what kept it back here: ``hold``, ``pin``,
``minimum-age``, ``approval``. ``since`` is when it was first decided so. Nobody signed it and nothing is decided by it; a file that
is missing or damaged counts as none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from coldchain import canonical
from coldchain.canonical import Fields, Object, is_sha256
from coldchain.errors import ColdchainError, MalformedError
from coldchain.install.directory import ClientDirectory

FILE_NAME: Final = "decided.json"
FORMAT: Final = "coldchain-decided-1"
ACTIONS: Final = ("current", "applied", "held", "wait", "hold", "pin", "minimum-age", "approval")
MOST_BYTES: Final = 16 * 1024
MOST_REASON: Final = 1000
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Decided:
    """The file's content; ``since`` is UTC."""

    release: int
    action: str
    reason: str
    since: datetime
    policy: str = ""

    @property
    def kept_back(self) -> bool:
        """Whether the release is one that this endpoint does not apply for now."""
        return self.action not in ("current", "applied")

    def encode(self) -> bytes:
        """The file's bytes."""
        return canonical.encode({"format": FORMAT, **self.as_json()})

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "release": self.release,
            "action": self.action,
            "reason": self.reason,
            "since": f"{self.since:{_TIME}}",
            "policy": self.policy,
        }


def parse_decided(data: bytes | None) -> Decided | None:
    """The decision; None for a file that is not there or not as this program writes it."""
    try:
        return _parse(data) if data is not None else None
    except ColdchainError:
        return None


def _parse(data: bytes) -> Decided:
    fields = Fields(canonical.read_canonical(data, FILE_NAME), FILE_NAME)
    fields.constant("format", FORMAT)
    action, policy = fields.text("action", 16), fields.text("policy", 64)
    since = fields.time("since")
    found = Decided(fields.integer("release", least=1), action, fields.text("reason", MOST_REASON), since, policy)
    fields.done()
    if action not in ACTIONS or (policy and not is_sha256(policy)) or found.encode() != data:
        raise MalformedError(f"{FILE_NAME}: not as this program writes it")
    return found


def read_decided(directory: ClientDirectory) -> Decided | None:
    """What was decided last; None when that is not known."""
    with directory.folder() as here:
        return parse_decided(here.read(FILE_NAME, MOST_BYTES))


def write_decided(directory: ClientDirectory, decided: Decided) -> None:
    """Keeps a decision durably, if it is another one than before. The lock must be held."""
    before = read_decided(directory)
    told = (decided.release, decided.action, decided.reason, decided.policy)
    if before is not None and (before.release, before.action, before.reason, before.policy) == told:
        return
    with directory.folder() as here:
        here.write(FILE_NAME, decided.encode())
