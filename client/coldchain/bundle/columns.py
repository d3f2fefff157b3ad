"""Columns: byte strings of one block, each packed by the coder that makes it smallest.

One column is ``varint(length * 4 + coder)``, for coders other than *plain* ``varint(packed length)``, and the packed bytes::

    0  plain   the bytes themselves
    1  zstd    one magicless frame without content size, checksum and dictionary id; a raw-content dictionary
    2  lzma    one raw LZMA1 stream, lc=3 lp=0 pb=0, dictionary at least as long as the data (at most 8 MiB)
    3  model   of a column of at most 4096 bytes: the text model (:mod:`coldchain.bundle.text_model`), strong on little text
       bz2     of a longer one: one bzip2 stream, strong on much text

The dictionary of every zstd column is ``COMMON_TEXT`` (:mod:`coldchain.bundle.common_text`) and after it the column's *reference*,
where the block has one. The model refers to the same.

Worked example: ``abc`` plain is ``0c 61 62 63``.

Bounds: the length is declared and capped before anything is unpacked; zstd's window is capped by
``Limits.zstd_window_bytes``; the other unpackers are asked for one byte more than declared and refused when they deliver it.
zstandard ignores ``max_output_size`` when a frame declares its size, so a frame that does is refused before it is unpacked.
"""

from __future__ import annotations

import bz2
import io
import lzma
from typing import Any

import zstandard

from coldchain.bundle.common_text import COMMON_TEXT
from coldchain.bundle.text_model import model_decode
from coldchain.bundle.varint import Reader
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits

PLAIN, ZSTD, LZMA, BZ2 = range(4)
MODEL = BZ2
MODEL_BYTES = 4096
"""Columns up to this length have the text model where longer ones have bzip2."""
FRAME_HEADER_BYTES = 18
PIECE = 1 << 18


def lzma_filters(length: int) -> list[dict[str, Any]]:
    """The fixed LZMA1 parameters for a piece of ``length`` bytes."""
    size = 4096
    while size < length:
        size <<= 1
    return [{"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": 3, "lp": 0, "pb": 0}]


def raw_dictionary(reference: bytes) -> zstandard.ZstdCompressionDict:
    """The zstd dictionary of plain content that a column with this reference has."""
    return zstandard.ZstdCompressionDict(COMMON_TEXT + reference, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def read_column(source: Reader, limit: int, reference: bytes = b"", limits: Limits = LIMITS) -> bytes:
    """The next column of ``source``.

    Args:
        source: positioned at a column.
        limit: the most bytes the column may hold.
        reference: plain content that a zstd column may refer to.
        limits: bounds of window and dictionary.

    Raises:
        MalformedError: whatever is not exactly one packed column of the declared length.
    """
    tag = source.varint()
    length, coder = tag >> 2, tag & 3
    if length > limit:
        raise MalformedError(f"{source.what}: a column of {length} bytes, at most {limit} are allowed")
    if coder == PLAIN:
        return source.take(length)
    if coder == MODEL and length <= MODEL_BYTES:
        if length > limits.model_bytes:
            raise MalformedError(f"{source.what}: a column of {length} bytes by the text model is longer than allowed")
        return model_decode(source.take(source.varint(limit + 1024)), length, reference, source.what)
    return unpack(coder, source.take(source.varint(limit + 1024)), length, reference, source.what, limits)


def unpack(coder: int, packed: bytes, length: int, reference: bytes, what: str, limits: Limits = LIMITS) -> bytes:
    """Exactly ``length`` bytes from exactly ``packed``."""
    try:
        if coder == ZSTD:
            data, rest = _unzstd(packed, length, reference, limits)
        else:
            data, rest = _unstream(coder, packed, length)
    except (zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise MalformedError(f"{what}: a column does not unpack: {error}") from error
    if len(data) != length or rest:
        raise MalformedError(f"{what}: a column is not as long as declared")
    return data


def _unzstd(packed: bytes, length: int, reference: bytes, limits: Limits) -> tuple[bytes, bytes]:
    if len(reference) > limits.zstd_dictionary_bytes:
        raise MalformedError("a dictionary is longer than allowed")
    frame = zstandard.get_frame_parameters(zstandard.FRAME_HEADER + packed[:FRAME_HEADER_BYTES])
    if frame.content_size != zstandard.CONTENTSIZE_UNKNOWN or frame.window_size > limits.zstd_window_bytes:
        raise MalformedError("a zstd frame declares its size, or a window that is not allowed")
    if frame.has_checksum or frame.dict_id:
        raise MalformedError("a zstd frame with a checksum or a dictionary id")
    decompressor = zstandard.ZstdDecompressor(
        dict_data=raw_dictionary(reference), format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    return decompressor.decompress(packed, max_output_size=length, allow_extra_data=False), b""


def _unstream(coder: int, packed: bytes, length: int) -> tuple[bytes, bytes]:
    if coder == LZMA:
        stream: lzma.LZMADecompressor | bz2.BZ2Decompressor = lzma.LZMADecompressor(
            lzma.FORMAT_RAW, filters=lzma_filters(length)
        )
    else:
        stream = bz2.BZ2Decompressor()
    # Piece by piece into one buffer: asked for all at once, these unpackers hold it twice. One byte more than declared is enough
    # to know that there is more.
    out = io.BytesIO()
    while not stream.eof and (room := length + 1 - out.tell()):
        piece = stream.decompress(packed, min(room, PIECE))
        packed = b""
        if not piece and not stream.eof:
            raise EOFError("it ends too early")
        out.write(piece)
    if not stream.eof:
        raise EOFError("it goes on after its end")
    return out.getvalue(), stream.unused_data
