"""The keyring: a directory of key files, ``keys/<name>.json``. Roles find their keys by key id, people by name.

Offline keys (root, targets) are meant to be carried away: a keyring works with whatever files are there, and what is missing is an
error only when it is needed. The passphrase is asked for once, and stretched once per salt, for all keys of a ceremony share one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from securesystemslib.signer import Signer

from coldchain.errors import KeyringError
from coldchain_server.signing.key_files import (
    MODERATE,
    MOST_BYTES,
    KeyFile,
    Strength,
    derive,
    new_salt,
    parse_key_file,
    seal,
)
from coldchain_server.signing.nacl_signer import NaclKey, NaclSigner
from coldchain_server.storage.durable import fsync_directory, make_directory, temporary

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")


class Keyring:
    """Key files below a directory.

    Args:
        directory: holds ``<name>.json``.
        passphrase: asked once, when the first key is needed.
    """

    def __init__(self, directory: Path, passphrase: Callable[[], str]) -> None:
        self.directory = directory
        self._ask = passphrase
        self._passphrase: bytes | None = None
        self._derived: dict[tuple[bytes, Strength], bytes] = {}
        self._signers: dict[str, Signer] = {}

    def _derive(self, salt: bytes, strength: Strength) -> bytes:
        if self._passphrase is None:
            self._passphrase = self._ask().encode()
        if (salt, strength) not in self._derived:
            self._derived[salt, strength] = derive(self._passphrase, salt, strength)
        return self._derived[salt, strength]

    def create(self, names: Iterable[str], strength: Strength = MODERATE) -> dict[str, NaclKey]:
        """New keys of these names, in files that must not exist yet; returns their public halves by name.

        Raises:
            KeyringError: a name is unfit or taken, or the directory cannot be written.
        """
        for left in self.directory.glob(".*.json.*"):  # what a process that died here was writing
            left.unlink(missing_ok=True)
        salt = new_salt()
        made = {}
        for name in names:
            if not _NAME.match(name):
                raise KeyringError(f"{name[:40]!r} is not a key's name: lower-case letters, digits and dashes")
            file = seal(self._derive, salt, strength)
            self._write(name, file)
            made[name] = NaclKey.from_public(file.public)
        return made

    def _write(self, name: str, file: KeyFile) -> None:
        try:
            make_directory(self.directory)
            self.directory.chmod(0o700)
        except OSError as error:
            raise KeyringError(f"key {name} cannot be written: {error.strerror}") from error
        _write_new(self.directory / f"{name}.json", file)

    def files(self) -> dict[str, KeyFile]:
        """All key files that can be read, by name. One that cannot is missed only where its key is needed."""
        return {name: file for name, file in self._read().items() if isinstance(file, KeyFile)}

    def _read(self) -> dict[str, KeyFile | KeyringError]:
        found: dict[str, KeyFile | KeyringError] = {}
        for path in sorted(self.directory.glob("*.json")):
            try:
                found[path.stem] = parse_key_file(path.read_bytes(), path.stem)
            except OSError as error:
                found[path.stem] = KeyringError(f"key {path.stem} cannot be read: {error.strerror}")
            except KeyringError as error:
                found[path.stem] = error
        return found

    def names(self) -> dict[str, str]:
        """Key id -> name, of the keys at hand."""
        return {NaclKey.from_public(file.public).keyid: name for name, file in self.files().items()}

    def public(self, name: str) -> NaclKey:
        """The public half of a key. Raises KeyringError when there is no such key."""
        return NaclKey.from_public(self._file(name).public)

    def _file(self, name: str) -> KeyFile:
        found = self._read().get(name)
        if isinstance(found, KeyringError):
            raise found
        if found is None:
            raise KeyringError(f"there is no key {name!r} here", todo="bring its file into the keys directory")
        return found

    def signer(self, name: str) -> Signer:
        """A signer; opens the key file, or goes through its URI.

        Raises:
            KeyringError: no such key, a wrong passphrase, or no signer for its URI.
        """
        if name not in self._signers:
            file = self._file(name)
            if file.uri:
                self._signers[name] = _by_uri(name, file)
            else:
                self._signers[name] = NaclSigner(file.open(self._derive, name))
        return self._signers[name]

    def signers(self, keyids: Iterable[str], threshold: int, what: str, prefer: str = "") -> list[Signer]:
        """As many signers as a role needs, of the keys at hand.

        Args:
            keyids: the role's keys.
            threshold: how many must sign.
            what: the role, for the message.
            prefer: keys whose names start with this come first.

        Raises:
            KeyringError: fewer keys are here than the threshold.
        """
        names = self.names()
        here = sorted(
            (names[keyid] for keyid in keyids if keyid in names), key=lambda name: (not name.startswith(prefer), name)
        )
        if len(here) < threshold:
            damaged = [name for name, file in self._read().items() if isinstance(file, KeyringError)]
            raise KeyringError(
                f"{what} needs {threshold} keys, {len(here)} are here: {', '.join(here) or 'none'}"
                + (f" (damaged: {', '.join(damaged)})" if damaged else ""),
                todo="bring the missing key files into the keys directory",
            )
        return [self.signer(name) for name in here[:threshold]]


def _write_new(target: Path, file: KeyFile) -> None:
    """A key file that is durable before it has its name, and replaces no key that is there."""
    unfinished = temporary(target)
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(file.encode())
                opened.flush()
                os.fsync(opened.fileno())
            os.link(unfinished, target)  # unlike a rename, it replaces no key that is there
        finally:
            unfinished.unlink()
        fsync_directory(target.parent)
    except FileExistsError as error:
        raise KeyringError(f"key {target.stem} exists already", kept="the key that is there") from error
    except OSError as error:
        raise KeyringError(f"key {target.stem} cannot be written: {error.strerror}") from error


def new_key_file(path: Path, passphrase: Callable[[], str], strength: Strength = MODERATE) -> NaclKey:
    """One new key in a file of its own, outside any keyring; returns its public half.

    Raises:
        KeyringError: the file is there, or cannot be written.
    """
    if path.exists():
        raise KeyringError(f"{path.name} exists already", kept="the key that is there", todo="leave --new-key out")
    file = seal(lambda salt, cost: derive(passphrase().encode(), salt, cost), new_salt(), strength)
    _write_new(path, file)
    return NaclKey.from_public(file.public)


def open_key_file(path: Path, passphrase: Callable[[], str]) -> Signer:
    """The signer of one key file, wherever it lies.

    Raises:
        KeyringError: it is not there or no key file, the passphrase is wrong, or no signer is known for its URI.
    """
    try:
        with path.open("rb") as opened:
            file = parse_key_file(opened.read(MOST_BYTES + 1), path.name)
    except OSError as error:
        raise KeyringError(
            f"key file {path.name} cannot be read: {error.strerror}", todo="--new-key makes one"
        ) from error
    if file.uri:
        return _by_uri(path.name, file)
    return NaclSigner(file.open(lambda salt, cost: derive(passphrase().encode(), salt, cost), path.name))


def _by_uri(name: str, file: KeyFile) -> Signer:
    try:
        return Signer.from_priv_key_uri(file.uri, NaclKey.from_public(file.public))
    except (ValueError, ImportError) as error:
        raise KeyringError(f"key {name}: no signer for {file.uri.partition(':')[0]!r}: {error}") from error
