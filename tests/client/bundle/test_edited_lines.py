"""Edited lines: a renumbered database costs next to nothing, and every index, place and number is checked."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.edited_lines import number_at, read_edited_lines
from coldchain.bundle.hash_lines import NUMBER
from coldchain.bundle.varint import Reader
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS
from coldchain_server.deltas.edits import encode_edits, find_edits
from tests.client.bundle.bundles import Store, round_trip

numbered = st.builds(
    lambda a, n, b: b"%s%d%s" % (a, n, b),
    st.sampled_from([b"", b"a.", b"x", b"1.b-"]),
    st.integers(0, 2000),
    st.sampled_from([b"", b":0", b".z", b"-7-"]),
)


def read(data: bytes, segments: list[int], removed: list[list[bytes]]) -> tuple[list[list[bytes]], list[int]]:
    source = Reader(data, "x")
    out = read_edited_lines(source, segments, removed.__getitem__, LIMITS)
    source.done()
    return out


def test_the_worked_example() -> None:
    data = bytes.fromhex("0202000000080200")
    assert read(data, [2], [[b"a.7", b"b.9"]]) == ([[b"a.8", b"b.10"]], [0])


def test_places_count_from_both_ends() -> None:
    line = b"1.b2-33-007-4"
    assert [line[slice(*found)] if (found := number_at(line, i)) else None for i in range(9)] == [
        b"4", b"1", b"33", b"2", b"2", b"33", b"1", b"4", None,
    ]  # fmt: skip


@given(st.text("0123459.-x\n", max_size=60).map(str.encode))
def test_a_place_is_the_same_number_from_either_end(line: bytes) -> None:
    spans = [found.span() for found in NUMBER.finditer(line)]
    for index, span in enumerate(spans):
        assert number_at(line, 2 * index + 1) == span
        assert number_at(line, 2 * (len(spans) - 1 - index)) == span
    assert number_at(line, 2 * len(spans)) is number_at(line, 2 * len(spans) + 1) is None


def test_hostile_lines_give_the_same_number_from_either_end() -> None:
    """Long runs of digits that are no number, and a place as far from the end as can be: work grows with the line alone."""
    long = 1 << 16
    for line in (b"0" + b"1" * long, b"1-" * long, b"x" * long, b"9" * 15 + b"-" + b"9" * long):
        count = len(NUMBER.findall(line))
        assert number_at(line, 2 * max(count - 1, 0)) == number_at(line, 1)


@given(st.lists(st.tuples(st.sets(numbered, max_size=30), st.sets(numbered, max_size=30)), min_size=1, max_size=3))
def test_what_is_found_comes_back(sections: list[tuple[set[bytes], set[bytes]]]) -> None:
    removed = [sorted(old - new) for old, new in sections]
    added = [sorted(new - old) for old, new in sections]
    found = [find_edits(gone, come) for gone, come in zip(removed, added, strict=True)]
    for (edits, rest), come in zip(found, added, strict=True):
        assert len(edits) + len(rest) == len(come)
    if not any(edits for edits, _ in found):
        return
    lines, left = read(encode_edits([edits for edits, _ in found]), [len(come) for come in added], removed)
    for edited, (_, rest), come, count in zip(lines, found, added, left, strict=True):
        assert sorted(edited + rest) == come
        assert len(rest) == count


def test_a_database_numbered_anew_costs_little() -> None:
    rng = random.Random(4)
    bodies = [
        b"%032x:%d:Php.Shell.K%d" % (rng.getrandbits(128), rng.randrange(10**5), rng.randrange(9)) for _ in range(600)
    ]
    old: list[bytes] = [b"%s.%d" % (body, i) for i, body in enumerate(bodies)]
    new: list[bytes] = [b"%s.%d" % (body, i + 5 + i // 100) for i, body in enumerate(bodies)]
    data, _ = round_trip({"a.hdb": old, "b.ndb": [b"x"]}, {"a.hdb": new, "b.ndb": [b"x", b"y"]}, Store())
    assert len(data) < 600


@pytest.mark.parametrize(
    "data",
    [
        "00" "00" "00",  # no edited line
        "03" "020000" "00" "00",  # more than the segment holds
        "02" "020002" "00" "080200",  # an index past the removed lines
        "02" "020000" "0c000000" "080200",  # places without end
        "02" "020000" "08" "0404" "080200",  # a place that is not there
        "02" "020000" "00" "080d00",  # below zero
        "02" "020000" "00" "0400",  # too few numbers
        "02" "020000" "00" "0c020000",  # too many numbers
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(data: str) -> None:
    with pytest.raises(MalformedError):
        read(bytes.fromhex(data), [2], [[b"a.7", b"b.3"]])


def test_a_number_too_large_is_refused() -> None:
    packed = encode_edits([[(0, 0, 1, 10**15 - 1)]])
    assert read(packed, [1], [[b"1"]])[0] == [[b"999999999999999"]]
    with pytest.raises(MalformedError, match="out of range"):
        read(encode_edits([[(0, 0, 1, 10**15)]]), [1], [[b"1"]])
