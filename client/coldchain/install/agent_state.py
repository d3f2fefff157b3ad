"""``agent.json``: what an agent remembers over its own death and a reboot. Losing it costs politeness, no safety.

Canonical JSON, shown with line breaks::

    {"boot":"2f5a…","earliest":{"boot":5400,"time":"2026-06-01T12:30:00Z","wait":120},"error":{"code":21,"what":"…"},
     "failures":3,"format":"coldchain-agent-1","last_good":"2026-06-01T09:00:00Z","last_poll":"2026-06-01T12:28:00Z",
     "next":{…},"received":734003,"told":[{"server":"https://a.example","until":{…}}]}

A moment to come is kept twice: as seconds since the machine was started, which nobody can set and which hold as long as ``boot`` names
the running kernel, and as a time with the ``wait`` that was left when it was written. After a reboot the time counts, and never for
longer than that wait: a clock that went back years cannot keep an endpoint from polling. Worked example: "in 120 seconds" was
written at 12:28:00; after a reboot it is 12:29:00 (60 s are left), 12:40:00 (none) or 1970 (120 s).

Before each poll the file is written as if the poll had failed. So an agent that dies of a poll, however it dies, comes back with the
wait of a failure, not in a loop. A file that is missing or damaged counts as empty.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from coldchain import canonical
from coldchain.canonical import Fields, Object
from coldchain.errors import ColdchainError, MalformedError
from coldchain.install.directory import MOST_URLS, ClientDirectory

NAME: Final = "agent.json"
FORMAT: Final = "coldchain-agent-1"
MOST_BYTES: Final = 64 * 1024
MOST_WAIT: Final = 2 * 86_400
MOST_WHAT: Final = 500
OVERDUE_SECONDS: Final = 900
_MOST_TOLD: Final = 2 * MOST_URLS
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Instant:
    """Now, by every clock: ``boot`` seconds since the start of the machine, which ``boot_id`` names, and the time."""

    boot: float
    time: datetime
    boot_id: str


def boot_id() -> str:
    """The running kernel's name of this start of the machine; empty where there is none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:64]
    return ""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment to come: see the module. ``wait`` are the seconds to it when it was written."""

    boot: int
    time: datetime
    wait: int

    def left(self, now: Instant, boot: str) -> float:
        """Seconds to it; 0 when it is past. ``boot`` is the start of the machine that it was written in."""
        same = bool(boot) and boot == now.boot_id
        left = self.boot - now.boot if same else (self.time - now.time).total_seconds()
        return min(max(left, 0.0), float(self.wait))


def moment(now: Instant, wait: float) -> Moment:
    """The moment ``wait`` seconds from now, rounded up."""
    seconds = math.ceil(min(max(wait, 0.0), float(MOST_WAIT)))
    at = now.time.timestamp() + seconds
    return Moment(math.ceil(now.boot + seconds), datetime.fromtimestamp(math.ceil(at), UTC), seconds)


@dataclass(frozen=True, slots=True)
class AgentState:
    """What the file holds.

    Attributes:
        boot: the start of the machine that its moments were written in.
        failures: failed polls in a row.
        earliest: before which no poll may be made, except one that somebody asks for.
        next: when the next poll is due.
        told: by server, before which it does not want to be asked; nobody overrides that.
        last_poll: when the last poll ended.
        last_good: when the last good poll ended.
        error: exit code and words of the last poll's failure; None after a good one.
        received: bytes of bodies that came with good polls since the file was begun.
    """

    boot: str = ""
    failures: int = 0
    earliest: Moment | None = None
    next: Moment | None = None
    told: Mapping[str, Moment] = field(default_factory=dict)
    last_poll: datetime | None = None
    last_good: datetime | None = None
    error: tuple[int, str] | None = None
    received: int = 0

    def overdue(self, now: datetime) -> bool:
        """Whether a poll was due a quarter of an hour ago and more: then no agent runs, or the clock was set."""
        return self.next is not None and (now - self.next.time).total_seconds() > OVERDUE_SECONDS

    def line(self, now: datetime) -> str:
        """For ``coldchain status``."""
        if self.next is None:
            return "none has run here"
        last = f"last poll {self.last_poll:%Y-%m-%d %H:%M} UTC" if self.last_poll else "no poll yet"
        failed = f" failed ({self.failures} in a row)" if self.failures else ""
        how = f"{failed}: {self.error[1]}" if self.error else ""
        due = f"{self.next.time:%Y-%m-%d %H:%M} UTC"
        return f"{last}{how}; " + (f"NO poll since {due}, when one was due" if self.overdue(now) else f"next {due}")

    def as_json(self, now: datetime) -> Object | None:
        """For ``--json``; None when no agent has run."""
        if self.next is None:
            return None
        return {
            "last_poll": self.last_poll.strftime(_TIME) if self.last_poll else None,
            "last_good": self.last_good.strftime(_TIME) if self.last_good else None,
            "next_poll": self.next.time.strftime(_TIME),
            "overdue": self.overdue(now),
            "failures": self.failures,
            "exit_code": self.error[0] if self.error else 0,
            "what": self.error[1] if self.error else None,
        }

    def encode(self) -> bytes:
        """The file's bytes."""
        out: Object = {
            "format": FORMAT,
            "boot": self.boot,
            "failures": self.failures,
            "received": min(self.received, canonical.MAX_INTEGER),
        }
        out |= {name: _encode(one) for name, one in (("earliest", self.earliest), ("next", self.next)) if one}
        told = sorted(self.told.items())[:_MOST_TOLD]
        out["told"] = [{"server": server, "until": _encode(until)} for server, until in told]
        for name, time in (("last_poll", self.last_poll), ("last_good", self.last_good)):
            if time is not None:
                out[name] = time.strftime(_TIME)
        if self.error is not None:
            out["error"] = {"code": self.error[0], "what": _line(self.error[1])}
        return canonical.encode(out)


