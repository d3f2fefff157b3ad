"""Base64 and decimals: one value, one spelling."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import MalformedError
from coldchain.tlog.spellings import MAX_NUMBER, decode64, decode_number, encode64


@given(st.binary(max_size=100))
def test_base64_comes_back(data: bytes) -> None:
    assert decode64(encode64(data), "x") == decode64(encode64(data), "x", len(data)) == data
    for length in {len(data) - 1, len(data) + 1, 0} - {len(data)}:
        with pytest.raises(MalformedError, match="belong"):
            decode64(encode64(data), "x", length)


@given(st.one_of(st.text(max_size=20), st.text("AQg+/=-_ \n", max_size=8)))
def test_base64_has_one_spelling(text: str) -> None:
    with suppress(MalformedError):
        assert encode64(decode64(text, "x")) == text


def test_every_other_last_letter_is_refused() -> None:
    """The bits after the last byte: four letters end in 'AQ==' style, sixteen in 'AQI=' style, one of each is right."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for text, pad in itertools.product(("A{}==", "AQ{}="), alphabet):
        with suppress(MalformedError):
            assert encode64(decode64(text.format(pad), "x")) == text.format(pad)
    right = [letter for letter in alphabet if _reads(f"A{letter}==")]
    assert len(right) == 4
    assert len([letter for letter in alphabet if _reads(f"AQ{letter}=")]) == 16


def _reads(text: str) -> bool:
    try:
        decode64(text, "x")
    except MalformedError:
        return False
    return True


@pytest.mark.parametrize(
    "text", ["A", "AQ", "AQI", "AQI=\n", " AQI=", "AQ I=", "AQI==", "A===", "=", "____", "AQI=AQI=", "é"]
)
def test_what_base64_is_not(text: str) -> None:
    assert not _reads(text)


@given(st.integers(0, MAX_NUMBER))
def test_numbers_come_back(number: int) -> None:
    assert decode_number(str(number), "x") == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "01",
        "00",
        " 1",
        "1 ",
        "1\n",
        "1_0",
        "1.0",
        "1e3",
        "0x1",
        "١",
        "²",
        str(2**63),
        "9" * 19,
        "1" * 5000,
    ],
)
def test_what_a_number_is_not(text: str) -> None:
    with pytest.raises(MalformedError):
        decode_number(text, "x")
