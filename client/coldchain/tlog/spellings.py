"""Base64 and decimal numbers, each value with one spelling.

::

    b"\\x01\\x02"  <->  "AQI="     not "AQI" (no padding), not "AQJ=" (bits left over), not "AQI=\\n"
    17           <->  "17"       not "017", "+17", " 17", "١٧"

Every text of the log is signed or hashed as bytes, so a value that could be spelled in two ways would let two different
files claim to be one. RFC 4648 section 4 with padding; integers from 0 to 2**63 - 1 as C2SP's tlog-checkpoint has them.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from coldchain.errors import MalformedError

MAX_NUMBER: Final = 2**63 - 1

_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")


def encode64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: str, what: str, length: int | None = None) -> bytes:
    """The bytes behind ``text``.

    Args:
        text: foreign text.
        what: what it is, for messages.
        length: the bytes it has to hold; None for any number.

    Raises:
        MalformedError: not base64, not its one spelling, another length.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"{what}: not base64") from error
    if encode64(data) != text:
        raise MalformedError(f"{what}: base64 in another spelling")
    if length is not None and len(data) != length:
        raise MalformedError(f"{what}: {len(data)} bytes where {length} belong")
    return data


def decode_number(text: str, what: str) -> int:
    """A decimal from 0 to 2**63 - 1.

    Raises:
        MalformedError: anything else, such as a leading zero or a sign.
    """
    if not _DECIMAL.match(text) or int(text) > MAX_NUMBER:
        raise MalformedError(f"{what}: not a number from 0 to 2^63-1 in its one spelling")
    return int(text)
