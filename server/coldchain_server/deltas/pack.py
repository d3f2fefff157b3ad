"""Packing columns: every coder the client knows is tried, the smallest result is taken.

The writer's half of :mod:`coldchain.bundle.columns`.
"""

from __future__ import annotations

import bz2
import lzma

import zstandard

from coldchain.bundle.columns import BZ2, LZMA, PLAIN, ZSTD, lzma_filters, raw_dictionary
from coldchain.bundle.varint import put_varint
from coldchain.limits import LIMITS

WINDOW_BYTES = LIMITS.zstd_window_bytes
LARGE = 256 * 1024


def zstd(data: bytes, reference: bytes = b"") -> bytes:
    """One magicless frame without size, checksum and dictionary id, its window over data and reference."""
    span = len(data) + len(reference)
    window = max(10, min(WINDOW_BYTES.bit_length() - 1, span.bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        22 if span <= LARGE else 19,
        source_size=span,
        window_log=window,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=raw_dictionary(reference))
    return compressor.compress(data)


def column(data: bytes, reference: bytes = b"") -> bytes:
    """The column that holds ``data`` in the fewest bytes."""
    best = _framed(PLAIN, data, data)
    for coder, packed in _candidates(data, reference):
        framed = _framed(coder, data, packed)
        if len(framed) < len(best):
            best = framed
    return best


def plain_column(data: bytes) -> bytes:
    """A column of bytes that nothing can shorten, such as hashes."""
    return _framed(PLAIN, data, data)


def _framed(coder: int, data: bytes, packed: bytes) -> bytes:
    out = bytearray()
    put_varint(out, len(data) << 2 | coder)
    if coder != PLAIN:
        put_varint(out, len(packed))
    return bytes(out) + packed


def _candidates(data: bytes, reference: bytes) -> list[tuple[int, bytes]]:
    if len(data) < 12:
        return []
    found = [(ZSTD, zstd(data, reference))]
    if len(data) >= 64:
        filters = lzma_filters(len(data))
        found.append((LZMA, lzma.compress(data, lzma.FORMAT_RAW, filters=filters)))
    if len(data) >= 256:
        found.append((BZ2, bz2.compress(data, 9)))
    return found
