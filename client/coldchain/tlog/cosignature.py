"""What a witness signs: a checkpoint's text and the time it saw it. C2SP tlog-cosignature, Ed25519, ``cosignature/v1``.

::

    cosignature/v1\\n
    time 1700000000\\n
    log.example/test\\n                                   the whole text of the checkpoint with its last line break,
    3\\n                                                  extension lines too, signatures not
    NmQuc8JUCrEh46a/lUWwokmCzYMOsT080Z3jzmwCHsE=\\n

    payload of the signature line = big-endian u64 time || 64-byte signature of the bytes above

It means: at that time this was the largest consistent tree the witness knew for that origin. The witness's name is not among
what is signed, so one key must never count as two witnesses; the policy sees to that. A time is 1 to 2**63 - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coldchain.errors import MalformedError, SignatureError
from coldchain.keys import SIGNATURE_BYTES, PublicKey
from coldchain.tlog.spellings import MAX_NUMBER

TIME_BYTES: Final = 8
PAYLOAD_BYTES: Final = TIME_BYTES + SIGNATURE_BYTES


def signed_bytes(text: str, time: int) -> bytes:
    """The bytes a witness signs for the checkpoint ``text`` at ``time`` (Unix seconds)."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def cosign(text: str, time: int, sign: Callable[[bytes], bytes]) -> bytes:
    """The payload of a cosignature.

    Args:
        text: the checkpoint's text, as the log signed it.
        time: Unix seconds.
        sign: makes the 64-byte Ed25519 signature of a message.

    Raises:
        MalformedError: a time that cannot be written.
    """
    if not 0 < time <= MAX_NUMBER:
        raise MalformedError("cosignature: not a time")
    return time.to_bytes(TIME_BYTES, "big") + sign(signed_bytes(text, time))


def check_cosignature(text: str, payload: bytes, key: PublicKey) -> int:
    """Checks a cosignature and returns its time (Unix seconds).

    Raises:
        SignatureError: not this key's cosignature of that text.
    """
    time = int.from_bytes(payload[:TIME_BYTES], "big")
    if len(payload) != PAYLOAD_BYTES or not 0 < time <= MAX_NUMBER:
        raise SignatureError("cosignature: not a time and an Ed25519 signature")
    if not key.verify(payload[TIME_BYTES:], signed_bytes(text, time)):
        raise SignatureError("cosignature: not one of this key")
    return time
