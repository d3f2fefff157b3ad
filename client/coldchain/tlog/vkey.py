"""Keys of notes as text ("vkeys"), C2SP signed-note. Two kinds are known here, both Ed25519.

::

    log.example/test+a7468cf6+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop      private half: 32 x 00
    wit.example/one+95e309a5+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c       private half: 32 x 01
    |               |        `- base64( kind[1] || public key[32] ), may contain "+"
    |               `- key id: the first 4 bytes of SHA256( name || 0x0A || kind || public key ), lower-case hexadecimal
    `- name: not empty, no space of any alphabet, no "+"

    kind 0x01  Ed25519 over the note's text                    (a log)
    kind 0x04  Ed25519 over time and text, cosignature/v1       (a witness)

Name and key id together say which key a signature belongs to; neither proves anything. A key of another kind (0x02 ECDSA,
0x06 ML-DSA-44, ...) is no error: a log or witness may carry one beside a key that is known here. Its id is not recomputed,
since every kind has a rule of its own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from coldchain.errors import MalformedError
from coldchain.keys import KEY_BYTES, PublicKey
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.spellings import decode64, encode64

KEY_ID_BYTES: Final = 4

_KEY_ID = re.compile(r"[0-9a-f]{8}\Z")


class Kind(IntEnum):
    """What a key signs: the byte before the public key."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A named key.

    Raises:
        MalformedError: the name cannot stand in a signature line.
    """

    name: str
    kind: Kind
    key: PublicKey

    def __post_init__(self) -> None:
        check_key_name(self.name)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that stand before every signature."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key.raw).digest()[:KEY_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The text form."""
        return f"{self.name}+{self.key_id.hex()}+{encode64(bytes([self.kind]) + self.key.raw)}"


def check_key_name(name: str) -> str:
    """Returns ``name`` if a key may have it.

    Raises:
        MalformedError: empty, with a space or control character, with "+", or not expressible in UTF-8.
    """
    if not name or "+" in name or any(char.isspace() or char < " " or "\ud800" <= char <= "\udfff" for char in name):
        raise MalformedError(f"key name {name[:80]!r}: empty, or with a space or a plus sign")
    return name


def parse_vkey(text: str, limits: Limits = LIMITS) -> NoteKey | None:
    """A key from its text form.

    Returns:
        The key, or None for a key of a kind that is not known here.

    Raises:
        MalformedError: not the form above, or an id that is not the key's.
    """
    parts = text.split("+", 2)
    if len(text) > limits.vkey_bytes or len(parts) != 3 or not _KEY_ID.match(parts[1]):
        raise MalformedError(f"vkey {text[:80]!r}: not name+id+key")
    name = check_key_name(parts[0])
    raw = decode64(parts[2], f"vkey {name[:80]!r}")
    if len(raw) < 2:
        raise MalformedError(f"vkey {name[:80]!r}: no key")
    if raw[0] not in tuple(Kind):
        return None
    if len(raw) != 1 + KEY_BYTES:
        raise MalformedError(f"vkey {name[:80]!r}: {len(raw) - 1} bytes where {KEY_BYTES} belong")
    key = NoteKey(name, Kind(raw[0]), PublicKey(raw[1:]))
    if key.vkey != text:
        raise MalformedError(f"vkey {name[:80]!r}: the id is not the key's")
    return key
