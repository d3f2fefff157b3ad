"""The offline proof's file: one spelling, every bound."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import ColdchainError, MalformedError, SignatureError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog import proof as module
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.note import NoteSignature, SignedNote
from coldchain.tlog.proof import OfflineProof, parse_proof
from tests.client.tlog.logs import LOG, ONE, MemoryLog, example

NOTE = SignedNote(Checkpoint("o", 1, b"x" * 32).text, (NoteSignature("name", b"abcd", b"payload"),))


def abc() -> OfflineProof:
    log = MemoryLog()
    log.append([b"a", b"b", b"c"])
    return log.proof(2, LOG, ONE, extra=b"\1\2")


def test_the_worked_example_of_the_module() -> None:
    shown = example(module.__doc__, "c2sp.org/tlog-proof@v1", "— wit.example/one").rpartition("…")[0]
    assert len(shown) > 250
    assert abc().encode().decode().startswith(shown)
    assert parse_proof(abc().encode()) == abc()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_proofs_come_back(size: int) -> None:
    log = MemoryLog.of(size)
    for index in range(size):
        for extra in (b"", b"x" * 1000):
            proof = log.proof(index, LOG, ONE, extra=extra)
            assert parse_proof(proof.encode()) == proof


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("proof@v1\n", "proof@v2\n"),
        ("c2sp.org", "C2SP.org"),
        ("c2sp.org", "\ufeffc2sp.org"),
        ("c2sp.org", "\nc2sp.org"),
        ("\n", "\r\n"),
        ("extra AQI=\n", "extra AQI=\nextra AQI=\n"),
        ("extra AQI=\n", "extra \n"),
        ("extra AQI=\n", "extra\n"),
        ("extra AQI=\n", "extra AQI\n"),
        ("extra AQI=\n", "extra AQJ=\n"),
        ("extra AQI=\n", "Extra AQI=\n"),
        ("extra AQI=\nindex 2\n", "index 2\nextra AQI=\n"),
        ("index 2\n", ""),
        ("index 2\n", "index 2\nindex 2\n"),
        ("index 2\n", "index\n"),
        ("index 2\n", "index 02\n"),
        ("index 2\n", "index -2\n"),
        ("index 2\n", "index  2\n"),
        ("index 2\n", "index 2 \n"),
        ("index 2\n", "index ٢\n"),
        ("index 2\n", f"index {2**63}\n"),
        ("index 2\n", "index 2\n\n"),
        ("=\n\nlog", "=\nlog"),
        ("=\n\nlog", "=\n \nlog"),
        ("sTeY", "sTe"),
        ("mes=", "met="),
    ],
)
def test_what_no_proof_is(old: str, new: str) -> None:
    good = abc().encode().decode()
    assert old in good
    head, blank, note = good.partition("\n\n")
    with pytest.raises(MalformedError):
        parse_proof((head + blank + note).replace(old, new, 1 if old != "\n" else -1).encode())


def test_a_number_of_hashes_and_bytes_is_allowed() -> None:
    most = OfflineProof(2**63 - 1, (b"x" * 32,) * 63, NOTE, b"e" * LIMITS.proof_extra_bytes)
    assert parse_proof(most.encode()) == most
    with pytest.raises(MalformedError, match="more than 63"):
        parse_proof(OfflineProof(1, (b"x" * 32,) * 64, NOTE).encode())
    with pytest.raises(MalformedError, match="empty or too long"):
        parse_proof(OfflineProof(1, (), NOTE, b"e" * (LIMITS.proof_extra_bytes + 1)).encode())
    with pytest.raises(MalformedError, match="no checkpoint"):
        parse_proof(OfflineProof(1, (), NOTE, b"e" * 4 * LIMITS.proof_extra_bytes).encode())
    with pytest.raises(MalformedError, match="note"):
        parse_proof(OfflineProof(1, (), NOTE).encode(), Limits(note_bytes=10))


PIECES = [
    "c2sp.org/tlog-proof@v1",
    "index 2",
    "extra AQI=",
    "sTeYX/SE+2ANuTEHx3sDZcgNePW0Kd7Q/Zc2HQd5mes=",
    "",
    "x",
    "— a AAAAAAA=",
]


@given(
    st.one_of(
        st.binary(), st.lists(st.sampled_from(PIECES)).map(lambda lines: "\n".join([PIECES[0], *lines, ""]).encode())
    )
)
def test_a_proof_has_one_spelling(data: bytes) -> None:
    with suppress(MalformedError, SignatureError):
        assert parse_proof(data).encode() == data


@given(st.integers(0, 2**64), st.lists(st.binary(min_size=31, max_size=33), max_size=64), st.text(), st.binary())
def test_any_proof_comes_back_or_is_refused(index: int, hashes: list[bytes], text: str, extra: bytes) -> None:
    made = OfflineProof(index, tuple(hashes), SignedNote(text + NOTE.text, NOTE.signatures), extra)
    with suppress(ColdchainError):
        assert parse_proof(made.encode()) == made
