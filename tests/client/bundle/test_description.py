"""``bundle.json``: read strictly, written one way."""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.bundle.description import (
    BundleDescription,
    Section,
    check_section_name,
    check_token,
    parse_description,
)
from coldchain.errors import ColdchainError, MalformedError, NewerFormatError
from coldchain.limits import Limits

CANARY = Section("coldchain-canary.ndb", "set", "clamav", 1, 133, "a" * 64)
DAILY = Section("daily.hsb", "set", "clamav", 6, 486, "b" * 64)
RULES = Section("rules.yar", "file", "yara", 3, 900, "c" * 64)
BUNDLE = BundleDescription("coldchain", "us", "stable", 42, (CANARY, DAILY, RULES))

names = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(
    lambda name: name.lower() != "bundle.json"
)
sections = st.builds(
    Section,
    names,
    st.sampled_from(["set", "file"]),
    st.sampled_from(["clamav", "yara", "list"]),
    st.integers(0, 1000),
    st.integers(0, 10**6),
    st.text("0123456789abcdef", min_size=64, max_size=64),
)
tokens = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
descriptions = st.builds(
    BundleDescription,
    tokens,
    tokens,
    tokens,
    st.integers(1, 2**53 - 1),
    st.lists(sections, max_size=6, unique_by=lambda section: section.name.lower()).map(
        lambda found: tuple(sorted(found, key=lambda section: section.name))
    ),
)


@given(descriptions)
def test_what_is_written_is_read_back(description: BundleDescription) -> None:
    data = description.encode()
    assert parse_description(data) == description
    assert parse_description(data).encode() == data
    assert description.digest == hashlib.sha256(data).hexdigest()


def test_the_worked_example() -> None:
    assert dataclasses.replace(BUNDLE, sections=(CANARY,)).encode() == (
        b'{"channel":"stable","format":"coldchain-bundle-1","product":"coldchain","region":"us","release":42,'
        b'"sections":[{"bytes":133,"engine":"clamav","kind":"set","name":"coldchain-canary.ndb","records":1,"sha256":"'
        + b"a" * 64
        + b'"}]}'
    )
    assert BUNDLE.total_bytes == 133 + 486 + 900
    assert BUNDLE.total_records == 10
    assert BUNDLE.section("daily.hsb") == DAILY
    assert BUNDLE.section("daily") is None


def test_every_bit_flip_is_refused_or_another_description() -> None:
    data = BUNDLE.encode()
    for i in range(8 * len(data)):
        changed = bytearray(data)
        changed[i // 8] ^= 1 << i % 8
        try:
            other = parse_description(bytes(changed))
        except ColdchainError:
            continue
        assert other != BUNDLE
        assert other.encode() == changed, "one description, one spelling"


def test_every_truncation_is_refused() -> None:
    data = BUNDLE.encode()
    for i in range(len(data)):
        with pytest.raises(MalformedError):
            parse_description(data[:i])


def bent(**changes: Any) -> bytes:
    value = canonical.read_canonical(BUNDLE.encode(), "x")
    for name, change in changes.items():
        if change is None:
            del value[name]
        else:
            value[name] = change
    return canonical.encode(value)


def bent_section(**changes: Any) -> bytes:
    section = {**DAILY.as_json(), **changes}
    return bent(sections=[{name: value for name, value in section.items() if value is not None}])


def test_wrong_members_are_malformed() -> None:
    cases = [
        *(bent(**{name: None}) for name in ("format", "product", "region", "channel", "release", "sections")),
        bent(extra=1),
        bent(format="coldchain-manifest-1"),
        bent(format=1),
        *(bent(release=value) for value in (0, -1, True, "1")),
        *(bent(**{name: "US"}) for name in ("product", "region", "channel")),
        bent(sections={}),
        bent(sections=[1]),
        *(bent_section(**{name: None}) for name in ("name", "kind", "engine", "records", "bytes", "sha256")),
        bent_section(extra=1),
        bent_section(kind="list"),
        bent_section(engine="snort"),
        bent_section(records=-1),
        bent_section(records=True),
        bent_section(bytes=-1),
        bent_section(bytes=4 * 2**30 + 1),
        bent_section(records=200_000_001),
        bent_section(sha256="B" * 64),
        bent_section(sha256="b" * 63),
        bent_section(name="../daily.hsb"),
        bent(sections=[DAILY.as_json(), CANARY.as_json()]),
        bent(sections=[DAILY.as_json(), DAILY.as_json()]),
        bent(sections=[{**DAILY.as_json(), "name": "Daily.hsb"}, DAILY.as_json()]),
    ]
    for data in cases:
        with pytest.raises(MalformedError):
            parse_description(data)


def test_a_later_format_has_its_own_error() -> None:
    with pytest.raises(NewerFormatError) as caught:
        parse_description(bent(format="coldchain-bundle-2", extra=1))
    assert caught.value.todo


def test_bounds() -> None:
    for limits in (
        Limits(description_bytes=100),
        Limits(sections=2),
        Limits(section_name_bytes=5),
        Limits(section_bytes=899),
        Limits(records=5),
        Limits(bundle_bytes=1518),
    ):
        with pytest.raises(MalformedError):
            parse_description(BUNDLE.encode(), limits)
    size = len(BUNDLE.encode())
    parse_description(BUNDLE.encode(), Limits(description_bytes=size, sections=3, section_bytes=900, records=6))
    parse_description(BUNDLE.encode(), Limits(bundle_bytes=1519, section_name_bytes=20))


@pytest.mark.parametrize("name", ["daily.hsb", "a", "A-b_c.1", "-x", "_", "0", "x" * 128, "bundle.json.bak"])
def test_plain_file_names_are_section_names(name: str) -> None:
    assert check_section_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "/a",
        "a\\b",
        "a b",
        "a\n",
        "a\0",
        "ä",
        "x" * 129,
        "bundle.json",
        "Bundle.JSON",
        "c:d",
    ],
)
def test_nothing_else_is_a_section_name(name: str) -> None:
    with pytest.raises(MalformedError):
        check_section_name(name)


def test_tokens() -> None:
    for good in ("us", "a", "row-2", "x" * 32):
        assert check_token(good, "region") == good
    for bad in ("", "US", "1a", "-a", "a_b", "a.b", "x" * 33, "a\n", "ü", "a/b"):
        with pytest.raises(MalformedError, match="region"):
            check_token(bad, "region")


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(ColdchainError):
        parse_description(data)


@given(st.sampled_from(["format", "product", "region", "channel", "release", "sections"]), st.data())
def test_an_arbitrary_member_raises_only_our_errors(name: str, data: st.DataObject) -> None:
    simple = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text("ab1-é", max_size=5)
    value = data.draw(simple | st.lists(simple | st.dictionaries(st.text(max_size=5), simple, max_size=3), max_size=3))
    with suppress(ColdchainError):
        parse_description(bent(**{name: value}))
