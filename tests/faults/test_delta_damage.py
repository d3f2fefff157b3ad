"""Every byte of a delta, every truncation, every swap, and every number and column inside it (faults.md, rows 5 and 14).

What the client does is done here: a file that has not the signed SHA-256 is refused before it is opened. And behind that door, as if it
were open: whatever is applied ends on the signed bundle, byte for byte, or in an error of our tree; the old files are never touched.
(Some bits of a compressed stream say nothing, such as the filling of a last byte, so a few damaged files still give the same bundle.)
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from coldchain.bundle.description import BundleDescription
from coldchain.bundle.varint import MAX
from coldchain.errors import ColdchainError
from coldchain_server.deltas.diff import diff_bundles
from tests.client.bundle.bundles import Store, apply
from tests.client.bundle.forged import (
    Parts,
    Recording,
    record_blocks,
    record_groups,
    record_header,
    take_apart,
    with_block,
    with_group,
)
from tests.client.bundle.golden import GOLDEN, Golden, Vector, golden

NAMES = sorted(path.name for path in GOLDEN.glob("*.ccd"))


@pytest.fixture(scope="module")
def found() -> Golden:
    return golden()


class Tally:
    """Tries damaged files; counts what was refused and what made no difference."""

    def __init__(self, found: Golden, vector: Vector) -> None:
        self.store, self.vector = found.store, vector
        self.refused = self.neutral = 0

    def offer(self, data: bytes) -> None:
        if data == self.vector.data:
            return
        try:
            made, target = apply(data, self.vector.old, self.store, self.vector.new.digest)
        except ColdchainError:
            self.refused += 1
            return
        assert made == self.vector.new
        for section in made.sections:
            content = target.sections.get(section.name)
            if content is None:
                assert section in target.kept
            else:
                assert hashlib.sha256(content).hexdigest() == section.sha256
        self.neutral += 1

    def offer_all(self, damaged: Iterable[bytes]) -> None:
        before = _old_files(self.store, self.vector.old)
        for data in damaged:
            self.offer(data)
        assert _old_files(self.store, self.vector.old) == before
        assert apply(self.vector.data, self.vector.old, self.store, self.vector.new.digest)[0] == self.vector.new
        assert self.refused > 0


def _old_files(store: Store, old: BundleDescription | None) -> list[str]:
    sections = old.sections if old else ()
    return [hashlib.sha256(store(section.sha256).read_bytes()).hexdigest() for section in sections]


def flipped(data: bytes, bits: int, seed: int = 1) -> Iterator[bytes]:
    """Every byte with ``bits`` of its bits flipped, one at a time."""
    rng = random.Random(seed)
    for at in range(len(data)):
        for bit in rng.sample(range(8), bits):
            yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_damaged_has_the_signed_digest(name: str, found: Golden) -> None:
    """The first door: length and SHA-256."""
    data = found.vectors[name].data
    signed = hashlib.sha256(data).hexdigest()
    damaged = [*flipped(data, 8), *(data[:end] for end in range(len(data))), data + b"\0", data + data]
    assert all(hashlib.sha256(other).hexdigest() != signed for other in damaged)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_every_byte(name: str, found: Golden) -> None:
    tally = Tally(found, found.vectors[name])
    tally.offer_all(flipped(tally.vector.data, 1))
    assert tally.neutral <= len(tally.vector.data) // 20


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_every_bit_flipped(name: str, found: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(found, found.vectors[name])
    tally.offer_all(flipped(tally.vector.data, 8))
    assert tally.refused + tally.neutral == 8 * len(tally.vector.data)
    assert tally.neutral <= len(tally.vector.data) // 10
    with capsys.disabled():
        print(f"\n{name}: {8 * len(tally.vector.data)} flips, {tally.refused} refused, {tally.neutral} without effect")


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_and_anything_behind_the_end(name: str, found: Golden) -> None:
    tally = Tally(found, found.vectors[name])
    data = tally.vector.data
    tally.offer_all(data[:end] for end in range(len(data)))
    tally.offer_all(data + extra for extra in (b"\0", b"\1", b"\n", data, data[4:], bytes(100)))
    assert tally.neutral == 0


def test_swaps_between_valid_files(found: Golden) -> None:
    """Every file in the place of every other, whatever the old bundle."""
    for name, vector in found.vectors.items():
        tally = Tally(found, vector)
        for other, foreign in found.vectors.items():
            if other != name:
                tally.offer(foreign.data)
        assert tally.neutral == 0
        for stranger in (None, *(some.new for some in found.vectors.values())):
            if vector.old is not None and stranger is not None and stranger != vector.old:
                with pytest.raises(ColdchainError):
                    apply(vector.data, stranger, found.store, vector.new.digest)


def numbers_instead(value: int) -> list[int]:
    return sorted(
        {0, 1, 2, 3, value - 1, value + 1, value ^ 1, value ^ 2, 4 * value, 127, 128, 65_537, 2**31, MAX} - {value, -1}
    )


def contents_instead(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """Other contents of a column: shorter, longer, cut, empty, with a byte changed here and there."""
    yield from (b"", content[:-1], content[1:], content + b"\0", content + b"\n", content * 2, content[::-1])
    for _ in range(6):
        if content:
            at = rng.randrange(len(content))
            yield content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
            yield content[:at] + b"\n" + content[at + 1 :]
            yield content[:at] + b"\xff" * 9 + content[at + 1 :]


def mutants(recorded: Recording, rng: random.Random) -> Iterator[bytes]:
    for index, (_, _, value) in enumerate(recorded.numbers):
        for other in numbers_instead(value):
            yield recorded.with_number(index, other)
    for index, (_, _, content) in enumerate(recorded.columns):
        for changed in contents_instead(content, rng):
            yield recorded.with_column(index, changed)


def forged(parts: Parts, vector: Vector, store: Store) -> Iterator[Parts]:
    """One thing wrong at a time, all lengths around it right."""
    rng = random.Random(7)
    for data in mutants(record_header(parts, vector.old), rng):
        yield replace(parts, header=data)
    change = diff_bundles(vector.old, vector.new, store)
    for index, recorded in enumerate(record_blocks(parts, change, store)):
        for body in mutants(recorded, rng):
            yield with_block(parts, index, body)
        count, body = parts.blocks[index]
        for other in numbers_instead(count):
            blocks = (*parts.blocks[:index], (other, body), *parts.blocks[index + 1 :])
            yield replace(parts, blocks=blocks)
    for index, recorded in enumerate(record_groups(parts, vector.old, store)):
        for body in mutants(recorded, rng):
            yield with_group(parts, index, body)
    for at in range(len(parts.removed)):
        for byte in (0, 1, 127, 128, 255):
            yield replace(parts, removed=parts.removed[:at] + bytes([byte]) + parts.removed[at + 1 :])


def rearranged(parts: Parts) -> Iterator[Parts]:
    """Whole blocks and groups swapped, doubled and left out."""
    for i in range(len(parts.blocks)):
        yield replace(parts, blocks=parts.blocks[:i] + parts.blocks[i + 1 :])
        yield replace(parts, blocks=parts.blocks[: i + 1] + parts.blocks[i:])
        for j in range(i):
            blocks = list(parts.blocks)
            blocks[i], blocks[j] = blocks[j], blocks[i]
            yield replace(parts, blocks=tuple(blocks))
    for i in range(len(parts.groups)):
        yield replace(parts, groups=parts.groups[:i] + parts.groups[i + 1 :])
        yield replace(parts, groups=parts.groups[: i + 1] + parts.groups[i:])
    yield replace(parts, removed=b"")
    yield replace(parts, removed=parts.removed * 2)


@pytest.mark.parametrize("name", ["42.from-41.ccd", pytest.param("42.full.ccd", marks=pytest.mark.faults)])
def test_every_number_and_every_column(name: str, found: Golden) -> None:
    vector = found.vectors[name]
    parts = take_apart(vector.data, vector.old)
    assert apply(parts.encode(vector.old), vector.old, found.store, vector.new.digest)[0] == vector.new
    tally = Tally(found, vector)
    tally.offer_all(other.encode(vector.old) for other in forged(parts, vector, found.store))
    assert tally.refused > 500
    assert tally.neutral < tally.refused // 20


@pytest.mark.parametrize("name", NAMES)
def test_blocks_swapped_doubled_and_left_out(name: str, found: Golden) -> None:
    vector = found.vectors[name]
    parts = take_apart(vector.data, vector.old)
    tally = Tally(found, vector)
    tally.offer_all(other.encode(vector.old) for other in rearranged(parts) if other != parts)
    assert tally.neutral == 0
