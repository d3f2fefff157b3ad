"""Removed records: found chunk by chunk, read again at will, never past their part of the delta."""

from __future__ import annotations

import io
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.bundle import removals, sections
from coldchain.bundle.description import Section
from coldchain.bundle.header import Change
from coldchain.bundle.removals import CHUNK, Cursor, Removals
from coldchain.bundle.rice import encode_ascending
from coldchain.bundle.varint import encode_varints
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS


def change(removed: int, records: int) -> Change:
    return Change("l", "set", "list", Section("l", "set", "list", records, 4 * records, "a" * 64), removed)


def encoded(ordinals: list[int], chunk: int = CHUNK) -> bytes:
    out, base = b"", 0
    for start in range(0, len(ordinals), chunk):
        part = ordinals[start : start + chunk]
        packed = encode_ascending([ordinal - base for ordinal in part])
        out += encode_varints([len(packed)]) + packed
        base = part[-1] + 1
    return out


def reading(data: bytes, changes: list[Change]) -> Removals:
    """Between bytes that do not belong to them."""
    return Removals(io.BytesIO(b"before" + data + b"behind"), 6, 6 + len(data), changes)


def ordinals(found: Removals, index: int) -> list[int]:
    return list(itertools.chain.from_iterable(found.ordinals(index)))


def test_the_worked_example() -> None:
    assert encoded([3, 10, 11]).hex() == "0301bc00"
    assert ordinals(reading(bytes.fromhex("0301bc00"), [change(3, 12)]), 0) == [3, 10, 11]


@settings(max_examples=60)
@given(st.lists(st.sets(st.integers(0, 60), max_size=25), min_size=1, max_size=4), st.permutations(range(4)))
def test_every_section_at_any_time(wanted: list[set[int]], order: list[int]) -> None:
    """Also over the ends of chunks, in any order and more than once."""
    before = removals.CHUNK
    removals.CHUNK = 7
    try:
        data = b"".join(encoded(sorted(some), 7) for some in wanted)
        found = reading(data, [change(len(some), 61) for some in wanted])
        for index in (*order, *order):
            if index < len(wanted):
                assert ordinals(found, index) == sorted(wanted[index])
        found.check_end()
    finally:
        removals.CHUNK = before


def test_chunks_of_the_real_size() -> None:
    wanted = sorted(random.Random(1).sample(range(200_000), 2 * CHUNK + 1))
    found = reading(encoded(wanted) + encoded([5]), [change(len(wanted), 200_000), change(1, 6)])
    assert [len(chunk) for chunk in found.ordinals(0)] == [CHUNK, CHUNK, 1]
    assert ordinals(found, 0) == wanted
    assert ordinals(found, 1) == [5]
    found.check_end()


def test_a_section_that_comes_loses_nothing() -> None:
    assert ordinals(reading(b"", [Change("l", "set", "list", None)]), 0) == []


def test_what_does_not_fit() -> None:
    good = encoded([3, 10, 11])
    for data, removed, records in (
        (good, 3, 11),  # the last lies past the end
        (good, 2, 12),
        (good, 4, 12),
        (good[:-1], 3, 12),
        (b"", 3, 12),
        (encode_varints([16 * CHUNK + 1]) + bytes(20), 3, 12),
        (b"\x00", 1, 12),
        (b"\x01\x00", 1, 12),  # a width, and no gap behind it
    ):
        with pytest.raises(MalformedError):
            ordinals(reading(data, [change(removed, records)]), 0)
    for data in (good + b"\0", good + good):
        with pytest.raises(MalformedError, match="bytes after its removed records"):
            reading(data, [change(3, 12)]).check_end()
    before = removals.CHUNK
    removals.CHUNK = 2
    try:  # in the second chunk the bound is what is left of the section
        assert ordinals(reading(encoded([3, 10, 11], 2), [change(3, 12)]), 0) == [3, 10, 11]
        with pytest.raises(MalformedError, match="is more than"):
            ordinals(reading(encoded([3, 10, 11], 2), [change(3, 11)]), 0)
    finally:
        removals.CHUNK = before


@pytest.mark.parametrize("block", [4, 64, 1 << 20])
def test_lines_are_those_that_go(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "BLOCK", block)
    lines = [b"line %d\n" % i for i in range(50)]
    for wanted in ([], [0], [49], [0, 1, 2, 20, 48, 49], list(range(50))):
        found = reading(encoded(wanted), [change(len(wanted), 50)])
        expected = b"".join(lines[i] for i in wanted)
        assert found.lines(0, io.BytesIO(b"".join(lines)), len(expected), LIMITS) == expected
        if wanted:
            with pytest.raises(MalformedError, match="refers to more than allowed"):
                found.lines(0, io.BytesIO(b"".join(lines)), len(expected) - 1, LIMITS)


def test_an_old_file_without_line_ends_is_given_up_early() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            assert self.given < 4 << 20, "read on and on"
            return b"x" * size

    with pytest.raises(MalformedError, match="longer than allowed"):
        reading(encoded([1]), [change(1, 50)]).lines(0, Endless(), 1 << 20, LIMITS)  # type: ignore[arg-type]


def test_a_cursor_stays_in_its_part() -> None:
    file = io.BytesIO(b"abc\x80\x01def")
    cursor = Cursor(file, 1, 5)
    assert (cursor.take(2), cursor.varint(128), cursor.at) == (b"bc", 128, 5)
    for place, length in ((4, 2), (5, 1)):
        with pytest.raises(MalformedError):
            Cursor(file, place, 5).take(length)
    for place, most in ((5, 9), (3, 127)):
        with pytest.raises(MalformedError):
            Cursor(file, place, 5).varint(most)
    with pytest.raises(MalformedError, match="number"):
        Cursor(file, 3, 4).varint(1000)
    with pytest.raises(MalformedError, match="too early"):
        Cursor(file, 6, 100).take(50)  # the file is shorter than it was
