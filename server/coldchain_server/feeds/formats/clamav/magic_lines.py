"""Lines of ``ftm``: how the engine tells the types of files.

::

    KIND:OFFSET:PATTERN:NAME:REQUIRED-TYPE:TYPE[:MINFL[:MAXFL]]
    0:0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP                plain bytes at a place (4: the same for partitions)
    1:*:3c6f626a656374:HTML data:CL_TYPE_ANY:CL_TYPE_HTML    a body pattern at an offset

Other kinds are dropped by the engine without a word. One ftm file *replaces* the engine's built-in list of types: a short one
leaves archives and documents unopened, so the whole file is flagged for a person. Its order has meaning.
Source: libclamav/readdb.c cli_loadftm, cl_engine_compile; manual, FileTypeMagic.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.body import parse_body
from coldchain_server.feeds.formats.clamav.body_lines import optional_levels
from coldchain_server.feeds.formats.clamav.file_types import check_file_type
from coldchain_server.feeds.formats.clamav.grammar import (
    Grammar,
    LineError,
    Record,
    Remark,
    check_name,
    counted_fields,
    number,
    show,
)
from coldchain_server.feeds.formats.clamav.offsets import check_offset

_BYTES = re.compile(rb"(?:[0-9a-fA-F]{2})+\Z")
MOST_BYTES = 0xFFFF


def parse_magic_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of ftm. Raises :class:`LineError`."""
    parts = counted_fields(
        line,
        b":",
        6,
        8,
        ": KIND:OFFSET:PATTERN:NAME:REQUIRED:TYPE[:low[:high]]",
        "write the fields with colons between them",
    )
    levels = optional_levels(parts[6:], remarks)
    check_name(parts[3], remarks)
    check_file_type(parts[4])
    check_file_type(parts[5])
    kind = parts[0].data
    if kind in (b"0", b"4"):
        number(parts[1], "the offset", 0x7FFF_FFFF)
        if not _BYTES.match(parts[2].data):
            message = f"{show(parts[2].data)} is not a whole number of bytes in hexadecimal"
            raise LineError(parts[2].column, "bad-hex", message, "use kind 1 for patterns with wildcards")
    elif kind == b"1":
        check_offset(parts[1], 0)
        parse_body(parts[2].data, parts[2].column, remarks, literal_matcher=b"$" not in parts[1].data)
    else:
        message = f"there is no kind {show(kind)}: the engine drops the line without a word"
        raise LineError(1, "bad-kind", message, "use 0, 1 or 4")
    return Record(line, None, levels)


GRAMMARS: dict[str, Grammar] = {"ftm": parse_magic_line}
