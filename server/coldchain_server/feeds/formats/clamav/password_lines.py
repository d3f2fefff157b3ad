"""Lines of ``pwdb``: passwords to try on encrypted archives.

::

    NAME;TARGET-DESCRIPTION;KIND;PASSWORD         KIND 0 as it stands, 1 in hexadecimal
    Example.Password-1;Engine:81-255;0;infected

The description is that of logical signatures; its container may be ZIP, RAR or any. The order has meaning: the engine tries them one
by one. Source: libclamav/readdb.c cli_loadpwdb; manual, EncryptedArchives.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.attributes import parse_attributes
from coldchain_server.feeds.formats.clamav.grammar import (
    Grammar,
    LineError,
    Record,
    Remark,
    check_name,
    counted_fields,
    show,
)

_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+\Z")
_CONTAINER = re.compile(rb"Container:([^,]*)")
_CONTAINERS = (b"CL_TYPE_ANY", b"CL_TYPE_ZIP", b"CL_TYPE_RAR")


def parse_password_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of pwdb. Raises :class:`LineError`."""
    parts = counted_fields(
        line,
        b";",
        4,
        4,
        ": NAME;TARGET-DESCRIPTION;KIND;PASSWORD",
        "write the fields with semicolons; a password with a semicolon is written in hexadecimal (kind 1)",
    )
    name = check_name(parts[0], remarks)
    about = parse_attributes(parts[1], remarks, target_needed=False)
    container = _CONTAINER.search(parts[1].data)
    if container and container[1] not in _CONTAINERS:
        message = f"passwords are tried on ZIP and RAR archives, not on {show(container[1])}"
        raise LineError(
            parts[1].column + container.start(1), "bad-attribute", message, "use CL_TYPE_ZIP or CL_TYPE_RAR"
        )
    if parts[2].data not in (b"0", b"1"):
        message = f"there is no kind {show(parts[2].data)} of password: the engine drops it without a word"
        raise LineError(parts[2].column, "bad-kind", message, "use 0 (as it stands) or 1 (hexadecimal)")
    if not parts[3].data:
        raise LineError(parts[3].column, "bad-password", "the password is empty", "remove the line")
    if parts[2].data == b"1" and not _HEX.match(parts[3].data):
        message = f"{show(parts[3].data)} is not a whole number of bytes in hexadecimal"
        raise LineError(parts[3].column, "bad-hex", message, "complete it, or use kind 0")
    return Record(line, name, about.levels)


GRAMMARS: dict[str, Grammar] = {"pwdb": parse_password_line}
