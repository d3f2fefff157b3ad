r"""The model coder: few bytes of text, predicted from the text around them and written by an arithmetic coder.

What a daily delta adds is often some hundred bytes: domains, an edited rule, a name. Dictionary coders need more than that to learn
anything; a model that has read the old content knows the letters to expect. It costs about 0.1 ms a byte, so a column of at most
``Limits.model_bytes`` may be coded so.

**Prime**: ``COMMON_TEXT``, then the column's reference; of a reference longer than :data:`PRIME_BYTES` its 16 pieces of 2 KiB that
begin at ``i * (length - 2048) // 15``.

**Counts**: for each *context*, the last n bytes before the next one (n from 4 to 0; the column begins after a virtual LF), how often
each byte followed it: in the prime, where its occurrences are found from the left and do not overlap, and :data:`STEP` more for each
time in the column since the context was first asked for.

**Weights** of the 256 bytes, in integers: ``w = 2**40``; then for n = 4, 3, 2, 1, 0, where the context was followed by anything, with N
the sum and D the number of its counts: ``q = w // (N + 4 * D)``, each byte with count c gets ``c * q``, and ``w = 4 * D * q``. At the
end every byte gets ``(w >> 8) + 1``.

**Coder**: a range of 2**64 divided by the sum of weights, in order of byte values; while the range is below 2**48 both it and the code
move up by one byte. The coded bytes are the shortest that fall into the last range, zero bytes at their end left out.

Worked example: where the prime is only ``ab\nab\n``, the context LF was followed by ``a`` once (N = 1, D = 1), so ``q = 2**40 // 5``
and ``a`` gets that; then n = 0 with N = 6, D = 3 shares ``w = 4 * q`` in 18 parts, two to each of ``a``, ``b`` and LF.
"""

from __future__ import annotations

from collections import Counter

from coldchain.bundle.common_text import COMMON_TEXT
from coldchain.errors import MalformedError

PRIME_BYTES = 32 * 1024
ORDER = 4
STEP = 3
_PIECES = 16
RANGE_BITS, FLOOR_BITS = 64, 48
_ESCAPE = 4

Counts = dict[int, int]


def prime_of(reference: bytes) -> bytes:
    """What the model reads of a reference."""
    if len(reference) > PRIME_BYTES:
        size = PRIME_BYTES // _PIECES
        starts = [i * (len(reference) - size) // (_PIECES - 1) for i in range(_PIECES)]
        reference = b"".join([reference[start : start + size] for start in starts])
    return COMMON_TEXT + reference


class TextModel:
    """Predicts the next byte; both ends tell it what came."""

    def __init__(self, reference: bytes) -> None:
        self._prime = prime_of(reference)
        self._contexts: dict[bytes, Counts] = {}
        self._last = b"\n"
        self._used: list[Counts] = []

    def _counts(self, context: bytes) -> Counts:
        found = self._contexts.get(context)
        if found is None:
            if context:
                pieces = self._prime.split(context)
                del pieces[0]
                found = dict(Counter([piece[0] for piece in pieces if piece]))
            else:
                found = dict(Counter(self._prime))
            self._contexts[context] = found
        return found

    def weights(self) -> tuple[Counts, int]:
        """(weights of the bytes that contexts know, weight that every byte gets)."""
        last, weight = self._last, 1 << 40
        out: Counts = {}
        used = self._used = []
        for order in range(len(last), -1, -1):
            counts = self._counts(last[len(last) - order :])
            used.append(counts)
            if counts:
                distinct = _ESCAPE * len(counts)
                share = weight // (sum(counts.values()) + distinct)
                if share:
                    for byte, count in counts.items():
                        out[byte] = out.get(byte, 0) + count * share
                weight = share * distinct
        return out, (weight >> 8) + 1

    def came(self, byte: int) -> None:
        """The byte that the last weights were for."""
        for counts in self._used:
            counts[byte] = counts.get(byte, 0) + STEP
        self._last = self._last[1 - ORDER :] + bytes([byte])


def model_decode(packed: bytes, length: int, reference: bytes, what: str) -> bytes:
    """Exactly ``length`` bytes from exactly ``packed``.

    Raises:
        MalformedError: more or fewer bytes than it takes, or a code outside every byte's share.
    """
    model = TextModel(reference)
    out = bytearray()
    code, at = int.from_bytes(packed[:8].ljust(8, b"\0"), "big"), 8
    span = 1 << RANGE_BITS
    for _ in range(length):
        known, least = model.weights()
        unit = span // (sum(known.values()) + 256 * least)
        byte, below, weight = _find(known, least, code // unit)
        if byte > 255:
            raise MalformedError(f"{what}: a code that stands for no byte")
        out.append(byte)
        model.came(byte)
        code -= below * unit
        span = weight * unit
        while span >> FLOOR_BITS == 0:
            code = code << 8 | (packed[at] if at < len(packed) else 0)
            span <<= 8
            at += 1
    if len(packed) > at or packed[-1:] == b"\0":
        raise MalformedError(f"{what}: bytes after the last code")
    return bytes(out)


def _find(known: Counts, least: int, target: int) -> tuple[int, int, int]:
    """(byte, sum of the weights below it, its weight) of the byte whose share holds ``target``; 256 or more beyond all shares."""
    below = at = 0
    for byte in sorted(known):
        gap = (byte - at) * least
        if target < below + gap:
            break
        below += gap
        weight = known[byte] + least
        if target < below + weight:
            return byte, below, weight
        below += weight
        at = byte + 1
    step = (target - below) // least
    return at + step, below + step * least, least
