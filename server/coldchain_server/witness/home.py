"""A witness's directory: its name, its key, its memory.

::

    DIR/vkey                  name and public key, one line: what others put into their policies
    DIR/keys/witness.json     the private key, encrypted as all key files are
    DIR/witness.sqlite        what it cosigned; see :mod:`~coldchain_server.witness.memory`

    $ cat DIR/vkey
    wit.example/one+95e309a5+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c

``vkey`` is written last, and makes the directory a witness. Whatever a crash leaves before that is taken up by the next try:
nothing was signed with it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coldchain.errors import KeyringError, MalformedError, StateError, StorageError, UsageError
from coldchain.keys import PublicKey
from coldchain.tlog.vkey import Kind, NoteKey, check_key_name, parse_vkey
from coldchain_server.signing.key_files import MODERATE, Strength
from coldchain_server.signing.keyring import Keyring
from coldchain_server.storage.durable import disk, make_directory, write_file
from coldchain_server.witness.memory import Memory

KEY_NAME: Final = "witness"
_VKEY: Final = "vkey"
_KEYS: Final = "keys"
_MEMORY: Final = "witness.sqlite"
_OURS: Final = frozenset({_KEYS, _MEMORY, f"{_MEMORY}-journal", "lost+found"})

Sign = Callable[[bytes], bytes]
"""Makes the 64-byte Ed25519 signature of a message."""


@dataclass(frozen=True, slots=True)
class WitnessHome:
    """The directory, and what is opened from it."""

    directory: Path

    @property
    def exists(self) -> bool:
        """Whether it is a witness's."""
        return (self.directory / _VKEY).is_file()

    @property
    def key(self) -> NoteKey:
        """The witness's name and public key.

        Raises:
            StateError: the directory is no witness's.
            StorageError: the file cannot be read, or is damaged.
        """
        if not self.exists:
            raise StateError(
                f"{self.directory.name or '.'} is not a witness's directory",
                todo="coldchain-server witness DIR --name NAME makes one",
            )
        path = self.directory / _VKEY
        with disk(path):
            data = path.read_bytes()
        try:
            key = parse_vkey(data.decode("utf-8").removesuffix("\n"))
        except (UnicodeDecodeError, MalformedError):
            key = None
        if key is None or key.kind is not Kind.COSIGNATURE:
            raise StorageError(f"{path.name} of the witness is damaged", todo="put back the line that was in it")
        return key

    def memory(self) -> Memory:
        """The memory, opened. Raises what :meth:`Memory.open` does."""
        return Memory.open(self.directory / _MEMORY, self.key.vkey)

    def signer(self, passphrase: Callable[[], str]) -> Sign:
        """Opens the private key.

        Raises:
            KeyringError: it is missing, the passphrase is wrong, or it is another key.
        """
        signer = self._keyring(passphrase).signer(KEY_NAME)
        if bytes.fromhex(str(signer.public_key.keyval["public"])) != self.key.key.raw:
            raise KeyringError(
                "keys/witness.json is not the key that vkey names", todo="put back the key file that was made with it"
            )
        return lambda message: bytes.fromhex(signer.sign(message).signature)

    def _keyring(self, passphrase: Callable[[], str]) -> Keyring:
        return Keyring(self.directory / _KEYS, passphrase)


def found_witness(
    directory: Path, name: str, passphrase: Callable[[], str], strength: Strength = MODERATE
) -> WitnessHome:
    """Makes a witness; one that is there already, under the same name, is left as it is.

    Args:
        directory: missing or empty, or what an earlier try left.
        name: the witness's, as it stands in its signatures; by custom a host name and path of its operator.
        passphrase: asked for when a key is made.
        strength: what a guess of the passphrase costs.

    Raises:
        UsageError: no name for a key.
        StateError: the witness there has another name, or the directory holds other files.
        KeyringError: there is no passphrase, or the directory cannot be written.
        StorageError: the disk refused.
    """
    try:
        check_key_name(name)
    except MalformedError as error:
        raise UsageError(error.what, todo="take a name such as witness.example.com/fleet") from error
    home = WitnessHome(directory)
    if home.exists:
        if home.key.name != name:
            raise StateError(
                f"this witness's name is {home.key.name!r}",
                kept="its name and key",
                todo="leave --name out, or make another witness in another directory",
            )
        return home
    make_directory(directory)
    with disk(directory):
        others = sorted(path.name for path in directory.iterdir() if path.name not in _OURS and path.name[0] != ".")
    if others:
        raise StateError(
            f"{directory.name} is no witness and not empty: it holds {', '.join(others[:3])}",
            kept="what is in it",
            todo="name a new directory, or restore the file vkey",
        )
    keyring = home._keyring(passphrase)
    if KEY_NAME not in keyring.files():
        keyring.create([KEY_NAME], strength)
    public = bytes.fromhex(str(keyring.public(KEY_NAME).keyval["public"]))
    key = NoteKey(name, Kind.COSIGNATURE, PublicKey(public))
    Memory.create(directory / _MEMORY, key.vkey)
    write_file(directory / _VKEY, f"{key.vkey}\n".encode())
    return home
