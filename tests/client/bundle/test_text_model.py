"""The text model: both ends agree, nothing but what the writer wrote is taken, and what is known is cheap."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coldchain.bundle.columns import BZ2, MODEL_BYTES, read_column
from coldchain.bundle.common_text import COMMON_TEXT
from coldchain.bundle.text_model import ORDER, PRIME_BYTES, TextModel, model_decode, prime_of
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.errors import MalformedError
from coldchain.limits import Limits
from coldchain_server.deltas.pack import column, model_budget
from coldchain_server.deltas.text_model import model_encode

KNOWN = b"".join(b"%s.example.cyou\n" % word for word in (b"arrier", b"genus", b"maker", b"porcup", b"recite"))


@settings(max_examples=60)
@given(st.binary(max_size=60), st.binary(max_size=200))
@example(b"", b"")
@example(b"\0\0\0", b"\0\0")
@example(bytes(range(256)), b"")
def test_what_is_written_is_read(data: bytes, reference: bytes) -> None:
    packed = model_encode(data, reference)
    assert model_decode(packed, len(data), reference, "x") == data
    assert packed[-1:] != b"\0"


def test_the_worked_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldchain.bundle.text_model.COMMON_TEXT", b"")
    known, least = TextModel(b"ab\nab\n").weights()
    q = 2**40 // 5
    part = 4 * q // 18
    assert known == {ord("a"): q + 2 * part, ord("b"): 2 * part, ord("\n"): 2 * part}
    assert least == (12 * part >> 8) + 1


def test_what_is_known_is_cheap() -> None:
    line = b"makers.example.cyou"
    assert len(model_encode(line, KNOWN)) < len(model_encode(line)) < len(line)
    assert len(column(line, KNOWN, MODEL_BYTES)) < len(column(line, KNOWN))
    assert column(line, KNOWN, len(line) - 1) == column(line, KNOWN)


def test_long_references_are_read_in_pieces() -> None:
    reference = bytes(i % 251 for i in range(PRIME_BYTES + 12_345))
    prime = prime_of(reference)
    assert len(prime) == len(COMMON_TEXT) + PRIME_BYTES
    assert prime.endswith(reference[-2048:])
    assert prime[len(COMMON_TEXT) :].startswith(reference[:2048])
    assert prime_of(reference[:PRIME_BYTES]) == COMMON_TEXT + reference[:PRIME_BYTES]


def test_only_exactly_what_was_written() -> None:
    data = b"holiday-forever.cyou\nwilmypos.com"
    packed = model_encode(data, KNOWN)
    with pytest.raises(MalformedError, match="after the last code"):
        model_decode(packed + b"\0", len(data), KNOWN, "x")
    with pytest.raises(MalformedError, match="after the last code"):
        model_decode(packed + b"\1" * 9, len(data), KNOWN, "x")
    for end in range(len(packed)):
        try:
            assert model_decode(packed[:end], len(data), KNOWN, "x") != data
        except MalformedError:
            continue


@settings(max_examples=60)
@given(st.binary(max_size=40), st.integers(0, 40))
@example(b"\xff" * 12, 3)
def test_foreign_bytes_give_bytes_or_our_error(data: bytes, length: int) -> None:
    with contextlib.suppress(MalformedError):
        assert len(model_decode(data, length, b"", "x")) == length


def test_a_code_beyond_all_shares() -> None:
    with pytest.raises(MalformedError, match="stands for no byte"):
        model_decode(b"\xff" * 8, 1, b"", "x")


def test_the_limit_holds_before_anything_is_decoded() -> None:
    data = KNOWN[:30]
    packed = model_encode(data)
    framed = encode_varints([len(data) << 2 | BZ2, len(packed)]) + packed
    assert read_column(Reader(framed, "x"), 100) == data
    with pytest.raises(MalformedError, match="longer than allowed"):
        read_column(Reader(framed, "x"), 100, limits=Limits(model_bytes=29))


def test_small_bundles_are_spared() -> None:
    assert model_budget(1, 1000) < 12
    assert model_budget(269, 5_000_000) > 500
    assert model_budget(60_000, 1 << 40) == MODEL_BYTES
    assert ORDER == 4
