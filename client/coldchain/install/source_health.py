"""``sources.json``: which sources failed or were behind, so that they are asked later for a while. Losing it costs time, no safety.

Canonical JSON, shown with line breaks; it holds base URLs of the configuration and nothing about this endpoint::

    {"asked":"2026-06-01T15:00:00Z","format":"coldchain-sources-1",
     "late":[{"failures":2,"until":"2026-06-01T15:08:20Z","url":"https://a.example","wait":500,"why":"unreachable"}],
     "timestamp":{"sha256":"<of timestamp.json>","since":"2026-06-01T08:00:00Z"}}

A source that is *late* is asked after all that are not; it is never left out, so an endpoint with nobody else still asks it. How long,
in seconds, after the first failure in a row, and at most after more of them, each time twice as long:

============  =======================================================================  ======  =======
why           what it did                                                              first   at most
============  =======================================================================  ======  =======
unreachable   did not answer, or broke off, while another was good                     300     3,600
behind        served older metadata than another or than was seen before, or errors    1,800   21,600
refused       served bytes that nobody signed                                          3,600   86,400
============  =======================================================================  ======  =======

An answer ends the first of them; the others are forgotten a day after their time. Of that time at least half and at most all is
taken, drawn anew each time, so that the endpoints of an edge that comes back do not come back together. Where no source was good it
is the network that failed, and nobody is late for it.

``timestamp`` says since when the same one is in force, ``asked`` when the other sources were last asked whether they have a newer
one: that it was never, or 6 hours ago, is a reason to; so are 6 hours without news, once an hour (:meth:`SourceHealth.doubtful`). A
clock that goes back lengthens no time beyond ``wait``. A file that is missing or damaged counts as empty.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, cast, get_args

from coldchain import canonical
from coldchain.canonical import Fields, Object
from coldchain.errors import (
    ColdchainError,
    EvidenceError,
    ExpiredError,
    MalformedError,
    NewerFormatError,
    ResponseError,
    RollbackError,
    StorageError,
    ThrottledError,
    VerificationError,
)
from coldchain.install.directory import MOST_URLS, ClientDirectory

NAME: Final = "sources.json"
FORMAT: Final = "coldchain-sources-1"
MOST_BYTES: Final = 64 * 1024
MOST_FAILURES: Final = 1_000
DOUBT_AFTER: Final = timedelta(hours=6)
DOUBT_EVERY: Final = timedelta(hours=1)
DOUBT_AGE: Final = 3600.0
"""Seconds: a copy that says of itself that it is older is doubted at once."""
_REMEMBERED: Final = timedelta(days=1)
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"

Why = Literal["unreachable", "behind", "refused"]
_SECONDS: Final[Mapping[str, tuple[int, int]]] = {
    "unreachable": (300, 3_600),
    "behind": (1_800, 21_600),
    "refused": (3_600, 86_400),
}


def random_draw() -> float:
    """From 0 to below 1, from the system's randomness: endpoints that start alike must not draw alike."""
    return secrets.randbits(53) / (1 << 53)


@dataclass(frozen=True, slots=True)
class Late:
    """One source that is asked later: why, how often in a row, until when, and how many seconds that were when it was written."""

    why: Why
    failures: int
    until: datetime
    wait: int

    def left(self, now: datetime) -> float:
        """Seconds until it has its place again; 0 when it has."""
        return min(max((self.until - now).total_seconds(), 0.0), float(self.wait))


def why_of(error: ColdchainError) -> Why | None:
    """What a source did whose answer ended so; None when it is not to be blamed (it asked for patience, which is kept elsewhere)."""
    if isinstance(error, ThrottledError):
        return None
    if isinstance(error, RollbackError | ExpiredError | ResponseError):
        return "behind"
    if isinstance(error, VerificationError | EvidenceError | NewerFormatError):
        return "refused"
    return "unreachable"


