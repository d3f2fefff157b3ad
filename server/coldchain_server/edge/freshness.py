"""``.mirror/edge.json``: what an edge serves, and when an upstream last said that it is the newest. Losing it costs one more pull.

Canonical JSON, shown with line breaks::

    {"confirmed":"2026-06-01T09:05:00Z","format":"coldchain-edge-1","generation":"5f0c1a9e33b07d12",
     "good_until":"2026-06-02T09:00:00Z","releases":[{"channel":"stable","region":"jp","release":42}]}

``confirmed`` is the edge's own clock, less what the upstream says of its own age (``Age``), so that ages add up along a chain of edges.
``generation`` is the one that the rest speaks of. A file that is missing or damaged counts as empty; of one of another generation only
``confirmed`` counts: generations do not go back, so what came after that moment's newest is not older than that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from coldchain import canonical
from coldchain.canonical import JSON, Fields, Object
from coldchain.errors import ColdchainError, MalformedError
from coldchain.mirror import generation
from coldchain.mirror.directory import MirrorDirectory
from coldchain.mirror.pulled import Pulled, utc_now

NAME: Final = "edge.json"
FORMAT: Final = "coldchain-edge-1"
MOST_BYTES: Final = 64 * 1024
MOST_RELEASES: Final = 1024
WRITE_EVERY: Final = timedelta(minutes=1)
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"

Release = tuple[str, str, int]
"""Region, channel and number."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the file holds; the module says what each member means."""

    generation: str = ""
    confirmed: datetime | None = None
    good_until: datetime | None = None
    releases: tuple[Release, ...] = ()

    def encode(self) -> bytes:
        """The file's bytes."""
        out: Object = {"format": FORMAT, "generation": self.generation, "releases": _listed(self.releases)}
        for name, time in (("confirmed", self.confirmed), ("good_until", self.good_until)):
            if time is not None:
                out[name] = time.strftime(_TIME)
        return canonical.encode(out)


def _listed(releases: tuple[Release, ...]) -> list[JSON]:
    return [{"region": region, "channel": channel, "release": number} for region, channel, number in releases]


def parse_served(data: bytes | None) -> Served:
    """What an earlier process left; empty for a file that is not there or not as this program writes it."""
    if data is None:
        return Served()
    try:
        return _parse(data)
    except ColdchainError:
        return Served()


def _parse(data: bytes) -> Served:
    fields = Fields(canonical.read_canonical(data, NAME), NAME)
    fields.constant("format", FORMAT)
    releases = []
    for item in fields.items("releases", MOST_RELEASES):
        part = Fields(item, f"{NAME}: releases")
        releases.append((part.text("region", 64), part.text("channel", 64), part.integer("release", least=1)))
        part.done()
    confirmed, good_until = (fields.time(name) if fields.has(name) else None for name in ("confirmed", "good_until"))
    found = Served(fields.text("generation", 64), confirmed, good_until, tuple(releases))
    fields.done()
    if found.encode() != data:
        raise MalformedError(f"{NAME}: not as this program writes it")
    return found


class Freshness:
    """What is served, for those who ask; written down as it changes. Read from other threads than the one that writes.

    Args:
        directory: the edge's.
        now: the clock.
    """

    def __init__(self, directory: MirrorDirectory, now: Callable[[], datetime] = utc_now) -> None:
        self._directory, self._now = directory, now
        self._written: datetime | None = None
        self._hint = 0
        with directory.own.folder() as here:
            self.served = parse_served(here.read(NAME, MOST_BYTES))
        if self.served.generation != generation.current(directory):
            self.served = Served(confirmed=self.served.confirmed)

    def pulled(self, done: Pulled) -> None:
        """A pull ended well."""
        place = generation.current(self._directory) or ""
        self.served = replace(self.served, generation=place, good_until=done.good_until, releases=tuple(done.releases))
        self._write()

    def confirm(self, moment: datetime) -> None:
        """What is served was the newest at this moment."""
        before = self.served.confirmed
        if before is None or moment > before or before > self._now():
            self.served = replace(self.served, confirmed=moment.replace(microsecond=0))
        if self._written is None or not timedelta() <= self._now() - self._written < WRITE_EVERY:
            self._write()
            self._written = self._now()

    def hint(self, seconds: float | None) -> None:
        """How often an upstream asks endpoints to poll; None where it did not say."""
        self._hint = round(seconds) if seconds is not None else 0

    def _write(self) -> None:
        data = self.served.encode()
        with self._directory.own.folder() as here:
            if here.read(NAME, MOST_BYTES) != data:
                here.write(NAME, data)

    # -- as those see it who ask -------------------------------------------------------------------------------------

    def age(self) -> int | None:
        """For how many seconds nobody said that what is served is the newest; None when nobody ever did."""
        confirmed = self.served.confirmed
        return max(int((self._now() - confirmed).total_seconds()), 0) if confirmed is not None else None

    def poll_seconds(self) -> int:
        """What the upstream asked for, and our own age, which clients take off again; 0 when it asked for nothing."""
        return self._hint + (self.age() or 0) if self._hint else 0

    def facts(self) -> Object:
        """The same for pages and ``--json``."""
        served = self.served
        return {
            "age_seconds": self.age(),
            "confirmed": served.confirmed.strftime(_TIME) if served.confirmed else None,
            "good_until": served.good_until.strftime(_TIME) if served.good_until else None,
            "releases": _listed(served.releases),
        }

    async def expired(self) -> list[str]:
        """For ``/readyz``: why nobody should be sent here; nothing when all is well."""
        until = self.served.good_until
        return [f"what is served expired {until:{_TIME}}"] if until is not None and until <= self._now() else []

    async def behind(self) -> list[str]:
        """For ``/readyz``: what a person should look at, though what is served is good."""
        age = self.age()
        if age is None:
            return ["no upstream has confirmed yet that this is the newest"]
        return [f"no upstream has answered for {age:,} seconds"] if age > ALARM_SECONDS else []


ALARM_SECONDS: Final = 900
