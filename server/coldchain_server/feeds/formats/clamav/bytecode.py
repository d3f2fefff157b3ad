"""``cbc``: one bytecode program in a file, written in letters.

::

    ClamBC aghocbc… :4096         header: numbers, strings, two magic numbers, the length of the longest line
    BC.Name.{};Engine:…           logical signature that starts the program, or an empty line
    T…  E…  G…                    types, functions of the engine it calls, globals
    [D…]                          debugging data
    A…  B…  B…                    a function and its basic blocks; as many functions as the header says
    S…                            source, compressed; the end

A *number* is the letter ``0x60 + n`` and n letters of four bits each, lowest first: ``bcd`` is 2 letters, 0x43. A *string* is
``|``, its length as a number, and two letters a byte. What instructions do is the engine's verifier's to judge. A program runs on the
endpoint, and engines load it only with ``BytecodeUnsigned``: both are said in a flag, so that a person decides.
Sources: libclamav/bytecode.c parseHeader, cli_bytecode_load; readdb.c cli_loadcbc.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.grammar import FILE_BUFFER, LineError, PlacedError, Remark, check_levels
from coldchain_server.feeds.formats.clamav.logical_lines import parse_logical_line

MAGIC = b"ClamBC"
FORMATS = (6, 7)
MAGIC_NUMBERS = (0x53E5493E9F3D1C30, 42)
STARTUP, LOGICAL, LAST_KIND = 1, 256, 262
"""Kinds of programs: run at start, after a logical signature, or (above 256) at a stage of scanning; 0 is none an engine runs."""
_LINE_LENGTH = re.compile(rb":([0-9]{1,9})\Z")
_AGAIN = "get the file from its source again"


class _Header:
    """Reads numbers and strings of the first line; columns in errors."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.at = len(MAGIC)

    def fail(self, message: str) -> PlacedError:
        return PlacedError(1, self.at + 1, "bad-bytecode", f"the program's header: {message}", _AGAIN)

    def digits(self, count: int) -> int:
        text = self.line[self.at : self.at + count]
        if len(text) != count or any(byte & 0xF0 != 0x60 for byte in text):
            raise self.fail("a number ends early or holds a letter that is no digit")
        self.at += count
        return sum((byte & 0x0F) << (4 * place) for place, byte in enumerate(text))

    def number(self) -> int:
        first = self.line[self.at : self.at + 1]
        if not first or not 0x60 <= first[0] <= 0x70:
            raise self.fail("a number should stand here")
        self.at += 1
        return self.digits(first[0] - 0x60)

    def string(self) -> bytes:
        if self.line[self.at : self.at + 1] != b"|":
            raise self.fail("a string should stand here")
        self.at += 1
        length = self.number()
        if length > len(self.line):
            raise self.fail("a string is longer than the line")
        value = bytes(self.digits(2) for _ in range(length))
        if value and value[-1]:
            raise self.fail("a string has no end")
        return value


def check_bytecode(data: bytes, remarks: list[Remark]) -> int:
    """Checks a program; returns 1. Raises :class:`PlacedError`."""
    lines = data.split(b"\n")
    if len(lines[0]) > FILE_BUFFER - 2 or not lines[0].startswith(MAGIC):
        raise PlacedError(1, 1, "bad-bytecode", "the file does not begin with ClamBC", _AGAIN)
    header = _Header(lines[0].rstrip(b"\r"))
    level = header.number()
    if level not in FORMATS:
        message = f"format {level}: engines know 6 and 7 and drop the program without a word"
        raise PlacedError(1, len(MAGIC) + 1, "bad-bytecode", message, "compile it anew")
    header.number()  # time
    header.string()  # author
    header.number()  # targets left out
    kind = header.number()
    if kind != STARTUP and not LOGICAL <= kind <= LAST_KIND:
        raise header.fail(f"the kind is {kind}, which engines refuse")
    low, high = header.number(), header.number()
    header.number()  # resources
    header.string()  # compiler
    header.number()  # types
    functions = header.number()
    if (header.number(), header.digits(2)) != MAGIC_NUMBERS:
        raise header.fail("its magic numbers are wrong")
    found = _LINE_LENGTH.fullmatch(header.line, header.at)
    if not found:
        raise header.fail("the length of its longest line is missing")
    check_levels(low, high or 0xFFFF_FFFF, 1, remarks)
    _check_lines(lines[1:], int(found[1]), functions)
    trigger = lines[1].rstrip(b"\r")
    if trigger:
        try:
            parse_logical_line(trigger, [], extra=True)
        except LineError as error:
            raise PlacedError(2, error.column, error.code, error.what, error.fix) from error
    elif kind == LOGICAL:
        raise PlacedError(2, 0, "bad-bytecode", "the logical signature that starts the program is missing", _AGAIN)
    message = "a program that runs on endpoints; engines load it only where BytecodeUnsigned is on"
    remarks.append(Remark(0, "flag", "bytecode", message, "have a person decide, or leave it out"))
    return 1


def _check_lines(lines: list[bytes], longest: int, functions: int) -> None:
    wanted = b"TEG"
    counted = 0
    for place, line in enumerate(lines, 2):
        letter = line[:1]
        if len(line) > max(longest - 2, 0) and letter != b"S":
            raise PlacedError(place, longest, "long-line", f"longer than the header says ({longest})", _AGAIN)
        if place == 2:
            continue
        if place - 3 < len(wanted):
            if letter != wanted[place - 3 : place - 2]:
                message = f"the line should begin with {chr(wanted[place - 3])}"
                raise PlacedError(place, 1, "bad-bytecode", message, _AGAIN)
        elif letter == b"S":
            break
        elif letter == b"A":
            counted += 1
        elif not letter and place == len(lines) + 1:
            break  # the end of the file after its last line end
        elif letter not in (b"B", b"D") or (letter == b"B" and not counted):
            raise PlacedError(place, 1, "bad-bytecode", "the line begins with no letter that may stand here", _AGAIN)
    if counted != functions:
        message = f"the program has {counted} functions and declares {functions}"
        raise PlacedError(len(lines) + 1, 0, "bad-bytecode", message, _AGAIN)
