"""Encoding: flat blocks, shared blocks, nothing where nothing changed, and no delta between bundles that do not belong together."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from coldchain.bundle.canary import canary_section
from coldchain.bundle.description import BundleDescription
from coldchain.errors import StateError
from coldchain_server.deltas import encode as encoding
from coldchain_server.deltas.changes import BundleChange
from coldchain_server.deltas.encode import encode_delta
from tests.client.bundle.bundles import Content, Store, check, describe, encode, round_trip
from tests.client.bundle.forged import take_apart


@pytest.fixture
def store() -> Store:
    return Store()


def with_canary(content: Content, release: int, store: Store) -> BundleDescription:
    made = canary_section("clamav", "ex", "us", "stable", release)
    assert made is not None
    name, text = made
    return describe({**content, name: text.splitlines()}, store, release, {name: "clamav"})


def test_nothing_changed_costs_a_header(store: Store) -> None:
    content: Content = {f"list-{i}": [b"%d" % i] for i in range(50)} | {"f": b"file"}
    data, stats = round_trip(content, content, store)
    assert len(data) <= 4 + 4 + 1
    assert (stats.removed, stats.blocks, stats.files) == (0, 0, 0)
    assert stats.length == len(data)


def test_canaries_cost_nothing(store: Store) -> None:
    content: Content = {"l": [b"a", b"b"]}
    old, new = with_canary(content, 41, store), with_canary(content, 42, store)
    data, _ = encode(old, new, store)
    check(data, old, new, store)
    assert len(data) == 9
    full, _ = encode(None, new, store)
    check(full, None, new, store)
    assert b"Canary" not in full


def test_small_changes_of_many_lists_share_a_block(store: Store) -> None:
    old: Content = {f"list-{i}": [b"domain-%d-%d.example" % (i, j) for j in range(20)] for i in range(10)}
    new: Content = {name: [*lines, b"new.example"] for name, lines in old.items() if isinstance(lines, list)}
    data, _ = round_trip(old, new, store)
    parts = take_apart(data, describe(old, store, 41))
    assert [count for count, _ in parts.blocks] == [10]


def test_records_of_different_kinds_do_not(store: Store) -> None:
    new: Content = {
        "a.list": [b"10.0.0.%d" % i for i in range(9)],
        "b.hdb": [b"%032x:68:A-%d" % (i, i) for i in range(9)],
        "c.ndb": [b"text %d" % i for i in range(9)],
    }
    data, _ = round_trip(None, new, store)
    assert [count for count, _ in take_apart(data, None).blocks] == [9, 9, 9]


@pytest.mark.parametrize(("records", "size"), [(7, 1 << 20), (1 << 20, 100), (1, 1)])
def test_blocks_are_bounded(records: int, size: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By records and by bytes; one line is never cut."""
    monkeypatch.setattr(encoding, "BLOCK_RECORDS", records)
    monkeypatch.setattr(encoding, "BLOCK_BYTES", size)
    lines = [b"line %03d" % i for i in range(50)] + [b"z" * 300]
    for old in (None, {"l": lines[:1], "m": [b"1"]}, {"l": [b"other"]}):
        data, _ = round_trip(old, {"l": lines, "m": [b"1", b"2"]}, store)
        before = describe(old, store, 41) if old else None
        blocks = take_apart(data, before).blocks
        assert all(count <= max(records, 1) for count, _ in blocks)
        assert sum(count for count, _ in blocks) >= 50
        assert len(blocks) > 3


def test_a_file_may_change_its_records_alone(store: Store) -> None:
    """The same bytes, counted otherwise by a newer lint."""
    old, new = describe({"f": b"rule a {}\n"}, store, 41), describe({"f": b"rule a {}\n"}, store, 42)
    new = replace(new, sections=(replace(new.sections[0], records=7),))
    data, _ = encode(old, new, store)
    check(data, old, new, store)


def test_no_delta_leads_back_or_elsewhere(store: Store) -> None:
    old, new = describe({"l": [b"a"]}, store, 41), describe({"l": [b"b"]}, store, 42)
    for wrong in (
        replace(new, release=41),
        replace(new, release=40),
        replace(new, product="other"),
        replace(new, region="jp"),
        replace(new, channel="early"),
    ):
        with pytest.raises(StateError, match="no delta leads"):
            encode_delta(BundleChange(old, wrong), store, io.BytesIO())
