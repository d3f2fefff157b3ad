"""Making one store's reports equal to another's, from whatever the other holds, in pieces of any size."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.errors import StorageError
from coldchain_server.reports import copying
from coldchain_server.reports.copying import NOTHING, copy_region, total
from coldchain_server.reports.moving import Total
from coldchain_server.reports.store import TABLES, Batch, Count, Pardon, ReportStore, _bounds, line_of
from tests.server.memory import memory_folder
from tests.server.reports.residents import ONE

COUNTS = st.lists(
    st.builds(
        lambda sender, release, count, region: replace(ONE, sender=sender, release=release, count=count, region=region),
        st.sampled_from(["a", "b", "c", "d"]),
        st.integers(1, 4),
        st.integers(1, 3),
        st.sampled_from(["us", "us", "us", "jp"]),
    ),
    max_size=12,
)
BATCHES = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 3), max_size=3)
PARDONS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 3), max_size=3)
CONTENT = st.tuples(COUNTS, BATCHES, PARDONS)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


def fill(store: ReportStore, content: tuple[list[Count], dict[str, int], dict[str, int]]) -> None:
    for region in ("us", "jp"):
        store.remove(region)
    counts, batches, pardons = content
    store.add(counts)
    for sender, number in batches.items():
        store.add([], Batch("us", sender, number))
    store.pardon(Pardon("us", "stable", 42, sender, number, 0, 0) for sender, number in pardons.items())


@settings(max_examples=20, deadline=None)
@given(source=CONTENT, target=CONTENT, piece=st.integers(1, 5))
def test_whatever_was_there_it_is_equal_afterwards_and_nothing_else_changed(
    place: Path,
    source: tuple[list[Count], dict[str, int], dict[str, int]],
    target: tuple[list[Count], dict[str, int], dict[str, int]],
    piece: int,
) -> None:
    with (
        ReportStore.open(place / "a") as original,
        ReportStore.open(place / "b") as copy,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(copying, "PIECE", piece)
        fill(original, source)
        fill(copy, target)
        before, other = original.lines("us"), copy.lines("jp")
        copy_region(original, copy, "us")
        assert copy.lines("us") == original.lines("us") == before
        assert copy.lines("jp") == other
        expected = Total(
            sum(one.count for one in original.rows("us")),
            len(original.rows("us")),
            hashlib.sha256(b"".join(before)).hexdigest(),
        )
        assert total(original, ["us"]) == total(copy, ["us"]) == expected
        both = total(original, ["us", "jp"])
        assert both.sha256 == hashlib.sha256(b"".join(before + original.lines("jp"))).hexdigest()
        assert both.reports == expected.reports + sum(one.count for one in original.rows("jp"))


def test_what_is_equal_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE", 3)
    written: list[int] = []
    real = ReportStore.put_span

    def put_span(store: ReportStore, table: str, region: str, after: object, upto: object, rows: list[object]) -> None:
        written.append(len(rows))
        real(store, table, region, after, upto, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(ReportStore, "put_span", put_span)
    with ReportStore.open(tmp_path / "a") as original, ReportStore.open(tmp_path / "b") as copy:
        original.add([replace(ONE, sender=f"edge-{number:02}") for number in range(11)])
        assert total(copy, ["us"]) == NOTHING
        looked: list[int] = []
        for expected in ([3, 3, 3, 2], []):
            copy_region(original, copy, "us", looked.append)
            assert written == expected
            written.clear()
        assert looked == [3, 3, 3, 2, 0, 0] * 2
        original.add([replace(ONE, sender="edge-04")])
        copy_region(original, copy, "us")
        assert written == [3]


def test_the_lines_are_read_as_one_while_it_is_still(tmp_path: Path) -> None:
    """Who adds has to wait until the block ends, and then succeeds."""
    with ReportStore.open(tmp_path) as store, ReportStore.open(tmp_path) as other:
        store.add([ONE])
        adding = threading.Thread(target=lambda: other.add([ONE]))
        with store.still():
            adding.start()
            before = total(store, ["us"])
            adding.join(0.2)
            assert adding.is_alive()
            assert total(store, ["us"]) == before
            store.seal("jp")
        adding.join()
        assert total(store, ["us"]).reports == before.reports + 1
        assert store.sealed() == ["jp"]

        def broken() -> None:
            with store.still():
                store.seal("us")
                store._rows("nonsense")

        with pytest.raises(StorageError):
            broken()
        assert store.sealed() == ["jp"]


def test_both_ends_of_a_piece_are_found_by_the_index(tmp_path: Path) -> None:
    with ReportStore.open(tmp_path) as store:
        for table in TABLES:
            row = (1,) * 12
            where, values = _bounds(table, "us", row, row)
            ((*_, plan),) = store._rows(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {where}", values)
            assert plan.startswith(f"SEARCH {table} USING PRIMARY KEY (region=? AND "), plan
            assert ">" in plan
            assert "<" in plan


@given(st.lists(st.text(max_size=6) | st.integers(-(2**53) + 1, 2**53 - 1), max_size=6).map(tuple))
def test_a_line_is_canonical(row: tuple[object, ...]) -> None:
    assert line_of("counts", row) == canonical.encode(["counts", *row]) + b"\n"  # type: ignore[list-item]


def test_two_copies_are_not_told_apart_by_what_is_forgotten_in_one(tmp_path: Path) -> None:
    with ReportStore.open(tmp_path / "a") as original, ReportStore.open(tmp_path / "b") as copy:
        original.add([ONE, replace(ONE, region="jp")])
        for store, sealed in ((copy, "us"), (original, "us")):
            copy_region(original, copy, "us")
            store.seal(sealed)
            before = total(original, ["us"])
            store.forget("2027-01-01T00:00:00Z")
            assert total(original, ["us"]) == total(copy, ["us"]) == before
            assert store.holds("us")
            assert not store.holds("jp")
