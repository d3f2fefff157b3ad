"""The monitor's state: what is written is read, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.errors import ColdchainError, DamagedError, NewerFormatError
from coldchain.monitor.entries import Channel
from coldchain.monitor.findings import KINDS, Alert
from coldchain.monitor.state import MonitorState, Standing, parse_state
from coldchain.residency import Places
from tests.client.tlog.logs import LOG, ONE, MemoryLog, signed

SHA = st.text("0123456789abcdef", min_size=64, max_size=64)
TIMES = st.integers(0, 10**9).map(lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
CHANNELS = st.builds(
    Channel,
    st.integers(0, 1000),
    st.dictionaries(
        st.integers(1, 1000), st.lists(st.tuples(st.integers(0, 10**6), SHA), min_size=1, max_size=2), max_size=4
    ),
)
STATES = st.builds(
    MonitorState,
    st.just("https://coldchain.example"),
    st.just("coldchain"),
    SHA,
    checkpoint=st.none() | st.just(signed(MemoryLog.of(3).checkpoint(), LOG, ONE)),
    entries=st.integers(0, 10**9),
    channels=st.dictionaries(st.sampled_from(["stable", "early"]), CHANNELS),
    metadata=st.dictionaries(st.sampled_from(["root.json", "us.json"]), st.binary(max_size=40)),
    places=st.builds(
        Places, st.dictionaries(st.sampled_from(["us", "jp"]), st.tuples(st.sampled_from(["us", "ch"]), SHA))
    ),
    pending=st.lists(st.integers(0, 10**6), max_size=64),
    waiting=st.dictionaries(st.sampled_from(["one", "two"]), TIMES),
    alerts=st.lists(
        st.builds(Standing, st.sampled_from(sorted(KINDS)), st.text().map(lambda text: Alert("gap", text).what), TIMES),
        max_size=3,
    ),
)


@settings(max_examples=50)
@given(STATES)
def test_what_is_written_is_read(state: MonitorState) -> None:
    assert parse_state(state.encode()) == state


@settings(max_examples=50)
@given(STATES, st.data())
def test_an_altered_file_is_damaged_or_another_state_and_never_an_empty_one(
    state: MonitorState, data: st.DataObject
) -> None:
    encoded = state.encode()
    at = data.draw(st.integers(0, len(encoded) - 1))
    changed = encoded[:at] + bytes([encoded[at] ^ data.draw(st.integers(1, 255))]) + encoded[at + 1 :]
    try:
        found = parse_state(changed)
    except (DamagedError, NewerFormatError):
        return
    assert found != state
    assert found.encode() == changed


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_within_the_error_tree(data: bytes) -> None:
    with pytest.raises(ColdchainError):
        parse_state(data)


def test_every_truncation_is_damaged() -> None:
    encoded = MonitorState("https://a.example", "coldchain", "0" * 64).encode()
    for length in range(len(encoded)):
        with pytest.raises(DamagedError):
            parse_state(encoded[:length])


def test_what_this_program_does_not_write_is_damaged() -> None:
    state = MonitorState(
        "https://a.example", "coldchain", "0" * 64, channels={"stable": Channel(7, {7: [(6, "1" * 64)]})}
    )
    encoded = state.encode()
    assert parse_state(encoded) == state
    for old, new in (
        (b'"pending":[]', b'"pending":["x"]'),
        (b'"pending":[]', b'"pending":[true]'),
        (b'"7":[[6,', b'"07":[[6,'),
        (b'"7":[[6,', b'"7":[[true,'),
        (b'[[6,"' + b"1" * 64 + b'"]]', b"[]"),
        (b'[[6,"' + b"1" * 64 + b'"]]', b'[[6,"x"]]'),
    ):
        assert old in encoded
        with pytest.raises(DamagedError):
            parse_state(encoded.replace(old, new))


def test_a_later_format_is_told_apart() -> None:
    encoded = MonitorState("https://a.example", "coldchain", "0" * 64).encode()
    with pytest.raises(NewerFormatError):
        parse_state(encoded.replace(b"coldchain-monitor-1", b"coldchain-monitor-2"))


@given(st.text())
def test_an_alerts_words_fit_every_file_and_terminal(text: str) -> None:
    what = Alert("gap", text).what
    assert what == "" or what.isprintable()
    what.encode()
