"""Signed notes: the vectors, every rule of C2SP signed-note, every bit."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from coldchain.errors import ColdchainError, MalformedError, SignatureError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog import note as module
from coldchain.tlog.note import (
    NoteSignature,
    SignedNote,
    check_signature,
    open_note,
    parse_note,
    parse_signature_lines,
    sign_text,
)
from coldchain.tlog.vkey import Kind, parse_vkey
from tests.client.tlog.logs import LOG, ONE, SIGNED_AT, Signer, example, vectors, witness

TEXT = "a note\n\nof two parts\n"
OTHER = Signer("other.example", Kind.ED25519, 9)


def note(*signers: Signer, text: str = TEXT) -> SignedNote:
    return SignedNote(text, tuple(signer.sign(text) for signer in signers))


def test_the_worked_example_of_the_module() -> None:
    shown = example(module.__doc__, "log.example/test", "— wit.example/one").encode()
    read = parse_note(shown)
    assert read.encode() == shown
    assert open_note(read, [LOG.key, ONE.key]).signed == {LOG.key: None, ONE.key: SIGNED_AT}
    assert read == SignedNote(read.text, (LOG.sign(read.text), ONE.sign(read.text)))


def test_vectors() -> None:
    found = json.loads((vectors("notes") / "notes.json").read_text())
    assert len(found["notes"]) == 15
    for case in found["notes"]:
        keys = [key for key in map(parse_vkey, case["vkeys"]) if key]
        if not case["ok"]:
            with pytest.raises((MalformedError, SignatureError)):
                open_note(parse_note(case["note"].encode()), keys)
            continue
        opened = open_note(parse_note(case["note"].encode()), keys)
        assert [key.name for key in opened.signed] == case["verified"], case["desc"]
    # the private key of the vectors signs what Go signed with it
    raw = base64.b64decode(found["skey"].split("+", 4)[4])
    private = SigningKey(raw[1:])
    first = parse_note(found["notes"][0]["note"].encode())
    key = parse_vkey(found["notes"][0]["vkeys"][0])
    assert key is not None
    assert sign_text(first.text, key, lambda message: private.sign(message).signature) == first.signatures[0]


def test_the_last_empty_line_divides() -> None:
    for text in ("\n", "a\n", "a\n\nb\n", "a\n\n\nb\n", f"a\n\n{LOG.sign('a' + chr(10)).line}", "é 한\n"):
        read = parse_note(note(LOG, text=text).encode())
        assert read.text == text
        assert open_note(read, [LOG.key]).text == text


def test_known_unknown_good_and_bad() -> None:
    both = note(LOG, OTHER)
    assert list(open_note(both, [LOG.key]).signed) == [LOG.key]
    assert list(open_note(both, [OTHER.key, LOG.key]).signed) == [LOG.key, OTHER.key]
    with pytest.raises(SignatureError, match="no signature of a known key"):
        open_note(both, [ONE.key])
    with pytest.raises(SignatureError, match="no signature of a known key"):
        open_note(both, [])
    # the right name with another key, and the right key under another name, are strangers
    for stranger in (
        Signer(LOG.name, Kind.ED25519, 7),
        Signer("x", Kind.ED25519, LOG.seed),
        Signer(LOG.name, Kind.COSIGNATURE, 0),
    ):
        with pytest.raises(SignatureError, match="no signature of a known key"):
            open_note(both, [stranger.key])
    bad = NoteSignature(OTHER.name, OTHER.key.key_id, LOG.sign(TEXT).payload)
    spoiled = SignedNote(TEXT, (LOG.sign(TEXT), bad))
    assert list(open_note(spoiled, [LOG.key]).signed) == [LOG.key]
    for keys in ([LOG.key, OTHER.key], [OTHER.key]):
        with pytest.raises(SignatureError, match=r"other\.example.*bad"):
            open_note(spoiled, keys)


def test_a_key_that_signs_twice_counts_once() -> None:
    twice = SignedNote(TEXT, (ONE.sign(TEXT, 5), LOG.sign(TEXT), ONE.sign(TEXT, 7), LOG.sign(TEXT)))
    assert open_note(twice, [LOG.key, ONE.key]).signed == {ONE.key: 5, LOG.key: None}
    bad = NoteSignature(ONE.name, ONE.key.key_id, b"x" * 72)
    with pytest.raises(SignatureError):
        open_note(SignedNote(TEXT, (ONE.sign(TEXT), bad)), [ONE.key])


def test_a_signature_is_checked_with_its_own_key_only() -> None:
    with pytest.raises(SignatureError):
        check_signature(TEXT, LOG.sign(TEXT), OTHER.key)


def test_signing_refuses_what_could_not_be_read() -> None:
    for text in ("", "a", "a\r\n", "a\tb\n", "\x00\n", "\ud800\n"):
        with pytest.raises(MalformedError):
            LOG.sign(text)
    with pytest.raises(MalformedError):
        sign_text(TEXT, LOG.key, lambda message: message, 5)
    with pytest.raises(MalformedError):
        sign_text(TEXT, ONE.key, lambda message: message)


@pytest.mark.parametrize("signers", [(LOG,), (ONE,), (LOG, ONE), (LOG, OTHER, ONE)])
def test_every_bit_of_a_note_counts(signers: tuple[Signer, ...]) -> None:
    data = note(*signers).encode()
    keys = [signer.key for signer in signers]
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with suppress(MalformedError, SignatureError):
            opened = open_note(parse_note(bytes(damaged)), keys)
            # all that a change can do is to make a signer a stranger
            assert opened.text == TEXT
            assert len(opened.signed) == len(signers) - 1
    for length in range(len(data)):
        with suppress(MalformedError, SignatureError):
            opened = open_note(parse_note(data[:length]), keys)
            assert opened.text == TEXT
            assert len(opened.signed) < len(signers)


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "\n",
        "— name AAAAAAA=",
        "— name\n",
        "—  name AAAAAAA=\n",
        "— name  AAAAAAA=\n",
        "— name AAAAAAA= \n",
        " — name AAAAAAA=\n",
        "- name AAAAAAA=\n",
        "-- name AAAAAAA=\n",
        "—name AAAAAAA=\n",
        "— na+me AAAAAAA=\n",
        "— na\u00a0me AAAAAAA=\n",
        "— name AAAAAA==\n",
        "— name AAAA\n",
        "— name \n",
        "— name AAAAAAA\n",
        "— name AAAAAAA=x\n",
        "— name AAAAAAA=\r\n",
        "— name AAAAAAA=\n\n",
        "— name AAAAAAA=\nx\n",
        "\ufeff— name AAAAAAA=\n",
    ],
)
def test_what_no_signature_line_is(lines: str) -> None:
    with pytest.raises(MalformedError):
        parse_note((TEXT + "\n" + lines).encode())
    with pytest.raises(MalformedError):
        parse_signature_lines(lines.encode())


def test_another_spelling_of_base64_is_a_bad_signature() -> None:
    assert parse_signature_lines("— name AAAAAAA=\n".encode()) == (NoteSignature("name", b"\0" * 4, b"\0"),)
    with pytest.raises(SignatureError, match="another spelling"):
        parse_signature_lines("— name AAAAAAB=\n".encode())


LINE = "— name AAAAAAA=\n".encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        b"a",
        b"a\n\n",
        TEXT.encode(),
        LINE,
        b"\n" + LINE,
        b"a\n" + LINE,
        b"a\n\n" + LINE[:-1],
        b"a\r\n\r\n" + LINE,
        b"\xff\n\n" + LINE,
        b"a\xc3\n\n" + LINE,
        b"\xed\xa0\x80\n\n" + LINE,
        b"a\0b\n\n" + LINE,
        b"a\tb\n\n" + LINE,
    ],
)
def test_what_no_note_is(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_note(data)


def test_the_bounds() -> None:
    signatures = tuple(NoteSignature("name", b"abcd", bytes([number])) for number in range(LIMITS.note_signatures))
    assert len(parse_note(SignedNote(TEXT, signatures).encode()).signatures) == 100
    with pytest.raises(MalformedError, match="more than 100"):
        parse_note(SignedNote(TEXT, (*signatures, signatures[0])).encode())
    data = note(LOG).encode()
    assert parse_note(data, Limits(note_bytes=len(data))) == note(LOG)
    with pytest.raises(MalformedError, match="bytes"):
        parse_note(data, Limits(note_bytes=len(data) - 1))
    with pytest.raises(MalformedError, match="bytes"):
        parse_signature_lines(LOG.sign(TEXT).line.encode(), Limits(note_bytes=10))


LINES = st.one_of(
    st.just("— a AAAAAAA="),
    st.just(LOG.sign("x\n").line[:-1]),
    st.just(""),
    st.text("— a+AB=é\t\x1f\u2003", max_size=14),
)


@given(st.one_of(st.binary(), st.lists(LINES).map(lambda lines: "\n".join([*lines, ""]).encode())))
def test_a_note_has_one_spelling(data: bytes) -> None:
    with suppress(MalformedError, SignatureError):
        read = parse_note(data)
        assert read.encode() == data
        with suppress(SignatureError):
            open_note(read, [LOG.key, ONE.key])
    with suppress(MalformedError, SignatureError):
        assert "".join(one.line for one in parse_signature_lines(data)).encode() == data


@given(
    st.text().map(lambda text: text + "\n"),
    st.lists(
        st.builds(NoteSignature, st.text(), st.binary(min_size=4, max_size=4), st.binary(max_size=80)), max_size=3
    ),
)
def test_notes_come_back(text: str, signatures: list[NoteSignature]) -> None:
    made = SignedNote(text, tuple(signatures))
    with suppress(ColdchainError):
        assert parse_note(made.encode()) == made


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_what_is_signed_can_be_opened(text: str) -> None:
    with suppress(MalformedError):
        made = note(LOG, witness(3), text=text + "\n")
        opened = open_note(parse_note(made.encode()), [LOG.key, witness(3).key])
        assert opened.signed == {LOG.key: None, witness(3).key: SIGNED_AT}
