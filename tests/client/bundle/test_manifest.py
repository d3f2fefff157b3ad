"""Release manifests: read strictly, written one way, every member known and within its bounds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.bundle.manifest import (
    MOST_CHECKS,
    MOST_FEEDS,
    MOST_POLICIES,
    MOST_REGIONS,
    MOST_TEXT,
    MOST_WITHDRAWN,
    RESULTS,
    BundleFacts,
    FeedFacts,
    GateCheck,
    Manifest,
    Policy,
    RegionFacts,
    Withdrawal,
    parse_manifest,
)
from coldchain.canonical import MAX_INTEGER
from coldchain.errors import ColdchainError, MalformedError, NewerFormatError
from coldchain.limits import Limits

A, B, C = ("abc"[i] * 64 for i in range(3))
POLICY = Policy("leave-out", "signature", "A-7", "why", 1)
MANIFEST = Manifest(
    product="coldchain",
    channel="stable",
    release=42,
    previous=C,
    created="2026-11-24T02:00:00Z",
    whole=BundleFacts(A, 97_000, 1201),
    regions={
        "us": RegionFacts(BundleFacts(A, 97_000, 1201)),
        "jp": RegionFacts(BundleFacts(B, 96_900, 1200), (POLICY,)),
    },
    feeds=(FeedFacts("acme", C, 2, 1200, {"hash-length": 3}),),
    assembler="0.1.0",
    changes={"global": {"acme-main.hsb": (3, 1)}},
    gate=(GateCheck("lint", "passed", "1200 records in 2 files"),),
)

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
tokens = st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)
counts = st.integers(0, MAX_INTEGER)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
facts = st.builds(BundleFacts, digests, counts, counts)
policies = st.builds(
    Policy, st.sampled_from(["leave-out", "add"]), st.sampled_from(["feed", "signature"]), texts, texts, counts
)
names = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,9}", fullmatch=True)
manifests = st.builds(
    Manifest,
    product=tokens,
    channel=tokens,
    release=st.integers(1, MAX_INTEGER),
    previous=st.one_of(st.none(), digests),
    created=st.datetimes().map(lambda time: f"{time:%Y-%m-%dT%H:%M:%SZ}".zfill(20)),
    whole=facts,
    regions=st.dictionaries(
        tokens, st.builds(RegionFacts, facts, st.lists(policies, max_size=2).map(tuple)), max_size=2
    ),
    feeds=st.lists(
        st.builds(FeedFacts, tokens, digests, counts, counts, st.dictionaries(texts, counts, max_size=2)), max_size=2
    ).map(tuple),
    assembler=texts,
    changes=st.dictionaries(tokens, st.dictionaries(names, st.tuples(counts, counts), max_size=2), max_size=2),
    gate=st.lists(st.builds(GateCheck, texts, st.sampled_from(RESULTS), texts), max_size=2).map(tuple),
    withdraws=st.none(),
)


@given(manifests)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    data = manifest.encode()
    assert parse_manifest(data) == manifest
    assert parse_manifest(data).encode() == data
    assert manifest.digest == hashlib.sha256(data).hexdigest()


def test_the_worked_example() -> None:
    assert (
        MANIFEST.encode()
        == (
            '{"assembler":{"version":"0.1.0"},"changes":{"global":{"acme-main.hsb":{"added":3,"removed":1}}},'
            '"channel":"stable","created":"2026-11-24T02:00:00Z","feeds":[{"files":2,"name":"acme","records":1200,'
            f'"skipped":{{"hash-length":3}},"snapshot":"{C}"}}],"format":"coldchain-manifest-1",'
            '"gate":[{"check":"lint","detail":"1200 records in 2 files","result":"passed"}],'
            f'"global":{{"bundle":"{A}","bytes":97000,"records":1201}},"previous":"{C}","product":"coldchain",'
            f'"regions":{{"jp":{{"bundle":"{B}","bytes":96900,"policy":[{{"action":"leave-out","kind":"signature",'
            '"name":"A-7","reason":"why","records":1}],"records":1200},'
            f'"us":{{"bundle":"{A}","bytes":97000,"policy":[],"records":1201}}}},"release":42}}'
        ).encode()
    )
    first = dataclasses.replace(MANIFEST, previous=None)
    assert parse_manifest(first.encode()) == first
    assert b'"previous":null' in first.encode()


def test_every_bit_flip_is_refused_or_another_manifest() -> None:
    data = MANIFEST.encode()
    for i in range(8 * len(data)):
        changed = bytearray(data)
        changed[i // 8] ^= 1 << i % 8
        try:
            other = parse_manifest(bytes(changed))
        except ColdchainError:
            continue
        assert other != MANIFEST
        assert other.encode() == changed, "one manifest, one spelling"


def test_every_truncation_is_refused() -> None:
    data = MANIFEST.encode()
    for i in range(len(data)):
        with pytest.raises(MalformedError):
            parse_manifest(data[:i])


def value() -> Any:
    """The manifest as JSON, to be bent."""
    return canonical.read_canonical(MANIFEST.encode(), "x")


def objects(found: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where every object stands."""
    if isinstance(found, dict):
        yield path
        for name, inner in found.items():
            yield from objects(inner, (*path, name))
    elif isinstance(found, list):
        for i, inner in enumerate(found):
            yield from objects(inner, (*path, i))


