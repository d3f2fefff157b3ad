"""Lines of ``cdb``: files inside archives by name, sizes and place; and of its forerunners ``zmd`` (ZIP) and ``rmd`` (RAR).

::

    cdb       NAME:CONTAINER:CONTAINER-SIZE:NAME-REGEX:SIZE-INSIDE:REAL-SIZE:ENCRYPTED:PLACE:CRC:RESERVED[:MINFL[:MAXFL]]
    zmd, rmd  NAME:ENCRYPTED:NAME-REGEX:REAL-SIZE:SIZE-INSIDE:CRC:METHOD:PLACE:DEPTH

    Email.Trojan.Toa-1:CL_TYPE_ZIP:*:Courrt.{1,15}\\.scr$:*:*:*:*:*:

CONTAINER is a type of :mod:`.file_types`; sizes and places of cdb are ``n``, ``n-m`` or ``*``; ENCRYPTED is 0, 1 or ``*``. No
field can hold a colon, so no regular expression can. Sources: libclamav/readdb.c cli_loadcdb, cli_loadmd; manual, ContainerMetadata.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.body_lines import optional_levels
from coldchain_server.feeds.formats.clamav.file_types import check_file_type
from coldchain_server.feeds.formats.clamav.grammar import (
    TOP_LEVEL,
    Field,
    Grammar,
    LineError,
    Record,
    Remark,
    check_name,
    counted_fields,
    number,
    show,
)
from coldchain_server.feeds.formats.clamav.posix_regexes import check_posix_regex

_RANGE = re.compile(rb"[0-9]{1,10}-[0-9]{1,10}\Z")
_CRC = re.compile(rb"(?!(?:ff){4}\Z)(?:[0-9a-fA-F]{2}){1,4}\Z")  # the engine takes ffffffff for an error
_ANY = b"*"


def _check_range(field: Field, what: str, remarks: list[Remark]) -> None:
    if field.data == _ANY:
        return
    if b"-" not in field.data:
        number(field, what)
        return
    if not _RANGE.match(field.data):
        message = f"{what} is {show(field.data)}; a range is two decimal numbers with a dash between them"
        raise LineError(field.column, "bad-range", message, "write n, n-m or *")
    low, _, high = field.data.partition(b"-")
    first = number(Field(low, field.column), what)
    last = number(Field(high, field.column + len(low) + 1), what)
    if first > last:
        message = f"{what} is at least {first} and at most {last}: this can never match"
        remarks.append(Remark(field.column, "warning", "never-matches", message, "swap the numbers"))


def _check_encrypted(field: Field) -> None:
    if field.data not in (_ANY, b"0", b"1"):
        message = f"the mark of encryption is {show(field.data)}"
        raise LineError(field.column, "bad-encrypted", message, "write 0 (no), 1 (yes) or * (either)")


def _check_file_name(field: Field) -> None:
    if not field.data:
        raise LineError(field.column, "bad-regex", "the regular expression is empty", "write * for any name")
    if field.data != _ANY:
        check_posix_regex(field.data, field.column)


def _says_something(parts: list[Field], column: int) -> None:
    if all(part.data in (_ANY, b"") for part in parts):
        message = "every field is *: it reports each file in each such container"
        raise LineError(column, "matches-without", message, "say something about the file")


def parse_container_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of cdb. Raises :class:`LineError`."""
    parts = counted_fields(
        line,
        b":",
        10,
        12,
        " (see the manual, container metadata)",
        "write the fields with colons between them; a regular expression cannot hold a colon",
    )
    name = check_name(parts[0], remarks)
    levels = optional_levels(parts[10:], remarks)
    if parts[1].data != _ANY:
        check_file_type(parts[1])
    _check_range(parts[2], "the container's size", remarks)
    _check_file_name(parts[3])
    _check_range(parts[4], "the size inside the container", remarks)
    _check_range(parts[5], "the file's size", remarks)
    _check_encrypted(parts[6])
    _check_range(parts[7], "the file's place", remarks)
    if parts[8].data not in (_ANY, b"") and not _CRC.match(parts[8].data):
        message = f"the checksum is {show(parts[8].data)}, not hexadecimal"
        raise LineError(parts[8].column, "bad-number", message, "write it in hexadecimal, or *")
    _says_something(parts[2:10], parts[2].column)
    return Record(line, name, levels)


def parse_metadata_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of zmd or rmd. Raises :class:`LineError`."""
    form = ""
    fix = "write the fields with colons between them, or write the signature as cdb"
    parts = counted_fields(line, b":", 9, 9, form, fix)
    name = check_name(parts[0], remarks)
    _check_encrypted(parts[1])
    _check_file_name(parts[2])
    whats = {3: "the file's size", 4: "the size inside the archive", 6: "the method", 7: "the place", 8: "the depth"}
    for place, what in whats.items():
        if parts[place].data != _ANY:
            number(parts[place], what, TOP_LEVEL)
    if parts[5].data != _ANY and not _CRC.match(parts[5].data):
        message = f"the checksum is {show(parts[5].data)}, not hexadecimal"
        raise LineError(parts[5].column, "bad-number", message, "write it in hexadecimal, or *")
    _says_something(parts[1:], parts[1].column)
    return Record(line, name)


GRAMMARS: dict[str, Grammar] = {
    "cdb": parse_container_line,
    "zmd": parse_metadata_line,
    "rmd": parse_metadata_line,
}
