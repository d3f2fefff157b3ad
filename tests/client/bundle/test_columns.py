"""Columns: every coder comes back, nothing but exactly one of the declared length is accepted, memory stays bounded."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.columns import BZ2, LZMA, MODEL_BYTES, PLAIN, ZSTD, lzma_filters, read_column
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain_server.deltas.pack import column, plain_column, zstd
from coldchain_server.deltas.text_model import model_encode

MIB = 1 << 20


def framed(coder: int, length: int, packed: bytes) -> bytes:
    head = [length << 2 | coder] + ([] if coder == PLAIN else [len(packed)])
    return encode_varints(head) + packed


def read(data: bytes, limit: int = 8 * MIB, reference: bytes = b"", limits: Limits = LIMITS) -> bytes:
    source = Reader(data, "x")
    out = read_column(source, limit, reference, limits)
    source.done()
    return out


def lzma_raw(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=lzma_filters(len(data)))


def test_the_worked_example() -> None:
    assert column(b"abc").hex() == "0c616263"
    assert read(bytes.fromhex("0c616263")) == b"abc"


@given(st.binary(max_size=300), st.integers(1, 40), st.binary(max_size=300))
def test_columns_come_back(data: bytes, times: int, reference: bytes) -> None:
    body = data * times
    assert read(column(body)) == body
    assert read(column(body, reference), reference=reference) == body
    assert read(plain_column(body)) == body


@pytest.mark.parametrize("size", [0, 1, 12, 64, 255, 256, 5000, MIB])
def test_each_coder_by_itself(size: int) -> None:
    data = (b"Win.Trojan.Agent-%d\n" * 9 % tuple(range(9)) * (size // 20 + 1))[:size]
    last = bz2.compress(data) if size > MODEL_BYTES else model_encode(data)
    for coder, packed in ((PLAIN, data), (ZSTD, zstd(data)), (LZMA, lzma_raw(data)), (BZ2, last)):
        if size or coder == PLAIN:
            assert read(framed(coder, size, packed)) == data


def test_a_length_beyond_the_limit_is_refused_before_it_is_read() -> None:
    for coder in range(4):
        with pytest.raises(MalformedError, match="at most 10 are allowed"):
            read(encode_varints([11 << 2 | coder]), limit=10)
        with pytest.raises(MalformedError):
            read(encode_varints([2**60 << 2 | coder, 5]) + b"aaaaa")


@pytest.mark.parametrize("coder", [ZSTD, LZMA, BZ2])
def test_exactly_the_declared_length(coder: int) -> None:
    data = bytes(range(256)) * 24
    packed = {ZSTD: zstd(data), LZMA: lzma_raw(data), BZ2: bz2.compress(data)}[coder]
    assert read(framed(coder, len(data), packed)) == data
    for length in (0, 1, len(data) - 1, len(data) + 1, 2 * len(data)):
        with pytest.raises(MalformedError):
            read(framed(coder, length, packed))
    for other in (packed + b"\0", packed + packed, b"", packed[: len(packed) // 2]):
        with pytest.raises(MalformedError):
            read(framed(coder, len(data), other))


def peak(data: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError):
            read(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def frame(data: bytes, *, write_content_size: bool, window: int = 17) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1, window_log=window, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=write_content_size
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    if write_content_size:
        return compressor.compress(data)
    stream = compressor.compressobj()  # does not know the length, so the window stays as wide as asked
    return stream.compress(data) + stream.flush()


def zeros(total: int) -> bytes:
    """A frame of ``total`` zeros made of repeated-byte blocks: 4 bytes stand for 128 KiB."""
    head = bytes([0x00, 0x38])  # no content size, window 128 KiB
    block = (131_072 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (0 << 3 | 0 << 1 | 1).to_bytes(3, "little")
    return head + block * (total // 131_072) + last


def test_zstd_bombs_are_refused_in_little_memory() -> None:
    bomb = zeros(1 << 30)
    assert len(bomb) < 40_000
    assert zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS).decompressobj().decompress(
        zeros(MIB)
    ) == bytes(MIB)
    for length in (1000, 8 * MIB):
        assert peak(framed(ZSTD, length, bomb)) < 16 * MIB
    for packed in (
        frame(bytes(200 * MIB), write_content_size=True),  # declares its size
        frame(b"abc" * 100, write_content_size=True),
        frame(bytes(MIB), write_content_size=False, window=27),  # a window of 128 MiB
        frame(bytes(MIB), write_content_size=False, window=24),
    ):
        for length in (300, MIB, 8 * MIB):
            assert peak(framed(ZSTD, length, packed)) < 16 * MIB


def test_other_bombs_are_refused_in_little_memory() -> None:
    body = bytes(64 * MIB)
    for coder, packed in ((BZ2, bz2.compress(body)), (LZMA, lzma_raw(body))):
        assert len(packed) < 100_000
        for length in (MODEL_BYTES + 1, 4 * MIB):
            assert peak(framed(coder, length, packed)) < 16 * MIB


def test_trailing_frames_and_magic_are_refused() -> None:
    data = b"0123456789abcdef" * 20
    skippable = bytes.fromhex("502a4d1803000000616263")
    for packed in (zstd(data) + zstd(data), zstd(data) + skippable, skippable + zstd(data), zstandard.compress(data)):
        with pytest.raises(MalformedError):
            read(framed(ZSTD, len(data), packed))


def test_a_frame_says_nothing_but_its_data() -> None:
    """One spelling: no size, no checksum, no dictionary id."""
    data = b"0123456789abcdef" * 20
    for extra in ({"write_checksum": True}, {"write_content_size": True}):
        parameters = zstandard.ZstdCompressionParameters.from_level(
            3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, **{"write_content_size": False, **extra}
        )
        packed = zstandard.ZstdCompressor(compression_params=parameters).compress(data)
        with pytest.raises(MalformedError, match=r"declares its size|checksum"):
            read(framed(ZSTD, len(data), packed))
    good = zstd(data)
    assert good[0] & 3 == 0
    with_id = bytes([good[0] | 1]) + good[1:2] + b"\x07" + good[2:]  # descriptor, window, an id of one byte
    assert zstandard.get_frame_parameters(zstandard.FRAME_HEADER + with_id).dict_id == 7
    with pytest.raises(MalformedError, match="dictionary id"):
        read(framed(ZSTD, len(data), with_id))


def test_a_window_is_bounded_by_the_limits() -> None:
    data = bytes(range(256)) * 4096
    packed = zstd(data)
    assert read(framed(ZSTD, len(data), packed)) == data
    with pytest.raises(MalformedError, match="window"):
        read(framed(ZSTD, len(data), packed), limits=Limits(zstd_window_bytes=MIB // 2))
    with pytest.raises(MalformedError, match="dictionary"):
        read(column(data, data), reference=data, limits=Limits(zstd_dictionary_bytes=len(data) - 1))


@given(st.binary(max_size=64), st.integers(0, 3), st.integers(0, 80))
def test_foreign_bytes_raise_only_our_error(packed: bytes, coder: int, length: int) -> None:
    with contextlib.suppress(MalformedError):
        assert len(read(framed(coder, length, packed))) == length
