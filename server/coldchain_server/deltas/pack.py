"""Packing columns: every coder the client knows is tried, the smallest result is taken.

The writer's half of :mod:`coldchain.bundle.columns`.
"""

from __future__ import annotations

import bz2
import lzma

import zstandard

from coldchain.bundle.columns import BZ2, LZMA, MODEL, MODEL_BYTES, PLAIN, ZSTD, lzma_filters, raw_dictionary
from coldchain.bundle.common_text import COMMON_TEXT
from coldchain.bundle.varint import put_varint
from coldchain.limits import LIMITS
from coldchain_server.deltas.text_model import model_encode

WINDOW_BYTES = LIMITS.zstd_window_bytes
LARGE = 256 * 1024
NOISE_BYTES = 16 * 1024
"""Columns longer than this that zstd hardly shortens are not given to slower coders."""


def zstd(data: bytes, reference: bytes = b"") -> bytes:
    """One magicless frame without size, checksum and dictionary id, its window over data and reference."""
    span = len(data) + len(reference) + len(COMMON_TEXT)
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


def column(data: bytes, reference: bytes = b"", model_bytes: int = 0) -> bytes:
    """The column that holds ``data`` in the fewest bytes; the text model is tried on at most ``model_bytes``."""
    best = _framed(PLAIN, data, data)
    if 2 < len(data) <= min(model_bytes, MODEL_BYTES):
        best = min(best, _framed(MODEL, data, model_encode(data, reference)), key=len)
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
    if len(data) > NOISE_BYTES and len(found[0][1]) > 0.98 * len(data):
        return found
    if len(data) >= 64:
        filters = lzma_filters(len(data))
        found.append((LZMA, lzma.compress(data, lzma.FORMAT_RAW, filters=filters)))
    if len(data) > MODEL_BYTES:
        found.append((BZ2, bz2.compress(data, 9)))
    return found


def model_budget(sections: int, total: int) -> int:
    """How many bytes of a column customers' machines may be asked to decode by the text model.

    It costs 0.05 to 0.1 ms a byte there. Copying and hashing a bundle, which any update costs, takes about 0.1 ms a section and 2 ms a
    MiB; the model may take as long again at most.
    """
    return min(MODEL_BYTES, sections + (total >> 13))
