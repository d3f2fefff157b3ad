"""Lines of ``crb``: certificates of code signing, trusted or blocked.

::

    NAME;TRUSTED;SUBJECT;SERIAL;MODULUS;EXPONENT;CODE;TIME;CERT;NOT-BEFORE;COMMENT[;MINFL[;MAXFL]]
    Example.CA-1;1;b08e9f5ec6f1ed8c2e2ecb0a7c6ff1a7a9c3ee51;;c0ffee…;010001;1;0;1;0;a test's own certificate

SUBJECT and SERIAL are SHA-1 (SERIAL may be empty: any), MODULUS is the RSA key's in hexadecimal, the exponent is always taken
for 65537, CODE TIME CERT say what the certificate may sign. The engine looks at the first character alone where 0 or 1 must
stand; here it must be the only one. Source: libclamav/readdb.c cli_loadcrt; manual, AuthenticodeRules.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.body_lines import optional_levels
from coldchain_server.feeds.formats.clamav.grammar import (
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

_SHA1 = re.compile(rb"[0-9a-fA-F]{40}\Z")
_HEX = re.compile(rb"[0-9a-fA-F]+\Z")
LEAST_MODULUS = 128
"""Hex digits: an RSA key below 512 bits is a typing error."""


def _check_sha1(field: Field, what: str) -> None:
    if not _SHA1.match(field.data):
        message = f"the {what} is {show(field.data, 48)}, not a SHA-1 of 40 hex digits"
        raise LineError(field.column, "bad-hash", message, "copy the whole hash again")


def _check_flag(field: Field, what: str) -> None:
    if field.data not in (b"0", b"1"):
        raise LineError(field.column, "bad-flag", f"{what} is {show(field.data)}, neither 0 nor 1", "write 0 or 1")


def parse_certificate_line(line: bytes, remarks: list[Remark]) -> Record:
    """A line of crb. Raises :class:`LineError`."""
    parts = counted_fields(
        line, b";", 11, 13, " (see the manual, Authenticode rules)", "write the fields with semicolons between them"
    )
    name = check_name(parts[0], remarks)
    levels = optional_levels(parts[11:], remarks)
    _check_flag(parts[1], "whether the certificate is trusted")
    _check_sha1(parts[2], "subject")
    if parts[3].data:
        _check_sha1(parts[3], "serial number")
    if not _HEX.match(parts[4].data) or len(parts[4].data) < LEAST_MODULUS:
        message = f"the public key is {show(parts[4].data)}, not an RSA modulus in hexadecimal"
        raise LineError(parts[4].column, "bad-key", message, "copy the whole modulus again")
    for place, what in ((6, "code signing"), (7, "time signing"), (8, "certificate signing")):
        _check_flag(parts[place], what)
    if parts[9].data:
        number(parts[9], "the first second of validity")
    return Record(line, name, levels)


GRAMMARS: dict[str, Grammar] = {"crb": parse_certificate_line}
