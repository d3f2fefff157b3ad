"""The public statement that a region's outcome reports moved to another store. It is an entry of the public log, beside the manifests.

Canonical JSON, shown with line breaks::

    {"format":"coldchain-residency-1",
     "from":{"jurisdiction":"United States","store":"us"},
     "old_names":[],
     "product":"coldchain",
     "region":"us",
     "reports":1234,
     "rows":56,
     "sha256":"<of the region's canonical rows>",
     "time":"2026-11-26T02:00:00Z",
     "to":{"jurisdiction":"Switzerland","store":"ch"}}

It is logged, and cosigned by the witnesses' quorum, before the move takes effect. ``reports`` were counted in ``rows`` at ``time``, in
the store they leave and in the copy of it alike; ``sha256`` is that of both. What came in between ``time`` and the switch goes with
them. ``old_names`` are the region's aliases, whose reports move with it.

A region's moves are one chain: each leaves the store that the one before it went to (:class:`Places`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from coldchain import canonical
from coldchain.bundle.description import check_token
from coldchain.bundle.manifest import MOST_REGIONS
from coldchain.canonical import Fields, Object
from coldchain.errors import MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits

FORMAT: Final = "coldchain-residency-1"
MOST_JURISDICTION: Final = 500
_FAMILY: Final = "coldchain-residency-"
_WHAT: Final = "residency"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Place:
    """A store by its name, and the jurisdiction that it lies in."""

    store: str
    jurisdiction: str

    def __str__(self) -> str:
        """For a person."""
        return f"{self.store} ({self.jurisdiction})"


@dataclass(frozen=True, slots=True)
class Move:
    """A move, as the log states it; ``time`` is in UTC and in whole seconds."""

    product: str
    region: str
    source: Place
    target: Place
    reports: int
    rows: int
    sha256: str
    time: datetime
    old_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The region's name, then its old ones."""
        return self.region, *self.old_names

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical.encode(
            {
                "format": FORMAT,
                "product": self.product,
                "region": self.region,
                "old_names": list(self.old_names),
                "from": _place(self.source),
                "to": _place(self.target),
                "reports": self.reports,
                "rows": self.rows,
                "sha256": self.sha256,
                "time": self.time.astimezone(UTC).strftime(_TIME),
            }
        )

    def __str__(self) -> str:
        """One line for a person."""
        also = f" (and of {', '.join(self.old_names)}, its old names)" if self.old_names else ""
        return (
            f"the outcome reports of region {self.region}{also} moved from store {self.source} to {self.target}: "
            f"{self.reports:,} reports in {self.rows:,} rows, {self.time:%Y-%m-%d %H:%M:%S} UTC, sha256 {self.sha256[:16]}…"
        )


def _place(place: Place) -> Object:
    return {"store": place.store, "jurisdiction": place.jurisdiction}


def is_move(entry: bytes) -> bool:
    """Whether an entry of the public log states a move, of this or a later format. It may still be a bad one."""
    try:
        format_ = canonical.read_canonical(entry, "log entry").get("format")
    except MalformedError:
        return False
    return isinstance(format_, str) and format_.startswith(_FAMILY)


def parse_move(data: bytes, limits: Limits = LIMITS) -> Move:
    """A move from foreign bytes: canonical, every member known, every bound checked.

    Raises:
        MalformedError: anything else.
        NewerFormatError: a later version of the format.
    """
    if len(data) > limits.log_entry_bytes:
        raise MalformedError(f"{_WHAT}: longer than allowed")
    fields = Fields(canonical.read_canonical(data, _WHAT), _WHAT)
    format_ = fields.text("format")
    if format_ != FORMAT:
        if format_.startswith(_FAMILY):
            raise NewerFormatError(f"{_WHAT} entry has format {format_[:40]!r}", todo="install a newer client")
        raise MalformedError(f"{_WHAT}: not a statement about a move")
    move = Move(
        product=check_token(fields.text("product"), "product"),
        region=check_token(fields.text("region"), "region"),
        source=_read_place(fields, "from"),
        target=_read_place(fields, "to"),
        reports=fields.integer("reports"),
        rows=fields.integer("rows"),
        sha256=fields.sha256("sha256"),
        time=fields.time("time"),
        old_names=tuple(
            check_token(name if isinstance(name, str) else "?", "region")
            for name in fields.items("old_names", MOST_REGIONS)
        ),
    )
    fields.done()
    if list(move.old_names) != sorted(set(move.old_names) - {move.region}):
        raise MalformedError(f"{_WHAT}: old_names stand out of order, or one stands twice")
    if move.source.store == move.target.store:
        raise MalformedError(f"{_WHAT}: from store {move.source.store!r} to itself")
    if move.rows > move.reports:
        raise MalformedError(f"{_WHAT}: more rows than reports")
    if move.encode() != data:  # a time spelled otherwise
        raise MalformedError(f"{_WHAT}: not as this program writes it")
    return move


def _read_place(fields: Fields, name: str) -> Place:
    part = Fields(fields.object(name), f"{_WHAT}: {name}")
    place = Place(check_token(part.text("store"), "store"), part.text("jurisdiction", MOST_JURISDICTION))
    part.done()
    if not place.jurisdiction.strip() or not place.jurisdiction.isprintable():
        raise MalformedError(f"{_WHAT}: {name}: the jurisdiction is not one line of text")
    return place


@dataclass(slots=True)
class Places:
    """Where each region's reports are by the log's word: region -> the store of its last move, and that entry's SHA-256."""

    stores: dict[str, tuple[str, str]] = field(default_factory=dict)

    def take(self, move: Move) -> tuple[bool, list[str]]:
        """Remembers the next move.

        Returns:
            Whether it is the region's last one once more, byte for byte (a publisher that crashed may log it twice), and what in it
            contradicts the moves before it.
        """
        digest = hashlib.sha256(move.encode()).hexdigest()
        before = {name: self.stores.get(name) for name in move.names}
        if all(known is not None and known[1] == digest for known in before.values()):
            return True, []
        self.stores |= dict.fromkeys(move.names, (move.target.store, digest))
        return False, [
            f"region {name} leaves store {move.source.store}, and its last move went to {known[0]}"
            for name, known in before.items()
            if known is not None and known[0] != move.source.store
        ]
