"""Conditional and range requests as pure functions: against the RFC's words, and against what a slice would give."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.web.conditions import (
    UNSATISFIABLE,
    ByteRange,
    byte_range,
    range_still_valid,
    strong_etag,
    tag_listed,
)

OURS = strong_etag(hashlib.sha256(b"").hexdigest())
OTHERS = ['"aa"', 'W/"aa"', '""', '"a,b"', f'"{"0" * 32}"', '"é"']


def test_a_tag_is_half_the_sha256() -> None:
    assert OURS == '"e3b0c44298fc1c149afbf4c8996fb924"'


@given(
    st.lists(st.sampled_from(OTHERS), max_size=4),
    st.lists(st.sampled_from(OTHERS), max_size=4),
    st.booleans(),
    st.data(),
)
def test_a_list_names_our_tag_exactly_when_it_is_in_it(
    before: list[str], after: list[str], weak: bool, data: st.DataObject
) -> None:
    comma = st.sampled_from([",", ", ", " ,", "\t,\t", ",,", ", ,"])
    for tags, named in (([*before, ("W/" if weak else "") + OURS, *after], True), ([*before, *after], False)):
        value = "".join(tag + (data.draw(comma) if i + 1 < len(tags) else "") for i, tag in enumerate(tags))
        assert tag_listed(value, OURS) is named


@pytest.mark.parametrize("value", ["*", " *", "*\t"])
def test_a_star_names_whatever_is_there(value: str) -> None:
    assert tag_listed(value, OURS)


BARE = OURS.strip('"')


@pytest.mark.parametrize(
    "value",
    [
        "", ",", "**", "*, *", f"{OURS}, *", BARE, f"'{BARE}'", f"w/{OURS}", f"W/ {OURS}", f"{OURS}{OURS}", f"{OURS} {OURS}",
        f'"x" {OURS}', f'{OURS}"', f'"{OURS}', f"{OURS};q=1", f"{OURS},x", OURS.upper(), f'"a\x7f{OURS[1:]}',
    ],
)  # fmt: skip
def test_what_does_not_follow_the_grammar_names_nothing(value: str) -> None:
    assert not tag_listed(value, OURS)


@given(st.text('"W/*, \tae0123', max_size=30000))
def test_a_hostile_list_is_judged_in_time_that_its_length_bounds(value: str) -> None:
    tag_listed(value, OURS)
    byte_range(value, 10)


def test_if_range_holds_for_our_strong_tag_alone() -> None:
    assert range_still_valid(None, OURS)
    assert range_still_valid(f" {OURS}\t", OURS)
    for value in ("", "*", f"W/{OURS}", f'{OURS}, "b"', BARE, "Wed, 25 Nov 2026 09:00:00 GMT", *OTHERS):
        assert not range_still_valid(value, OURS)


DATA = bytes(range(100))


@given(st.integers(0, 130), st.integers(0, 130) | st.none(), st.sampled_from(["bytes", "Bytes", "BYTES"]))
def test_a_range_selects_what_a_slice_would(first: int, last: int | None, unit: str) -> None:
    found = byte_range(f"{unit}={first}-{'' if last is None else last}", len(DATA))
    if last is not None and last < first:
        assert found is None
    elif first >= len(DATA):
        assert found is UNSATISFIABLE
    else:
        assert isinstance(found, ByteRange)
        assert DATA[found.start : found.end] == DATA[first : None if last is None else last + 1]


@given(st.integers(0, 200), st.integers(0, 100))
def test_a_suffix_selects_the_end(count: int, length: int) -> None:
    found = byte_range(f"bytes=-{count}", length)
    if not count or not length:
        assert found is UNSATISFIABLE
    else:
        assert isinstance(found, ByteRange)
        assert DATA[:length][found.start : found.end] == DATA[:length][-count:]


@pytest.mark.parametrize("length", [0, 1, 100])
@pytest.mark.parametrize(
    "value",
    [
        None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=--1", "bytes=1--2", "bytes=+1-2", "bytes=-1-",
        "bytes=0-1,2-3", "bytes=0-99,0-99,0-99", "bytes=0-0,-1", "bytes=1-0", "lines=0-1", "0-1", "bytes 0-1", "bytes=0x0-1",
        "bytes=٠-١", "bytes=0 -1", "bytes=0-1 x", "bytes=0-1\n", f"bytes={'9' * 20}-", "bytes==0-1", "bytes=0-1;q=1",
    ],
)  # fmt: skip
def test_everything_else_selects_the_whole(value: str | None, length: int) -> None:
    assert byte_range(value, length) is None
