"""An endpoint's own signing key, for its receipts: a plain file that only its owner may read, in the form that openssl writes.

PKCS #8 (RFC 8410) in PEM, three lines. Worked example, the key of 32 zero bytes::

    -----BEGIN PRIVATE KEY-----
    MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
    -----END PRIVATE KEY-----

``openssl genpkey -algorithm ed25519`` makes the same. It is not encrypted: a machine that signs unattended could not keep the
passphrase anywhere better. It proves which endpoint said something, and nothing that an update trusts.
"""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from coldchain.errors import UsageError
from coldchain.install import durable
from coldchain.keys import PublicKey

_BEGIN: Final = "-----BEGIN PRIVATE KEY-----"
_END: Final = "-----END PRIVATE KEY-----"
_PREFIX: Final = bytes.fromhex("302e020100300506032b657004220420")
_MOST: Final = 1024


def new_key(path: Path) -> PublicKey:
    """Makes a key file of mode 0600; returns its public half.

    Raises:
        UsageError: there is a file already.
        StorageError: it cannot be written.
    """
    key = SigningKey.generate()
    text = "\n".join([_BEGIN, base64.b64encode(_PREFIX + bytes(key)).decode(), _END, ""])
    with durable.disk(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise UsageError(f"{path} is there already", kept="it was not touched", todo="give a new file") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
        with durable.open_folder(path.parent) as folder:
            folder.sync()
    return PublicKey(bytes(key.verify_key))


def read_key(path: Path) -> SigningKey:
    """The key in a file.

    Raises:
        UsageError: there is none, it is no such key, or others may read it.
    """
    todo = "make one: coldchain receipt DIR --new-key FILE"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            data = file.read(_MOST) if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", todo=todo) from error
    if found.st_mode & 0o077:
        raise UsageError(f"{path} may be read by others than its owner", todo=f"chmod 600 {path}, or make a new key")
    lines = data.split(b"\n")
    raw = b""
    if len(lines) == 4 and (lines[0], lines[2], lines[3]) == (_BEGIN.encode(), _END.encode(), b""):
        try:
            raw = base64.b64decode(lines[1], validate=True)
        except ValueError:
            raw = b""
    if len(raw) != len(_PREFIX) + 32 or not raw.startswith(_PREFIX):
        raise UsageError(f"{path} is no Ed25519 key in PEM", todo=todo)
    return SigningKey(raw[len(_PREFIX) :])
