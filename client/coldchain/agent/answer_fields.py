"""What the fields of an HTTP answer say to us, beside its body: how long to wait, how long it stays good, and what to refuse it for.

::

    Retry-After: 120                           leave the server alone for two minutes; a date is held against its own Date
    Cache-Control: max-age=3600   Age: 600     polling again within 50 minutes is pointless
    Content-Encoding: gzip                     refused: nobody asked for it
    Content-Range: bytes 0-9/10                refused, unless it is what was asked for

Nothing a field says takes more than a day of anybody's time.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from coldchain.errors import ResponseError

if TYPE_CHECKING:
    import aiohttp

_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})\Z")
_MAX_AGE: Final = re.compile(r"max-age=\"?(\d{1,9})\"?\Z")


def check_encoding(url: str, path: str, response: aiohttp.ClientResponse) -> None:
    """Raises ResponseError for a body that is encoded."""
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise ResponseError(f"{url}/{path}: comes encoded as {encoding[:40]!r}, which nobody asked for")


def check_range(url: str, path: str, value: str, start: int, length: int) -> None:
    """Raises ResponseError for a part (``Content-Range``) that is not the bytes from ``start`` to ``length``."""
    match = _RANGE.match(value)
    if match is None or tuple(map(int, match.groups())) != (start, length - 1, length):
        raise ResponseError(f"{url}/{path}: bytes {start}-{length - 1}/{length} asked for, {value[:60]!r} sent")


def beginning_of(url: str, path: str, value: str, most: int) -> int:
    """The whole length of a file of which a part (``Content-Range``) came that is its first ``most`` bytes, or all.

    Raises:
        ResponseError: it is another part.
    """
    match = _RANGE.match(value)
    start, last, length = map(int, match.groups()) if match else (1, 0, 0)
    if start or last + 1 != min(most, length):
        raise ResponseError(f"{url}/{path}: the first {most} bytes asked for, {value[:60]!r} sent")
    return length


def patience(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks for; a date is held against the server's own clock, where it says what that is."""
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return retry_after(headers.get("Retry-After"), now)


def seconds_of(value: str | None) -> int | None:
    """A field that is a number of seconds; None for anything else."""
    value = value.strip() if value is not None else ""
    return int(value[:9]) if value.isascii() and value.isdigit() else None


def retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds that a Retry-After field asks for (a number or a date), at most a day; None when it says nothing."""
    if value is None:
        return None
    seconds = seconds_of(value)
    if seconds is not None:
        return float(min(seconds, 86_400))
    when = _date(value)
    if when is None:
        return None
    return min(max((when - now).total_seconds(), 0.0), 86_400.0)


def _date(value: str) -> datetime | None:
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def poll_seconds(headers: Mapping[str, str]) -> float | None:
    """How long an answer says that it stays good (max-age, less its Age): polling sooner is pointless. None when it does not say."""
    words = [word.strip().lower() for word in headers.get("Cache-Control", "")[:1024].split(",")]
    found = [match for match in map(_MAX_AGE.match, words) if match]
    if not found or "no-cache" in words or "no-store" in words:
        return None
    old = seconds_of(headers.get("Age")) or 0
    return min(max(float(int(found[0][1]) - old), 0.0), 86_400.0)
