"""Who failed is asked later, for a bounded while, and never not at all; the memory holds nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import (
    ColdchainError,
    DigestError,
    EvidenceError,
    ExpiredError,
    ResponseError,
    RollbackError,
    ThrottledError,
    TransportError,
)
from coldchain.install.directory import MOST_URLS, ClientDirectory
from coldchain.install.source_health import (
    DOUBT_AFTER,
    DOUBT_EVERY,
    MOST_BYTES,
    Conduct,
    Late,
    SourceHealth,
    Why,
    parse_source_health,
    read_source_health,
    why_of,
    write_source_health,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
URLS = ("https://a.example", "https://b.example", "/media/stick")
DIGEST = "ab" * 32
times = st.integers(946_684_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
late = st.builds(Late, st.sampled_from(get_args(Why)), st.integers(1, 1000), times, st.integers(0, 86_400))
memories = st.builds(
    SourceHealth,
    st.dictionaries(st.sampled_from(URLS), late),
    st.none() | st.tuples(st.just(DIGEST), times),
    st.none() | times,
)


@given(memories)
def test_it_comes_back_as_it_was_written(health: SourceHealth) -> None:
    assert parse_source_health(health.encode()) == health


@given(memories, st.data())
def test_what_is_damaged_counts_as_empty(health: SourceHealth, data: st.DataObject) -> None:
    whole = health.encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    for one in (damaged, whole[:at]):
        found = parse_source_health(one)
        assert found == SourceHealth() or found.encode() == one


@given(memories, times)
def test_every_source_is_asked_and_those_that_are_not_late_first_as_given(health: SourceHealth, now: datetime) -> None:
    order = health.order(URLS, now)
    assert sorted(order) == sorted(URLS)
    left = [health.late[url].left(now) if url in health.late else 0.0 for url in order]
    assert left == sorted(left)
    good = [url for url in URLS if url not in health.late or health.late[url].left(now) == 0]
    assert list(order[: len(good)]) == good


@given(memories, times, st.timedeltas(timedelta(0), timedelta(days=1)))
def test_nobody_is_late_for_longer_than_was_written_whatever_the_clock_does(
    health: SourceHealth, now: datetime, passed: timedelta
) -> None:
    for one in health.late.values():
        assert 0 <= one.left(now) <= one.wait <= 86_400
        assert one.left(now + passed) <= one.left(now)


@pytest.mark.parametrize("why", get_args(Why))
def test_each_failure_in_a_row_costs_more_up_to_a_bound(why: Why) -> None:
    most = {"unreachable": 3_600, "behind": 21_600, "refused": 86_400}[why]
    for draw, share in ((lambda: 0.0, 0.5), (lambda: 1.0 - 1e-9, 1.0)):
        health, waits = SourceHealth(), []
        for _ in range(2000):
            health.failed(URLS[0], why, NOW, draw)
            waits.append(health.late[URLS[0]].wait)
        assert waits == sorted(waits)
        assert waits[1] == 2 * waits[0]
        assert waits[-1] == round(most * share)
        assert parse_source_health(health.encode()) == health


def test_endpoints_of_one_edge_do_not_come_back_together() -> None:
    waits = set()
    for _ in range(200):
        health = SourceHealth()
        conduct = Conduct(NOW)
        conduct.note(URLS[0], RollbackError("old"))
        conduct.settle(health)
        waits.add(health.late[URLS[0]].wait)
    assert len(waits) > 100


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TransportError("x"), "unreachable"),
        (ResponseError("x"), "behind"),
        (RollbackError("x"), "behind"),
        (ExpiredError("x"), "behind"),
        (DigestError("x"), "refused"),
        (EvidenceError("x"), "refused"),
        (ThrottledError("x"), None),
    ],
)
def test_what_each_ending_is_blamed_for(error: ColdchainError, why: Why | None) -> None:
    assert why_of(error) == why


def test_an_answer_ends_silence_and_no_lie() -> None:
    for why in get_args(Why):
        health = SourceHealth({URLS[0]: Late(why, 3, NOW + timedelta(seconds=9), 9)})
        conduct = Conduct(NOW, lambda: 0.0)
        conduct.note(URLS[0], None)
        conduct.settle(health)
        assert (URLS[0] in health.late) == (why != "unreachable")
        conduct.note(URLS[0], DigestError("x"))
        conduct.settle(health)
        assert health.late[URLS[0]].why == "refused"


def test_what_is_of_no_use_is_forgotten() -> None:
    health = SourceHealth({f"https://{n}.example": Late("refused", 1, NOW, 60) for n in range(100)})
    assert len(health.kept(NOW).late) == 2 * MOST_URLS
    assert len(health.kept(NOW).encode()) < MOST_BYTES
    assert health.kept(NOW + timedelta(days=1)).late == {}


def test_doubt_comes_the_first_time_every_six_hours_and_once_an_hour_without_news() -> None:
    health = SourceHealth()
    health.saw(DIGEST, NOW)
    assert health.doubtful(DIGEST, 0.0, NOW)  # nobody else was ever asked
    health.asked = NOW
    other, hour, second = "cd" * 32, DOUBT_EVERY, timedelta(seconds=1)
    for digest, age, later, doubt in (
        (DIGEST, 9999.0, hour - second, False),  # asked just now
        (DIGEST, 0.0, DOUBT_AFTER - second, False),
        (other, 3600.0, DOUBT_AFTER - second, False),
        (other, 3601.0, hour, True),
        (DIGEST, 0.0, DOUBT_AFTER, True),
        (other, 0.0, DOUBT_AFTER, True),  # news, as from somebody who lags and moves on
        (DIGEST, 0.0, -second, True),  # the clock went back: that is no reason to trust anybody longer
    ):
        assert health.doubtful(digest, age, NOW + later) is doubt, (digest, age, later)
    health.saw(DIGEST, NOW + DOUBT_AFTER)  # nothing new: the same since then
    health.asked = NOW + DOUBT_AFTER
    assert not health.doubtful(DIGEST, 0.0, NOW + DOUBT_AFTER + hour - second)
    assert health.doubtful(DIGEST, 0.0, NOW + DOUBT_AFTER + hour)
    assert not health.doubtful(other, 0.0, NOW + DOUBT_AFTER + hour)
    health.saw(other, NOW)
    assert health.timestamp == (other, NOW)


def test_on_the_disk(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    assert read_source_health(directory) == SourceHealth()
    health = SourceHealth({URLS[0]: Late("behind", 1, NOW, 60)})
    with directory.locked():
        write_source_health(directory, health, NOW)
        before = (directory.path / "sources.json").stat()
        write_source_health(directory, health, NOW)
    assert read_source_health(directory) == health
    assert (directory.path / "sources.json").stat().st_ino == before.st_ino
    (directory.path / "sources.json").write_bytes(bytes(MOST_BYTES + 1))
    assert read_source_health(directory) == SourceHealth()
