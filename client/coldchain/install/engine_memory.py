"""What an endpoint remembers of one engine: what it was last seen to run, and which releases it refused. Part of ``state.json``.

Canonical JSON, shown with line breaks::

    {"problem":"","proved":"41-5c1f0a9e33b07d12","proved_at":"2026-06-01T09:00:00Z",
     "refused":[{"set":"42-9e33b07d125c1f0a","why":"999 of 1,000 signatures were loaded"}]}

A set is called as its version: the release and the beginning of the bundle's digest. ``proved`` is the set whose canary the running
engine found, ``problem`` what the last run could not do with the engine. Losing this costs a proof anew and a second look at what was
refused, no safety: ``current`` in the engine's view says what it loads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from coldchain.canonical import JSON, Fields, Object
from coldchain.errors import MalformedError

MOST_REFUSED: Final = 8
MOST_WORDS: Final = 300
_SET: Final = re.compile(r"([1-9][0-9]{0,15})-[0-9a-f]{16}(\.[1-9][0-9]{0,8})?\Z")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A set that the engine did not take: ``name`` without the mark of a repaired version, and ``why``."""

    name: str
    why: str

    @property
    def release(self) -> int:
        """Its release."""
        return release_of(self.name)


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """See the module. ``proved`` is empty before the first proof; ``proved_at`` is UTC."""

    proved: str = ""
    proved_at: datetime | None = None
    refused: tuple[Refusal, ...] = ()
    problem: str = ""

    @property
    def release(self) -> int | None:
        """The release that the engine was last seen to run."""
        return release_of(self.proved) if self.proved else None

    def refusal(self, name: str) -> Refusal | None:
        """Why a set of this content is not tried again; None for one that may be."""
        return next((one for one in self.refused if one.name == plain(name)), None)

    def refuse(self, name: str, why: str) -> EngineMemory:
        """The same, with this set refused."""
        others = tuple(one for one in self.refused if one.name != plain(name))
        return replace(self, refused=(*others, Refusal(plain(name), _words(why)))[-MOST_REFUSED:])

    def trouble(self, problem: str) -> EngineMemory:
        """The same, with what the last run could not do; empty when it could."""
        return replace(self, problem=_words(problem))

    def as_json(self) -> Object:
        """The member of ``state.json``."""
        return {
            "proved": self.proved,
            **({"proved_at": self.proved_at.strftime(_TIME)} if self.proved_at else {}),
            "refused": [{"set": one.name, "why": one.why} for one in self.refused],
            "problem": self.problem,
        }


def _words(text: str) -> str:
    """Text that can be kept: an engine's and a file's names may be anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)[:MOST_WORDS]


def plain(name: str) -> str:
    """A set's name without the mark of a version that replaced a damaged one: the content is the same."""
    return name.partition(".")[0]


def release_of(name: str) -> int:
    """The release in a set's name."""
    return int(name.partition("-")[0])


def parse_memory(value: JSON) -> EngineMemory:
    """From ``state.json``. Raises MalformedError for anything but what :meth:`EngineMemory.as_json` makes."""
    what = "state.json: engine"
    fields = Fields(value, what)
    proved = fields.text("proved", 64)
    time = fields.time("proved_at") if fields.has("proved_at") else None
    refused = []
    for item in fields.items("refused", MOST_REFUSED):
        part = Fields(item, what)
        refused.append(Refusal(part.text("set", 64), part.text("why", MOST_WORDS)))
        part.done()
    problem = fields.text("problem", MOST_WORDS)
    fields.done()
    if not all(_SET.match(name) for name in (*filter(None, [proved]), *(one.name for one in refused))):
        raise MalformedError(f"{what}: no name of a set")
    return EngineMemory(proved, time, tuple(refused), problem)
