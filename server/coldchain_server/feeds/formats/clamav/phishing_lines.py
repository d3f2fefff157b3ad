"""Lines of ``pdb`` and ``gdb`` (hosts and URLs that phishing imitates or uses) and of ``wdb`` (pairs that are well).

::

    pdb, gdb   H[FILTER]:HOST           a host that is often imitated         H:paypal.com
               R[FILTER]:REGEX          the same by a regular expression over REAL:SHOWN
               S[KIND]:P:8 HEX          prefix of a URL's SHA-256; KIND 1 malware, 2 phishing
               S[KIND]:F:64 HEX         a whole one                S:F:4d8bef53100a92ef3b9490dc234c6c4a6d0f45bf73cb13b166188cd802c1a080
    wdb        M:REAL-HOST:SHOWN-HOST   a pair that is well       M:email.chase.com:www.chasefrauddetector.com
               X:REGEX                  the same over whole URLs REAL:SHOWN; Y over hosts
    gdb, wdb   S:W:64 HEX               a URL that is well

Each may end in ``:low-high`` or ``:low-``, functionality levels (17- in the official files). The engine counts lines of pdb and gdb,
not of wdb; it skips blank lines. It reads hashes without asking for their length (and then beyond their end), so their length
is ours to check. Sources: libclamav/regex_list.c load_regex_matcher, add_hash; manual, PhishSigs.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.grammar import (
    NO_LEVEL,
    TOP_LEVEL,
    Field,
    Grammar,
    LineError,
    Record,
    Remark,
    check_levels,
    show,
)
from coldchain_server.feeds.formats.clamav.posix_regexes import check_posix_regex

_LEVELS = re.compile(rb":([0-9]{0,9})-([0-9]{0,9})\Z")
_FILTER = re.compile(rb"[0-9a-fA-F]{0,3}\Z")
_HOST = re.compile(rb"[A-Za-z0-9_.-]{1,255}\Z")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_NO_HOST = re.compile(rb"[\x00-\x20\x7f/:?#@]")
_HASH = {b"P": 8, b"F": 64, b"W": 64}
_HEX = re.compile(rb"[0-9a-fA-F]*\Z")


def _levels(line: bytes, remarks: list[Remark]) -> tuple[bytes, tuple[int, int]]:
    """The line without its levels, and the levels."""
    found = _LEVELS.search(line)
    if not found:
        return line, (NO_LEVEL, TOP_LEVEL)
    low, high = int(found[1] or b"0"), int(found[2]) if found[2] else TOP_LEVEL
    return line[: found.start()], check_levels(low, high, found.start() + 2, remarks)


def _check_host(field: Field, remarks: list[Remark]) -> None:
    if not field.data:
        raise LineError(field.column, "bad-host", "no host is given", "write a host name")
    if odd := _NO_HOST.search(field.data):
        message = f"{show(odd.group())} does not belong in a host name"
        fix = "write the host alone, without scheme or path"
        raise LineError(field.column + odd.start(), "bad-host", message, fix)
    if not _HOST.match(field.data):
        message = f"{show(field.data)} is no host name that could be looked up"
        remarks.append(Remark(field.column, "warning", "odd-host", message, "write letters, digits, dots and dashes"))
    if b"." not in field.data.strip(b"."):
        message = f"{show(field.data)} is a whole top-level domain"
        remarks.append(
            Remark(field.column, "flag", "wide-host", message, "name the host, unless the whole domain is meant")
        )


def _check_hash(field: Field, allowed: bool) -> None:
    kind, _, digest = field.data.partition(b":")
    wanted = _HASH.get(kind)
    if wanted is None or (allowed and kind != b"W"):
        kinds = "W" if allowed else "P, F or W"
        raise LineError(field.column, "bad-hash", f"{show(kind)} is no kind of hash", f"write {kinds}")
    if len(digest) != wanted or not _HEX.match(digest):
        message = f"the hash is {show(digest, 64)}; {kind.decode()} needs {wanted} hex digits"
        raise LineError(field.column + 2, "bad-hash", message, "copy the whole hash again")


def _parse(line: bytes, remarks: list[Remark], *, allowed: bool) -> Record:
    text, levels = _levels(line, remarks)
    head, colon, rest = text.partition(b":")
    letter, options = head[:1], head[1:]
    known = b"XYMS" if allowed else b"HRS"
    if not colon or not letter or letter not in known:
        letters = ", ".join(chr(one) for one in known)
        message = f"{show(head)} does not begin a line of this type"
        raise LineError(1, "bad-kind", message, f"begin with one of {letters} and a colon")
    field = Field(rest, len(head) + 2)
    if not (
        _FILTER.match(options) if letter in b"HR" else options in ((b"", b"1", b"2") if letter == b"S" else (b"",))
    ):
        raise LineError(
            2, "bad-kind", f"{show(options)} cannot stand between {letter.decode()} and its colon", "remove it"
        )
    if odd := _NOT_ASCII.search(rest):
        message = f"byte {odd.group()[0]:02x} is not ASCII: where such a byte ends a pattern the engine refuses the whole file"
        raise LineError(field.column + odd.start(), "not-ascii", message, "write host names in their xn-- form")
    if letter == b"S":
        _check_hash(field, allowed)
    elif letter == b"H":
        _check_host(field, remarks)
    elif letter == b"M":
        real, colon, shown = rest.partition(b":")
        if not colon:
            raise LineError(field.column, "field-count", "one host is given, not two", "write M:REAL:SHOWN")
        _check_host(Field(real, field.column), remarks)
        _check_host(Field(shown, field.column + len(real) + 1), remarks)
    else:
        if not rest:
            raise LineError(field.column, "bad-regex", "the regular expression is empty", "write one")
        check_posix_regex(rest, field.column, hosts=True)
    return Record(line, None, levels)


def parse_phishing_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of pdb or gdb. Raises :class:`LineError`."""
    return _parse(line, remarks, allowed=False)


def parse_allowed_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of wdb. Raises :class:`LineError`."""
    return _parse(line, remarks, allowed=True)


GRAMMARS: dict[str, Grammar] = {"pdb": parse_phishing_line, "gdb": parse_phishing_line, "wdb": parse_allowed_line}
