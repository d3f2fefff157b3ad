"""Lines of hash databases: ``hdb hsb hdu hsu fp sfp`` (whole files), ``mdb msb mdu msu`` (PE sections), ``imp`` (imports).

::

    hdb, hsb, hdu, hsu, fp, sfp, imp   HASH:SIZE:NAME[:MINFL[:MAXFL]]
    mdb, msb, mdu, msu                 SIZE:HASH:NAME[:MINFL[:MAXFL]]

    44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test-Signature
    275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f:*:Eicar-Test-Signature:73

HASH is MD5 (32 hex digits), SHA-1 (40) or SHA-256 (64); the engine tells them by length alone, whatever the extension
says. SIZE is 1 to 4294967294, or ``*`` for any, which needs MINFL of at least 73 except in imp. The engine reads a line
into 8192 bytes. Source: libclamav/readdb.c cli_loadhash, matcher-hash.c hm_addhash_str; manual, HashSignatures.
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
    check_name,
    counted_fields,
    number,
    show,
)

WILDCARD_LEVEL = 73
_HASH = re.compile(rb"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})\Z")
_ANY_HASH = re.compile(rb"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64})\Z")
_NOT_HEX = re.compile(rb"[^0-9a-fA-F]")
# The common line, whole: what fits here needs no second look. Sizes of up to 9 digits are below the engine's bound, and
# lowest levels of two digits below every engine's.
_NAME = rb"([!-'*-9;-~]{1,255})"
_DIGEST = rb"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})"
_COMMON_FILE = re.compile(
    _DIGEST + rb":(?:[1-9][0-9]{0,8}:" + _NAME + rb"(?::([1-9][0-9]))?|\*:" + _NAME + rb":(7[3-9]|[89][0-9]))"
)
_COMMON_SECTION = re.compile(
    rb"(?:[1-9][0-9]{0,8}:"
    + _DIGEST
    + rb":"
    + _NAME
    + rb"(?::([1-9][0-9]))?|\*:"
    + _DIGEST
    + rb":"
    + _NAME
    + rb":(7[3-9]|[89][0-9]))"
)


def _check_hash(field: Field) -> bytes:
    if _HASH.match(field.data):
        return field.data
    if _ANY_HASH.match(field.data):
        return field.data.lower()
    if odd := _NOT_HEX.search(field.data):
        raise LineError(
            field.column + odd.start(),
            "bad-hash",
            f"{show(odd.group())} is not a hex digit, in the hash {show(field.data, 64)}",
            "put the hash in hexadecimal (0-9, a-f) here",
        )
    raise LineError(
        field.column,
        "bad-hash",
        f"the hash has {len(field.data)} hex digits; MD5 has 32, SHA-1 40, SHA-256 64",
        "copy the whole hash again",
    )


def _check_size(field: Field) -> bytes:
    if field.data == b"*":
        return field.data
    if not field.data.isdigit():
        raise LineError(
            field.column,
            "bad-size",
            f"the size is {show(field.data)}, neither a number of bytes nor *",
            "write the size in decimal digits, or * with a lowest level of 73",
        )
    if not 1 <= (size := int(field.data[:20])) <= 0xFFFF_FFFE:
        raise LineError(
            field.column, "bad-size", f"the size is {size}; it must be 1 to 4294967294", "correct the size, or write *"
        )
    return b"%d" % size


def _levels(parts: list[Field], remarks: list[Remark]) -> tuple[int, int, list[bytes]]:
    low, high = NO_LEVEL, TOP_LEVEL
    kept: list[bytes] = []
    if len(parts) == 1 and not parts[0].data:
        remarks.append(
            Remark(
                parts[0].column, "warning", "empty-level", "the level after the last colon is empty", "drop the colon"
            )
        )
        return low, high, kept
    if parts:
        low = number(parts[0], "the lowest functionality level")
        kept.append(b"%d" % low)
    if len(parts) == 2:
        high = number(parts[1], "the highest functionality level")
        kept.append(b"%d" % high)
    if parts:
        check_levels(low, high, parts[0].column, remarks)
    return low, high, kept


def _parse(line: bytes, remarks: list[Remark], *, size_first: bool, free_wildcard: bool) -> Record:
    common = (_COMMON_SECTION if size_first else _COMMON_FILE).fullmatch(line)
    if common:
        name, low, other, least = common.groups()
        return Record(line, name or other, (int(low or least or NO_LEVEL), TOP_LEVEL))
    order = "SIZE:HASH:NAME" if size_first else "HASH:SIZE:NAME"
    form = f": {order}[:lowest level[:highest level]]"
    parts = counted_fields(line, b":", 3, 5, form, "write the fields with colons between them")
    first, second = (_check_size(parts[0]), b"") if size_first else (b"", _check_size(parts[1]))
    digest = _check_hash(parts[1] if size_first else parts[0])
    name = check_name(parts[2], remarks)
    low, high, kept = _levels(parts[3:], remarks)
    if b"*" in (first, second) and low < WILDCARD_LEVEL and not free_wildcard:
        raise LineError(
            parts[0 if size_first else 1].column,
            "wildcard-level",
            "a size of * needs a lowest functionality level of at least 73; without it the engine refuses the whole file",
            "append :73 to the line",
        )
    head = [first, digest] if size_first else [digest, second]
    return Record(b":".join([*head, name, *kept]), name, (low, high))


def parse_file_hash(line: bytes, remarks: list[Remark]) -> Record:
    """A line of hdb, hsb, hdu, hsu, fp or sfp. Raises :class:`LineError`."""
    return _parse(line, remarks, size_first=False, free_wildcard=False)


def parse_section_hash(line: bytes, remarks: list[Remark]) -> Record:
    """A line of mdb, msb, mdu or msu. Raises :class:`LineError`."""
    return _parse(line, remarks, size_first=True, free_wildcard=False)


def parse_import_hash(line: bytes, remarks: list[Remark]) -> Record:
    """A line of imp. Raises :class:`LineError`."""
    return _parse(line, remarks, size_first=False, free_wildcard=True)


GRAMMARS: dict[str, Grammar] = {
    **dict.fromkeys(("hdb", "hsb", "hdu", "hsu", "fp", "sfp"), parse_file_hash),
    **dict.fromkeys(("mdb", "msb", "mdu", "msu"), parse_section_hash),
    "imp": parse_import_hash,
}
