"""Evidence offline: what is accepted, and everything that is not, each by the step that has to catch it."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from coldchain.errors import ColdchainError, EvidenceError, InternalError, MalformedError, SignatureError
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import leaf_hash, root_from_leaves
from coldchain.tlog.note import SignedNote
from coldchain.tlog.offline import verify_checkpoint, verify_proof
from coldchain.tlog.policy import parse_policy
from coldchain.tlog.proof import OfflineProof
from coldchain.tlog.vkey import Kind
from tests.client.tlog.logs import LOG, ORIGIN, SIGNED_AT, MemoryLog, Signer, signed, witness

NOW = datetime(2026, 6, 1, tzinfo=UTC)
A, B, C = (witness(number) for number in (10, 11, 12))
POLICY_TEXT = f"""log {LOG.vkey}
witness a {A.vkey}
witness b {B.vkey}
witness c {C.vkey}
# coldchain: witness c jurisdiction=jp from=2023-01-01 until=2024-01-01
group two 2 a b c
quorum two
"""
POLICY = parse_policy(POLICY_TEXT.encode())


def test_an_entry_with_its_evidence() -> None:
    for size in (1, 2, 3, 8, 300):
        log = MemoryLog.of(size)
        for index in {0, size // 2, size - 1}:
            proof = log.proof(index, LOG, A, B, extra=b"anything")
            for form in (proof, proof.encode()):
                found = verify_proof(log.entries[index], form, POLICY, NOW)
                assert (found.index, found.checkpoint) == (index, log.checkpoint())
                assert found.leaf == leaf_hash(log.entries[index])
                assert found.head.verdict.counted == {"a": SIGNED_AT, "b": SIGNED_AT}
                assert found.head.note == proof.checkpoint
                assert found.head.log == LOG.key
                assert found.newest == SIGNED_AT


def test_any_two_of_three_and_no_one() -> None:
    log = MemoryLog.of(5)
    for count in range(4):
        for there in itertools.combinations((A, B, C), count):
            for order in itertools.permutations((LOG, *there)):
                proof = log.proof(3, *order)
                if count >= 2:
                    assert len(verify_proof(log.entries[3], proof, POLICY, NOW).head.verdict.counted) == count
                else:
                    with pytest.raises(EvidenceError, match="no quorum of witnesses: two: "):
                        verify_proof(log.entries[3], proof, POLICY, NOW)
    with pytest.raises(EvidenceError, match=r"1 of 2 needed \(b: no cosignature; c: no cosignature\)"):
        verify_proof(log.entries[3], log.proof(3, LOG, A), POLICY, NOW)
    # one witness twice, or strangers, are not two witnesses
    for more in ((A, A), (A, witness(20), witness(21)), (Signer("wit.example/other", Kind.COSIGNATURE, A.seed), A)):
        with pytest.raises(EvidenceError, match="no quorum"):
            verify_proof(log.entries[3], log.proof(3, LOG, *more), POLICY, NOW)


def test_the_newest_time_and_the_dates() -> None:
    log = MemoryLog.of(5)
    checkpoint = log.checkpoint()
    note = SignedNote(
        checkpoint.text, (LOG.sign(checkpoint.text), A.sign(checkpoint.text, 1_750_000_000), C.sign(checkpoint.text))
    )
    assert verify_checkpoint(note, POLICY, NOW).newest == 1_750_000_000
    late = replace(note, signatures=(*note.signatures[:2], C.sign(checkpoint.text, 1_704_067_200)))  # 2024-01-01
    with pytest.raises(EvidenceError, match="c: it signed when its days were over"):
        verify_checkpoint(late, POLICY, NOW)
    early = datetime(2025, 6, 14, tzinfo=UTC)  # a day and more before what A says
    with pytest.raises(EvidenceError, match="a: it signed at a time this machine's clock has not reached"):
        verify_checkpoint(note, POLICY, early)
    nobody = parse_policy(f"log {LOG.vkey}\nquorum none\n".encode())
    assert verify_checkpoint(signed(checkpoint, LOG), nobody, NOW).newest is None
    with pytest.raises(InternalError):
        verify_checkpoint(note, POLICY, datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_wrong_entry_index_or_path() -> None:
    log = MemoryLog.of(9)
    proof = log.proof(3, LOG, A, B)
    for entry in [*log.entries[:3], *log.entries[4:], b"", b"entry 3 "]:
        with pytest.raises(EvidenceError, match="not under this root"):
            verify_proof(entry, proof, POLICY, NOW)
    for index in range(11):
        if index != 3:
            with pytest.raises(EvidenceError, match="inclusion proof"):
                verify_proof(log.entries[3], replace(proof, index=index), POLICY, NOW)
    for hashes in (proof.hashes[1:], (*proof.hashes, b"x" * 32), (), proof.hashes[::-1]):
        with pytest.raises(EvidenceError, match="inclusion proof"):
            verify_proof(log.entries[3], replace(proof, hashes=hashes), POLICY, NOW)
    # right path, but to the root of another size of the same log
    other = MemoryLog.of(10)
    with pytest.raises(EvidenceError, match="not under this root"):
        verify_proof(log.entries[3], replace(proof, checkpoint=other.proof(3, LOG, A, B).checkpoint), POLICY, NOW)


def test_a_log_of_one_for_one_victim() -> None:
    """A forked log with the right keys but no witnesses, and with a witness that signed something else."""
    secret = leaf_hash(b"made for one endpoint")
    forked = Checkpoint(ORIGIN, 1, root_from_leaves([secret]))
    proof = OfflineProof(0, (), signed(forked, LOG))
    with pytest.raises(EvidenceError, match="no quorum"):
        verify_proof(b"made for one endpoint", proof, POLICY, NOW)
    public = signed(MemoryLog.of(9).checkpoint(), A, B).signatures
    with pytest.raises(SignatureError, match=r"wit\.example/10.*bad"):
        verify_proof(
            b"made for one endpoint",
            replace(proof, checkpoint=SignedNote(forked.text, (LOG.sign(forked.text), *public))),
            POLICY,
            NOW,
        )


def test_the_log_must_be_listed_and_have_signed() -> None:
    log = MemoryLog.of(3)
    with pytest.raises(SignatureError, match="no signature of the log"):
        verify_proof(log.entries[0], log.proof(0, A, B), POLICY, NOW)
    with pytest.raises(SignatureError, match="no signature of the log"):
        verify_proof(log.entries[0], log.proof(0, Signer(ORIGIN, Kind.ED25519, 5), A, B), POLICY, NOW)
    other = Checkpoint("log.example/unknown", 3, log.root())
    proof = replace(log.proof(0), checkpoint=signed(other, LOG, A, B))
    with pytest.raises(EvidenceError, match="not a log that is known"):
        verify_proof(log.entries[0], proof, POLICY, NOW)


@pytest.mark.parametrize("extra", [b"", b"x"])
def test_every_bit_of_a_proof_counts(extra: bytes) -> None:
    log = MemoryLog.of(5)
    policy = parse_policy(POLICY_TEXT.replace("group two 2", "group two 3").encode())
    data = log.proof(3, LOG, A, B, C, extra=extra).encode()
    accepted = 0
    # with extra: only the lines before the index, the rest is the same
    for bit in range(8 * (data.index(b"index") if extra else len(data))):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with suppress(MalformedError, SignatureError, EvidenceError):
            verify_proof(log.entries[3], bytes(damaged), policy, NOW)
            accepted += 1
            assert data[: bit // 8].endswith((b"extra ", b"extra e", b"extra eA"))
    assert bool(accepted) == bool(extra)  # extra is the one thing nobody vouches for
    for length in range(0, len(data), 3):
        with pytest.raises(ColdchainError):
            verify_proof(log.entries[3], data[:length], policy, NOW)
