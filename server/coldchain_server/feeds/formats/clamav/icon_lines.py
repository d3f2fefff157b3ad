"""Lines of ``idb``: icons of programs, compared by how they look, for the icon groups of logical signatures.

::

    NAME:GROUP1:GROUP2:METRICS        METRICS of 124 hex digits
    Icon.Example-1:DOCUMENT:WORD:20…

The metrics are the icon's size (2 digits: 16, 24 or 32), then for each of three spots its average, x and y: colour and grey
(3 + 2 + 2 digits), brightest, darkest, most and least edged (2 + 2 + 2), then the spread of red, green, blue and the count
of colours (2 digits each). An engine has room for 256 groups of either kind, and *keeps only the last* idb file it reads: the
assembler refuses a second one. Source: libclamav/readdb.c cli_loadidb; manual, BodySignatureFormat "Icon signatures".
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.grammar import (
    Field,
    Grammar,
    LineError,
    Record,
    Remark,
    check_name,
    counted_fields,
)

METRICS = 124
SIZES = (16, 24, 32)
MOST_AVERAGE = 4072
MOST_SPREAD = 103
MOST_COLOURS = 100
_NOT_HEX = re.compile(rb"[^0-9a-fA-F]")
_WIDE_SPOTS = ("colour", "grey")
_NARROW_SPOTS = ("brightest", "darkest", "most edged", "least edged")


def parse_icon_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of idb. Raises :class:`LineError`."""
    parts = counted_fields(
        line, b":", 4, 4, ": NAME:GROUP1:GROUP2:METRICS", "write the fields with colons between them"
    )
    name = check_name(parts[0], remarks)
    for group in parts[1:3]:
        if not group.data:
            raise LineError(group.column, "empty-group-name", "an icon group has no name", "name it, or write *")
    _check_metrics(parts[3])
    return Record(line, name)


def _check_metrics(field: Field) -> None:
    text = field.data
    if len(text) != METRICS:
        message = f"the metrics have {len(text)} hex digits; an icon has {METRICS}"
        raise LineError(field.column, "bad-metrics", message, "copy the whole line again")
    if odd := _NOT_HEX.search(text):
        message = f"{odd.group()!r} is not a hex digit"
        raise LineError(field.column + odd.start(), "bad-metrics", message, "copy the whole line again")
    size = int(text[:2], 16)
    at = 2

    def take(digits: int, most: int, what: str) -> int:
        nonlocal at
        value = int(text[at : at + digits], 16)
        if value > most:
            message = f"the {what} is {value}; it can be at most {most}"
            raise LineError(field.column + at, "bad-metrics", message, "make the icon's metrics again")
        at += digits
        return value

    if size not in SIZES:
        message = f"the icon is {size} pixels wide; engines know 16, 24 and 32"
        raise LineError(field.column, "bad-metrics", message, "make the icon's metrics again")
    furthest = size - size // 8
    for digits, most, spots in ((3, MOST_AVERAGE, _WIDE_SPOTS), (2, 0xFF, _NARROW_SPOTS)):
        for spot in spots:
            for _ in range(3):
                take(digits, most, f"average of a {spot} spot")
                take(2, furthest, f"place of a {spot} spot")
                take(2, furthest, f"place of a {spot} spot")
    start = at
    spread = sum(take(2, 0xFF, "spread") for _ in range(3))
    if spread > MOST_SPREAD:
        message = f"red, green and blue spread by {spread}; together at most {MOST_SPREAD}"
        raise LineError(field.column + start, "bad-metrics", message, "make the icon's metrics again")
    take(2, MOST_COLOURS, "count of colours")


GRAMMARS: dict[str, Grammar] = {"idb": parse_icon_line}
