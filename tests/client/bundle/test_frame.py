from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.frame import unpack_frame
from coldchain.errors import MalformedError
from coldchain.limits import Limits


def test_the_worked_example() -> None:
    frame = zstandard.ZstdCompressor(write_checksum=False).compress(b"a")
    assert frame.hex() == "28b52ffd200109000061"
    assert unpack_frame(frame, 1, "it") == b"a"


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 19))
def test_what_goes_in_comes_out_and_not_a_byte_more_than_allowed(data: bytes, level: int) -> None:
    frame = zstandard.ZstdCompressor(level=level).compress(data)
    assert unpack_frame(frame, len(data), "it") == data
    with pytest.raises(MalformedError, match="it declares no size, or one that is not allowed"):
        unpack_frame(frame, len(data) - 1, "it")
    for bad in (frame + b"x", frame + frame, frame[:-1], b"x" + frame, b""):
        with pytest.raises(MalformedError, match="it "):
            unpack_frame(bad, 2 * len(data) + 1, "it")


@given(st.binary(max_size=64))
def test_foreign_bytes_raise_only_our_errors(data: bytes) -> None:
    for bad in (data, b"\x28\xb5\x2f\xfd" + data):
        with suppress(MalformedError):
            assert len(unpack_frame(bad, 1000, "it")) <= 1000


def test_what_a_frame_declares_is_checked_before_memory_is_taken() -> None:
    params = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=1)
    wide = zstandard.ZstdCompressor(compression_params=params).compressobj(size=1 << 25)
    long_ = wide.compress(bytes(1 << 25)) + wide.flush()
    undeclared = zstandard.ZstdCompressor(write_content_size=False).compress(b"text")
    dictionary = zstandard.ZstdCompressionDict(b"some text " * 20, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    tracemalloc.start()
    try:
        for frame, most, words in (
            (long_, 1 << 20, "declares no size, or one that is not allowed"),
            (long_, 1 << 26, "needs a larger window than allowed"),
            (undeclared, 1 << 20, "declares no size"),
        ):
            with pytest.raises(MalformedError, match=words):
                unpack_frame(frame, most, "it", limits=Limits(zstd_window_bytes=1 << 23))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    packed = zstandard.ZstdCompressor(dict_data=dictionary).compress(b"some text some text")
    with suppress(
        MalformedError
    ):  # a raw dictionary has no number; without it the frame gives something else, or nothing
        assert unpack_frame(packed, 1 << 20, "it") != b"some text some text"


def test_a_frame_of_nothing_is_refused() -> None:
    """zstandard gives nothing for it without looking at what follows."""
    frame = zstandard.ZstdCompressor().compress(b"")
    for data in (frame, frame + b"anything"):
        with pytest.raises(MalformedError, match="declares no size"):
            unpack_frame(data, 1000, "it")


def test_the_advice_is_the_callers() -> None:
    with pytest.raises(MalformedError) as caught:
        unpack_frame(b"\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00", 9, "it", todo="copy it again")
    assert caught.value.todo == "copy it again"
