"""Ed25519 public keys as TUF metadata writes them. The only signature scheme this client knows.

Worked example, the key whose private half is 32 zero bytes::

    {"keytype":"ed25519","keyval":{"public":"3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"},
     "scheme":"ed25519"}
    key id = SHA-256 of exactly these bytes (without the line break)

What a key id is worth: nothing. It is a label by which a signature finds its key. Section 4.3 of the TUF
specification asks clients to recompute it; TAP 12 withdrew that, other writers add members such as
``keyid_hash_algorithms`` that change the hash, and the danger behind the rule (one key counted twice under two ids)
is met where it belongs: signatures are counted by the *value* of the key. So any id is accepted and none is trusted.

Verification is libsodium's (through PyNaCl), which refuses keys of small order, non-canonical points and
non-canonical scalars: a signature has one spelling. Keys outside the prime-order group are no keys here, so that one
private key cannot pass as several public ones.

Sources: TUF specification 1.0, section 4.2 (keys); RFC 8032; https://github.com/theupdateframework/taps TAP 12.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from coldchain import canonical
from coldchain.canonical import JSON, Object
from coldchain.errors import MalformedError

KEY_TYPE = "ed25519"
KEY_BYTES = 32
SIGNATURE_BYTES = 64

_PUBLIC = re.compile(r"[0-9a-fA-F]{64}\Z")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key. Two keys are the same exactly when their 32 bytes are.

    Args:
        raw: the 32 bytes of the compressed point.

    Raises:
        MalformedError: not 32 bytes, or not a point of the prime-order group.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES or not crypto_core_ed25519_is_valid_point(self.raw):
            raise MalformedError("not an Ed25519 public key")

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (64 bytes) over ``message`` was made with this key's private half."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        try:
            VerifyKey(self.raw).verify(message, signature)
        except BadSignatureError:
            return False
        return True

    def as_json(self) -> Object:
        """The key object as it stands in ``keys`` of TUF metadata."""
        return {"keytype": KEY_TYPE, "scheme": KEY_TYPE, "keyval": {"public": self.raw.hex()}}

    @property
    def keyid(self) -> str:
        """SHA-256 of the canonical key object, lower-case hexadecimal: the id this project writes."""
        return hashlib.sha256(canonical.encode(self.as_json())).hexdigest()


def parse_key(value: JSON, what: str) -> PublicKey | None:
    """A key object from TUF metadata.

    Returns:
        The key; None for a type or scheme this client does not know, and for an Ed25519 key whose value is no
        key. Neither is fatal: such a key is never counted, and a new kind of key can be introduced beside the old.

    Raises:
        MalformedError: not an object with a ``keytype``, a ``scheme`` and an object ``keyval``.
    """
    fields = canonical.Fields(value, what)
    kind = (fields.text("keytype", most=128), fields.text("scheme", most=128))
    public = fields.object("keyval").get("public")
    if kind != (KEY_TYPE, KEY_TYPE) or not isinstance(public, str) or not _PUBLIC.match(public):
        return None
    try:
        return PublicKey(bytes.fromhex(public))
    except MalformedError:
        return None
