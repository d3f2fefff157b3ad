"""The hour: the finest time that anything about outcome reports is kept by. ``2026-06-01T09:00:00Z``."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from coldchain.canonical import Fields
from coldchain.errors import MalformedError

_HOUR: Final = "%Y-%m-%dT%H:00:00Z"


def hour_of(time: datetime) -> str:
    """The hour that a time (UTC) is in."""
    return time.strftime(_HOUR)


def hour_member(fields: Fields, name: str, what: str) -> str:
    """A member that is an hour. Raises MalformedError for anything finer."""
    found, said = fields.time(name), fields.text(name, 32)
    if hour_of(found) != said:
        raise MalformedError(f"{what}: {name!r} is finer than an hour")
    return said
