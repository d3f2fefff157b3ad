"""From an entry, its proof and a policy to a verdict, on a machine without a network. Bytes and a time go in, nothing else.

The order, each step believing only what the ones before it proved::

    1  leaf hash           from the entry the caller holds, never from the proof
    2  origin, log key     the checkpoint is of a log the policy lists, and signed by its key
    3  cosignatures        every one by a listed witness is good; those that count are the policy's quorum
    4  inclusion           the leaf is at the index, under the checkpoint's own size and root

What it proves: a log that the witnesses saw growing, and only growing, holds this entry; so whoever follows the log sees it
too. What it does not prove: that the evidence is fresh (:attr:`Verified.newest` says when a witness last vouched for it; whoever
has a clock may ask for more), nor that the log continues the one seen here before (``checkpoint.check_extends`` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coldchain.errors import InternalError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint
from coldchain.tlog.merkle import check_inclusion, leaf_hash
from coldchain.tlog.note import SignedNote
from coldchain.tlog.policy import Policy, Verdict
from coldchain.tlog.proof import OfflineProof, parse_proof
from coldchain.tlog.vkey import NoteKey


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint with the quorum's cosignatures.

    Attributes:
        checkpoint: the log's size and root.
        note: it with all its signatures, as it came.
        log: the log's key.
        verdict: which witnesses count, with their times, and why others do not.
    """

    checkpoint: Checkpoint
    note: SignedNote
    log: NoteKey
    verdict: Verdict

    @property
    def newest(self) -> int | None:
        """When a witness that counts last vouched for it (Unix seconds); None if the policy asks for no witness."""
        return max(self.verdict.counted.values(), default=None)


@dataclass(frozen=True, slots=True)
class Verified:
    """An entry that is in the log: its index, and the checkpoint that covers it."""

    index: int
    leaf: bytes
    head: VerifiedCheckpoint

    @property
    def checkpoint(self) -> Checkpoint:
        """The log's size and root."""
        return self.head.checkpoint

    @property
    def newest(self) -> int | None:
        """When a witness that counts last vouched for it (Unix seconds)."""
        return self.head.newest


def verify_checkpoint(note: SignedNote, policy: Policy, now: datetime, limits: Limits = LIMITS) -> VerifiedCheckpoint:
    """Steps 2 and 3: a checkpoint against a policy.

    Args:
        note: the signed checkpoint.
        policy: whom to believe.
        now: the present time, with a time zone.
        limits: bounds.

    Raises:
        MalformedError: the note is no checkpoint.
        SignatureError: the log did not sign it, or a listed key's signature is bad.
        EvidenceError: a log that is not listed, or no quorum; the message names who is missing.
    """
    if now.tzinfo is None:
        raise InternalError("a time without a time zone")
    witnesses = policy.witness_keys
    opened = open_checkpoint(note, policy.log_keys, witnesses)
    cosigned = {witnesses[key].name: time for key, time in opened.opened.signed.items() if time is not None}
    return VerifiedCheckpoint(opened.checkpoint, note, opened.log, policy.require(cosigned, now, limits))


def verify_proof(
    entry: bytes, proof: bytes | OfflineProof, policy: Policy, now: datetime, limits: Limits = LIMITS
) -> Verified:
    """All four steps: an entry against its proof and a policy.

    Args:
        entry: the entry's bytes, as the caller holds them.
        proof: the offline proof, as a file's bytes or already read.
        policy: whom to believe.
        now: the present time, with a time zone.
        limits: bounds.

    Raises:
        MalformedError: the proof does not follow its format.
        SignatureError: the log did not sign the checkpoint, or a listed key's signature is bad.
        EvidenceError: a log that is not listed, no quorum, or the entry is not where the proof says.
    """
    leaf = leaf_hash(entry)
    if isinstance(proof, bytes):
        proof = parse_proof(proof, limits)
    head = verify_checkpoint(proof.checkpoint, policy, now, limits)
    check_inclusion(proof.hashes, proof.index, head.checkpoint.size, head.checkpoint.root, leaf)
    return Verified(proof.index, leaf, head)
