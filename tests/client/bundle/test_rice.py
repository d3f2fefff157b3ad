"""Ascending integers: exact, near the information limit, and no list that does not end where it should."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.rice import MAX_WIDTH, decode_ascending, decode_gaps, encode_ascending, encode_gaps
from coldchain.errors import MalformedError


def test_the_worked_example() -> None:
    assert encode_ascending([3, 10, 11]).hex() == "01bc00"
    assert decode_ascending(bytes.fromhex("01bc00"), 3, 11, "x") == [3, 10, 11]


@given(st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**20), st.integers(0, 2**40)), max_size=40))
def test_gaps_come_back(gaps: list[int]) -> None:
    if gaps and sum(gaps) // len(gaps) * 64 < max(gaps):
        gaps = [min(gap, 4096) for gap in gaps]
    assert decode_gaps(encode_gaps(gaps), len(gaps), "x") == gaps


@given(st.sets(st.integers(0, 10_000)), st.booleans())
def test_ascending_come_back(values: set[int], strict: bool) -> None:
    ordered = sorted(values)
    if not strict:
        ordered = sorted(ordered + ordered[::2])
    data = encode_ascending(ordered, strict=strict)
    assert decode_ascending(data, len(ordered), 10_000, "x", strict=strict) == ordered
    if ordered:
        with pytest.raises(MalformedError, match="is more than"):
            decode_ascending(data, len(ordered), ordered[-1] - 1, "x", strict=strict)


@given(st.binary(max_size=24), st.integers(0, 40))
def test_foreign_bytes_raise_only_our_error(data: bytes, count: int) -> None:
    try:
        gaps = decode_gaps(data, count, "x")
    except MalformedError:
        return
    assert len(gaps) == count


def test_a_width_alone_holds_no_gap() -> None:
    for width in range(MAX_WIDTH + 1):
        with pytest.raises(MalformedError, match="ends inside a gap"):
            decode_gaps(bytes([width]), 1, "x")
    assert decode_gaps(b"\x00\x00", 8, "x") == [0] * 8
    assert decode_gaps(bytes([MAX_WIDTH]) + bytes([0x7F]) + b"\xff" * 5 + b"\x80", 1, "x") == [2**MAX_WIDTH - 1]
    with pytest.raises(MalformedError, match="no list"):
        decode_gaps(bytes([MAX_WIDTH + 1]) + b"\x7f" + b"\xff" * 5 + b"\xc0", 1, "x")
    with pytest.raises(MalformedError, match="ends inside a gap"):
        decode_gaps(b"\x00\x00", 9, "x")


def test_damage_is_refused() -> None:
    good = encode_ascending([3, 10, 11])
    for count in (0, 1, 2, 12, 50, 10**9):
        with pytest.raises(MalformedError):
            decode_ascending(good, count, 1000, "x")
    for data in (b"", b"\x02", good[:-1], good + b"\0", bytes([MAX_WIDTH + 1]) + good[1:], good[:-1] + b"\1"):
        with pytest.raises(MalformedError):
            decode_ascending(data, 3, 1000, "x")


@pytest.mark.parametrize(("count", "space"), [(100, 10**6), (2000, 500_000), (5000, 2**32)])
def test_random_positions_cost_about_their_information(count: int, space: int) -> None:
    values = sorted(random.Random(count).sample(range(space), count))
    limit = (math.lgamma(space + 1) - math.lgamma(count + 1) - math.lgamma(space - count + 1)) / math.log(2) / 8
    assert len(encode_ascending(values)) <= 1.04 * limit + 8
