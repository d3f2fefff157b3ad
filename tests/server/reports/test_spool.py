"""What an edge has yet to send on: in the counts or in the batch, never in both, never in neither, whatever happens in between."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coldchain_server.reports.batch import parse_batch
from coldchain_server.reports.ledger import summed
from coldchain_server.reports.spool import Spool
from coldchain_server.reports.store import Batch, ReportStore
from tests.server.memory import memory_folder
from tests.server.reports.test_batch import ONE

NOW = 1_780_304_401


def test_counts_become_a_batch_and_a_batch_goes(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        assert spool.cut("us", NOW) is None
        spool.add([ONE, replace(ONE, sender="edge-2")])
        first = spool.cut("us", NOW)
        assert first is not None
        assert (first.number, first.url) == (NOW, None)
        (count,) = parse_batch(first.body, "").counts
        assert count == replace(ONE, sender="", count=24)  # whoever sent it here
        assert spool.rows("us") == []
        spool.add([ONE])
        spool.asked(first, "https://a.example")
        again = spool.cut("us", NOW + 99)
        assert again == replace(first, url="https://a.example")
        spool.done(replace(first, number=1))  # another one's end
        assert spool.cut("us", NOW) == again
        spool.done(first)
        second = spool.cut("us", NOW)
        assert second is not None
        assert second.number == NOW + 1
        assert spool.pending() == ["us"]
        spool.done(second)
        assert spool.pending() == []


def test_a_region_at_a_time_and_bounded(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool.add([replace(ONE, source=source, region=region) for source in range(5) for region in ("jp", "us")])
        seen = []
        while (batch := spool.cut("us", NOW, most=2)) is not None:
            seen.append([one.source for one in parse_batch(batch.body, "").counts])
            spool.done(batch)
        assert seen == [[0, 1], [2, 3], [4]]
        assert spool.pending() == ["jp"]


def test_a_directory_that_was_lost_does_not_repeat_numbers(tmp_path: Path) -> None:
    numbers = []
    for place, moment in (("one", NOW), ("two", NOW + 60)):
        with Spool.open(tmp_path / place) as spool:
            spool.add([ONE])
            batch = spool.cut("us", moment)
            assert batch is not None
            numbers.append(batch.number)
    assert numbers[1] > numbers[0]


class Chain(RuleBasedStateMachine):
    """Endpoints, a chain of two edges and an origin; either process may die at any moment, any answer may be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.folder = self.stack.enter_context(memory_folder())
        self.told: Counter[int] = Counter()

    def teardown(self) -> None:
        for link in [("a", "b")] * 2 + [("b", "origin")] * 2:  # what is under way, and what was counted since
            self.forward(*link, lost=False)
        found = self.counted("origin")
        self.stack.close()
        assert found == self.told

    def spool(self, name: str) -> ReportStore:
        return (ReportStore if name == "origin" else Spool).open(self.folder / name)

    def counted(self, name: str) -> Counter[int]:
        with self.spool(name) as store:
            found: Counter[int] = Counter()
            for row in store.rows("us"):
                found[row.source] += row.count
            return found

    @rule(source=st.integers(0, 3), count=st.integers(1, 3))
    def report(self, source: int, count: int) -> None:
        with self.spool("a") as store:
            store.add([replace(ONE, source=source, count=count, sender="direct")])
        self.told[source] += count

    @rule(link=st.sampled_from([("a", "b"), ("b", "origin")]), lost=st.booleans())
    def forwards(self, link: tuple[str, str], lost: bool) -> None:
        self.forward(*link, lost=lost)

    def forward(self, one: str, other: str, *, lost: bool) -> None:
        with self.spool(one) as spool:
            assert isinstance(spool, Spool)
            batch = spool.cut("us", NOW)
            if batch is None:
                return
            found = parse_batch(batch.body, one)
            with self.spool(other) as store:
                store.add(found.counts, Batch("us", one, found.number))
            if not lost:
                spool.done(batch)

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        assert self.counted("origin") <= self.told


Chain.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestChain = Chain.TestCase


def test_what_is_summed() -> None:
    two = replace(ONE, source=1)
    assert summed([ONE, two, ONE]) == sorted([replace(ONE, count=24), two])
    assert summed([]) == []
