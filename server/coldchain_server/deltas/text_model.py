"""Coding by the text model: the writer's half of :mod:`coldchain.bundle.text_model`, which holds the format."""

from __future__ import annotations

from coldchain.bundle.text_model import FLOOR_BITS, RANGE_BITS, TextModel


def model_encode(data: bytes, reference: bytes = b"") -> bytes:
    """The fewest bytes from which the reader gets ``data``."""
    model = TextModel(reference)
    low, span, length = 0, 1 << RANGE_BITS, RANGE_BITS // 8
    for byte in data:
        known, least = model.weights()
        unit = span // (sum(known.values()) + 256 * least)
        low += (sum([weight for key, weight in known.items() if key < byte]) + byte * least) * unit
        span = (known.get(byte, 0) + least) * unit
        model.came(byte)
        while span >> FLOOR_BITS == 0:
            low <<= 8
            span <<= 8
            length += 1
    for zeros in range(8 * length, -1, -8):
        code = -(-low >> zeros) << zeros  # the first number with so many zero bits that is not below
        if code < low + span:
            return code.to_bytes(length, "big").rstrip(b"\0")
    raise AssertionError("unreachable: low itself has no zero bits to ask for")
