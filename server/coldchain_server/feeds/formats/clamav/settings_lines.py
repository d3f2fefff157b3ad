"""Lines of ``cfg``: which of its parts the engine uses, as bits, for ranges of functionality levels.

::

    PART:0xBITS[:low[:high]]                 PE:0xbf7f:33:41

A bit that is not set switches a part of the engine *off*, and a file of this type may reach every endpoint. So a line that engines of
today obey is flagged for a person; lines for engines long gone, of which official files are full, are only counted. The engine
passes over every line that does not begin with a part it knows, so misspelt ones vanish without a word: they are refused.
Source: libclamav/dconf.c cli_dconf_load, chkflevel.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.grammar import (
    KNOWN_LEVELS,
    NO_LEVEL,
    TOP_LEVEL,
    Grammar,
    LineError,
    Record,
    Remark,
    fields,
    number,
    show,
)

PARTS = frozenset(b"PE ELF MACHO ARCHIVE DOCUMENT MAIL OTHER PHISHING BYTECODE STATS PCRE".split())
_BITS = re.compile(rb"0x[0-9a-fA-F]{1,8}\Z")


def parse_setting_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of cfg. Raises :class:`LineError`."""
    parts = fields(line, b":")
    if parts[0].data not in PARTS or len(parts) < 2:
        message = f"{show(parts[0].data)} is no part of the engine: it passes over the line without a word"
        raise LineError(
            1, "unknown-part", message, "write one of " + ", ".join(part.decode() for part in sorted(PARTS))
        )
    if len(parts) > 4:
        message = f"the line has {len(parts)} fields; it needs 2 to 4: PART:0xBITS[:low[:high]]"
        raise LineError(parts[4].column, "field-count", message, "write the fields with colons between them")
    if not _BITS.match(parts[1].data):
        message = f"the bits are {show(parts[1].data)}, not a number such as 0x3f"
        raise LineError(parts[1].column, "bad-number", message, "write 0x and hex digits")
    low = number(parts[2], "the lowest functionality level") if len(parts) > 2 else NO_LEVEL
    high = number(parts[3], "the highest functionality level") if len(parts) > 3 else TOP_LEVEL
    if low > high:
        message = f"the lowest level {low} is above the highest, {high}: no engine obeys this"
        raise LineError(parts[2].column, "bad-levels", message, "swap them")
    first, last = KNOWN_LEVELS
    if low <= last and high >= first:
        message = f"sets which parts of {parts[0].data.decode()} engines of today use, and may switch some off"
        remarks.append(Remark(1, "flag", "engine-setting", message, "have a person decide, or leave it out"))
    return Record(line, None, (low, high))


GRAMMARS: dict[str, Grammar] = {"cfg": parse_setting_line}
