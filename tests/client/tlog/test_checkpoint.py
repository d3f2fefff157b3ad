"""Checkpoints: the text, whose it must be, and what continues what."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import EvidenceError, MalformedError, SignatureError
from coldchain.tlog import checkpoint as module
from coldchain.tlog.checkpoint import Checkpoint, check_extends, open_checkpoint, parse_checkpoint
from coldchain.tlog.merkle import EMPTY_ROOT, leaf_hash, root_from_leaves
from coldchain.tlog.note import SignedNote
from coldchain.tlog.vkey import Kind
from tests.client.tlog.logs import LOG, ONE, ORIGIN, SIGNED_AT, MemoryLog, Signer, example, signed

ROOT = "NmQuc8JUCrEh46a/lUWwokmCzYMOsT080Z3jzmwCHsE="


def test_the_worked_example_of_the_module() -> None:
    shown = example(module.__doc__, "log.example/test", "NmQuc8")
    checkpoint = parse_checkpoint(shown)
    assert checkpoint == Checkpoint(ORIGIN, 3, root_from_leaves([leaf_hash(entry) for entry in (b"a", b"b", b"c")]))
    assert checkpoint.text == shown


def test_extension_lines_are_kept() -> None:
    text = f"o\n3\n{ROOT}\nmore\n— not a signature\n"
    assert parse_checkpoint(text).extensions == ("more", "— not a signature")
    assert parse_checkpoint(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o",
        "o\n3\n",
        f"o\n3\n{ROOT}",
        f"\n3\n{ROOT}\n",
        f"o\n\n3\n{ROOT}\n",
        f"o\n3\n{ROOT}\n\n",
        f"o\n3\n{ROOT}\n\nx\n",
        f"o\n03\n{ROOT}\n",
        f"o\n+3\n{ROOT}\n",
        f"o\n-3\n{ROOT}\n",
        f"o\n3 \n{ROOT}\n",
        f"o\n٣\n{ROOT}\n",
        f"o\n\n{ROOT}\n",
        f"o\n{2**63}\n{ROOT}\n",
        f"o\n3\n{ROOT[:-1]}\n",
        f"o\n3\n{ROOT}=\n",
        f"o\n3\n{ROOT[:-2]}F=\n",
        "o\n3\nAQI=\n",
        f"o\r\n3\r\n{ROOT}\r\n",
        f"o\t\n3\n{ROOT}\n",
    ],
)
def test_what_no_checkpoint_is(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(text)


@given(st.one_of(st.text(), st.lists(st.sampled_from(["o", "3", "0", "", ROOT, "x y"])).map("\n".join)))
def test_a_checkpoint_has_one_spelling(text: str) -> None:
    with suppress(MalformedError):
        assert parse_checkpoint(text).text == text


@given(st.text(), st.integers(0, 2**64), st.binary(min_size=30, max_size=34), st.lists(st.text(), max_size=2))
def test_checkpoints_come_back(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    made = Checkpoint(origin, size, root, tuple(extensions))
    with suppress(MalformedError):
        assert parse_checkpoint(made.text) == made


def test_the_log_must_have_signed_for_its_own_origin() -> None:
    checkpoint = MemoryLog.of(3).checkpoint()
    opened = open_checkpoint(signed(checkpoint, ONE, LOG), [LOG.key], [ONE.key])
    assert (opened.checkpoint, opened.log) == (checkpoint, LOG.key)
    assert opened.opened.signed == {ONE.key: SIGNED_AT, LOG.key: None}
    assert opened.note == signed(checkpoint, ONE, LOG)
    # a second log that is trusted too may not speak for the first
    other = Signer("log.example/other", Kind.ED25519, 7)
    with pytest.raises(SignatureError, match="no signature of a known key"):
        open_checkpoint(signed(checkpoint, other), [LOG.key, other.key])
    with pytest.raises(EvidenceError, match="not a log that is known"):
        open_checkpoint(signed(checkpoint, LOG, other), [other.key])
    # a witness's word is not the log's
    with pytest.raises(SignatureError, match="no signature of the log"):
        open_checkpoint(signed(checkpoint, ONE), [LOG.key], [ONE.key])
    # a bad cosignature spoils it
    bad = signed(checkpoint, LOG).signatures + signed(MemoryLog.of(4).checkpoint(), ONE).signatures
    with pytest.raises(SignatureError, match=r"wit\.example/one"):
        open_checkpoint(SignedNote(checkpoint.text, bad), [LOG.key], [ONE.key])
    assert open_checkpoint(SignedNote(checkpoint.text, bad), [LOG.key]).checkpoint == checkpoint


def test_an_empty_log_has_one_root() -> None:
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert open_checkpoint(signed(empty, LOG), [LOG.key]).checkpoint == empty == MemoryLog().checkpoint()
    with pytest.raises(EvidenceError, match="empty log"):
        open_checkpoint(signed(Checkpoint(ORIGIN, 0, b"x" * 32), LOG), [LOG.key])


def test_what_continues_what() -> None:
    log, fork = MemoryLog.of(20), MemoryLog.of(20)
    heads = [log.checkpoint(size) if size in (0, 20) else MemoryLog.of(size).checkpoint() for size in range(21)]
    log.append([b"one"])
    fork.append([b"other"])
    for old in heads:
        check_extends(old, log.checkpoint(), log.consistency(old.size))
    with pytest.raises(EvidenceError, match="two roots for one size"):
        check_extends(log.checkpoint(), fork.checkpoint(), ())
    fork.append([b"more"])
    with pytest.raises(EvidenceError, match="does not continue"):
        check_extends(log.checkpoint(), fork.checkpoint(), fork.consistency(21))
    with pytest.raises(EvidenceError, match="cannot continue"):
        check_extends(log.checkpoint(), heads[20], ())
    other = Checkpoint("log.example/other", 21, log.root())
    with pytest.raises(EvidenceError, match=r"log\.example/other"):
        check_extends(log.checkpoint(), other, ())
