"""Text lines in every form come back; foreign columns raise only our error and never unfold without bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.text_lines import (
    FRONT,
    NO_REFERENCE,
    OLD_CONTENT,
    REMOVED_LINES,
    REVERSED,
    Reference,
    front,
    read_text_lines,
)
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain_server.deltas.blocks import text_forms
from coldchain_server.deltas.pack import column, plain_column
from tests.client.bundle.bundles import domain, odd_line


def nothing(mode: int) -> bytes:
    raise AssertionError(f"reference {mode} was not declared")


def read(data: bytes, count: int, reference: Reference = nothing, limits: Limits = LIMITS) -> tuple[list[bytes], bool]:
    source = Reader(data, "x")
    out = read_text_lines(source, count, reference, limits)
    source.done()
    return out


def test_the_worked_example() -> None:
    lines = [b"ab.example", b"abc.example"]
    assert front(lines) == ([0, 2], [b"ab.example", b"c.example"])
    data = bytes([FRONT]) + plain_column(bytes([0, 2])) + plain_column(b"ab.example\nc.example")
    assert read(data, 2) == (lines, False)


@given(st.lists(st.one_of(odd_line, domain), min_size=1, max_size=30, unique=True), st.lists(odd_line, max_size=20))
def test_every_form_comes_back(lines: list[bytes], old: list[bytes]) -> None:
    lines.sort()
    content = {REMOVED_LINES: b"\n".join(old), OLD_CONTENT: b"\n".join(old + lines)}
    seen = set()
    for form in text_forms([lines], content):
        found, unsorted = read(form, len(lines), content.__getitem__)
        assert (sorted(found) if unsorted else found) == lines
        seen.add(form[0])
    assert NO_REFERENCE << 2 in seen
    assert len(lines) < 4 or {FRONT, FRONT | REVERSED} <= seen


def test_foreign_forms_are_refused() -> None:
    good = bytes([FRONT]) + plain_column(bytes([0, 2])) + plain_column(b"abcd\nef")
    assert read(good, 2)[0] == [b"abcd", b"abef"]
    for data, count in (
        (good, 1),
        (good, 3),
        (good, 0),
        (bytes([16]) + plain_column(b"a"), 1),
        (bytes([FRONT]) + plain_column(bytes([1, 0])) + plain_column(b"abcd\nef"), 2),  # shares with nothing
        (bytes([FRONT]) + plain_column(bytes([0, 5])) + plain_column(b"abcd\nef"), 2),  # shares more than there is
        (bytes([FRONT]) + plain_column(bytes([0, 2, 0])) + plain_column(b"abcd\nef"), 2),
        (bytes([FRONT]) + plain_column(bytes([0])) + plain_column(b"abcd\nef"), 2),
        (bytes([0]), 1),
        (b"", 1),
    ):
        with pytest.raises(MalformedError):
            read(data, count)


def test_shared_beginnings_do_not_multiply_without_bound() -> None:
    count, long = 60_000, 100_000
    lengths = encode_varints([0] + [long] * (count - 1))
    data = bytes([FRONT]) + column(lengths) + column(b"a" * long + b"\n" * (count - 1))
    assert len(data) < 2000
    with pytest.raises(MalformedError, match="longer than allowed"):
        read(data, count)


@given(st.integers(0, 20), st.binary(max_size=40), st.integers(0, 6))
def test_foreign_bytes_raise_only_our_error(flags: int, data: bytes, count: int) -> None:
    try:
        lines, _ = read(bytes([flags]) + data, count, lambda _: b"some old content")
    except MalformedError:
        return
    assert len(lines) == count
