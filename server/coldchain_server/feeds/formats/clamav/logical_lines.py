"""Lines of ``ldb`` and ``ldu``: several subsignatures joined by an expression.

::

    NAME;TARGET-DESCRIPTION;EXPRESSION;SUB0[;SUB1…]           at most 64 subsignatures
    Win.Trojan.Example-2;Engine:81-255,Target:1;(0|1)&2;6d616c;776172::i;2/e[0-9]+/

A ``;`` between the slashes of a regular expression belongs to it. The expression must name the last subsignature, and none
beyond. The engine reads a line into 32769 bytes. Source: libclamav/readdb.c load_oneldb, str.c cli_ldbtokenize.
"""

from __future__ import annotations

from coldchain_server.feeds.formats.clamav.attributes import parse_attributes
from coldchain_server.feeds.formats.clamav.grammar import Field, Grammar, LineError, Record, Remark, check_name
from coldchain_server.feeds.formats.clamav.logic import MOST_SUBSIGNATURES, parse_logic
from coldchain_server.feeds.formats.clamav.risks import judge
from coldchain_server.feeds.formats.clamav.subsignatures import parse_subsignature

_HEAD = 3  # name, target description, expression


def split_logical(line: bytes) -> list[Field]:
    """The fields of a line; a ``;`` inside a regular expression (from the third field on) does not separate."""
    if b"/" not in line:
        found, column = [], 1
        for part in line.split(b";"):
            found.append(Field(part, column))
            column += len(part) + 1
        return found
    found, start, within = [], 0, False
    for place, byte in enumerate(line):
        if byte == 0x3B and not within:
            found.append(Field(line[start:place], start + 1))
            start = place + 1
        elif byte == 0x2F and len(found) >= _HEAD - 1 and line[place - 1] != 0x5C:
            within = not within
    found.append(Field(line[start:], start + 1))
    return found


def parse_logical_line(line: bytes, remarks: list[Remark], *, extra: bool = False) -> Record:
    """A line of ldb or ldu.

    Args:
        line: without its line end.
        remarks: receives warnings.
        extra: a bytecode program's line, which may have subsignatures that its expression does not name.

    Raises:
        LineError: what the engine would refuse.
    """
    parts = split_logical(line)
    if len(parts) <= _HEAD:
        raise LineError(
            0,
            "field-count",
            f"the line has {len(parts)} fields; it needs 4 or more: NAME;TARGET-DESCRIPTION;EXPRESSION;SUBSIGNATURE…",
            "write the fields with semicolons between them",
        )
    subsignatures = parts[_HEAD:]
    count = len(subsignatures)
    if count > MOST_SUBSIGNATURES:
        raise LineError(
            subsignatures[MOST_SUBSIGNATURES].column,
            "field-count",
            f"{count} subsignatures; there can be at most {MOST_SUBSIGNATURES}",
            "split the signature",
        )
    name = check_name(parts[0], remarks)
    expression = parse_logic(parts[2].data, parts[2].column)
    highest = max(expression.indexes)
    if highest + 1 != count and not (extra and highest < count):
        raise LineError(
            parts[2].column,
            "subsignature-count",
            f"the expression names subsignatures up to {highest}, so there must be {highest + 1}; the line has {count}",
            "add the missing subsignature or correct the expression",
        )
    about = parse_attributes(parts[1], remarks)
    patterns = [
        parse_subsignature(part, index, count, about.target, remarks) for index, part in enumerate(subsignatures)
    ]
    judge(
        name,
        subsignatures[0].column,
        about.target,
        patterns,
        remarks,
        fires=expression.fires,
        narrowed=about.narrowed,
        document=about.document,
    )
    return Record(line, name, about.levels)


GRAMMARS: dict[str, Grammar] = {"ldb": parse_logical_line, "ldu": parse_logical_line}
