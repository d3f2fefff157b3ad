"""Encoded parts are kept by their inputs, checked when they come back, and never change a byte of a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from coldchain.bundle.description import BundleDescription
from coldchain_server.deltas.diff import diff_bundles
from coldchain_server.deltas.encode import encode_delta
from coldchain_server.deltas.encoded import Encoded
from tests.client.bundle.bundles import Content, Store, describe, encode

OLD: Content = {
    "a.hsb": [b"%064x:1:N" % i for i in range(50)],
    "r.yar": b"rule A { condition: true }\n" * 9,
    "t": [b"x"],
}
NEW: Content = {**OLD, "a.hsb": [b"%064x:1:N" % i for i in range(2, 55)], "r.yar": b"rule B { condition: true }\n" * 9}


def written(old: BundleDescription | None, new: BundleDescription, store: Store, encoded: Encoded) -> bytes:
    out = io.BytesIO()
    encode_delta(diff_bundles(old, new, store), store, out, encoded)
    return out.getvalue()


def never() -> bytes:
    raise AssertionError("encoded again")


def test_files_are_the_same_with_and_without_a_store_and_from_a_warm_one(tmp_path: Path) -> None:
    store = Store()
    one, two = describe(OLD, store, 1), describe(NEW, store, 2)
    for old, new in ((None, one), (one, two), (None, two)):
        plain, _ = encode(old, new, store)
        for _ in range(2):
            assert written(old, new, store, Encoded(tmp_path)) == plain


def test_another_region_finds_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    one, two = describe(OLD, store, 1), describe(NEW, store, 2)
    encoded = Encoded(tmp_path)
    written(one, two, store, encoded)
    for name in ("encode_block", "encode_group"):
        monkeypatch.setattr(f"coldchain_server.deltas.encode.{name}", lambda *_: never())
    there = (
        BundleDescription("ex", "jp", "stable", 1, one.sections),
        BundleDescription("ex", "jp", "stable", 2, two.sections),
    )
    assert written(*there, store, encoded)


@pytest.mark.parametrize("other", [(b"ab", b""), (b"", b"ab"), (b"a", b"b", b""), (b"ab",), (b"b", b"a"), (b"a", b"c")])
def test_other_inputs_are_another_part(tmp_path: Path, other: tuple[bytes, ...]) -> None:
    encoded = Encoded(tmp_path)
    assert encoded((b"a", b"b"), lambda: b"first") == b"first"
    assert encoded((b"a", b"b"), never) == b"first"
    assert encoded(other, lambda: b"second") == b"second"


def test_a_damaged_or_torn_entry_counts_as_none(tmp_path: Path) -> None:
    Encoded(tmp_path)((b"in",), lambda: b"part")
    (entry,) = tmp_path.iterdir()
    whole = entry.read_bytes()
    bad = [whole[:at] for at in range(len(whole))]
    bad += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for data in bad:
        entry.write_bytes(data)
        assert Encoded(tmp_path)((b"in",), lambda: b"part") == b"part"
        assert entry.read_bytes() == whole


def test_a_store_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    encoded = Encoded(tmp_path / "file" / "below")
    assert [encoded((b"in",), lambda: b"part") for _ in range(2)] == [b"part", b"part"]
    assert encoded.forget() == 0


def test_what_was_not_asked_for_is_forgotten(tmp_path: Path) -> None:
    first = Encoded(tmp_path)
    for name in (b"1", b"2", b"3"):
        first((name,), lambda: b"part")
    assert first.forget() == 0
    second = Encoded(tmp_path)
    second((b"2",), never)
    assert second.forget() == 2
    assert len(list(tmp_path.iterdir())) == 1