@dataclass
class SourceHealth:
    """What the file holds, as it changes during a run.

    Attributes:
        late: by base URL.
        timestamp: the SHA-256 of the timestamp in force, and since when it is; None before the first.
        asked: when the other sources were last asked for a newer one.
    """

    late: dict[str, Late] = field(default_factory=dict)
    timestamp: tuple[str, datetime] | None = None
    asked: datetime | None = None

    def order(self, urls: Sequence[str], now: datetime) -> tuple[str, ...]:
        """The order to ask in: as given, and then those that are late, the one that is due soonest first."""
        left = {url: self.late[url].left(now) if url in self.late else 0.0 for url in urls}
        return tuple(sorted(left, key=left.__getitem__))

    def failed(self, url: str, why: Why, now: datetime, draw: Callable[[], float]) -> None:
        """Notes that this source is to be asked later.

        Args:
            url: its base URL.
            why: what it did.
            now: the time.
            draw: a number from 0 to below 1, at random.
        """
        before = self.late.get(url)
        failures = min(before.failures + 1 if before else 1, MOST_FAILURES)
        first, most = _SECONDS[why]
        seconds = min(first * 2 ** min(failures - 1, 20), most)
        wait = round(seconds * (1.0 + draw()) / 2.0)
        self.late[url] = Late(why, failures, now.replace(microsecond=0) + timedelta(seconds=wait), wait)

    def good(self, url: str) -> None:
        """Notes that this source answered. One that lied, or was behind, is not let off for that: a liar's timestamp is true too."""
        if url in self.late and self.late[url].why == "unreachable":
            del self.late[url]

    def saw(self, sha256: str, now: datetime) -> None:
        """Notes which timestamp is in force."""
        if self.timestamp is None or self.timestamp[0] != sha256 or self.timestamp[1] > now:
            self.timestamp = (sha256, now.replace(microsecond=0))

    def doubtful(self, sha256: str, age: float, now: datetime) -> bool:
        """Whether the other sources should be asked if they have something newer than the timestamp of this digest.

        News are no proof that they are the newest: who lags a day behind has some each time. So nobody is believed alone for long.

        Args:
            sha256: of the timestamp in force, which the source asked first calls the newest.
            age: for how many seconds that source says it has not been able to check that.
            now: the time.
        """
        since = now - self.asked if self.asked is not None else DOUBT_AFTER
        if timedelta() <= since < DOUBT_EVERY:
            return False
        old = self.timestamp is not None and self.timestamp[0] == sha256 and now - self.timestamp[1] >= DOUBT_AFTER
        return old or age > DOUBT_AGE or not timedelta() <= since < DOUBT_AFTER

    def kept(self, now: datetime) -> SourceHealth:
        """The same without what is of no use any more."""
        late = {url: one for url, one in self.late.items() if now - one.until < _REMEMBERED}
        return replace(self, late=dict(sorted(late.items())[: 2 * MOST_URLS]))

    def encode(self) -> bytes:
        """The file's bytes."""
        late: list[canonical.JSON] = [
            {
                "url": url,
                "why": one.why,
                "failures": one.failures,
                "until": one.until.strftime(_TIME),
                "wait": one.wait,
            }
            for url, one in sorted(self.late.items())
        ]
        out: Object = {"format": FORMAT, "late": late}
        if self.timestamp is not None:
            out["timestamp"] = {"sha256": self.timestamp[0], "since": self.timestamp[1].strftime(_TIME)}
        if self.asked is not None:
            out["asked"] = self.asked.strftime(_TIME)
        return canonical.encode(out)


@dataclass
class Conduct:
    """How the sources behaved in one run.

    Attributes:
        now: the time of the run.
        draw: a number from 0 to below 1, at random.
        bad: why each source is blamed, by base URL, and
        good: those that had a good answer.
    """

    now: datetime
    draw: Callable[[], float] = random_draw
    bad: dict[str, Why] = field(default_factory=dict)
    good: set[str] = field(default_factory=set)

    def note(self, url: str, error: ColdchainError | None) -> None:
        """What an answer of this source ended with; None for a good one."""
        why = why_of(error) if error is not None else None
        if error is None:
            self.good.add(url)
        elif why is not None:
            self.bad[url] = why

    def settle(self, health: SourceHealth) -> None:
        """Enters all of it: one failure at most for each source, and good is only who was good all along."""
        for url in self.good - self.bad.keys():
            health.good(url)
        for url, why in self.bad.items():
            health.failed(url, why, self.now, self.draw)


def parse_source_health(data: bytes | None) -> SourceHealth:
    """The memory; an empty one for a file that is not there or not as this program writes it."""
    if data is None:
        return SourceHealth()
    try:
        return _parse(data)
    except ColdchainError:
        return SourceHealth()


def _parse(data: bytes) -> SourceHealth:
    fields = Fields(canonical.read_canonical(data, NAME), NAME)
    fields.constant("format", FORMAT)
    found = SourceHealth()
    for item in fields.items("late", 2 * MOST_URLS):
        part = Fields(item, f"{NAME}: late")
        why = part.text("why", 16)
        if why not in get_args(Why):
            raise MalformedError(f"{NAME}: {why!r} is no reason")
        found.late[part.text("url", 1100)] = Late(
            cast(Why, why),
            part.integer("failures", least=1, most=MOST_FAILURES),
            part.time("until"),
            part.integer("wait", most=86_400),
        )
        part.done()
    if fields.has("timestamp"):
        part = Fields(fields.object("timestamp"), f"{NAME}: timestamp")
        found.timestamp = (part.sha256("sha256"), part.time("since"))
        part.done()
    if fields.has("asked"):
        found.asked = fields.time("asked")
    fields.done()
    if found.encode() != data:
        raise MalformedError(f"{NAME}: not as this program writes it")
    return found


def read_source_health(directory: ClientDirectory) -> SourceHealth:
    """What earlier runs left; empty when there were none."""
    with directory.folder() as here:
        return parse_source_health(here.read(NAME, MOST_BYTES))


def write_source_health(directory: ClientDirectory, health: SourceHealth, now: datetime) -> None:
    """Writes it durably, if it says anything new.

    Raises:
        StorageError: the disk refused; what was there stands.
    """
    data = health.kept(now).encode()
    with directory.folder() as here:
        if here.read(NAME, MOST_BYTES) != data:
            here.write(NAME, data)


class SourceMemory:
    """The memory as one run of an endpoint uses it.

    Args:
        directory: the endpoint's, its lock held.
        now: the time of the run.
    """

    def __init__(self, directory: ClientDirectory, now: datetime) -> None:
        self._directory, self._now = directory, now
        self.health, self.conduct = read_source_health(directory), Conduct(now)

    def order(self, urls: Sequence[str]) -> tuple[str, ...]:
        """The order to ask in; see :meth:`SourceHealth.order`."""
        return self.health.order(urls, self._now)

    def write(self, sources: int) -> None:
        """Enters how the run went, where there is a choice of sources. A disk that refuses is no reason for an update to fail."""
        if sources > 1:
            self.conduct.settle(self.health)
            with contextlib.suppress(StorageError):
                write_source_health(self._directory, self.health, self._now)
