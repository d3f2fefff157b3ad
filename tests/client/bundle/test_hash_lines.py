"""Hash lines: whatever the lines are, the block that is written reads back as them."""

from __future__ import annotations

import hashlib
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.delta import HASHES
from coldchain.bundle.hash_lines import BARE, BY_NUMBER, SIZE_FIRST, TOPS, WIDTHS, planes, read_hash_lines, template
from coldchain.bundle.rice import encode_gaps
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain_server.deltas import blocks
from coldchain_server.deltas.pack import column
from tests.client.bundle.bundles import bare_hash, hash_line, hash_name, odd_line


def size_first(line: bytes) -> bytes:
    digest, size, name = line.split(b":", 2)
    return b":".join([size, digest, name])


segments = st.lists(
    st.lists(
        st.one_of(hash_line(), hash_line(), hash_line().map(size_first), bare_hash, odd_line), max_size=12, unique=True
    ),
    min_size=1,
    max_size=3,
)


def read(data: bytes, counts: list[int], limits: Limits = LIMITS) -> list[list[bytes]]:
    source = Reader(data, "x")
    out = read_hash_lines(source, counts, lambda _: b"", limits)
    source.done()
    return out


def test_the_worked_example() -> None:
    assert template(b"Win.Trojan.Agent-1234567-0") == (b"Win.Trojan.Agent-\x01-\x01", [1234567, 0])


@given(hash_name())
def test_a_template_and_its_numbers_make_the_name(name: bytes) -> None:
    text, numbers = template(name)
    parts = text.split(b"\x01")
    if b"\x01" in name:
        return
    assert len(parts) == len(numbers) + 1
    again = parts[0] + b"".join(b"%d%b" % (number, part) for number, part in zip(numbers, parts[1:], strict=True))
    assert again == name


def every_form(parts: list[list[bytes]]) -> list[bytes]:
    forms = [*blocks._hashes(parts, {}), *blocks._hashes(parts, {}, 0, SIZE_FIRST), *blocks._bare_hashes(parts, {})]
    return [form for form in forms if len(form) < 1 << 20]


@given(segments)
def test_every_form_comes_back(parts: list[list[bytes]]) -> None:
    parts = [sorted(part) for part in parts]
    counts = [len(part) for part in parts]
    for form in every_form(parts):
        assert form[0] == HASHES
        assert read(form[1:], counts) == parts


@given(segments, st.integers(0, 200), st.integers(1, 255))
def test_damage_raises_only_our_error(parts: list[list[bytes]], at: int, mask: int) -> None:
    parts = [sorted(part) for part in parts]
    counts = [len(part) for part in parts]
    for form in every_form(parts):
        damaged = bytearray(form[1:])
        damaged[at % len(damaged)] ^= mask
        for data in (bytes(damaged), form[1:][: at % len(form)]):
            try:
                lines = read(data, counts)
            except MalformedError:
                continue
            assert [len(part) for part in lines] == counts


def test_planes() -> None:
    assert planes([b"\x01\x02", b"", b"\x01\x00"], 2) == [0x10001, 2]
    assert planes([], 0) == []


def test_unknown_forms_are_refused() -> None:
    named, tops = bytes(10), b"\0"
    good = (b"\x00\x20" + named, bytes([TOPS, 32]) + tops + named, bytes([BARE, 32, 0]))
    for data in good:
        assert read(data, [0]) == [[]]
    bad = (
        b"\x03\x20" + named,
        bytes([BARE | BY_NUMBER, 32, 0]),
        bytes([BARE | SIZE_FIRST, 32, 0]),
        bytes([TOPS | BY_NUMBER, 32]) + tops + named,
        b"\x80\x01\x20" + named,
        b"\x00\x1f" + named,
        bytes([WIDTHS | BARE, 15, 0]),
        b"\x00",
        b"",
    )
    for data in bad:
        with pytest.raises(MalformedError):
            read(data, [0])


def named(count: int, names: bytes, more: bytes = b"") -> bytes:
    """Hash lines of zeros, all with the first name template, whose first number is 0."""
    out = bytes([TOPS, 16]) + encode_varints([len(encode_gaps([0] * count))]) + encode_gaps([0] * count)
    return (
        out
        + column(bytes(12 * count))
        + column(names)
        + b"\0\0"
        + column(b"\0" * count * (1 in names))
        + column(more)
        + b"\0" * 4
    )


