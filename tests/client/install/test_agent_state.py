"""What an agent remembers: strict, over reboots, and never longer than it was asked for, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from coldchain.install.agent_state import (
    MOST_WAIT,
    NAME,
    AgentState,
    Instant,
    Moment,
    boot_id,
    moment,
    parse_agent_state,
    read_agent_state,
    write_agent_state,
)
from coldchain.install.directory import ClientDirectory

NOW = datetime(2026, 6, 1, 12, 28, tzinfo=UTC)
TIMES = st.integers(31_536_000, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
MOMENTS = st.builds(Moment, st.integers(0, 10**9), TIMES, st.integers(0, MOST_WAIT))
LINES = st.text(st.characters(categories=("L", "N", "P")), max_size=60)
STATES = st.builds(
    AgentState,
    boot=st.sampled_from(["", "a-boot"]),
    failures=st.integers(0, 10**6),
    earliest=st.none() | MOMENTS,
    next=st.none() | MOMENTS,
    told=st.dictionaries(LINES, MOMENTS, max_size=4),
    last_poll=st.none() | TIMES,
    last_good=st.none() | TIMES,
    error=st.none() | st.tuples(st.integers(0, 255), LINES),
    received=st.integers(0, 2**53 - 1),
)


@given(STATES)
def test_what_is_written_is_read(state: AgentState) -> None:
    assert parse_agent_state(state.encode()) == state


@given(STATES, st.data())
def test_a_damaged_file_is_as_if_absent(state: AgentState, data: st.DataObject) -> None:
    good = state.encode()
    place = data.draw(st.integers(0, len(good) - 1))
    for bad in (good[:place], good + b" ", good[:place] + b"\x00" + good[place + 1 :]):
        assert parse_agent_state(bad) == AgentState()
    altered = good[:place] + bytes([good[place] ^ data.draw(st.integers(1, 255))]) + good[place + 1 :]
    assert parse_agent_state(altered) == AgentState() or parse_agent_state(altered).encode() == altered


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state(data: bytes) -> None:
    found = parse_agent_state(data)
    assert found == AgentState() or found.encode() == data


@given(st.floats(-100, 1e6), st.floats(0, 1e7), st.floats(0, 1e6), TIMES, st.booleans())
def test_the_wait_over_a_restart_and_over_a_reboot(
    wait: float, boot: float, later: float, now: datetime, same: bool
) -> None:
    """On the same start of the machine the exact rest, whatever the clock says; after a reboot never more than the wait."""
    kept = moment(Instant(boot, NOW, "one"), wait)
    asked = min(max(wait, 0.0), float(MOST_WAIT))
    left = kept.left(Instant(boot + later if same else 5.0, now, "one" if same else "two"), "one")
    assert 0 <= left <= asked + 1
    if same:
        assert asked - later <= left + 1e-6  # never earlier than told
        assert left <= max(asked - later, 0.0) + 2
    else:
        assert left == min(max((kept.time - now).total_seconds(), 0.0), kept.wait)


def test_a_clock_that_goes_back_or_forward_in_a_reboot() -> None:
    kept = moment(Instant(100.0, NOW, "one"), 120.0)
    for time, left in (
        (NOW + timedelta(seconds=60), 60.0),
        (NOW + timedelta(seconds=720), 0.0),
        (datetime(1970, 1, 1, tzinfo=UTC), 120.0),
        (NOW - timedelta(days=3650), 120.0),
        (NOW + timedelta(days=3650), 0.0),
    ):
        assert kept.left(Instant(3.0, time, "two"), "one") == left
        assert kept.left(Instant(3.0, time, ""), "") == left  # where a start has no name, the time counts


def test_the_file_of_an_endpoint(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    assert read_agent_state(directory) == AgentState()
    state = AgentState(failures=3, error=(21, "a\x1b\nb \udc80" + "x" * 900))
    write_agent_state(directory, state)
    found = read_agent_state(directory)
    assert found.error is not None
    assert found.error[1].startswith("a??b ?xx")
    assert found.failures == 3
    (directory.path / NAME).write_bytes(b"x" * 100_000)
    assert read_agent_state(directory) == AgentState()
    directory.make()  # the file is one of ours
    assert boot_id()
    assert AgentState(received=1 << 60).encode()


def test_what_coldchain_status_says_of_it() -> None:
    assert AgentState().line(NOW) == "none has run here"
    assert AgentState().as_json(NOW) is None
    due = moment(Instant(1.0, NOW, ""), 3600.0)
    good = AgentState(next=due, last_poll=NOW, last_good=NOW)
    assert good.line(NOW) == "last poll 2026-06-01 12:28 UTC; next 2026-06-01 13:28 UTC"
    failed = AgentState(next=due, last_poll=NOW, failures=3, error=(21, "too busy"))
    assert failed.line(NOW).startswith("last poll 2026-06-01 12:28 UTC failed (3 in a row): too busy; next ")
    told = failed.as_json(NOW)
    assert told is not None
    assert (told["exit_code"], told["failures"], told["overdue"]) == (21, 3, False)
    late = NOW + timedelta(seconds=3600 + 901)
    assert failed.overdue(late)
    assert "NO poll since 2026-06-01 13:28 UTC" in good.line(late)
