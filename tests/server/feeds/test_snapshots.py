"""Snapshots: named by what they hold, whoever looks and whenever; parsed as strictly as they are written."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.errors import ColdchainError, LintError, MalformedError, NewerFormatError, UsageError
from coldchain_server.feeds.archives import SourceFile
from coldchain_server.feeds.snapshots import (
    KINDS,
    FeedSnapshot,
    SnapshotFile,
    check_feed_name,
    parse_snapshot,
    take_snapshot,
)

FILES = [SourceFile("b.hdb", b"2"), SourceFile("a/c.ndb", b"1"), SourceFile("Z.ldb", b"3")]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_order_of_files_has_no_say() -> None:
    made = {take_snapshot("acme", "clamav", files, digest).digest for files in itertools.permutations(FILES)}
    assert made == {take_snapshot("acme", "clamav", FILES, digest).digest}


def test_everything_else_has() -> None:
    whole = take_snapshot("acme", "clamav", FILES, digest)
    others = [
        take_snapshot("acme2", "clamav", FILES, digest),
        take_snapshot("acme", "yara", FILES, digest),
        take_snapshot("acme", "clamav", FILES[1:], digest),
        take_snapshot("acme", "clamav", [*FILES[1:], SourceFile("b.hdb", b"4")], digest),
        take_snapshot("acme", "clamav", [*FILES[1:], SourceFile("c.hdb", b"2")], digest),
    ]
    assert len({one.digest for one in [whole, *others]}) == 6
    for one in [whole, *others]:
        assert parse_snapshot(one.encode()) == one


def test_the_worked_example() -> None:
    made = take_snapshot("acme", "clamav", [SourceFile("a.hdb", b"x\n")], digest)
    assert made.encode() == (
        b'{"feed":"acme","files":[{"bytes":2,"path":"a.hdb","sha256":"' + digest(b"x\n").encode() + b'"}],'
        b'"format":"coldchain-snapshot-1","kind":"clamav"}'
    )


def test_an_empty_feed_an_unknown_kind_and_a_bad_name_are_refused() -> None:
    with pytest.raises(LintError):
        take_snapshot("acme", "clamav", [], digest)
    with pytest.raises(UsageError):
        take_snapshot("acme", "exe", FILES, digest)
    for name in ("", "Acme", "a/b", "../a", "a" * 33, "1a"):
        with pytest.raises(UsageError):
            check_feed_name(name)


def test_foreign_bytes_are_refused() -> None:
    whole = json.loads(take_snapshot("acme", "clamav", FILES, digest).encode())
    changes: list[dict[str, Any]] = [
        {"format": "coldchain-snapshot-0"}, {"kind": "exe"}, {"feed": "../a"}, {"files": []}, {"more": 1},
        {"files": whole["files"][::-1]}, {"files": [whole["files"][0]] * 2}, {"files": [{**whole["files"][0], "bytes": -1}]},
        {"files": [{**whole["files"][0], "bytes": 1 << 40}]}, {"files": [{**whole["files"][0], "sha256": "x"}]},
        {"files": [{**whole["files"][0], "more": 1}]},
        *({"files": [{**whole["files"][0], "path": path}]} for path in ("/a", "../a", "a//b", "./a", "a\\b", "a\n", "")),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises((MalformedError, NewerFormatError)):
            parse_snapshot(canonical.encode({**whole, **change}))
    data = canonical.encode(whole)
    for end in range(len(data)):
        with pytest.raises(ColdchainError):
            parse_snapshot(data[:end])


@given(st.binary(max_size=200) | st.tuples(st.integers(0, 600), st.integers(0, 255)))
def test_any_bytes_raise_our_error_or_come_back_the_same(change: bytes | tuple[int, int]) -> None:
    data = bytearray(take_snapshot("acme", "clamav", FILES, digest).encode())
    if isinstance(change, bytes):
        data = bytearray(change)
    else:
        data[change[0] % len(data)] = change[1]
    with contextlib.suppress(ColdchainError):
        assert parse_snapshot(bytes(data)).encode() == bytes(data)


_PATHS = st.text("abcXYZ019._-é", min_size=1, max_size=12).filter(lambda one: one.strip(".") != "")


@given(st.sampled_from(KINDS), st.dictionaries(_PATHS, st.integers(0, 1 << 30), min_size=1, max_size=8))
def test_round_trip(kind: str, files: dict[str, int]) -> None:
    found = tuple(
        SnapshotFile(path, size, digest(path.encode()))
        for path, size in sorted(files.items(), key=lambda one: one[0].encode())
    )
    made = FeedSnapshot("acme", kind, found)
    assert parse_snapshot(made.encode()) == made
