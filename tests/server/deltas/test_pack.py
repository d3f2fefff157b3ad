"""Packing: the smallest of all coders, never larger than plain, within the window the client allows."""

from __future__ import annotations

import random

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.columns import read_column
from coldchain.bundle.varint import Reader
from coldchain.limits import LIMITS
from coldchain_server.deltas.pack import WINDOW_BYTES, column, plain_column, zstd


@given(st.binary(max_size=400), st.integers(1, 30))
def test_never_larger_than_plain(data: bytes, times: int) -> None:
    assert len(column(data * times)) <= len(plain_column(data * times))


def test_each_coder_wins_somewhere() -> None:
    rng = random.Random(1)
    words = [bytes(rng.choices(b"abcdefgh", k=rng.randrange(3, 9))) for _ in range(300)]
    text = b" ".join(rng.choices(words, k=4000))
    picked = {column(data)[0] & 3 for data in (b"short", text, text[:200], bytes(1000), bytes(range(64)) * 40)}
    picked |= {column(b"the same line\n" * 3, b"and the same line\n")[0] & 3}
    assert len(picked) >= 3


def test_a_reference_is_used() -> None:
    data = random.Random(2).randbytes(4000)
    assert len(column(data, data)) < 40 < 4000 < len(column(data))
    assert read_column(Reader(column(data, data), "x"), 4000, data) == data


def test_windows_stay_within_the_clients_bound() -> None:
    assert LIMITS.zstd_window_bytes >= WINDOW_BYTES
    for size in (100, 70_000, 3 << 20):
        data = random.Random(size).randbytes(size // 2) * 2
        frame = zstandard.get_frame_parameters(zstandard.FRAME_HEADER + zstd(data, data[: size // 3]))
        assert frame.window_size <= WINDOW_BYTES
        assert frame.content_size == zstandard.CONTENTSIZE_UNKNOWN
        assert not frame.has_checksum
        assert frame.dict_id == 0
