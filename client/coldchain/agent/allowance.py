"""How many bytes an endpoint may still receive: the customer's caps for a day and for one update, for metered links.

``usage.json`` in the endpoint's directory holds what came on the day of the last update, canonical JSON::

    {"bytes":734003,"day":"2026-06-01","format":"coldchain-usage-1"}

A day is one of UTC; any other day than the one in the file, a later or an earlier one, begins at nothing, so a clock that was wrong
blocks nobody for longer than a day. Bytes are counted ahead: before a step of them is received, the file says so, durably. A
killed update has therefore counted at most a step too much, never too little. What is counted are bodies; a poll's own header
lines (about 300 bytes) are not. What was begun stays in staging and is gone on with when the next day's bytes are there.

The last sixteenth of a day's bytes is kept for metadata, so that a day whose cap was used up by downloads still ends with an
endpoint that knows how fresh it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Final

from coldchain import canonical
from coldchain.canonical import Fields
from coldchain.errors import AllowanceError, ColdchainError
from coldchain.install.directory import ClientDirectory

NAME: Final = "usage.json"
FORMAT: Final = "coldchain-usage-1"
MOST_BYTES: Final = 1024
STEPS: Final = 64
_KEPT_FOR_METADATA: Final = 16
_NEXT: Final = "raise the cap in policy.toml ([network]), or carry a pack: coldchain update DIR --pack FILE"


def encode_usage(day: date, count: int) -> bytes:
    """The bytes of ``usage.json``."""
    return canonical.encode({"format": FORMAT, "day": day.isoformat(), "bytes": count})


def parse_usage(data: bytes | None, day: date) -> int:
    """The bytes used on ``day``; 0 for a file of another day, and for one that is missing or damaged."""
    if data is None:
        return 0
    try:
        fields = Fields(canonical.read_canonical(data, NAME), NAME)
        fields.constant("format", FORMAT)
        found, count = fields.text("day", 10), fields.integer("bytes")
        fields.done()
    except ColdchainError:
        return 0
    return count if found == day.isoformat() else 0


class Allowance:
    """What one update may still receive.

    Args:
        per_day: the cap for a day in bytes; 0 for none.
        per_update: the cap for this update; 0 for none.
        used: what came today before it.
        keep: told the day's count before more than that is received; it makes the count durable.
    """

    def __init__(
        self, per_day: int = 0, per_update: int = 0, used: int = 0, keep: Callable[[int], None] = lambda _: None
    ) -> None:
        self._per_day, self._per_update, self._keep = per_day, per_update, keep
        self._used, self._kept, self._came = used, used, 0

    def begin(self, length: int) -> None:
        """Before a download of ``length`` more bytes.

        Raises:
            AllowanceError: it is more than an update may receive; nothing was asked for.
        """
        if self._per_update and self._came + length > self._per_update:
            raise AllowanceError(
                f"this update needs {self._came + length:,} bytes, and most_bytes_per_update is {self._per_update:,}",
                todo=_NEXT,
            )
        self.ask()

    def ask(self, *, metadata: bool = False) -> None:
        """Before a request.

        Raises:
            AllowanceError: the day's bytes are used up; nothing was asked for.
        """
        self._room(1, metadata=metadata)

    def take(self, count: int, *, metadata: bool = False) -> None:
        """Counts bytes that came, or refuses to let more come.

        Raises:
            AllowanceError: the day's or the update's bytes are used up.
        """
        self._used += count
        self._came += count
        if self._per_update and self._came > self._per_update:
            raise AllowanceError(
                f"this update needs more than the {self._per_update:,} bytes of most_bytes_per_update", todo=_NEXT
            )
        self._room(0, metadata=metadata)

    def done(self) -> None:
        """Makes the day's count durable, as it is."""
        if self._per_day and self._kept != self._used:
            self._keep(self._used)
            self._kept = self._used

    def _room(self, count: int, *, metadata: bool) -> None:
        if not self._per_day:
            return
        cap = self._per_day if metadata else self._per_day - self._per_day // _KEPT_FOR_METADATA
        if self._used + count > cap:
            raise AllowanceError(
                f"today's {self._per_day:,} bytes (most_bytes_per_day) are used up",
                todo=f"it goes on tomorrow (UTC) where it stopped; or {_NEXT}",
            )
        if self._used >= self._kept:
            self._kept = self._used + max(self._per_day // STEPS, 1)
            self._keep(self._kept)


def open_allowance(directory: ClientDirectory, per_day: int, per_update: int, now: datetime) -> Allowance:
    """The allowance of an update that begins now; the directory's lock is held.

    Raises:
        StorageError: the disk refused.
    """
    if not per_day:
        return Allowance(0, per_update)
    day = now.date()
    with directory.folder() as here:
        used = parse_usage(here.read(NAME, MOST_BYTES), day)

    def keep(count: int) -> None:
        with directory.folder() as here:
            here.write(NAME, encode_usage(day, count))

    return Allowance(per_day, per_update, used, keep)