def at(found: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        found = found[step]
    return found


FREE = {("regions",), ("changes",), ("changes", "global"), ("feeds", 0, "skipped")}
"""Objects whose members are names of the publisher's choice."""
OBJECTS = list(objects(value()))
MEMBERS = [(path, name) for path in OBJECTS for name in at(value(), path)]


def test_every_object_is_looked_at() -> None:
    assert len(OBJECTS) == 13
    assert {name for _, name in MEMBERS} >= {"version", "added", "snapshot", "check", "bundle", "reason"}


@pytest.mark.parametrize("path", OBJECTS, ids=str)
def test_an_unknown_member_is_refused(path: tuple[str | int, ...]) -> None:
    bent = value()
    at(bent, path)["zz-extra"] = True
    with pytest.raises(MalformedError):
        parse_manifest(canonical.encode(bent))


@pytest.mark.parametrize(("path", "name"), MEMBERS, ids=str)
def test_a_missing_member_is_refused(path: tuple[str | int, ...], name: str) -> None:
    bent = value()
    del at(bent, path)[name]
    data = canonical.encode(bent)
    if path in FREE:
        assert parse_manifest(data) != MANIFEST
    else:
        with pytest.raises(MalformedError):
            parse_manifest(data)


@pytest.mark.parametrize(("path", "name"), MEMBERS, ids=str)
def test_a_member_of_another_type_is_refused(path: tuple[str | int, ...], name: str) -> None:
    there = at(value(), path)[name]
    for other in (1, -1, "x", True, None, [], {}, [1], {"x": 1}, ["x"]):
        if type(other) is type(there) and other != -1 and not isinstance(other, list | dict):
            continue
        if (other == [] and name in ("policy", "feeds", "gate")) or (other is None and name == "previous"):
            continue
        if (other == {} and (*path, name) in FREE) or (other == {"x": 1} and name == "skipped"):
            continue
        bent = value()
        at(bent, path)[name] = other
        with pytest.raises(MalformedError):
            parse_manifest(canonical.encode(bent))


def with_member(path: tuple[str | int, ...], member: Any) -> bytes:
    bent = value()
    at(bent, path[:-1])[path[-1]] = member
    return canonical.encode(bent)


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-24T02:00:00", "2026-11-24 02:00:00Z", "2026-11-24T02:00:00.0Z", "2026-11-24T02:00:00+00:00", "",
        "2026-13-24T02:00:00Z", "2026-02-30T02:00:00Z", "2026-00-24T02:00:00Z", "2026-11-39T02:00:00Z",
        "2026-11-24T24:00:00Z", "2026-11-24T02:60:00Z", "2026-11-24T02:00:00Z\u2028", "0000-11-24T02:00:00Z",
        "\u0662\u0660\u0662\u0666-11-24T02:00:00Z", " 2026-11-24T02:00:00Z", "2026-1-24T02:00:00Z",
    ],
)  # fmt: skip
def test_times_that_are_none(time: str) -> None:
    with pytest.raises(MalformedError, match="time in UTC"):
        parse_manifest(with_member(("created",), time))


BAD_TOKENS = ("", "US", "1a", "a_b", "a b", "a" * 33, "é", "a\u200b")


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_words_that_are_none(token: str) -> None:
    for path in (("product",), ("channel",), ("feeds", 0, "name")):
        with pytest.raises(MalformedError):
            parse_manifest(with_member(path, token))
    for path in (("regions",), ("changes",)):
        bent = value()
        there = bent[path[0]]
        there[token] = next(iter(there.values()))
        with pytest.raises(MalformedError):
            parse_manifest(canonical.encode(bent))


def test_choices_and_names() -> None:
    for path in (
        ("gate", 0, "result"),
        ("regions", "jp", "policy", 0, "action"),
        ("regions", "jp", "policy", 0, "kind"),
    ):
        for word in ("", "Passed", "passed ", "leave-in", "file"):
            with pytest.raises(MalformedError):
                parse_manifest(with_member(path, word))
    for result in RESULTS:
        assert parse_manifest(with_member(("gate", 0, "result"), result)).gate[0].result == result
    for action, kind in (("add", "feed"), ("leave-out", "feed"), ("add", "signature")):
        bent = value()
        bent["regions"]["jp"]["policy"][0].update(action=action, kind=kind)
        [policy] = parse_manifest(canonical.encode(bent)).regions["jp"].policy
        assert (policy.action, policy.kind) == (action, kind)
    for name in ("", "../x", "a/b", ".x", "bundle.json", "a" * 129):
        with pytest.raises(MalformedError):
            parse_manifest(with_member(("changes", "global"), {name: {"added": 1, "removed": 1}}))


