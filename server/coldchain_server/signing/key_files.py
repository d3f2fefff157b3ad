"""One key, one file: an Ed25519 seed in a box that a passphrase opens. Canonical JSON, shown with line breaks.

::

    {"box":"<hex: 24 bytes nonce, 16 bytes tag, 32 bytes of encrypted seed>",
     "format":"coldchain-key-1",
     "kdf":"argon2id","memory":268435456,"operations":3,"salt":"<hex: 16 bytes>",
     "public":"<hex: 32 bytes>"}

The passphrase and salt give 32 bytes through Argon2id (``memory`` in bytes, ``operations`` passes); those open a SecretBox
(XSalsa20-Poly1305). The public key stands in the clear, so that a role finds its keys without a passphrase. Files are written with
mode 0600. Source: libsodium's documentation of ``crypto_pwhash`` and ``crypto_secretbox``.

A key that never leaves its device has a file without box, ``{"format":"coldchain-key-uri-1","public":…,"uri":"hsm:…"}``; the signer
of that URI scheme is securesystemslib's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nacl import pwhash
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.signing import SigningKey
from nacl.utils import random as random_bytes

from coldchain import canonical
from coldchain.canonical import Fields
from coldchain.errors import KeyringError, MalformedError

FORMAT: Final = "coldchain-key-1"
URI_FORMAT: Final = "coldchain-key-uri-1"
MOST_BYTES: Final = 4096
MOST_MEMORY: Final = 4 << 30
_HEX: Final = set("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Strength:
    """What a guess of the passphrase costs: passes and bytes of memory."""

    operations: int = pwhash.argon2id.OPSLIMIT_MODERATE
    memory: int = pwhash.argon2id.MEMLIMIT_MODERATE


MODERATE: Final = Strength()
DEMO: Final = Strength(pwhash.argon2id.OPSLIMIT_MIN, pwhash.argon2id.MEMLIMIT_MIN)
"""For demonstrations and tests only: a short passphrase falls in seconds."""

Derive = Callable[[bytes, Strength], bytes]
"""(salt, strength) -> 32 bytes from the passphrase."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A parsed key file; exactly one of ``box`` and ``uri`` is there."""

    public: bytes
    salt: bytes = b""
    strength: Strength = MODERATE
    box: bytes = b""
    uri: str = ""

    def encode(self) -> bytes:
        """The canonical bytes."""
        if self.uri:
            return canonical.encode({"format": URI_FORMAT, "public": self.public.hex(), "uri": self.uri})
        return canonical.encode(
            {
                "format": FORMAT,
                "kdf": "argon2id",
                "operations": self.strength.operations,
                "memory": self.strength.memory,
                "salt": self.salt.hex(),
                "box": self.box.hex(),
                "public": self.public.hex(),
            }
        )

    def open(self, derive: Derive, name: str) -> bytes:
        """The seed, 32 bytes.

        Raises:
            KeyringError: the passphrase is wrong, the file was changed, or the key is not in it.
        """
        if self.uri:
            raise KeyringError(f"key {name} lives in {self.uri.partition(':')[0]!r}, not in its file")
        try:
            seed = SecretBox(derive(self.salt, self.strength)).decrypt(self.box)
        except CryptoError as error:
            raise KeyringError(
                f"key {name} does not open: the passphrase is wrong, or the file was changed",
                todo="set COLDCHAIN_PASSPHRASE, or type the passphrase that the keys were made with",
            ) from error
        if bytes(SigningKey(seed).verify_key) != self.public:
            raise KeyringError(f"key {name}: the public key in the clear is not that of the seed in the box")
        return seed


def derive(passphrase: bytes, salt: bytes, strength: Strength) -> bytes:
    """32 bytes from a passphrase by Argon2id."""
    return pwhash.argon2id.kdf(
        SecretBox.KEY_SIZE, passphrase, salt, opslimit=strength.operations, memlimit=strength.memory
    )


def new_salt() -> bytes:
    """A random salt of the length Argon2id wants."""
    return random_bytes(pwhash.argon2id.SALTBYTES)


def seal(derive: Derive, salt: bytes, strength: Strength) -> KeyFile:
    """A new random key in a box."""
    key = SigningKey.generate()
    box = SecretBox(derive(salt, strength)).encrypt(bytes(key))
    return KeyFile(bytes(key.verify_key), salt, strength, bytes(box))


def parse_key_file(data: bytes, name: str) -> KeyFile:
    """A key file from bytes, strictly.

    Raises:
        KeyringError: not a key file, or one that asks for more memory than is sane.
    """
    try:
        if len(data) > MOST_BYTES:
            raise MalformedError("longer than any key file")
        fields = Fields(canonical.read_canonical(data, name), name)
        format_ = fields.text("format")
        public = _hex(fields, "public", 32)
        if format_ == URI_FORMAT:
            file = KeyFile(public, uri=fields.text("uri"))
        elif format_ == FORMAT:
            fields.constant("kdf", "argon2id")
            strength = Strength(
                fields.integer("operations", least=1, most=100),
                fields.integer("memory", least=pwhash.argon2id.MEMLIMIT_MIN, most=MOST_MEMORY),
            )
            if strength.memory % 1024:
                raise MalformedError("memory is not in whole KiB, in which Argon2id counts")
            box_bytes = SecretBox.NONCE_SIZE + SecretBox.MACBYTES + 32
            file = KeyFile(public, _hex(fields, "salt", 16), strength, _hex(fields, "box", box_bytes))
        else:
            raise MalformedError(f"format {format_[:40]!r} is not a key file's")
        fields.done()
    except MalformedError as error:
        raise KeyringError(f"key {name}: {error.what}", todo="restore the file from a backup") from error
    return file


def _hex(fields: Fields, name: str, length: int) -> bytes:
    text = fields.text(name)
    if len(text) != 2 * length or not set(text) <= _HEX:
        raise MalformedError(f"{name} is not {length} bytes in lower-case hexadecimal")
    return bytes.fromhex(text)
