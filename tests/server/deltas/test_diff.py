"""A diff is the difference of two sets, with the ordinals each line has on its own side."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.deltas.diff import diff_bundles, diff_files, diff_lines
from tests.client.bundle.bundles import Store, describe, odd_line
from tests.server.deltas.histories import histories


def section(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def expected(old: list[bytes], new: list[bytes]) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    here, there = set(old), set(new)
    return (
        [(i, line) for i, line in enumerate(old) if line not in there],
        [(i, line) for i, line in enumerate(new) if line not in here],
    )


@given(st.sets(odd_line, max_size=40), st.sets(odd_line, max_size=40), st.sets(odd_line, max_size=40))
def test_it_is_the_difference_of_two_sets(both: set[bytes], a: set[bytes], b: set[bytes]) -> None:
    old, new = sorted(both | a), sorted(both | b)
    assert diff_lines(section(old), section(new)) == expected(old, new)


@given(st.lists(st.sampled_from([b"a", b"a\x00", b"a!", b"aa", b"a\x7f", b"b"]), unique=True), st.data())
def test_lines_that_begin_alike(lines: list[bytes], data: st.DataObject) -> None:
    old = sorted(lines)
    new = sorted(data.draw(st.lists(st.sampled_from([b"a", b"a\x00", b"a\x01", b"aa", b"ab", b"b"]), unique=True)))
    assert diff_lines(section(old), section(new)) == expected(old, new)


def test_long_equal_stretches(tmp_path: Path) -> None:
    rng = random.Random(3)
    old = sorted({b"%032x" % rng.getrandbits(128) for _ in range(30_000)})
    gone = set(rng.sample(old, 25)) | {old[0], old[-1]}
    new = sorted(set(old) - gone | {b"%032x" % rng.getrandbits(128) for _ in range(25)} | {b"~"})
    (tmp_path / "old").write_bytes(section(old))
    (tmp_path / "new").write_bytes(section(new))
    assert diff_files(tmp_path / "old", tmp_path / "new") == expected(old, new)
    (tmp_path / "none").write_bytes(b"")
    assert diff_files(tmp_path / "none", tmp_path / "new") == ([], list(enumerate(new)))
    assert diff_files(tmp_path / "old", tmp_path / "none") == (list(enumerate(old)), [])


@given(histories(2))
def test_bundles(history: list[dict[str, bytes | list[bytes]]]) -> None:
    store = Store()
    old, new = (describe(content, store, i + 1) for i, content in enumerate(history))
    change = diff_bundles(old, new, store)
    assert set(change.sets) == {
        o.name for o in old.sections for n in new.sections
        if (o.name, o.kind, n.kind, o.engine) == (n.name, "set", "set", n.engine) and o.sha256 != n.sha256
    }  # fmt: skip
    counts = change.counts()
    records = {section.name: section.records for section in old.sections}
    for name, (added, removed) in counts.items():
        records[name] = records.get(name, 0) + added - removed
    assert {name: count for name, count in records.items() if new.section(name)} == {
        s.name: s.records for s in new.sections
    }
    assert diff_bundles(None, new, store).sets == {}
    assert diff_bundles(None, new, store).counts() == {s.name: (s.records, 0) for s in new.sections}
