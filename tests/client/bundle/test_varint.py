"""Numbers: one spelling each, bounded, never read past the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.varint import MAX, Reader, encode_varints, put_varint, unzigzag, zigzag
from coldchain.errors import MalformedError


@pytest.mark.parametrize(
    ("value", "data"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (MAX, "ff" * 8 + "7f")]
)
def test_the_worked_examples(value: int, data: str) -> None:
    assert encode_varints([value]).hex() == data
    assert Reader(bytes.fromhex(data), "x").varint() == value


@given(st.lists(st.integers(0, MAX)))
def test_what_is_written_is_read(values: list[int]) -> None:
    reader = Reader(encode_varints(values), "x")
    assert reader.varints(len(values)) == values
    reader.done()


@given(st.binary(max_size=12))
def test_one_spelling_each(data: bytes) -> None:
    reader = Reader(data, "x")
    try:
        value = reader.varint()
    except MalformedError:
        return
    out = bytearray()
    put_varint(out, value)
    assert data[: reader.position] == bytes(out)


@pytest.mark.parametrize("data", ["", "80", "8000", "ff00", "ff" * 9 + "00", "ff" * 8 + "ff01", "80" * 20 + "01"])
def test_refused(data: str) -> None:
    with pytest.raises(MalformedError):
        Reader(bytes.fromhex(data), "x").varint()


def test_bounds() -> None:
    for most in (0, 1, 127, 128, 300):
        assert Reader(encode_varints([most]), "x").varint(most) == most
        with pytest.raises(MalformedError, match="is more than"):
            Reader(encode_varints([most + 1]), "x").varint(most)
    with pytest.raises(MalformedError, match="fewer numbers"):
        Reader(b"\1\1", "x").varints(10**12)
    with pytest.raises(MalformedError, match="too early"):
        Reader(b"\1\1", "x").take(3)
    with pytest.raises(MalformedError, match="too early"):
        Reader(b"\1\1", "x").take(-1)
    with pytest.raises(MalformedError, match="2 bytes too many"):
        Reader(b"\1\1", "x").done()
    reader = Reader(b"abc", "x")
    assert (reader.take(0), reader.take(1), reader.rest(), reader.rest()) == (b"", b"a", b"bc", b"")


@given(st.integers(-(2**62), 2**62))
def test_zigzag(value: int) -> None:
    assert unzigzag(zigzag(value)) == value
    assert [zigzag(n) for n in (0, -1, 1, -2)] == [0, 1, 2, 3]
