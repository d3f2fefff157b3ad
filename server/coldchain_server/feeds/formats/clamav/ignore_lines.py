"""Lines of ``ign`` and ``ign2``: signatures that are switched off, in all databases of the set.

::

    NAME                  Acme.Test.Miner-3
    NAME:MD5              the same, while the signature's line has this MD5
    DATABASE:LINE:NAME    the oldest form

The engine compares whole names *before* it appends ``.UNOFFICIAL`` and knows YARA rules by their bare names, so ``YARA.Rule`` and
``Name.UNOFFICIAL`` switch nothing off: they are refused. Source: libclamav/readdb.c cli_loadign, cli_chkign; tried.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.grammar import Grammar, LineError, Record, Remark, check_name, fields, number

UNOFFICIAL = b".UNOFFICIAL"
YARA = b"YARA."
_MD5 = re.compile(rb"[0-9a-fA-F]{32}\Z")


def parse_ignore_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of ign or ign2. Raises :class:`LineError`."""
    parts = fields(line, b":")
    if len(parts) > 3:
        message = f"the line has {len(parts)} fields; it needs 1 to 3"
        raise LineError(parts[3].column, "field-count", message, "write the signature's name alone")
    name = parts[2] if len(parts) == 3 else parts[0]
    checked = check_name(name, remarks)
    if len(parts) == 2 and not _MD5.match(parts[1].data):
        message = "after the name stands no MD5 of 32 hex digits"
        raise LineError(
            parts[1].column, "bad-hash", message, "write NAME:MD5 of the signature's line, or the name alone"
        )
    if len(parts) == 3:
        number(parts[1], "the signature's line")
    if checked.endswith(UNOFFICIAL) or checked.startswith(YARA):
        message = "the engine knows no signature by this name: it adds YARA. and .UNOFFICIAL only when it reports"
        bare = checked.removesuffix(UNOFFICIAL).removeprefix(YARA).decode("utf-8", "replace")
        raise LineError(name.column, "switches-nothing-off", message, f"write {bare[:200]}")
    return Record(line, checked)


GRAMMARS: dict[str, Grammar] = {"ign": parse_ignore_line, "ign2": parse_ignore_line}
