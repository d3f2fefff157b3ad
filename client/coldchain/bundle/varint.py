r"""Unsigned integers in seven-bit groups, least significant first; the form of every count in a delta.

``0 -> 00``, ``127 -> 7f``, ``128 -> 80 01``, ``300 -> ac 02``. A value has one spelling: a last group of zero is refused
(``80 00`` is not 0), as is anything above 2**63 - 1.
"""

from __future__ import annotations

from coldchain.errors import MalformedError

MAX = 2**63 - 1


def put_varint(out: bytearray, value: int) -> None:
    """Appends ``value`` (0 to 2**63 - 1) to ``out``."""
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def encode_varints(values: list[int]) -> bytes:
    """All values one after the other."""
    out = bytearray()
    for value in values:
        put_varint(out, value)
    return bytes(out)


def zigzag(value: int) -> int:
    """Signed to unsigned: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """The inverse of :func:`zigzag`."""
    return -((value + 1) >> 1) if value & 1 else value >> 1


class Reader:
    """Reads integers and byte strings from one bounded piece of foreign bytes.

    Every method raises MalformedError when the piece ends too early or a value exceeds its bound.
    """

    __slots__ = ("data", "position", "what")

    def __init__(self, data: bytes, what: str) -> None:
        self.data = data
        self.position = 0
        self.what = what

    def varint(self, most: int = MAX) -> int:
        """One integer, at most ``most``."""
        value = shift = 0
        data, position = self.data, self.position
        while True:
            if position >= len(data):
                raise MalformedError(f"{self.what}: ends inside a number")
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 56:
                raise MalformedError(f"{self.what}: number too long")
        if not byte and shift:
            raise MalformedError(f"{self.what}: number not in its shortest form")
        if value > most:
            raise MalformedError(f"{self.what}: {value} is more than {most}")
        self.position = position
        return value

    def varints(self, count: int, most: int = MAX) -> list[int]:
        """``count`` integers."""
        if count > len(self.data) - self.position:
            raise MalformedError(f"{self.what}: fewer numbers than declared")
        short = self.data[self.position : self.position + count]
        if short and max(short) <= min(most, 127):
            self.position += count  # a byte each, as most columns are
            return list(short)
        return [self.varint(most) for _ in range(count)]

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        end = self.position + length
        if length < 0 or end > len(self.data):
            raise MalformedError(f"{self.what}: ends too early")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self.data) - self.position)

    def done(self) -> None:
        """Refuses bytes that nobody asked for."""
        if self.position != len(self.data):
            raise MalformedError(f"{self.what}: {len(self.data) - self.position} bytes too many")
