"""The file that says how far a move has come: what is written is read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import MalformedError, StorageError
from coldchain_server.home import Home
from coldchain_server.reports.moving import Moving, Total, all_moving, parse_moving, read_moving, write_moving

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)
MOVES = st.builds(
    Moving,
    NAMES,
    st.lists(NAMES, max_size=2).map(tuple),
    NAMES,
    NAMES,
    st.sampled_from(["copying", "logging", "logged", "switching"]),
    st.none() | st.just(b'{"format":"x"}'),
    st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
    st.none() | st.builds(Total, st.integers(0, 9), st.integers(0, 9), st.just("5c" * 32)),
)
ONE = Moving("us", ("america",), "us", "ch", "switching", b"{}", 17, 17, Total(5, 2, "5c" * 32))


@given(MOVES)
def test_what_is_written_is_read(moving: Moving) -> None:
    assert parse_moving(moving.encode(), "x") == moving


def test_anything_else_is_damage(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_moving(home, ONE)
    assert all_moving(home) == [ONE]
    assert read_moving(home, "us") == ONE
    assert read_moving(home, "jp") is None
    path = home.residency / "moving" / "us.json"
    data = path.read_bytes()
    others = [
        b"",
        data + b"\n",
        data.replace(b"switching", b"gone"),
        data.replace(b"-1", b"-2"),
        data.replace(b'"us"', b'"US"'),
    ]
    for other in (*others, data.replace(b"17", b"-7", 1), *(data[:end] for end in range(0, len(data), 7))):
        with pytest.raises(MalformedError):
            parse_moving(other, "x")
        path.write_bytes(other)
        with pytest.raises(StorageError, match="damaged"):
            all_moving(home)
