"""Statements about where reports are: one form, one spelling, and a chain for every region."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.attestation import is_envelope
from coldchain.bundle.manifest import MOST_REGIONS, parse_manifest
from coldchain.errors import ColdchainError, MalformedError, NewerFormatError
from coldchain.limits import Limits
from coldchain.residency import FORMAT, Move, Place, Places, is_move, parse_move

US, CH, SG = Place("us", "United States"), Place("ch", "Switzerland"), Place("sg", "Singapore")
MOVE = Move("coldchain", "us", US, CH, 1234, 56, "5c" * 32, datetime(2026, 11, 26, 2, tzinfo=UTC))
TOKENS = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
WORDS = st.text('Aa é,"\\-', min_size=1, max_size=20).filter(str.strip)
MOVES = st.builds(
    lambda product, region, stores, words, rows, more, sha256, seconds, old: Move(
        product,
        region,
        Place(stores[0], words[0]),
        Place(stores[1], words[1]),
        rows + more,
        rows,
        sha256,
        datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds),
        tuple(sorted(old - {region})),
    ),
    TOKENS,
    TOKENS,
    st.lists(TOKENS, min_size=2, max_size=2, unique=True),
    st.tuples(WORDS, WORDS),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.integers(0, 10**9),
    st.sets(TOKENS, max_size=3),
)


@given(MOVES)
def test_what_is_written_is_read(move: Move) -> None:
    data = move.encode()
    assert parse_move(data) == move
    assert is_move(data)
    assert not is_envelope(data)
    with pytest.raises(MalformedError):
        parse_manifest(data)


def test_the_example_of_the_module() -> None:
    assert MOVE.encode() == (
        b'{"format":"coldchain-residency-1","from":{"jurisdiction":"United States","store":"us"},"old_names":[],'
        b'"product":"coldchain","region":"us","reports":1234,"rows":56,"sha256":"' + b"5c" * 32 + b'",'
        b'"time":"2026-11-26T02:00:00Z","to":{"jurisdiction":"Switzerland","store":"ch"}}'
    )
    assert str(MOVE) == (
        "the outcome reports of region us moved from store us (United States) to ch (Switzerland): "
        "1,234 reports in 56 rows, 2026-11-26 02:00:00 UTC, sha256 5c5c5c5c5c5c5c5c…"
    )
    assert "region us (and of america, usa, its old names)" in str(replace(MOVE, old_names=("america", "usa")))


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    **{f"without {name}": lambda d, name=name: d.pop(name) for name in json.loads(MOVE.encode())},  # type: ignore[misc]
    "a member more": lambda d: d.update(more=1),
    "a place's member more": lambda d: d["from"].update(more=1),
    "a place without its jurisdiction": lambda d: d["to"].pop("jurisdiction"),
    "a blank jurisdiction": lambda d: d["to"].update(jurisdiction=" "),
    "a long jurisdiction": lambda d: d["to"].update(jurisdiction="x" * 501),
    "a jurisdiction that moves the cursor": lambda d: d["to"].update(jurisdiction="Switzerland\u202e"),
    "a place as text": lambda d: d.update(to="ch"),
    "to itself": lambda d: d["to"].update(store="us"),
    "a store that is a path": lambda d: d["to"].update(store="../ch"),
    "a region that is none": lambda d: d.update(region="US"),
    "a product that is none": lambda d: d.update(product=""),
    "fewer than none": lambda d: d.update(reports=-1, rows=-1),
    "a count as text": lambda d: d.update(reports="1234"),
    "more rows than reports": lambda d: d.update(rows=1235),
    "a short digest": lambda d: d.update(sha256="5c"),
    "a time with a zone": lambda d: d.update(time="2026-11-26T03:00:00+01:00"),
    "a time in one digit": lambda d: d.update(time="2026-11-26T2:00:00Z"),
    "February 30": lambda d: d.update(time="2026-02-30T02:00:00Z"),
    "old names out of order": lambda d: d.update(old_names=["b", "a"]),
    "an old name twice": lambda d: d.update(old_names=["a", "a"]),
    "its own name as an old one": lambda d: d.update(old_names=["us"]),
    "an old name that is none": lambda d: d.update(old_names=[1]),
    "too many old names": lambda d: d.update(old_names=[f"a{number:02}" for number in range(MOST_REGIONS + 1)]),
}


@pytest.mark.parametrize("name", EDITS)
def test_it_has_one_form(name: str) -> None:
    document = json.loads(MOVE.encode())
    EDITS[name](document)
    with pytest.raises(MalformedError):
        parse_move(canonical.encode(document))


def test_it_has_one_spelling_and_every_cut_is_refused() -> None:
    data = MOVE.encode()
    others = [data + b"\n", data.replace(b":", b": ", 1), *(data[:end] for end in range(len(data)))]
    for other in others:
        with pytest.raises(MalformedError):
            parse_move(other)
    with pytest.raises(MalformedError):
        parse_move(data, Limits(log_entry_bytes=len(data) - 1))
    assert parse_move(data, Limits(log_entry_bytes=len(data))) == MOVE


def test_another_format_is_told_apart() -> None:
    later = canonical.encode({"format": "coldchain-residency-2", "anything": 1})
    assert is_move(later)
    with pytest.raises(NewerFormatError):
        parse_move(later)
    for entry in (b"", b"[]", b"{}", b'{"format":1}', b'{"format":"coldchain-manifest-1"}', MOVE.encode()[:-1]):
        assert not is_move(entry)
        with pytest.raises(MalformedError):
            parse_move(entry)


JSONS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.one_of(st.binary(), JSONS.map(lambda value: json.dumps(value).encode())))
def test_any_bytes_are_refused_by_our_own_errors(data: bytes) -> None:
    is_move(data)
    with suppress(ColdchainError):
        parse_move(data)
        raise AssertionError("nobody wrote this")


@given(st.sampled_from(sorted(json.loads(MOVE.encode()))), JSONS)
def test_any_value_of_a_member_is_read_as_itself_or_refused(name: str, value: Any) -> None:
    document = json.loads(MOVE.encode()) | {name: value}
    with suppress(ColdchainError):
        data = canonical.encode(document)
        assert parse_move(data).encode() == data


# The chain of a region's moves


def moved(source: Place, target: Place, region: str = "us", *old: str) -> Move:
    return replace(MOVE, source=source, target=target, region=region, old_names=old)


def contradicted(*moves: Move) -> list[bool]:
    places = Places()
    return [bool(places.take(one)[1]) for one in moves]


def test_of_all_walks_over_three_stores_only_those_without_a_jump_are_silent() -> None:
    steps = list(itertools.permutations((US, CH, SG), 2))
    for walk in itertools.product(steps, repeat=3):
        expected = [at > 0 and walk[at - 1][1] != walk[at][0] for at in range(3)]
        again = [at > 0 and walk[at - 1] == walk[at] for at in range(3)]  # the same entry, byte for byte
        found = contradicted(*(moved(*step) for step in walk))
        assert found == [jump and not same for jump, same in zip(expected, again, strict=True)], walk


def test_regions_go_their_own_ways_and_old_names_go_along() -> None:
    assert contradicted(moved(US, CH), moved(SG, CH, "sg"), moved(CH, US), moved(CH, SG, "sg")) == [False] * 4
    assert contradicted(moved(US, CH, "jp"), moved(CH, SG, "apac", "jp")) == [False, False]
    assert contradicted(moved(US, CH, "jp"), moved(SG, US, "apac", "jp")) == [False, True]
    assert contradicted(moved(US, CH, "apac", "jp"), moved(SG, US, "jp")) == [False, True]


def test_the_same_entry_again_is_known_and_a_like_one_is_not() -> None:
    places = Places()
    assert [places.take(one)[0] for one in (MOVE, MOVE, replace(MOVE, rows=1), MOVE)] == [False, True, False, False]
    assert FORMAT.encode() in MOVE.encode()
