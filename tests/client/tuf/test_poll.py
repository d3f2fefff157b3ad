"""The fast poll's rule, row by row, and what the rule guarantees."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from coldchain.tuf.poll import FULL_EVERY, MARGIN, full_refresh_reason, needs_full_refresh
from tests.client.tuf.repository import NOW, Repository

TIMESTAMP = Repository().files["metadata/timestamp.json"]  # lives 24 hours from NOW on
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def test_nothing_is_due_while_the_timestamp_is_young_and_unchanged() -> None:
    for answer in ("not asked", "not modified"):
        assert full_refresh_reason(TIMESTAMP, NOW + HOUR, NOW, answer) is None
    assert full_refresh_reason(TIMESTAMP, NOW + HOUR, NOW, TIMESTAMP) is None
    assert not needs_full_refresh(TIMESTAMP, NOW + HOUR, NOW)


def test_each_reason() -> None:
    for timestamp, now, last, answer, words in (
        (None, NOW, NOW, "not asked", "no timestamp"),
        (b"", NOW, NOW, "not asked", "damaged"),
        (TIMESTAMP[:-1], NOW, NOW, "not asked", "damaged"),
        (TIMESTAMP, NOW, None, "not asked", "no full check"),
        (TIMESTAMP, NOW, NOW + SECOND, "not asked", "clock went back"),
        (TIMESTAMP, NOW, NOW - timedelta(days=1), "not asked", "day old"),
        (TIMESTAMP, NOW + 18 * HOUR, NOW, "not asked", "within 6 hours"),
        (TIMESTAMP, NOW + 18 * HOUR, NOW, "not modified", "within 6 hours"),
        (TIMESTAMP, NOW + 23 * HOUR, NOW + 23 * HOUR, TIMESTAMP, "within 6 hours"),
        (TIMESTAMP, NOW, NOW, "failed", "failed"),
        (TIMESTAMP, NOW, NOW, TIMESTAMP + b" ", "changed"),
        (TIMESTAMP, NOW, NOW, b"", "changed"),
    ):
        reason = full_refresh_reason(timestamp, now, last, answer)  # type: ignore[arg-type]
        assert reason is not None
        assert words in reason
        assert needs_full_refresh(timestamp, now, last, answer)  # type: ignore[arg-type]


def test_the_edges_are_where_the_table_says() -> None:
    assert not needs_full_refresh(TIMESTAMP, NOW + 18 * HOUR - SECOND, NOW)
    assert needs_full_refresh(TIMESTAMP, NOW + 18 * HOUR, NOW)
    assert not needs_full_refresh(TIMESTAMP, NOW, NOW - FULL_EVERY + SECOND)
    assert needs_full_refresh(TIMESTAMP, NOW, NOW - FULL_EVERY)
    assert not needs_full_refresh(TIMESTAMP, NOW, NOW)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_a_quiet_poll_never_goes_past_the_margin_or_the_day(now_seconds: int, last_seconds: int) -> None:
    now, last = NOW + timedelta(seconds=now_seconds), NOW + timedelta(seconds=last_seconds)
    if not needs_full_refresh(TIMESTAMP, now, last, "not modified"):
        assert now < NOW + timedelta(days=1) - MARGIN
        assert timedelta(0) <= now - last < FULL_EVERY
