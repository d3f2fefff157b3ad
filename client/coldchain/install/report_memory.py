"""``reports.json``: which outcomes this endpoint has reported or is about to, and the bytes of the last report that went out.

It is there only where ``[reports] send = true`` was read. Canonical JSON, shown with line breaks::

    {"format":"coldchain-reports-1",
     "last":{"bytes":"{\\"channel\\":…}","time":"2026-06-01T09:05:00Z","url":"https://edge.example"},
     "said":[{"outcome":"engine-failed","release":42}],"taken":{"from":41,"release":42},
     "waiting":[{"bytes":"{\\"channel\\":…}","tries":1}]}

``said`` keeps each outcome of a release from being reported twice. ``taken`` is the last installation: an engine that comes along in a
later run went from there. What could not be sent is waiting, the newest :data:`MOST_WAITING` of it, each for :data:`MOST_TRIES` runs.
A file that is missing or damaged counts as empty: at worst an outcome is reported again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from coldchain import canonical
from coldchain.canonical import JSON, Fields, Object
from coldchain.errors import ColdchainError, LockedError, MalformedError, StorageError
from coldchain.install.directory import ClientDirectory
from coldchain.limits import LIMITS
from coldchain.outcome_report import MOST_RELEASE, OUTCOMES, OutcomeReport, parse_report

NAME: Final = "reports.json"
FORMAT: Final = "coldchain-reports-1"
MOST_BYTES: Final = 64 * 1024
MOST_SAID: Final = 32
MOST_WAITING: Final = 4
MOST_TRIES: Final = 10
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_TRIES: Final = 50
_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Waiting:
    """A report that is to be sent: its bytes, and how many runs could not send it."""

    data: bytes
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """The last report that a server took: its bytes, when, and which source's it was."""

    data: bytes
    time: datetime
    url: str


@dataclass(frozen=True, slots=True)
class ReportMemory:
    """What the file holds; the module says what each member means."""

    said: tuple[tuple[int, str], ...] = ()
    taken: tuple[int, int] | None = None
    """The release that was installed last, and the one before it."""
    waiting: tuple[Waiting, ...] = ()
    last: Sent | None = None

    def installed(self, release: int, source: int) -> ReportMemory:
        """The same after an installation."""
        return replace(self, taken=(release, source))

    def saying(self, report: OutcomeReport) -> ReportMemory:
        """The same with this report waiting, unless its release's outcome was reported before."""
        one = (report.release, report.outcome)
        if one in self.said:
            return self
        waiting = (*self.waiting, Waiting(report.encode()))[-MOST_WAITING:]
        return replace(self, said=(*self.said, one)[-MOST_SAID:], waiting=waiting)

    def sent(self, done: Sent) -> ReportMemory:
        """The same after a server took a report."""
        return replace(self, waiting=tuple(one for one in self.waiting if one.data != done.data), last=done)

    def failed(self, data: bytes) -> ReportMemory:
        """The same after a run that could not send this report."""
        tried = (replace(one, tries=one.tries + 1) if one.data == data else one for one in self.waiting)
        return replace(self, waiting=tuple(one for one in tried if one.tries < MOST_TRIES))

    def as_json(self) -> Object:
        """For ``coldchain status --json``."""
        last: JSON = None
        if self.last is not None:
            last = {
                "bytes": self.last.data.decode(),
                "time": self.last.time.strftime(_TIME),
                "url": self.last.url,
            }
        return {"waiting": [one.data.decode() for one in self.waiting], "last": last}

    def encode(self) -> bytes:
        """The file's bytes."""
        out: Object = {
            "format": FORMAT,
            "said": [{"release": release, "outcome": outcome} for release, outcome in self.said],
            "waiting": [{"bytes": one.data.decode(), "tries": one.tries} for one in self.waiting],
        }
        if self.taken is not None:
            out["taken"] = {"release": self.taken[0], "from": self.taken[1]}
        if self.last is not None:
            out["last"] = self.as_json()["last"]
        return canonical.encode(out)


def parse_report_memory(data: bytes | None) -> ReportMemory:
    """The memory; an empty one for a file that is not there or not as this program writes it."""
    if data is None:
        return ReportMemory()
    try:
        return _parse(data)
    except ColdchainError:
        return ReportMemory()


def _parse(data: bytes) -> ReportMemory:
    fields = Fields(canonical.read_canonical(data, NAME), NAME)
    fields.constant("format", FORMAT)
    said: list[tuple[int, str]] = []
    for item in fields.items("said", MOST_SAID):
        part = Fields(item, f"{NAME}: said")
        said.append((part.integer("release", least=1, most=MOST_RELEASE), part.text("outcome", 16)))
        part.done()
    waiting = []
    for item in fields.items("waiting", MOST_WAITING):
        part = Fields(item, f"{NAME}: waiting")
        waiting.append(Waiting(_report(part), part.integer("tries", most=MOST_TRIES)))
        part.done()
    taken = last = None
    if fields.has("taken"):
        part = Fields(fields.object("taken"), f"{NAME}: taken")
        taken = (part.integer("release", least=1, most=MOST_RELEASE), part.integer("from", most=MOST_RELEASE))
        part.done()
    if fields.has("last"):
        part = Fields(fields.object("last"), f"{NAME}: last")
        last = Sent(_report(part), part.time("time"), part.text("url", 1100))
        part.done()
    fields.done()
    found = ReportMemory(tuple(said), taken, tuple(waiting), last)
    if any(outcome not in OUTCOMES for _, outcome in said) or found.encode() != data:
        raise MalformedError(f"{NAME}: not as this program writes it")
    return found


def _report(part: Fields) -> bytes:
    """The bytes of a report; whatever else stands there is not sent to anybody."""
    data = part.text("bytes", LIMITS.report_bytes).encode()
    parse_report(data)
    return data


def read_report_memory(directory: ClientDirectory) -> ReportMemory:
    """What earlier runs left; empty when there were none."""
    with directory.folder() as here:
        return parse_report_memory(here.read(NAME, MOST_BYTES))


def change_report_memory(directory: ClientDirectory, change: Callable[[ReportMemory], ReportMemory]) -> None:
    """Changes it durably, whoever else changes it; an update that runs meanwhile is not in the way, and has nothing in its way.

    Args:
        directory: the endpoint's.
        change: from what is there to what shall be there; may be called more than once.

    Raises:
        LockedError: another process held it for a second.
        StorageError: the disk refused; what was there stands.
    """
    for last in range(_TRIES):
        try:
            with directory.reports_locked():
                before = read_report_memory(directory)
                after = change(before)
                if after != before:
                    with directory.folder() as here:
                        here.write(NAME, after.encode())
            return
        except (LockedError, StorageError):  # an update that begins sweeps away what is half-written
            if last == _TRIES - 1:
                raise
            time.sleep(_PAUSE_SECONDS)
