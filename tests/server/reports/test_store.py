"""The store of counted reports: adds up, counts a batch once, moves a region whole, and keeps regions apart."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.errors import BusyError, MalformedError, StorageError
from coldchain_server.reports.store import FILE, Batch, Count, Pardon, ReportStore

HOUR = "2026-06-01T09:00:00Z"
ONE = Count("us", "stable", 41, 42, "applied", 0, "0.5.0", HOUR, "edge-1", 12)


def key(count: Count) -> Count:
    return replace(count, count=0)


COUNTS = st.lists(
    st.builds(
        Count,
        region=st.sampled_from(["us", "jp"]),
        channel=st.just("stable"),
        source=st.sampled_from([0, 41]),
        release=st.sampled_from([42, 43]),
        outcome=st.sampled_from(["applied", "refused"]),
        code=st.just(0),
        version=st.just("0.5.0"),
        hour=st.sampled_from([HOUR, "2026-06-01T10:00:00Z"]),
        sender=st.sampled_from(["direct", "edge-1"]),
        count=st.integers(1, 5),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(parts=st.lists(COUNTS, max_size=3))
def test_it_adds_up_and_a_move_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[Count]]
) -> None:
    directory = tmp_path_factory.mktemp("store")
    wanted: Counter[Count] = Counter()
    with ReportStore.open(directory / "ch") as store:
        for part in parts:
            assert store.add(part)
            for count in part:
                wanted[key(count)] += count.count
    with ReportStore.open(directory / "ch") as store, ReportStore.open(directory / "us") as other:
        for region in ("us", "jp"):
            expected = sorted(replace(one, count=n) for one, n in wanted.items() if one.region == region)
            assert store.rows(region) == expected
            before = store.lines(region)
            other.put(region, before)
            other.put(region, before)
            assert other.lines(region) == before
            store.remove(region)
            assert (store.rows(region), other.rows(region)) == ([], expected)
        assert store.regions() == []


def test_a_batch_counts_once(tmp_path: Path) -> None:
    with ReportStore.open(tmp_path) as store:
        for number in (1, 1, 3, 2, 1, 3):
            first = number > max((batch.number for batch in store.batches("us")), default=0)
            assert store.add([ONE], Batch("us", "edge-1", number)) is first
        assert store.rows("us") == [replace(ONE, count=24)]
        assert store.add(
            [replace(ONE, region="jp")], Batch("jp", "edge-1", 1)
        )  # each region's batches have their own numbers
        assert store.add([ONE], Batch("us", "edge-2", 1))


def test_all_or_nothing(tmp_path: Path) -> None:
    with ReportStore.open(tmp_path) as store:
        with pytest.raises(StorageError):
            store.add([ONE, replace(ONE, release=0)], Batch("us", "edge-1", 1))
        assert (store.rows("us"), store.batches("us")) == ([], [])
        assert store.add([ONE], Batch("us", "edge-1", 1))


def test_what_is_remembered_of_batches_and_pardons_moves_too(tmp_path: Path) -> None:
    pardon = Pardon("us", "stable", 42, "edge-1", 12, 3, 0)
    with ReportStore.open(tmp_path / "a") as store, ReportStore.open(tmp_path / "b") as other:
        store.add([ONE], Batch("us", "edge-1", 7))
        store.pardon([pardon, replace(pardon, sender="direct", ignored=1)])
        store.pardon([replace(pardon, reports=13)])
        other.put("us", store.lines("us"))
        assert not other.add([ONE], Batch("us", "edge-1", 7))
        assert other.pardons("us") == [replace(pardon, sender="direct", ignored=1), replace(pardon, reports=13)]
        assert (
            hashlib.sha256(b"".join(other.lines("us"))).digest() == hashlib.sha256(b"".join(store.lines("us"))).digest()
        )


def test_a_sealed_region_takes_nothing_more(tmp_path: Path) -> None:
    with ReportStore.open(tmp_path) as store:
        store.add([ONE])
        store.seal("us")
        store.seal("us")
        for adding in (
            lambda: store.add([ONE]),
            lambda: store.add([replace(ONE, region="jp"), ONE]),
            lambda: store.add([], Batch("us", "edge-1", 1)),
            lambda: store.pardon([Pardon("us", "stable", 42, "direct", 1, 1, 0)]),
        ):
            with pytest.raises(BusyError):
                adding()
        assert store.add([replace(ONE, region="jp")])
        assert (store.rows("us"), store.sealed()) == ([ONE], ["us"])
        store.unseal("us")
        assert store.add([ONE])


def test_lines_that_are_not_a_store_s(tmp_path: Path) -> None:
    good = b'["counts","us","stable",41,42,"applied",0,"0.5.0","2026-06-01T09:00:00Z","edge-1",12]\n'
    with ReportStore.open(tmp_path) as store:
        store.add([ONE])
        assert store.lines("us") == [good]
        for bad in (
            b"",
            b"{}",
            b"[]",
            b"[1]",
            b'["sealed","us"]',
            b'["counts","us"]',
            good.replace(b"us", b"jp"),
            good.replace(b"42", b"null"),
            good.replace(b"42", b"0"),
            good + good,
        ):
            with pytest.raises(MalformedError):
                store.put("us", [bad])
            assert store.rows("us") == [ONE]
        with pytest.raises(MalformedError):
            store.put("us", [good, good])
        assert store.rows("us") == [ONE]


def test_old_hours_are_forgotten(tmp_path: Path) -> None:
    with ReportStore.open(tmp_path) as store:
        old = replace(ONE, hour="2026-05-31T23:00:00Z")
        store.add([ONE, old])
        assert store.forget(HOUR) == 1
        assert store.rows("us") == [ONE]


def test_what_is_removed_is_overwritten(tmp_path: Path) -> None:
    secret = "edge-with-a-name-that-is-found-again"
    with ReportStore.open(tmp_path) as store:
        store.add([replace(ONE, sender=secret)])
        assert secret.encode() in (tmp_path / FILE).read_bytes()
        store.remove("us")
    assert secret.encode() not in (tmp_path / FILE).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_commits_are_on_the_disk(tmp_path: Path) -> None:
    with ReportStore.open(tmp_path) as store:
        assert store._rows("PRAGMA synchronous") == [(3,)]
        assert store._rows("PRAGMA journal_mode") == [("delete",)]


def test_many_at_once(tmp_path: Path) -> None:
    """Threads on one store, and on stores of their own."""
    with ReportStore.open(tmp_path) as shared:

        def work(own: bool) -> None:
            store = ReportStore.open(tmp_path) if own else shared
            for _ in range(5):
                store.add([ONE])
            if own:
                store.close()

        threads = [threading.Thread(target=work, args=(own,)) for own in (True, True, False, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shared.rows("us") == [replace(ONE, count=12 * 20)]


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / FILE).write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(StorageError):
        ReportStore.open(tmp_path / "damaged")
    ReportStore.open(tmp_path / "newer").close()
    connection = sqlite3.connect(tmp_path / "newer" / FILE)
    connection.execute("PRAGMA user_version=2")
    connection.close()
    with pytest.raises(StorageError, match="newer version"):
        ReportStore.open(tmp_path / "newer")
