"""What an endpoint keeps about the public log: whose word it takes, and the largest tree it has seen.

::

    policy                 the customer's own policy file; coldchain.json holds its SHA-256
    metadata/checkpoint    the newest checkpoint that was believed, with its signatures; every later one must continue it
    metadata/fork.txt      two signed checkpoints of which neither continues the other, if that ever came: proof against the log

A checkpoint that is lost or damaged counts as none: the next one is then the first this endpoint sees.
"""

from __future__ import annotations

import hashlib

from coldchain.errors import ColdchainError, DamagedError, EvidenceError
from coldchain.evidence import effective_policy
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import OpenedCheckpoint, open_checkpoint
from coldchain.tlog.note import SignedNote, parse_note
from coldchain.tlog.policy import Policy
from coldchain.tuf.metadata import Metadata

POLICY = "policy"
CHECKPOINT = "checkpoint"
FORK = "fork.txt"


def keep_policy(directory: ClientDirectory, data: bytes) -> str:
    """Writes the customer's own policy durably; returns what the configuration says of it. The lock must be held."""
    with directory.folder() as here:
        here.write(POLICY, data)
    return hashlib.sha256(data).hexdigest()


def policy_in_force(
    directory: ClientDirectory, config: Config, root: Metadata, limits: Limits = LIMITS
) -> Policy | None:
    """The policy that a release's evidence is judged by; None when the configuration asks for no evidence.

    Args:
        directory: the endpoint's.
        config: says whether the customer's own file or the root's policy counts.
        root: the newest accepted root.
        limits: bounds.

    Raises:
        DamagedError: the customer's file is not the one that was given to ``init``.
        EvidenceError: there is no policy, or it is none.
    """
    if not config.policy:
        return None
    own = None
    if config.policy != ROOT_POLICY:
        with directory.folder() as here:
            own = here.read(POLICY, limits.log_policy_bytes)
        if own is None or hashlib.sha256(own).hexdigest() != config.policy:
            raise DamagedError(
                f"the log policy in {directory.path / POLICY} is missing or changed",
                kept="what is installed stays in use",
                todo="run `coldchain init` again with --policy FILE",
            )
    return effective_policy(root, own, limits)


def seen_checkpoint(directory: ClientDirectory, policy: Policy, limits: Limits = LIMITS) -> OpenedCheckpoint | None:
    """The newest checkpoint believed here, of a log the policy lists; None when there is none (yet)."""
    with directory.folder("metadata") as folder:
        data = folder.read(CHECKPOINT, limits.note_bytes)
    try:
        return open_checkpoint(parse_note(data, limits), policy.log_keys) if data is not None else None
    except ColdchainError:
        return None


def keep_checkpoint(directory: ClientDirectory, note: SignedNote) -> None:
    """Writes the checkpoint durably. The lock must be held."""
    with directory.folder("metadata") as folder:
        folder.write(CHECKPOINT, note.encode())


def fork_found(directory: ClientDirectory, one: SignedNote, other: SignedNote, why: str) -> EvidenceError:
    """Keeps the two signed checkpoints as proof; returns the error that speaks of it."""
    proof = b"\n".join(
        [
            b"Two checkpoints signed by one log of which neither continues the other. Each is a signed note.\n",
            one.encode(),
            other.encode(),
        ]
    )
    with directory.folder("metadata") as folder:
        folder.write(FORK, proof)
    return EvidenceError(
        f"the log has told two different stories: {why}",
        todo=f"do not go on; publish {directory.metadata / FORK}: it holds both signed checkpoints and proves it",
    )
