"""Groups of pieces: exact lengths, copies from inside the old file only, references within their bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.file_pieces import COPIES, GOES_ON, RANGE, WINDOW, Piece, read_group
from coldchain.bundle.varint import Reader, encode_varints, zigzag
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain_server.deltas.pack import column, plain_column
from coldchain_server.deltas.pieces import copies

OLDS = [b"0123456789", b"", b"abcdefgh"]


def read(data: bytes, first: int = 0, window: bytes = b"w" * 20, limits: Limits = LIMITS) -> list[Piece]:
    source = Reader(data, "x")

    def old(index: int, start: int, length: int | None) -> bytes:
        return OLDS[index][start:] if length is None else OLDS[index][start : start + length]

    pieces = read_group(source, first, len(OLDS), old, lambda _: window, limits)
    source.done()
    return pieces


def group(flags: int, *numbers: int, body: bytes = b"") -> bytes:
    return bytes([flags]) + encode_varints(list(numbers)) + body


def steps(*numbers: int) -> bytes:
    return plain_column(encode_varints(list(numbers)))


def test_the_worked_example() -> None:
    data = bytes.fromhex("00010c" + "0c720a78")
    assert data == group(0, 1, 12, body=plain_column(b"r\nx"))
    assert read(data) == [Piece(0, b"r\nx", False)]


def test_pieces_of_one_group_stand_one_after_the_other() -> None:
    found = read(group(0, 2, 3 << 2, 2 << 2 | GOES_ON, body=plain_column(b"abcde")), first=1)
    assert found == [Piece(1, b"abc", False), Piece(2, b"de", True)]
    assert read(group(0, 3, 0, 0, 0, body=plain_column(b""))) == [Piece(i, b"", False) for i in range(3)]


def test_copies() -> None:
    """Literal 2, copy 3 from 4; copy 2 from where that ended less 7; then a literal to the end."""
    body = steps(2, 3, zigzag(4), 0, 2, zigzag(-7), 1) + plain_column(b"xyz")
    assert read(group(COPIES, 1, 8 << 2, body=body)) == [Piece(0, b"xy45601z", False)]
    body = steps(0, 3, zigzag(1)) + plain_column(b"")
    assert read(group(COPIES, 1, 3 << 2 | RANGE, 5, 4, body=body)) == [Piece(0, b"678", False)]


@pytest.mark.parametrize(
    ("numbers", "length"),
    [
        ((0, 3, zigzag(8)), 3),  # past the end
        ((0, 3, zigzag(-1)), 3),  # before the start
        ((0, 3, zigzag(7), 0, 1, zigzag(0)), 4),
        ((4,), 3),  # more than the piece
        ((0, 4, 0), 3),
        ((1, 3, 0), 3),
        ((0, 0), 3),  # a step without effect
        ((2,), 3),  # too few
        ((0, 3, 0, 0), 3),  # too many
        ((3, 0), 3),
    ],
)
def test_copies_that_do_not_fit(numbers: tuple[int, ...], length: int) -> None:
    for literals in (b"", b"l", b"lll"):
        with pytest.raises(MalformedError):
            read(group(COPIES, 1, length << 2, body=steps(*numbers) + plain_column(literals)))


def test_a_step_has_an_effect() -> None:
    for body in (steps(0, 0, 3) + plain_column(b"abc"), steps(1, 2, 0, 0, 0, 1) + plain_column(b"ab")):
        with pytest.raises(MalformedError, match="without effect"):
            read(group(COPIES, 1, 4 << 2, body=body))


def test_literals_are_used_up() -> None:
    good = steps(1, 2, 0)
    assert read(group(COPIES, 1, 12, body=good + plain_column(b"l")))[0].data == b"l01"
    for literals in (b"", b"ll"):
        with pytest.raises(MalformedError):
            read(group(COPIES, 1, 12, body=good + plain_column(literals)))


def test_groups_that_do_not_fit() -> None:
    body = plain_column(b"abc")
    assert read(group(0, 1, 12, body=body))
    for data in (
        group(4, 1, 12, body=body),
        group(0, 0, body=body),
        group(0, 4, 12, 0, 0, 0, body=body),  # more pieces than files
        group(0, 1, 8, body=body),
        group(0, 1, 16, body=body),
        group(0, 2, 8 | GOES_ON, 4, body=body),  # one that goes on and is not the last
        group(0, 1, 12),
        group(0, 1),
        b"",
    ):
        with pytest.raises(MalformedError):
            read(data)
    with pytest.raises(MalformedError):
        read(group(0, 2, 4, 8, body=body), first=2)


def test_what_the_last_column_refers_to() -> None:
    """Old files, their ranges, a window before either."""
    window = b"it was a bright cold day in April"
    text = window + OLDS[0][2:9]
    for flags, tag, span, reference in (
        (0, 0, (), OLDS[0]),
        (0, RANGE, (2, 7), OLDS[0][2:9]),
        (WINDOW, 0, (), window),
        (WINDOW, RANGE, (2, 7), window + OLDS[0][2:9]),
        (WINDOW | COPIES, RANGE, (2, 7), window + OLDS[0][2:9]),
        (WINDOW | COPIES, 0, (), window),
        (COPIES, 0, (), OLDS[0]),
    ):
        body = (steps(len(text)) if flags & COPIES else b"") + column(text, reference)
        data = group(flags, 1, len(text) << 2 | tag, *span, body=body)
        assert read(data, window=window)[0].data == text, (flags, tag)


def test_bounds() -> None:
    data = group(0, 2, 12, 8, body=plain_column(b"abcde"))
    assert read(data, limits=Limits(delta_block_bytes=5))
    with pytest.raises(MalformedError, match="longer than allowed"):
        read(group(0, 2, 12, 2**50, body=b""))
    with pytest.raises(MalformedError, match="a group is longer"):
        read(data, limits=Limits(delta_block_bytes=4))
    held = group(WINDOW | COPIES, 1, 4, body=steps(1) + plain_column(b"a"))
    assert read(held, limits=Limits(zstd_dictionary_bytes=30))
    with pytest.raises(MalformedError, match="refers to more"):
        read(held, limits=Limits(zstd_dictionary_bytes=29))
    ranged = group(0, 1, 4 | RANGE, 0, 10, body=plain_column(b"a"))
    assert read(ranged, limits=Limits(zstd_dictionary_bytes=10))
    with pytest.raises(MalformedError, match="10 is more than 9"):
        read(ranged, limits=Limits(zstd_dictionary_bytes=9))


line = st.sampled_from([b"rule a {\n", b"x\r\n", b"  $a = {00 11 22 33}\n", b"}\n", b"version = 17\n", b"\n"])
text = st.lists(line, max_size=30).map(b"".join)


@given(text, text, st.binary(max_size=20), st.integers(0, 300))
def test_copies_make_the_new_file_out_of_the_old(old: bytes, new: bytes, edit: bytes, at: int) -> None:
    for target in (new, old, old[:at] + edit + old[at:], old[at:] + old[:at], old[:at] + old[at + len(edit) :], b""):
        packed, literals = bytearray(), bytearray()
        copies(old, target, packed, literals)
        body = plain_column(bytes(packed)) + plain_column(bytes(literals))
        source = Reader(group(COPIES, 1, len(target) << 2, body=body), "x")
        [piece] = read_group(source, 0, 1, lambda *_: old, lambda _: b"", LIMITS)
        assert piece.data == target


@given(st.binary(max_size=60), st.integers(0, 3))
def test_foreign_bytes_raise_only_our_error(data: bytes, flags: int) -> None:
    for body in (data, bytes([flags, 1]) + data):
        try:
            found = read(body)
        except MalformedError:
            continue
        assert found
