"""Lines of ``ndb``, ``ndu`` and ``sdb``: one name, one place, one pattern; and of the old ``db``.

::

    NAME:TARGET:OFFSET:PATTERN[:MINFL[:MAXFL]]
    Win.Trojan.Example-1:1:EP+0,64:e8000000005d81ed????4000

    db   NAME=PATTERN         (target 0, anywhere)

The engine reads a line into 8192 bytes. Source: libclamav/readdb.c cli_loadndb, cli_loaddb; manual, ExtendedSignatures.
"""

from __future__ import annotations

from coldchain_server.feeds.formats.clamav.body import parse_body
from coldchain_server.feeds.formats.clamav.grammar import (
    NO_LEVEL,
    TOP_LEVEL,
    Field,
    Grammar,
    LineError,
    Record,
    Remark,
    check_levels,
    check_name,
    counted_fields,
    number,
)
from coldchain_server.feeds.formats.clamav.offsets import binds, check_offset, check_target
from coldchain_server.feeds.formats.clamav.risks import Pattern, judge


def parse_body_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of ndb, ndu or sdb. Raises :class:`LineError`."""
    parts = counted_fields(
        line,
        b":",
        4,
        6,
        ": NAME:TARGET:OFFSET:PATTERN[:lowest level[:highest level]]",
        "write the fields with colons between them",
    )
    name = check_name(parts[0], remarks)
    levels = optional_levels(parts[4:], remarks)
    target = check_target(parts[1])
    placed = check_offset(parts[2], target)
    by_literals = target == 0 or (target == 1 and placed and b"," not in parts[2].data and b"VI" not in parts[2].data)
    body = parse_body(
        parts[3].data,
        parts[3].column,
        remarks,
        target=target,
        literal_matcher=by_literals and b"$" not in parts[2].data,
    )
    judge(name, parts[3].column, target, [Pattern(body, binds(parts[2].data))], remarks)
    return Record(line, name, levels)


def optional_levels(parts: list[Field], remarks: list[Remark]) -> tuple[int, int]:
    """The last fields of many lines: lowest level, highest level, each optional. Raises :class:`LineError`."""
    low, high = NO_LEVEL, TOP_LEVEL
    if len(parts) == 1 and not parts[0].data:
        remarks.append(
            Remark(
                parts[0].column, "warning", "empty-level", "the level after the last colon is empty", "drop the colon"
            )
        )
        return low, high
    if parts:
        low = number(parts[0], "the lowest functionality level")
    if len(parts) > 1:
        high = number(parts[1], "the highest functionality level")
    return check_levels(low, high, parts[0].column, remarks) if parts else (low, high)


def parse_old_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of db. Raises :class:`LineError`."""
    name, equals, pattern = line.partition(b"=")
    if not equals:
        raise LineError(0, "field-count", "the line has no =; it must be NAME=PATTERN", "write NAME=PATTERN")
    checked = check_name(Field(name, 1), remarks)
    column = len(name) + 2
    body = parse_body(pattern, column, remarks, target=0, literal_matcher=True)
    judge(checked, column, 0, [Pattern(body, False)], remarks)
    return Record(line, checked)


GRAMMARS: dict[str, Grammar] = {
    **dict.fromkeys(("ndb", "ndu", "sdb"), parse_body_line),
    "db": parse_old_line,
}