def test_the_ends_of_every_bound() -> None:
    change, region = {"added": 0, "removed": 0}, {**value()["regions"]["us"]}
    policy, feed, check = value()["regions"]["jp"]["policy"][0], value()["feeds"][0], value()["gate"][0]
    token = [f"r{i}" for i in range(MOST_REGIONS + 1)]
    bounds: list[tuple[tuple[str | int, ...], Any, Any]] = [
        (("release",), MAX_INTEGER, 0),
        (("global", "bytes"), 0, -1),
        (("regions",), dict.fromkeys(token[:-1], region), dict.fromkeys(token, region)),
        (("changes",), {name: {"x": change} for name in token[:-1]}, {name: {"x": change} for name in token}),
        (("regions", "jp", "policy"), [policy] * MOST_POLICIES, [policy] * (MOST_POLICIES + 1)),
        (("regions", "jp", "policy", 0, "name"), "n" * MOST_TEXT, "n" * (MOST_TEXT + 1)),
        (("regions", "jp", "policy", 0, "reason"), "é" * MOST_TEXT, "é" * (MOST_TEXT + 1)),
        (("feeds",), [feed] * MOST_FEEDS, [feed] * (MOST_FEEDS + 1)),
        (("gate",), [check] * MOST_CHECKS, [check] * (MOST_CHECKS + 1)),
        (("gate", 0, "check"), "c" * 64, "c" * 65),
        (("gate", 0, "detail"), "d" * MOST_TEXT, "d" * (MOST_TEXT + 1)),
        (("assembler", "version"), "1" * 64, "1" * 65),
    ]
    for path, good, bad in bounds:
        data = with_member(path, good)
        assert parse_manifest(data).encode() == data
        with pytest.raises(MalformedError):
            parse_manifest(with_member(path, bad))


def test_limits() -> None:
    data = MANIFEST.encode()
    assert parse_manifest(data, Limits(manifest_bytes=len(data), sections=1, section_name_bytes=13)) == MANIFEST
    for limits in (Limits(manifest_bytes=len(data) - 1), Limits(sections=0), Limits(section_name_bytes=12)):
        with pytest.raises(MalformedError):
            parse_manifest(data, limits)


def test_formats() -> None:
    with pytest.raises(NewerFormatError, match="manifest-2"):
        parse_manifest(with_member(("format",), "coldchain-manifest-2"))
    for other in ("", "coldchain-bundle-1", "coldchain-manifest", "xcoldchain-manifest-1"):
        with pytest.raises(MalformedError, match="not a release manifest"):
            parse_manifest(with_member(("format",), other))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"1", b"\xef\xbb\xbf{}", b'{"a":1,"a":1}', b"{" * 100])
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_manifest(data)


def test_another_spelling_is_refused() -> None:
    data = MANIFEST.encode()
    for other in (data + b"\n", b" " + data, data.replace(b":", b": ", 1), data.replace(b'"why"', b'"\\u0077hy"')):
        with pytest.raises(MalformedError, match=r"canonical|control"):
            parse_manifest(other)


@given(st.binary(max_size=100))
def test_foreign_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises((MalformedError, NewerFormatError)):
        parse_manifest(data)


def test_a_withdrawal_is_read_and_written() -> None:
    for releases, restores in (((41,), 40), ((2, 40, 41), 1), (tuple(range(2, 42)), 1)):
        manifest = dataclasses.replace(MANIFEST, withdraws=Withdrawal(releases, restores, "why"))
        assert parse_manifest(manifest.encode()) == manifest
    assert b"withdraws" not in MANIFEST.encode()


@pytest.mark.parametrize(
    "bad",
    [
        Withdrawal((), 1, "why"),
        Withdrawal((42,), 1, "why"),
        Withdrawal((43,), 1, "why"),
        Withdrawal((5, 5), 1, "why"),
        Withdrawal((6, 5), 1, "why"),
        Withdrawal((5,), 5, "why"),
        Withdrawal((5,), 0, "why"),
        Withdrawal((0,), 1, "why"),
        Withdrawal((5,), 1, "w" * (MOST_TEXT + 1)),
        Withdrawal(tuple(range(5, 5 + MOST_WITHDRAWN + 1)), 1, "why"),
    ],
)
def test_a_withdrawal_that_cannot_be_is_refused(bad: Withdrawal) -> None:
    later = dataclasses.replace(MANIFEST, release=MANIFEST.release if max(bad.releases, default=0) < 60 else 1000)
    with pytest.raises(MalformedError):
        parse_manifest(dataclasses.replace(later, withdraws=bad).encode())
    document: Any = canonical.read(MANIFEST.encode(), "manifest")
    with pytest.raises(MalformedError, match="unknown member"):
        parse_manifest(
            canonical.encode(document | {"withdraws": {"releases": [41], "restores": 40, "reason": "why", "more": 1}})
        )
