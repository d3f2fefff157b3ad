"""Questions to a witness and its answers: the vectors through a small witness made of these modules, every odd answer."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import ColdchainError, EvidenceError, MalformedError, SignatureError
from coldchain.keys import PublicKey
from coldchain.tlog import add_checkpoint as module
from coldchain.tlog.add_checkpoint import Question, encode_answer, encode_size, parse_answer, parse_question, parse_size
from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint
from coldchain.tlog.merkle import EMPTY_ROOT, check_consistency
from coldchain.tlog.note import NoteSignature
from coldchain.tlog.vkey import Kind, NoteKey
from tests.client.tlog.logs import LOG, ONE, ORIGIN, SIGNED_AT, MemoryLog, example, signed, vectors, witness


class SmallWitness:
    """The table of the module's docstring, in memory."""

    def __init__(self, *logs: NoteKey) -> None:
        self.logs = logs
        self.heads = {key.name: Checkpoint(key.name, 0, EMPTY_ROOT) for key in logs}

    def ask(self, body: bytes) -> tuple[int, bytes]:
        try:
            question = parse_question(body)
            if question.checkpoint.origin not in self.heads:
                return 404, b""
            new = open_checkpoint(question.note, self.logs).checkpoint
            old = self.heads[new.origin]
            if question.old != old.size:
                return 409, encode_size(old.size)
            check_consistency(question.proof, old.size, old.root, new.size, new.root)
        except MalformedError:
            return 400, b""
        except SignatureError:
            return 403, b""
        except EvidenceError:
            return 422, b""
        self.heads[new.origin] = new
        return 200, encode_answer([ONE.sign(question.note.text)])


def abc() -> Question:
    log = MemoryLog()
    log.append([b"a", b"b", b"c"])
    return Question(2, log.consistency(2), signed(log.checkpoint(), LOG))


def test_the_worked_example_of_the_module() -> None:
    shown = example(module.__doc__, "old 2", "— log.example/test").rpartition("…")[0]
    assert len(shown) > 100
    assert abc().encode().decode().startswith(shown)
    assert parse_question(abc().encode()) == abc()


def test_vectors() -> None:
    found = json.loads((vectors("witness") / "add-checkpoint.json").read_text())
    key = PublicKey(bytes.fromhex(found["log_public_key_hex"]))
    small = SmallWitness(NoteKey(found["origin"], Kind.ED25519, key))
    assert len(found["requests"]) == 9
    for request in found["requests"]:
        status, answer = small.ask(request["body"].encode())
        assert status == request["status"], request["desc"]
        if status == 200:
            question = parse_question(request["body"].encode())
            assert list(parse_answer(answer, question.note, [ONE.key]).values()) == [SIGNED_AT]
        if status == 409:
            assert parse_size(answer) == small.heads[found["origin"]].size


def test_a_log_that_grows_and_one_that_forks() -> None:
    small, log = SmallWitness(LOG.key), MemoryLog()
    known = 0
    for step in (0, 1, 0, 1, 5, 250, 300, 0):
        log.append([b"x"] * step)
        note = signed(log.checkpoint(), LOG)
        assert small.ask(Question(known, log.consistency(known), note).encode())[0] == 200
        known = log.size
    fork = MemoryLog.of(known)
    assert small.ask(Question(known, (), signed(fork.checkpoint(), LOG)).encode())[0] == 422
    fork.append([b"y"])
    assert small.ask(Question(known, fork.consistency(known), signed(fork.checkpoint(), LOG)).encode())[0] == 422
    assert small.ask(Question(0, (), signed(fork.checkpoint(), LOG)).encode()) == (409, b"%d\n" % known)
    assert small.ask(Question(known, (b"x" * 32,), signed(log.checkpoint(), LOG)).encode())[0] == 422
    fresh = SmallWitness(LOG.key)
    assert fresh.ask(Question(0, (b"x" * 32,), signed(log.checkpoint(), LOG)).encode())[0] == 422
    assert fresh.ask(Question(0, (), signed(Checkpoint(ORIGIN, 0, b"x" * 32), LOG)).encode())[0] == 422
    assert fresh.ask(Question(0, (), signed(Checkpoint("unknown", 0, EMPTY_ROOT), LOG)).encode())[0] == 404
    assert fresh.ask(Question(0, (), signed(log.checkpoint(), ONE)).encode())[0] == 403


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("old 2\n", ""),
        ("old 2\n", "\nold 2\n"),
        ("old 2\n", "old 2\n\n"),
        ("old 2\n", "old 2\r\n"),
        ("old 2\n", "old 02\n"),
        ("old 2\n", "old +2\n"),
        ("old 2\n", "old -2\n"),
        ("old 2\n", "old  2\n"),
        ("old 2\n", "old 2 \n"),
        ("old 2\n", "old\n"),
        ("old 2\n", "Old 2\n"),
        ("old 2\n", "old 4\n"),
        ("old 2\n", f"old {2**63}\n"),
        ("old 2\n", "size 2\n"),
        ("old 2\n", "old 2\n" + "WX/LMSgtNGVMIA00GPylcFxkjr8ybsc9jd7xGEH4dtg=\n" * 63),
        ("WX/L", "WX/"),
        ("dtg=", "dth="),
        ("\n\nlog", "\nlog"),
        ("\n3\n", "\n03\n"),
        ("\n3\n", "\n\n3\n"),
    ],
)
def test_what_no_question_is(old: str, new: str) -> None:
    good = abc().encode().decode()
    assert old in good
    with pytest.raises(MalformedError):
        parse_question(good.replace(old, new, 1).encode())