def _encode(one: Moment) -> Object:
    return {"boot": one.boot, "time": one.time.strftime(_TIME), "wait": one.wait}


def _line(text: str) -> str:
    """Text that a canonical file may hold: short, in one line, without half letters."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text.encode("utf-8", "replace").decode()[:MOST_WHAT]


def parse_agent_state(data: bytes | None) -> AgentState:
    """The state; an empty one for a file that is not there or not as this program writes it."""
    if data is None:
        return AgentState()
    try:
        return _parse(data)
    except ColdchainError:
        return AgentState()


def _parse(data: bytes) -> AgentState:
    fields = Fields(canonical.read_canonical(data, NAME), NAME)
    fields.constant("format", FORMAT)
    told = {}
    for item in fields.items("told", _MOST_TOLD):
        part = Fields(item, f"{NAME}: told")
        told[part.text("server", 1100)] = _moment(part, "until")
        part.done()
    error = None
    if fields.has("error"):
        part = Fields(fields.object("error"), f"{NAME}: error")
        error = (part.integer("code", most=255), part.text("what", MOST_WHAT))
        part.done()
    state = AgentState(
        boot=fields.text("boot", 64),
        failures=fields.integer("failures", most=1_000_000),
        earliest=_moment(fields, "earliest") if fields.has("earliest") else None,
        next=_moment(fields, "next") if fields.has("next") else None,
        told=told,
        last_poll=fields.time("last_poll") if fields.has("last_poll") else None,
        last_good=fields.time("last_good") if fields.has("last_good") else None,
        error=error,
        received=fields.integer("received"),
    )
    fields.done()
    if state.encode() != data:
        raise MalformedError(f"{NAME}: not as this program writes it")
    return state


def _moment(outer: Fields, name: str) -> Moment:
    part = Fields(outer.object(name), f"{NAME}: {name}")
    found = Moment(part.integer("boot"), part.time("time"), part.integer("wait", most=MOST_WAIT))
    part.done()
    return found


def read_agent_state(directory: ClientDirectory) -> AgentState:
    """What the directory's agent left; empty when there was none."""
    with directory.folder() as here:
        return parse_agent_state(here.read(NAME, MOST_BYTES))


def write_agent_state(directory: ClientDirectory, state: AgentState) -> None:
    """Writes it durably.

    Raises:
        StorageError: the disk refused; what was there stands.
    """
    with directory.folder() as here:
        here.write(NAME, state.encode())
