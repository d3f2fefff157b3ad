"""One pass over an old section equals the set arithmetic it stands for, whatever the block size."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.bundle import sections
from coldchain.bundle.merge import Lines, Ordinals, merge_set
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS
from tests.client.bundle.bundles import odd_line


def batched(items: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def merge(old: list[bytes], removed: list[int], added: list[bytes], size: int = 3) -> tuple[bytes, int]:
    out = bytearray()
    data = b"".join(line + b"\n" for line in old)
    chunks = (removed[start : start + size] for start in range(0, len(removed), size))
    lines = Lines(batched(added, size), "x")
    records = merge_set(io.BytesIO(data), Ordinals(chunks), lines, out.extend, "x", LIMITS)
    return bytes(out), records


@pytest.mark.parametrize("block", [8, 64, 1 << 20])
def test_it_is_set_arithmetic(block: int) -> None:
    @settings(max_examples=60)
    @given(st.sets(odd_line, min_size=1, max_size=60), st.sets(odd_line, max_size=20), st.data(), st.integers(1, 9))
    def run(old: set[bytes], new: set[bytes], data: st.DataObject, size: int) -> None:
        ordered = sorted(old)
        removed = sorted(data.draw(st.sets(st.integers(0, len(ordered) - 1))))
        added = sorted(new - old | {ordered[i] for i in removed[::3] if ordered[i] in new})
        kept = [line for i, line in enumerate(ordered) if i not in set(removed)]
        expected = sorted(kept + added)
        out, records = merge(ordered, removed, added, size)
        assert out == b"".join(line + b"\n" for line in expected)
        assert records == len(expected)

    before = sections.BLOCK
    sections.BLOCK = block
    try:
        run()
    finally:
        sections.BLOCK = before


def test_few_changes_in_a_large_section() -> None:
    old = [b"%06d" % i for i in range(0, 60_000, 2)]
    removed = [0, 1, 999, 15_000, 29_999]
    added = [b"!", b"000001", b"030001", b"030003", b"999999"]
    out, records = merge(old, removed, added)
    expected = sorted({*old, *added} - {old[i] for i in removed})
    assert out == b"".join(line + b"\n" for line in expected)
    assert records == len(expected) == 30_000


def test_what_does_not_fit_is_refused() -> None:
    old = [b"a", b"c", b"e"]
    for removed, added in (([3], []), ([0, 7], []), ([], [b"b", b"b"]), ([], [b"d", b"b"]), ([], [b""])):
        with pytest.raises(MalformedError):
            merge(old, removed, added)
    assert merge(old, [0, 1, 2], []) == (b"", 0)


def test_lists_of_added_lines_are_never_gathered() -> None:
    """Any number of lines may come before the last one of a small section; only the list at hand and the next one are held."""
    held: set[int] = set()
    most = 0

    class Batch(list[bytes]):
        def __del__(self) -> None:
            held.discard(id(self))

    def batches() -> Iterator[list[bytes]]:
        nonlocal most
        for start in range(0, 10_000, 100):
            batch = Batch(b"%05d" % i for i in range(start, start + 100))
            held.add(id(batch))
            most = max(most, len(held))
            yield batch
            del batch

    written: list[bytes] = []
    old = io.BytesIO(b"00000x\n05000x\n~\n")
    records = merge_set(old, Ordinals(iter([[1]])), Lines(batches(), "x"), written.append, "x", LIMITS)
    assert (
        b"".join(written)
        == b"".join(sorted(b"%05d\n" % i for i in range(10_000)))[:6]
        + b"00000x\n"
        + b"".join(b"%05d\n" % i for i in range(1, 10_000))
        + b"~\n"
    )
    assert records == 10_002
    assert most <= 3
    assert max(map(len, written)) < 2000


def test_lines_of_many_lists_and_a_damaged_old_section() -> None:
    """Old lines out of order give another result, and no other error."""
    for data in (b"z\na\n", b"z\nz\nb\n", b"\n\n\n", b"m\n"):
        out: list[bytes] = []
        lines = Lines(batched([b"%02d" % i for i in range(40)], 3), "x")
        assert merge_set(io.BytesIO(data), Ordinals(iter([])), lines, out.append, "x", LIMITS) == 40 + data.count(b"\n")
        assert len(b"".join(out)) == 120 + len(data)
