"""Keys as text: the known kinds come back byte for byte, other kinds are ignored, everything else is refused."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import MalformedError
from coldchain.keys import PublicKey
from coldchain.limits import Limits
from coldchain.tlog import vkey as module
from coldchain.tlog.vkey import Kind, NoteKey, check_key_name, parse_vkey
from tests.client.tlog.logs import LOG, ONE, vectors


def test_the_worked_examples_of_the_module() -> None:
    assert module.__doc__ is not None
    for signer in (LOG, ONE):
        assert f"    {signer.vkey} " in module.__doc__
        assert parse_vkey(signer.vkey) == signer.key


def test_the_kind_is_part_of_the_id() -> None:
    plain = NoteKey("name", Kind.ED25519, ONE.key.key)
    assert plain.key_id != NoteKey("name", Kind.COSIGNATURE, ONE.key.key).key_id
    assert plain.key_id != NoteKey("eman", Kind.ED25519, ONE.key.key).key_id


def test_every_changed_character_is_refused() -> None:
    for position, letter in enumerate(LOG.vkey):
        for other in {"A", "b", "0", "+", " ", "\n", "é", letter.swapcase()} - {letter}:
            text = LOG.vkey[:position] + other + LOG.vkey[position + 1 :]
            if position == len(LOG.vkey.rsplit("+", 1)[0]) + 1 and other != "A":
                continue  # the first letter of the key holds most of its kind: see the next test
            with suppress(MalformedError):
                assert parse_vkey(text) is None, text
    for text in (LOG.vkey + "=", LOG.vkey[:-1], LOG.vkey + "\n", " " + LOG.vkey, "", "+", "++", "a+b", "a+00000000+"):
        with pytest.raises(MalformedError):
            parse_vkey(text)


@pytest.mark.parametrize("kind", sorted(set(range(256)) - set(Kind)))
def test_other_kinds_are_ignored(kind: int) -> None:
    assert parse_vkey(f"name+00000000+{base64.b64encode(bytes([kind]) + b'x' * 1312).decode()}") is None


def test_bad_vkeys_of_the_vectors() -> None:
    bad = json.loads((vectors("notes") / "notes.json").read_text())["bad_vkeys"]
    assert len(bad) == 9
    for text in bad:
        with suppress(MalformedError):
            assert parse_vkey(text) is None  # one of them is merely of an unknown kind
    refused = 0
    for text in bad:
        try:
            parse_vkey(text)
        except MalformedError:
            refused += 1
    assert refused == 8


def test_points_that_are_no_keys() -> None:
    raw = b"\1" + b"\0" * 32
    with pytest.raises(MalformedError):
        parse_vkey(f"name+00000000+{base64.b64encode(raw).decode()}")


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\tb", "a\nb", "a\u00a0b", "a\u2003b", "a\u3000", "a\u0085b", "\x1f", "\ud800"]
)
def test_names_that_no_key_can_have(name: str) -> None:
    with pytest.raises(MalformedError):
        check_key_name(name)
    with pytest.raises(MalformedError):
        NoteKey(name, Kind.ED25519, LOG.key.key)


def test_the_bound() -> None:
    with pytest.raises(MalformedError):
        parse_vkey(LOG.vkey, Limits(vkey_bytes=len(LOG.vkey) - 1))
    assert parse_vkey(LOG.vkey, Limits(vkey_bytes=len(LOG.vkey))) == LOG.key


NAMES = st.text(min_size=1, max_size=30)


@given(NAMES, st.sampled_from(Kind), st.binary(min_size=32, max_size=32))
def test_keys_come_back(name: str, kind: Kind, raw: bytes) -> None:
    with suppress(MalformedError):
        key = NoteKey(name, kind, PublicKey(raw))
        assert parse_vkey(key.vkey) == key


@given(
    st.one_of(
        st.text(), st.builds("{}+{}+{}".format, NAMES, st.text("0123456789abcdef", min_size=8, max_size=8), NAMES)
    )
)
def test_a_key_has_one_spelling(text: str) -> None:
    with suppress(MalformedError):
        key = parse_vkey(text)
        assert key is None or key.vkey == text
