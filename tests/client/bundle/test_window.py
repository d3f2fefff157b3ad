"""Windows: the sections that were meant, in order, never more than may be held."""

from __future__ import annotations

import io
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.description import Section
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.bundle.window import encode_window, read_sections, read_window
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits

OLDS = [Section(name, "set", "list", 1, 2, "a" * 64) for name in "abcdef"]


def opened(name: str) -> BinaryIO:
    return io.BytesIO(name.encode() + b"\nand what has grown behind it since")


def read(data: bytes, limits: Limits = LIMITS, olds: list[Section] = OLDS) -> bytes:
    source = Reader(data, "x")
    out = read_window(source, olds, opened, limits)
    source.done()
    return out


def test_the_worked_example() -> None:
    assert encode_window([1, 2, 4], 6).hex() == "0201020101"
    assert read(bytes.fromhex("0201020101")) == b"b\nc\ne\n"


@given(st.sets(st.integers(0, 5), min_size=1))
def test_every_choice_comes_back(places: set[int]) -> None:
    ordered = sorted(places)
    assert read(encode_window(ordered, 6)) == b"".join(OLDS[i].name.encode() + b"\n" for i in ordered)


def test_no_runs_are_every_section() -> None:
    assert encode_window(list(range(6)), 6) == b"\0"
    assert read(b"\0") == b"a\nb\nc\nd\ne\nf\n"
    assert read(b"\0", olds=[]) == b""


@pytest.mark.parametrize(
    "numbers",
    [[7], [1, 7, 0], [1, 0, 7], [1, 6, 1], [1, 5, 2], [2, 0, 3, 2, 2], [2, 0, 6, 1, 0], [1], [1, 0], [2, 0, 1], []],
)
def test_sections_that_are_not_there(numbers: list[int]) -> None:
    with pytest.raises(MalformedError):
        read(encode_varints(numbers))


def test_its_length_is_known_before_anything_is_opened() -> None:
    def never(name: str) -> BinaryIO:
        raise AssertionError(f"{name} was opened")

    assert read_sections(OLDS, opened, Limits(zstd_dictionary_bytes=12)) == read(b"\0")
    with pytest.raises(MalformedError, match="longer than allowed"):
        read_sections(OLDS, never, Limits(zstd_dictionary_bytes=11))


def test_what_has_shrunk_is_simply_shorter() -> None:
    assert read_sections(OLDS[:2], lambda name: io.BytesIO(name.encode()), LIMITS) == b"ab"
