"""One zstd frame from foreign bytes, whole: what it declares is checked before memory is taken.

::

    28b52ffd …      a frame of RFC 8878 that declares its content's size; nothing after it, no dictionary but the one its format has

zstandard takes memory by what a frame declares, whatever else it is told, and ignores ``max_output_size`` where a size is declared
(measured: serving.md of the design). So size and window are read from the frame's head first. Worked example: ``b"a"`` is
``28b52ffd 20 01 090000 61``; ``20 01`` declares 1 byte.
"""

from __future__ import annotations

import zstandard

from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits


def unpack_frame(
    frame: bytes,
    most: int,
    what: str,
    *,
    todo: str = "",
    limits: Limits = LIMITS,
    words: zstandard.ZstdCompressionDict | None = None,
) -> bytes:
    """The frame's content.

    Args:
        frame: exactly one frame, and not of nothing.
        most: how many bytes it may unpack to.
        what: for messages, such as ``"pack: its head"``.
        todo: for the message about damage.
        limits: bounds its window.
        words: the raw dictionary it was packed with, if its format has one.

    Raises:
        MalformedError: no frame, more than one, damaged, or one that declares what is not allowed.
    """
    try:
        declared = zstandard.get_frame_parameters(frame)
        # zstandard shows an undeclared size as the largest number there is, and looks no further where it is 0
        if not 0 < declared.content_size <= most or declared.dict_id:
            raise MalformedError(f"{what} declares no size, or one that is not allowed")
        if declared.window_size > limits.zstd_window_bytes:
            raise MalformedError(f"{what} needs a larger window than allowed")
        # zstandard itself refuses a frame that unpacks to another size than it declares.
        return zstandard.ZstdDecompressor(dict_data=words).decompress(
            frame, max_output_size=declared.content_size, allow_extra_data=False
        )
    except (zstandard.ZstdError, MemoryError) as error:
        raise MalformedError(f"{what} does not unpack: {error}", todo=todo) from error
