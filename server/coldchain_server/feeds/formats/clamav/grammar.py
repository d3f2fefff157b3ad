"""The words all line grammars share: a record, an error at a column, fields, numbers, names and levels.

A *grammar* is a function from one line (bytes without its line end) to a :class:`Record`; it raises :class:`LineError` at
the first thing the engine would refuse or misread, and leaves remarks for what is merely worth saying.

Worked example::

    parse_hash(b"44D88612FEA8A8F36DE82E1278ABB02F:68:Eicar-Test-Signature", remarks)
      -> Record(line=b"44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test-Signature", name=b"Eicar-Test-Signature")

*Functionality levels* (flevel) are ClamAV's feature numbers, one for each release. A signature may carry the lowest and
highest level that loads it; engines outside silently load nothing. :data:`KNOWN_LEVELS` spans the releases this lint
knows: 1.0.0 (160) to 1.5.x (230 to 239); 1.4.6 reports 216 (CL_FLEVEL in libclamav/others.h of each release branch).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from coldchain.errors import LintError
from coldchain_server.feeds.findings import Severity

KNOWN_LEVELS = (160, 239)
NO_LEVEL = 0
TOP_LEVEL = 0xFFFF_FFFF
FILE_BUFFER = 8192
LOGICAL_BUFFER = 32_768

_NUMBER = re.compile(rb"[0-9]+\Z")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class LineError(LintError):
    """One line does not follow its grammar.

    Args:
        column: byte column from 1, 0 for the whole line.
        code: kebab-case name of the rule.
        message: what is wrong, for a person.
        fix: what to do about it.
    """

    def __init__(self, column: int, code: str, message: str, fix: str) -> None:
        super().__init__(message, todo=fix)
        self.column = column
        self.code = code
        self.fix = fix


class PlacedError(LineError):
    """A file that is read as a whole does not follow its format; ``line`` says where (0: the whole file)."""

    def __init__(self, line: int, column: int, code: str, message: str, fix: str) -> None:
        super().__init__(column, code, message, fix)
        self.line = line


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a good line that is worth saying; the fields are those of a finding."""

    column: int
    severity: Severity
    code: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Record:
    """A good line in canonical form, the name an engine reports for it, and the levels that load it."""

    line: bytes
    name: bytes | None = None
    levels: tuple[int, int] = (NO_LEVEL, TOP_LEVEL)


Grammar = Callable[[bytes, list[Remark]], Record]
WholeCheck = Callable[[bytes, list[Remark]], int]
"""Checks a file that is no list of lines, and returns how many records it holds; raises :class:`PlacedError`."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a line: its bytes and the column of its first byte (from 1)."""

    data: bytes
    column: int


def fields(line: bytes, separator: bytes, start: int = 1) -> list[Field]:
    """Splits ``line`` at ``separator``; ``start`` is the column of its first byte."""
    found = []
    for part in line.split(separator):
        found.append(Field(part, start))
        start += len(part) + len(separator)
    return found


def counted_fields(line: bytes, separator: bytes, least: int, most: int, form: str, fix: str) -> list[Field]:
    """The fields of a line that has ``least`` to ``most`` of them.

    Args:
        line: the line.
        separator: what stands between fields.
        least: the fewest fields.
        most: the most.
        form: what the message says of the line's form after the numbers, such as ``": NAME:TARGET"``.
        fix: what to do.

    Raises:
        LineError: ``field-count``, at the first field too many, or about the whole line.
    """
    parts = fields(line, separator)
    if not least <= len(parts) <= most:
        needed = f"{least}" if least == most else f"{least} to {most}"
        raise LineError(
            parts[most].column if len(parts) > most else 0,
            "field-count",
            f"the line has {len(parts)} fields; it needs {needed}{form}",
            fix,
        )
    return parts


def show(data: bytes, most: int = 40) -> str:
    """A field as a person may read it in a message: bounded, without control characters."""
    text = data[:most].decode("utf-8", "replace")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return f"'{text}…'" if len(data) > most else f"'{text}'"


def number(field: Field, what: str, highest: int = TOP_LEVEL, lowest: int = 0) -> int:
    """A decimal number of digits alone.

    Raises:
        LineError: ``bad-number`` for anything else or a value outside ``lowest`` to ``highest``.
    """
    if not _NUMBER.match(field.data) or len(field.data) > 20:
        raise LineError(
            field.column, "bad-number", f"{what} is {show(field.data)}, not a decimal number", "write digits only"
        )
    value = int(field.data)
    if not lowest <= value <= highest:
        raise LineError(
            field.column, "bad-number", f"{what} is {value}; it must be {lowest} to {highest}", "correct the number"
        )
    return value


def check_name(field: Field, remarks: list[Remark]) -> bytes:
    """The name an engine reports.

    Raises:
        LineError: ``empty-name``, or ``bad-name`` for control characters.
    """
    name = field.data
    if not name:
        raise LineError(field.column, "empty-name", "the signature has no name", "give it a name")
    if found := _CONTROL.search(name):
        raise LineError(
            field.column + found.start(), "bad-name", "the name holds a control character", "remove the character"
        )
    if b" (Clam)" in name:
        remarks.append(
            Remark(field.column, "warning", "odd-name", "the engine cuts the name off at ' (Clam)'", "shorten the name")
        )
        if name.startswith(b" (Clam)"):
            raise LineError(
                field.column, "empty-name", "nothing is left of the name before ' (Clam)'", "give it a name"
            )
    return name


def check_levels(low: int, high: int, column: int, remarks: list[Remark]) -> tuple[int, int]:
    """The range of functionality levels, checked against the engines we know.

    Raises:
        LineError: ``bad-levels`` for a reversed range, ``no-engine`` when no engine we know is inside it.
    """
    if low > high:
        raise LineError(
            column,
            "bad-levels",
            f"the lowest level {low} is above the highest, {high}: no engine loads this",
            "swap them",
        )
    first, last = KNOWN_LEVELS
    if low > last or high < first:
        where = "future" if low > last else "past"
        raise LineError(
            column,
            "no-engine",
            f"no engine we know loads this: levels {low} to {high} lie in the {where}, known engines have {first} to {last}",
            "correct the level, or leave the signature out",
        )
    if low > first or high < last:
        span = f"from {low}" if high >= last else f"to {high}" if low <= first else f"{low} to {high}"
        remarks.append(
            Remark(
                column,
                "warning",
                "some-engines",
                f"only engines of level {span} load this; older or newer known ones skip it silently",
                "check that your endpoints' engines are among them",
            )
        )
    return low, high
