"""What an endpoint keeps about the public log: whose word it takes, and the largest tree it has seen.

::

    policy                 the customer's own policy file; coldchain.json holds its SHA-256
    metadata/checkpoint    the largest checkpoint that was believed of the log used last, with its signatures
    metadata/checkpoint-…  the same of every other log, under 16 digits of its origin's SHA-256
    metadata/fork.txt      two signed checkpoints of which neither continues the other, if that ever came: proof against the log

Every later checkpoint of a log must continue the one kept of it, also after another log of the policy was used in between: else
whoever runs two logs could go to the other one and come back with a new story. Pinning another root forgets none of this, since
it says nothing about the log; a log whose key the policy no longer lists is no longer known, and what is kept of it is not read.

A checkpoint that is lost or damaged counts as none: the next one is then the first this endpoint sees.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from coldchain.errors import ColdchainError, DamagedError, EvidenceError, StorageError, UsageError
from coldchain.evidence import effective_policy
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain.install.durable import Folder
from coldchain.install.policy_file import read_customer_policy
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import OpenedCheckpoint, open_checkpoint, parse_checkpoint
from coldchain.tlog.note import SignedNote, parse_note
from coldchain.tlog.policy import Demands, Policy
from coldchain.tuf.metadata import Metadata

POLICY = "policy"
CHECKPOINT = "checkpoint"
FORK = "fork.txt"
_KEPT = re.compile(rf"{CHECKPOINT}(?:-[0-9a-f]{{16}})?\Z")


def keep_policy(directory: ClientDirectory, data: bytes) -> str:
    """Writes the customer's own policy durably; returns what the configuration says of it. The lock must be held."""
    with directory.folder() as here:
        here.write(POLICY, data)
    return hashlib.sha256(data).hexdigest()


def policy_in_force(
    directory: ClientDirectory, config: Config, root: Metadata, limits: Limits = LIMITS
) -> Policy | None:
    """The policy that a release's evidence is judged by, with what the customer's ``policy.toml`` asks for on top of it.

    None when the configuration asks for no evidence.

    Args:
        directory: the endpoint's.
        config: says whether the customer's own file or the root's policy counts.
        root: the newest accepted root.
        limits: bounds.

    Raises:
        DamagedError: the customer's file is not the one that was given to ``init``.
        EvidenceError: there is no policy, or it is none.
        UsageError: ``policy.toml`` is not in order.
    """
    demands = read_customer_policy(directory, limits).demands
    if not config.policy:
        if demands != Demands():
            raise UsageError(
                "policy.toml: section log asks for more than this endpoint's log policy, and this endpoint has none",
                kept="what is installed stays in use",
                todo="run `coldchain init` again, which gives it one",
            )
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
    return replace(effective_policy(root, own, limits), demands=demands)


def is_memory(name: str) -> bool:
    """Whether a file of ``metadata/`` is what is known of the logs, and not of the roles."""
    return name == FORK or _KEPT.match(name) is not None


def seen_checkpoint(
    directory: ClientDirectory, policy: Policy, origin: str | None = None, limits: Limits = LIMITS
) -> OpenedCheckpoint | None:
    """The largest checkpoint believed here of a log the policy lists; None when there is none (yet).

    Args:
        directory: the endpoint's.
        policy: whose logs are known.
        origin: the log's; None for the one that was used last.
        limits: bounds.
    """
    with directory.folder("metadata") as folder:
        found = [_opened(folder, CHECKPOINT, policy, limits)]
        if origin is not None:
            found.append(_opened(folder, _beside(origin), policy, limits))
    known = [one for one in found if one is not None and origin in (None, one.checkpoint.origin)]
    return max(known, key=lambda one: one.checkpoint.size, default=None)


def _opened(folder: Folder, name: str, policy: Policy, limits: Limits) -> OpenedCheckpoint | None:
    data = folder.read(name, limits.note_bytes)
    try:
        return open_checkpoint(parse_note(data, limits), policy.log_keys) if data is not None else None
    except ColdchainError:
        return None


def _beside(origin: str) -> str:
    return f"{CHECKPOINT}-{hashlib.sha256(origin.encode()).hexdigest()[:16]}"


def keep_checkpoint(directory: ClientDirectory, note: SignedNote, limits: Limits = LIMITS) -> None:
    """Writes the checkpoint durably; one of another log that stood there is moved aside first. The lock must be held."""
    with directory.folder("metadata") as folder:
        there = folder.read(CHECKPOINT, limits.note_bytes)
        origin = _origin(there, limits)
        if there is not None and origin not in (None, parse_checkpoint(note.text).origin):
            assert origin is not None
            folder.write(_beside(origin), there)
        folder.write(CHECKPOINT, note.encode())


def _origin(data: bytes | None, limits: Limits) -> str | None:
    try:
        return parse_checkpoint(parse_note(data, limits).text).origin if data is not None else None
    except ColdchainError:
        return None


def fork_found(directory: ClientDirectory, one: SignedNote, other: SignedNote, why: str) -> EvidenceError:
    """Keeps the two signed checkpoints as proof; returns the error that speaks of it, also when the disk has no room for it."""
    proof = b"\n".join(
        [
            b"Two checkpoints signed by one log of which neither continues the other. Each is a signed note.\n",
            one.encode(),
            other.encode(),
        ]
    )
    what = f"the log has told two different stories: {why}"
    try:
        with directory.folder("metadata") as folder:
            folder.write(FORK, proof)
    except StorageError as error:
        return EvidenceError(
            f"{what}; the proof of it could not be kept ({error.what})",
            todo="do not go on; make room and run it again, so that the proof is kept and can be published",
        )
    return EvidenceError(
        what, todo=f"do not go on; publish {directory.metadata / FORK}: it holds both signed checkpoints and proves it"
    )
