"""Conditional and range requests: what a client's headers ask for, as pure functions over strings.

Worked example, a file of 100 bytes with the entity tag ``"5c1f…"``::

    If-None-Match: W/"5c1f…", "aa"     304 (weak comparison, any of the list)
    Range: bytes=90-                   206, Content-Range: bytes 90-99/100
    Range: bytes=-5                    206, Content-Range: bytes 95-99/100
    Range: bytes=100-                  416, Content-Range: bytes */100
    Range: bytes=0-1,5-6               200, the whole file (more than one range)
    Range: lines=1-2                   200, the whole file (a unit we do not know)
    Range with If-Range: "aa"          200, the whole file (the tag is not the current one)

What does not follow the grammar is as if it had not been sent, which costs the client bytes and never correctness.

Source: RFC 9110, 8.8.3 (entity tags), 13.1 (preconditions), 14.1.2, 14.2 (byte ranges).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS: Final = re.compile(rf"[ \t]*(?:,[ \t]*)*{_TAG}(?:[ \t]*(?:,[ \t]*)+(?:{_TAG}|\Z))*[ \t]*\Z")
_EACH: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE: Final = re.compile(r"bytes=[ \t]*(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))[ \t]*\Z", re.IGNORECASE)


def strong_etag(sha256: str) -> str:
    """The entity tag of content with this SHA-256 (hex): its first 128 bits, quoted."""
    return f'"{sha256[:32]}"'


def tag_listed(value: str, etag: str) -> bool:
    """Whether a list of entity tags (or ``*``) names ``etag``, compared weakly: the rule of If-None-Match.

    A value that does not follow the grammar names nothing.
    """
    if value.strip(" \t") == "*":
        return True
    return _TAGS.match(value) is not None and etag in _EACH.findall(value)


def range_still_valid(value: str | None, etag: str) -> bool:
    """The rule of If-Range: absent, or exactly our strong entity tag. Dates and weak tags never hold."""
    return value is None or value.strip(" \t") == etag


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` to ``end``, the latter excluded."""

    start: int
    end: int


class Unsatisfiable:
    """The range is well-formed and lies outside the file: 416."""


UNSATISFIABLE: Final = Unsatisfiable()


def byte_range(value: str | None, length: int) -> ByteRange | Unsatisfiable | None:
    """What a Range header selects of a file of ``length`` bytes; None for the whole of it.

    More than one range, another unit or a malformed value select the whole (RFC 9110, 14.2 leaves that to the server).
    """
    match = _RANGE.match(value) if value is not None else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        taken = min(int(suffix), length)
        return ByteRange(length - taken, length) if taken else UNSATISFIABLE
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= length:
        return UNSATISFIABLE
    return ByteRange(start, min(int(last) + 1, length) if last else length)
