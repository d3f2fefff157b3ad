"""What is remembered of reports: each outcome of a release once, the newest that wait, and never bytes that are no report."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.errors import LockedError, StorageError
from coldchain.install.directory import ClientDirectory
from coldchain.install.report_memory import (
    MOST_SAID,
    MOST_TRIES,
    MOST_WAITING,
    ReportMemory,
    Sent,
    Waiting,
    change_report_memory,
    parse_report_memory,
    read_report_memory,
)
from coldchain.outcome_report import OUTCOMES, OutcomeReport
from tests.client.test_outcome_report import ONE, REPORTS

NOW = datetime(2026, 6, 1, 9, 5, tzinfo=UTC)
memories = st.builds(
    ReportMemory,
    st.lists(st.tuples(st.integers(1, 99), st.sampled_from(OUTCOMES)), max_size=MOST_SAID).map(tuple),
    st.none() | st.tuples(st.integers(1, 99), st.integers(0, 99)),
    st.lists(
        st.builds(Waiting, REPORTS.map(OutcomeReport.encode), st.integers(0, MOST_TRIES)), max_size=MOST_WAITING
    ).map(tuple),
    st.none() | st.builds(Sent, REPORTS.map(OutcomeReport.encode), st.just(NOW), st.just("https://edge.example")),
)


@settings(max_examples=40, deadline=None)
@given(memories)
def test_there_and_back(memory: ReportMemory) -> None:
    data = memory.encode()
    assert parse_report_memory(data) == memory
    assert parse_report_memory(data[:-1]) == ReportMemory()
    assert parse_report_memory(data.replace(b"coldchain-report-1", b"coldchain-report-x")) == (
        memory if b"coldchain-report-1" not in data else ReportMemory()
    )


def test_damage_counts_as_empty() -> None:
    assert parse_report_memory(None) == ReportMemory()
    for data in (
        b"",
        b"{}",
        b"[]",
        b"\xff",
        ReportMemory(((1, "lied"),)).encode(),
        ReportMemory(taken=(0, 0)).encode(),
    ):
        assert parse_report_memory(data) == ReportMemory(), data


def test_each_outcome_of_a_release_is_said_once() -> None:
    failed = replace(ONE, outcome="engine-failed", code=30)
    memory = ReportMemory().saying(ONE).saying(ONE).saying(failed).saying(replace(failed, code=31))
    assert [one.data for one in memory.waiting] == [ONE.encode(), failed.encode()]
    memory = memory.sent(Sent(ONE.encode(), NOW, "https://edge.example"))
    assert [one.data for one in memory.waiting] == [failed.encode()]
    assert memory.saying(ONE) == memory
    for release in range(43, 143):
        memory = memory.saying(replace(ONE, release=release))
    assert (len(memory.said), len(memory.waiting)) == (MOST_SAID, MOST_WAITING)
    assert [one.data for one in memory.waiting] == [replace(ONE, release=n).encode() for n in range(139, 143)]


def test_what_nobody_takes_is_given_up_at_last() -> None:
    memory = ReportMemory().saying(ONE)
    for _ in range(MOST_TRIES - 1):
        memory = memory.failed(ONE.encode())
        assert len(memory.waiting) == 1
    assert memory.failed(b"another") == memory
    assert memory.failed(ONE.encode()).waiting == ()


def test_it_is_kept_in_the_directory(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path)
    directory.make()
    assert read_report_memory(directory) == ReportMemory()
    memory = ReportMemory().installed(42, 41).saying(ONE)
    change_report_memory(directory, lambda _: memory)
    assert read_report_memory(directory) == memory
    directory.make()  # and is no stranger there


def test_whoever_changes_it_at_once_nothing_is_lost(tmp_path: Path) -> None:
    """Threads with directories of their own, while updates begin and sweep."""
    directory = ClientDirectory(tmp_path)
    directory.make()

    def change(release: int) -> None:
        change_report_memory(
            ClientDirectory(tmp_path), lambda memory: replace(memory, said=(*memory.said, (release, "applied")))
        )

    threads = [threading.Thread(target=change, args=(release,)) for release in range(1, 17)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with contextlib.suppress(StorageError), directory.locked():
            directory.sweep()
    assert sorted(release for release, _ in read_report_memory(directory).said) == list(range(1, 17))


def test_it_does_not_touch_the_lock_of_updates(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path)
    directory.make()
    with directory.locked():
        change_report_memory(ClientDirectory(tmp_path), lambda memory: memory.saying(ONE))
    with directory.reports_locked(), directory.locked(), pytest.raises(LockedError):
        change_report_memory(ClientDirectory(tmp_path), lambda memory: memory.saying(ONE))
