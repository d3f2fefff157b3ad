"""Whom customers are told to believe about the public log: the policy that the root carries, and the log's own key.

An operator writes the witnesses, groups and quorum as a C2SP policy file; the log's line is put before them, since the key is made
here::

    log coldchain-log+1f2e3d4c+AQ…                       put there by the ceremony
    witness one wit.example/one+95e309a5+BIqI… https://wit.example/one
    witness two …
    group quorum-2 2 one two
    quorum quorum-2

Without such a file the policy is ``quorum none``: the log vouches for itself, which proves to nobody that it has one story.
A customer may set a policy of his own in its place.
"""

from __future__ import annotations

from typing import Final

from coldchain import canonical
from coldchain.errors import ColdchainError, KeyringError, MalformedError, StateError, UsageError
from coldchain.evidence import ROOT_FORMAT, effective_policy
from coldchain.keys import PublicKey
from coldchain.tlog.policy import Policy, parse_policy
from coldchain.tlog.vkey import Kind, NoteKey, check_key_name
from coldchain.tuf.metadata import parse_metadata
from coldchain_server.log.public_log import Sign
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.nacl_signer import NaclKey
from coldchain_server.signing.roles import RoleState, encode

LOG_KEY: Final = "log"
NO_WITNESS: Final = b"quorum none\n"


def check_log_name(name: str) -> None:
    """Raises UsageError for a name that no log may have."""
    try:
        check_key_name(name)
    except MalformedError as error:
        raise UsageError(f"log name: {error.what}", todo="a name like log.example/coldchain") from error


def note_key(name: str, key: NaclKey) -> NoteKey:
    """The log's key as notes know it. Raises MalformedError for a name that no key may have."""
    return NoteKey(name, Kind.ED25519, PublicKey(bytes.fromhex(key.keyval["public"])))


def complete_policy(log: NoteKey, lines: bytes = NO_WITNESS) -> bytes:
    """A whole policy file: the log's line, and the operator's lines.

    Raises:
        UsageError: together they are no policy.
    """
    data = f"log {log.vkey}\n".encode() + lines
    try:
        policy = parse_policy(data)
    except MalformedError as error:
        raise UsageError(
            f"log policy: {error.what.removeprefix('log policy: ')}",
            todo="write witness, group and quorum lines, no log line",
        ) from error
    if policy.log_keys != [log]:
        raise UsageError("log policy: it names another log", todo="leave the log lines out")
    return data


def root_member(policy: bytes) -> canonical.Object:
    """The member of the root that carries a policy."""
    return {"format": ROOT_FORMAT, "log_policy": list(policy.decode().splitlines())}


def policy_of(state: RoleState) -> Policy:
    """The policy that the published root carries. Raises StateError when it carries none."""
    try:
        return effective_policy(parse_metadata(encode(state.root), "root", name="root"), None)
    except ColdchainError as error:
        raise StateError(
            f"the root carries no log policy: {error.what}", todo="coldchain-server keys policy FILE"
        ) from error


def log_signer(keyring: Keyring, log: NoteKey) -> Sign:
    """How the log signs.

    Args:
        keyring: must hold the log's key.
        log: the key that the policy names.

    Raises:
        KeyringError: the key is not here, or another one.
    """
    if note_key(log.name, keyring.public(LOG_KEY)) != log:
        raise KeyringError(f"the root's log policy does not name the key {LOG_KEY!r} that is here")
    signer = keyring.signer(LOG_KEY)
    return lambda message: bytes.fromhex(signer.sign(message).signature)
