"""Ed25519 for python-tuf on PyNaCl alone.

securesystemslib's own Ed25519 needs the ``cryptography`` package; these two classes put libsodium in its place. Call
:func:`register` once before python-tuf parses metadata whose signatures it is to verify.

Worked example of a signature: the key ``9d61…`` of RFC 8032 test 1 signs the empty message as ``e5564300c360ac72…100b``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Key, SecretsHandler, Signature, Signer

from coldchain import canonical
from coldchain.keys import PublicKey

SCHEME = "ed25519"


class NaclKey(Key):
    """An Ed25519 public key of securesystemslib that verifies with PyNaCl."""

    @classmethod
    def from_public(cls, public: bytes) -> NaclKey:
        """From 32 raw bytes; the key id is the SHA-256 of the canonical key object, as the TUF specification says."""
        document: canonical.Object = {"keytype": SCHEME, "scheme": SCHEME, "keyval": {"public": public.hex()}}
        return cls(hashlib.sha256(canonical.encode(document)).hexdigest(), SCHEME, SCHEME, {"public": public.hex()})

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> NaclKey:
        """From a key object of metadata."""
        keytype, scheme, keyval = cls._from_dict(key_dict)
        return cls(keyid, keytype, scheme, keyval, key_dict)

    def to_dict(self) -> dict[str, Any]:
        """The key object of metadata."""
        return self._to_dict()

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        """Raises UnverifiedSignatureError when the signature is not this key's over ``data``."""
        try:
            VerifyKey(bytes.fromhex(self.keyval["public"])).verify(data, bytes.fromhex(signature.signature))
        except (BadSignatureError, ValueError) as error:
            raise UnverifiedSignatureError(str(error)) from error


class NaclSigner(Signer):
    """Signs with a seed held in memory."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self._public = NaclKey.from_public(bytes(self._key.verify_key))

    @property
    def public_key(self) -> Key:
        """The key that verifies."""
        return self._public

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> NaclSigner:
        """Not for this class: its seed comes from an encrypted key file (:mod:`~coldchain_server.signing.keyring`)."""
        raise ValueError("a key file is opened through the keyring")

    def sign(self, payload: bytes) -> Signature:
        """An Ed25519 signature over ``payload``."""
        return Signature(self._public.keyid, self._key.sign(payload).signature.hex())


def sign_with(signer: Signer) -> tuple[PublicKey, Callable[[bytes], bytes]]:
    """A signer as the client's code wants it: the public key, and what makes its 64-byte signatures."""
    key = PublicKey(bytes.fromhex(signer.public_key.keyval["public"]))
    return key, lambda message: bytes.fromhex(signer.sign(message).signature)


def register() -> None:
    """Makes python-tuf verify Ed25519 with PyNaCl."""
    KEY_FOR_TYPE_AND_SCHEME[SCHEME, SCHEME] = NaclKey
