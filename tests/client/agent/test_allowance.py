"""The customer's caps on bytes: exact, remembered whatever happens, and over with the day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.agent.allowance import NAME, Allowance, encode_usage, open_allowance, parse_usage
from coldchain.errors import AllowanceError
from coldchain.install.directory import ClientDirectory

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = NOW.date()


@given(
    st.integers(1000, 10**6),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(1, 10**5), st.booleans()), max_size=40),
)
def test_no_more_is_received_than_the_day_has_and_the_file_never_says_less(
    cap: int, used: int, steps: list[tuple[int, bool]]
) -> None:
    kept = used
    came = used

    def keep(count: int) -> None:
        nonlocal kept
        kept = count

    allowance = Allowance(cap, 0, used, keep)
    for count, metadata in steps:
        room = (cap if metadata else cap - cap // 16) - came
        try:
            allowance.ask(metadata=metadata)
        except AllowanceError:
            assert room < 1
            continue
        assert room >= 1
        assert kept >= came + 1  # before a byte of it comes
        came += count
        try:
            allowance.take(count, metadata=metadata)
        except AllowanceError:
            assert count > room
        else:
            assert count <= room
            assert kept >= came
    allowance.done()
    assert kept == came


def test_an_update_has_a_cap_of_its_own() -> None:
    allowance = Allowance(per_update=1000)
    allowance.begin(1000)
    allowance.take(600)
    allowance.begin(400)
    with pytest.raises(AllowanceError, match="needs 1,001 bytes, and most_bytes_per_update is 1,000"):
        allowance.begin(401)
    allowance.take(400)
    with pytest.raises(AllowanceError, match="most_bytes_per_update"):
        allowance.take(1)


def test_without_caps_nothing_is_kept(tmp_path: Path) -> None:
    allowance = Allowance(keep=lambda _: pytest.fail("nothing is kept"))
    for _ in range(3):
        allowance.ask()
        allowance.begin(1 << 40)
        allowance.take(1 << 40)
    allowance.done()


def test_a_day_is_over_with_the_day(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    first = open_allowance(directory, 10_000_000, 0, NOW)
    first.ask()
    first.take(9_300_000)
    # killed here, without done(): the next one knows all of it, and at most a step more
    used = parse_usage((directory.path / NAME).read_bytes(), DAY)
    assert 9_300_000 <= used <= 9_300_000 + 10_000_000 // 64
    with pytest.raises(AllowanceError, match="most_bytes_per_day"):
        open_allowance(directory, 10_000_000, 0, NOW).begin(1)
    open_allowance(directory, 10_000_000, 0, NOW).ask(metadata=True)  # the sixteenth that is kept for it
    for other in (NOW + timedelta(days=1), NOW - timedelta(days=1), NOW - timedelta(days=9000)):
        open_allowance(directory, 10_000_000, 0, other).begin(1)  # a clock that was wrong blocks nobody


@given(st.binary(max_size=100))
def test_a_damaged_file_is_as_if_absent(data: bytes) -> None:
    assert parse_usage(data, DAY) == 0
    good = encode_usage(DAY, 734003)
    assert parse_usage(good, DAY) == 734003
    for place in range(len(good)):
        assert parse_usage(good[:place] + b"\x00" + good[place + 1 :], DAY) == 0
        assert parse_usage(good[:place], DAY) == 0
    assert parse_usage(good, date(2026, 6, 2)) == parse_usage(None, DAY) == 0
