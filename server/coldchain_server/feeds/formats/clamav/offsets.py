"""Offsets and target types: where in a file a pattern is looked for, and in files of which type.

::

    *            anywhere              EOF-n        n bytes before the end
    n            at byte n             EP+n EP-n    around the entry point          (PE, ELF, Mach-O)
    Sx+n         in section x          SEx          anywhere in section x           (PE, ELF, Mach-O)
    SL+n         in the last section   VI           in the version information      (PE)
    $n$          macro group n, 0 to 31
    offset,m     the same, or up to m bytes further

Worked example: ``EP+0,128`` with target 1 is the first 128 bytes from the entry point of a PE file.
Sources: libclamav/matcher.c cli_caloff, matcher.h cli_mtargets; manual, BodySignatureFormat and FileTypes.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.grammar import Field, LineError, show

TARGETS = {
    0: "any file",
    1: "PE",
    2: "OLE2",
    3: "normalised HTML",
    4: "mail",
    5: "graphics",
    6: "ELF",
    7: "normalised text",
    8: "unused",
    9: "Mach-O",
    10: "PDF",
    11: "Flash",
    12: "Java class",
    13: "internal",
    14: "other",
}
EXECUTABLE_TARGETS = frozenset({1, 6, 9})
LONGEST = 64
MOST = 0x7FFF_FFFF
MACRO_GROUPS = 32

_OFFSET = re.compile(
    rb"(?P<any>\*)|(?P<absolute>[0-9]+)|EOF-(?P<eof>[0-9]+)|EP[+-](?P<entry>[0-9]+)|SL\+(?P<last>[0-9]+)"
    rb"|SE(?P<whole>[0-9]+)|S(?P<section>[0-9]+)\+(?P<into>[0-9]+)|(?P<version>VI)|\$(?P<macro>[0-9]+)\$"
)
_EXECUTABLE = ("entry", "last", "whole", "section", "version")


def check_target(field: Field) -> int:
    """A target type, 0 to 14, or ``*`` which the engine reads as 0.

    Raises:
        LineError: not a number, or a target no engine has (the signature would vanish silently).
    """
    if field.data == b"*":
        return 0
    if not field.data.isdigit():
        raise LineError(
            field.column, "bad-target", f"the target type is {show(field.data)}, not a number", "use 0 for any file"
        )
    target = int(field.data[:20])
    if target not in TARGETS:
        raise LineError(
            field.column,
            "bad-target",
            f"there is no target type {target}: the engine drops the signature without a word",
            "use 0 to 14",
        )
    return target


def check_offset(field: Field, target: int) -> bool:
    """An offset that fits the target; True when it is anything but ``*``.

    Raises:
        LineError: ``bad-offset``.
    """
    if field.data == b"*":
        return False
    if len(field.data) > LONGEST:
        raise LineError(field.column, "bad-offset", f"the offset is longer than {LONGEST} bytes", "shorten it")
    base, comma, shift = field.data.partition(b",")
    found = _OFFSET.fullmatch(base)
    if not found or (comma and (not shift.isdigit() or found["any"])):
        raise LineError(
            field.column,
            "bad-offset",
            f"{show(field.data)} is not an offset",
            "use *, n, EOF-n, EP+n, EP-n, Sx+n, SEx, SL+n or VI, and ,m for a shift",
        )
    numbers = [int(text) for text in (*found.groups(), shift) if text and text.isdigit()]
    if numbers and max(numbers) > MOST:
        raise LineError(field.column, "bad-offset", f"the offset {max(numbers)} is too large", f"use at most {MOST}")
    if found["macro"] and int(found["macro"]) >= MACRO_GROUPS:
        raise LineError(field.column, "bad-offset", "there are 32 macro groups, 0 to 31", "use a lower group")
    if found.lastgroup in _EXECUTABLE and target not in EXECUTABLE_TARGETS:
        raise LineError(
            field.column,
            "bad-offset",
            f"{show(field.data)} needs an executable, but target {target} is {TARGETS[target]}",
            "use target 1 (PE), 6 (ELF) or 9 (Mach-O), or another offset",
        )
    return True


def binds(offset: bytes) -> bool:
    """Whether an offset narrows a pattern that describes a file's start: anything but ``*`` and 0."""
    return offset.partition(b",")[0] not in (b"*", b"0")
