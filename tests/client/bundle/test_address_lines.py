"""Address lines: one spelling each, every block reads back, foreign columns raise only our error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.address_lines import parse_address, read_address_lines
from coldchain.bundle.delta import ADDRESSES
from coldchain.bundle.rice import encode_gaps
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain_server.deltas import blocks
from coldchain_server.deltas.pack import plain_column
from tests.client.bundle.bundles import address_line, domain, odd_line

segments = st.lists(
    st.lists(st.one_of(address_line(), address_line(), domain, odd_line), max_size=12, unique=True),
    min_size=1,
    max_size=3,
)


def read(data: bytes, counts: list[int], limits: Limits = LIMITS) -> list[list[bytes]]:
    source = Reader(data, "x")
    out = read_address_lines(source, counts, lambda _: b"", limits)
    source.done()
    return out


def test_the_worked_example() -> None:
    assert parse_address(b"10.0.0.1") == (167772161, 0, b"")
    assert parse_address(b"10.0.0.3:80") == (167772163, 80, b"")
    [form] = blocks._addresses([[b"10.0.0.1", b"10.0.0.3:80"]], {})
    assert read(form[1:], [2]) == [[b"10.0.0.1", b"10.0.0.3:80"]]


@pytest.mark.parametrize(
    "line",
    [
        b"01.2.3.4",
        b"256.1.1.1",
        b"1.2.3",
        b"1.2.3.4.5",
        b"1.2.3.4:0",
        b"1.2.3.4:080",
        b"1.2.3.4:65536",
        b"1.2.3.4/8",
        b" 1.2.3.4",
        b"1.2.3.4x",
        b"1.2.3.4:",
    ],
)
def test_other_spellings_are_text(line: bytes) -> None:
    assert parse_address(line) is None


@given(address_line())
def test_an_address_prints_as_it_was_read(line: bytes) -> None:
    found = parse_address(line)
    if found:
        address, port, tail = found
        dotted = ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0)).encode()
        assert dotted + (b":%d" % port if port else b"") + tail == line


@given(segments)
def test_every_form_comes_back(parts: list[list[bytes]]) -> None:
    parts = [sorted(part) for part in parts]
    for form in blocks._addresses(parts, {}):
        assert form[0] == ADDRESSES
        assert read(form[1:], [len(part) for part in parts]) == parts


@given(segments, st.integers(0, 200), st.integers(1, 255))
def test_damage_raises_only_our_error(parts: list[list[bytes]], at: int, mask: int) -> None:
    parts = [sorted(part) for part in parts]
    counts = [len(part) for part in parts]
    for form in blocks._addresses(parts, {}):
        damaged = bytearray(form[1:])
        damaged[at % len(damaged)] ^= mask
        for data in (bytes(damaged), form[1:][: at % len(form)]):
            try:
                lines = read(data, counts)
            except MalformedError:
                continue
            assert [len(part) for part in lines] == counts


def test_tails_do_not_multiply_without_bound() -> None:
    lines = sorted(b"10.%d.%d.%d\t" % (i >> 16, i >> 8 & 255, i & 255) + b"x" * 900 for i in range(3000))
    [form] = blocks._addresses([lines], {})
    assert len(form) < 10_000
    assert read(form[1:], [3000]) == [lines]
    with pytest.raises(MalformedError, match="longer than allowed"):
        read(form[1:], [3000], Limits(delta_block_bytes=500_000))


def test_the_ends_of_every_bound() -> None:
    def one(*gaps: int) -> bytes:
        packed = encode_gaps(list(gaps))
        return b"\0" + encode_varints([len(packed)]) + packed

    assert read(one(2**32 - 1), [1]) == [[b"255.255.255.255"]]
    assert read(one(2**32 - 1, 0), [2]) == [[b"255.255.255.255"] * 2]
    for data, counts in ((one(2**32), [1]), (one(2**32 - 1, 1), [2])):
        with pytest.raises(MalformedError, match="beyond 255"):
            read(data, counts)
    tailed = b"\x04\x03\x00\x00\x00" + plain_column(b"\txyz") + plain_column(b"\0" * 16)
    assert read(tailed, [16], Limits(delta_block_bytes=64)) == [[b"0.0.0.0\txyz"] * 16]
    with pytest.raises(MalformedError, match="longer than allowed"):
        read(tailed, [16], Limits(delta_block_bytes=63))


def test_tails_are_counted_before_they_are_cut() -> None:
    def one(tails: bytes) -> bytes:
        return b"\x04" + encode_varints([5]) + encode_gaps([1 << 24]) + plain_column(tails) + plain_column(b"\0")

    assert len(encode_gaps([1 << 24])) == 5
    assert read(one(b"\tx"), [1]) == [[b"1.0.0.0\tx"]]
    for tails in (b"\tx\n", b"\tx\n\ty", b"\n" * 1000):
        with pytest.raises(MalformedError, match="more tails"):
            read(one(tails), [1])