def test_templates_are_counted_before_they_are_cut() -> None:
    zero = b"0" * 32 + b":0:"
    assert read(named(1, b"a\x01b\x01c", b"\7"), [1]) == [[zero + b"a0b7c"]]
    for count, names in ((1, b"a\nb"), (2, b"a\nb\nc"), (1, b"\n" * 100)):
        with pytest.raises(MalformedError, match="more name templates"):
            read(named(count, names), [count])
    few = Limits(delta_block_bytes=800, line_bytes=40)
    assert read(named(1, b"\x01" * 20, b"\0" * 19), [1], few) == [[zero + b"0" * 20]]
    with pytest.raises(MalformedError, match="of more numbers"):
        read(named(1, b"\x01" * 21, b"\0" * 20), [1], few)
    with pytest.raises(MalformedError, match="more numbers than allowed"):
        read(named(9, b"\n".join([b"\x01" * 12] * 9), b"\0" * 11), [9], few)


def test_columns_that_do_not_fit_each_other() -> None:
    head = bytes([TOPS, 16]) + b"\x02\x00\x00" + column(bytes(12))  # one hash of zeros
    zero = b"0" * 32 + b":%d:%b"
    good = [column(b"a\x01b\x01c"), b"\0", b"\0", column(b"\x0a"), column(b"\7"), column(b"\x44"), b"\0", b"\0", b"\0"]
    assert read(head + b"".join(good), [1]) == [[zero % (68, b"a5b7c")]]
    for at, content, match in (
        (0, b"a\x01b", "1 bytes too many"),  # a number that no name has
        (0, b"a", "1 bytes too many"),
        (0, b"a\x01b\x01c\x01", "ends inside a number"),
        (1, b"\1", "template that is not there"),
        (2, b"\1", "template that is not there"),
        (1, b"\0\0", "at most 1 are allowed"),
        (3, b"\x0b", "below zero"),
        (3, b"", "ends inside a number"),
        (3, b"\x0a\0", "1 bytes too many"),
        (4, b"", "ends inside a number"),
        (4, b"\7\0", "1 bytes too many"),
        (8, b"\1\1", "at most 1 are allowed"),
    ):
        with pytest.raises(MalformedError, match=match):
            read(head + b"".join([*good[:at], column(content), *good[at + 1 :]]), [1])
    two = bytes([TOPS, 16]) + b"\x02\x00\x00" + column(bytes(24)) + column(b"a") + b"%b" + b"\0\0\0" + b"\0" * 4
    assert read(two % b"\0", [2]) == [[zero % (0, b"a")] * 2]
    with pytest.raises(MalformedError, match="1 bytes for 2 records"):
        read(two % column(b"\0"), [2])


def test_names_do_not_multiply_without_bound() -> None:
    data = named(60, b"x" * 50)
    with pytest.raises(MalformedError, match="longer than allowed"):
        read(data, [60], Limits(delta_block_bytes=2999))
    assert read(data, [60], Limits(delta_block_bytes=3000))


def test_random_hashes_cost_about_their_information() -> None:
    """k hashes in order hold log2(k!) bits less than their own; names from a counter cost little."""
    count = 3000
    rng = random.Random(5)
    lines = sorted(hashlib.sha256(rng.randbytes(8)).hexdigest().encode() for _ in range(count))
    limit = (256 * count - math.lgamma(count + 1) / math.log(2)) / 8
    assert len(blocks.encode_block([lines], {})) <= 1.01 * limit
    named = [line + b":4096:Win.Trojan.Agent-0-0" for line in lines]
    assert len(blocks.encode_block([named], {})) <= 1.01 * limit + 64


def test_lists_of_several_widths_share_a_block_at_their_information() -> None:
    rng = random.Random(6)
    parts = [sorted(rng.randbytes(width).hex().encode() for _ in range(400)) for width in (16, 20, 32)]
    limit = 400 * (16 + 20 + 32) - 3 * math.lgamma(401) / math.log(2) / 8
    block = blocks.encode_block(parts, {})
    assert len(block) <= 1.01 * limit
    assert read(block[1:], [400] * 3) == parts


@pytest.mark.parametrize("size", [b"*", b"0", b"4096"])
def test_either_form_of_line_costs_about_its_hash(size: bytes) -> None:
    rng = random.Random(7)
    for form in (b"%s:%s:Win.Trojan.Agent-1-0", b"%s:%s:Win.Trojan.Agent-1-0:73"):
        hashes = [rng.randbytes(16).hex().encode() for _ in range(500)]
        for lines in ([form % (size, h) for h in hashes], [form % (h, size) for h in hashes]):
            block = blocks.encode_block([sorted(lines)], {})
            assert len(block) < 500 * 16 - 300
            assert read(block[1:], [500]) == [sorted(lines)]
