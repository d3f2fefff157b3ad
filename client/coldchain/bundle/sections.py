"""Sections of kind *set*: sorted (bytewise), unique, LF-terminated lines; no CR, no blank line, no BOM.

Worked example: the three lines ``b``, ``a``, ``b`` with CRLF become the four bytes ``a\\nb\\n``. Canonicalising is
the assembler's work; this module says what canonical means and checks it in one pass with flat memory.

An empty section does not exist: an engine refuses an empty database file, so the assembler leaves it out.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import BinaryIO

from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits

BLOCK = 1 << 20
BOM = b"\xef\xbb\xbf"


def blocks(file: BinaryIO, what: str, limits: Limits = LIMITS) -> Iterator[bytes]:
    """The file in blocks of about 1 MiB that end at line ends.

    Raises:
        MalformedError: the last line has no LF, or a line is too long.
    """
    carry = b""
    while data := file.read(BLOCK):
        end = data.rfind(b"\n") + 1
        if not end:
            carry += data
            if len(carry) > limits.line_bytes:
                raise MalformedError(f"{what}: a line is longer than allowed")
            continue
        yield carry + data[:end]
        carry = data[end:]
    if carry:
        raise MalformedError(f"{what}: the last line has no line end")


def check_set(file: BinaryIO, what: str, limits: Limits = LIMITS) -> tuple[int, int, str]:
    """Reads a set section once: returns (records, bytes, sha256).

    Raises:
        MalformedError: unsorted, duplicate, blank, CR, BOM, or an overlong line.
    """
    last = b""
    records = length = 0
    digest = hashlib.sha256()
    for block in blocks(file, what, limits):
        digest.update(block)
        length += len(block)
        lines = block.split(b"\n")
        lines.pop()
        if b"\r" in block or (not records and block.startswith(BOM)):
            raise MalformedError(f"{what}: CR or byte order mark")
        if not lines[0] > last or any(a >= b for a, b in itertools.pairwise(lines)):
            raise MalformedError(f"{what}: lines are blank, doubled or not in bytewise order")
        if len(max(lines, key=len)) > limits.line_bytes:
            raise MalformedError(f"{what}: a line is longer than allowed")
        last = lines[-1]
        records += len(lines)
    return records, length, digest.hexdigest()