def test_63_hashes_are_allowed() -> None:
    most = Question(2, (b"x" * 32,) * 63, abc().note)
    assert parse_question(most.encode()) == most


PIECES = ["old 0", "old 2", "WX/LMSgtNGVMIA00GPylcFxkjr8ybsc9jd7xGEH4dtg=", "", ORIGIN, "3", "— a AAAAAAA="]


@given(
    st.one_of(
        st.binary(), st.lists(st.sampled_from(PIECES)).map(lambda lines: "\n".join(["old 1", *lines, ""]).encode())
    )
)
def test_a_question_has_one_spelling(data: bytes) -> None:
    with suppress(MalformedError, SignatureError):
        assert parse_question(data).encode() == data


# Answers


def test_an_answer_with_more_than_one_key() -> None:
    note = abc().note
    new = witness(40)
    lines = [ONE.sign(note.text, 5), new.sign(note.text, 6), ONE.sign(note.text, 7)]
    data = encode_answer(lines)
    assert parse_answer(data, note, [ONE.key]) == {lines[0]: 5}
    assert parse_answer(data, note, [new.key, ONE.key]) == {lines[0]: 5, lines[1]: 6}
    with pytest.raises(SignatureError, match="no signature of a known key"):
        parse_answer(data, note, [witness(41).key])
    # a log's key is no witness's, whatever it signs
    with pytest.raises(SignatureError, match="no signature of a known key"):
        parse_answer(encode_answer([LOG.sign(note.text)]), note, [LOG.key])


def test_an_answer_to_another_question() -> None:
    data = encode_answer([ONE.sign(MemoryLog.of(4).checkpoint().text)])
    with pytest.raises(SignatureError, match="bad"):
        parse_answer(data, abc().note, [ONE.key])
    bad = NoteSignature(ONE.name, ONE.key.key_id, b"x")
    with pytest.raises(SignatureError, match="bad"):
        parse_answer(encode_answer([ONE.sign(abc().note.text), bad]), abc().note, [ONE.key])


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"ok", b"ok\n", b"<html>", b"{}", b"\xff", b"\n\n", b"5\n", b"x" * 1_000_000]
)
def test_what_no_answer_is(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_answer(data, abc().note, [ONE.key])
    line = ONE.sign(abc().note.text).line.encode()
    with pytest.raises(MalformedError):
        parse_answer(data + b"\n" + line, abc().note, [ONE.key])
    if data:
        with pytest.raises(MalformedError):
            parse_answer(line + data, abc().note, [ONE.key])


@given(st.binary())
def test_any_answer_is_refused_or_nothing(data: bytes) -> None:
    with suppress(ColdchainError):
        parse_answer(data, abc().note, [ONE.key])
        raise AssertionError("a signature was guessed")


def test_sizes() -> None:
    for size in (0, 1, 10**9, 2**63 - 1):
        assert parse_size(encode_size(size)) == parse_size(b"%d" % size) == size
    for data in (
        b"",
        b"\n",
        b"5\n\n",
        b"05\n",
        b" 5",
        b"5\r\n",
        b"-1",
        b"five",
        b"\xd9\xa5",
        b"%d" % 2**63,
        b"1" * 100,
        b"{}",
    ):
        with pytest.raises(MalformedError):
            parse_size(data)


def test_the_vectors_spelling_of_a_broken_signature() -> None:
    """Base64 with bits left over: a bad signature (403), while a hash of the proof spelled so is malformed (400)."""
    data = abc().encode().decode()
    assert data.endswith("4QQ=\n")
    with pytest.raises(SignatureError, match="another spelling"):
        parse_question(data.replace("4QQ=\n", "4QR=\n").encode())
    with pytest.raises(MalformedError, match="another spelling"):
        parse_question(data.replace("dtg=\n", "dth=\n").encode())
