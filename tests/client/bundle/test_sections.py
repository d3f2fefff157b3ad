"""Set sections: one canonical form, checked in one pass with flat memory, whatever the blocks are."""

from __future__ import annotations

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle import sections
from coldchain.bundle.sections import blocks, check_set
from coldchain.errors import MalformedError
from coldchain.limits import Limits

line = st.binary(min_size=1, max_size=12).filter(lambda data: b"\n" not in data and b"\r" not in data)


def check(data: bytes, limits: Limits | None = None) -> tuple[int, int, str]:
    return check_set(io.BytesIO(data), "s", limits or Limits())


@pytest.fixture(params=[1, 2, 3, 7, 64, 1 << 20])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    monkeypatch.setattr(sections, "BLOCK", size)
    return size


def test_canonical_sets_are_counted_and_hashed(block: int) -> None:
    for count in range(40):
        data = b"".join(b"%03d\n" % i for i in range(count))
        assert check(data) == (count, len(data), hashlib.sha256(data).hexdigest())


def test_the_worked_example() -> None:
    assert check(b"a\nb\n")[0] == 2
    for raw in (b"b\r\na\r\nb\r\n", b"b\na\nb\n", b"a\nb"):
        with pytest.raises(MalformedError):
            check(raw)


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"a\n\n",
        b"\na\n",
        b"a\n\nb\n",
        b"b\na\n",
        b"a\na\n",
        b"a\nb\nb\n",
        b"a",
        b"a\nb",
        b"a\r\n",
        b"a\rb\n",
        b"\r\n",
        b"\xef\xbb\xbfa\n",
        b"aa\na\n",
        b"a\nB\n",
        b"\xff\n\x00\n",
    ],
)
def test_everything_else_is_refused_whatever_the_blocks(data: bytes, block: int) -> None:
    with pytest.raises(MalformedError):
        check(data)


def test_two_lines_out_of_order_anywhere_are_found_whatever_the_blocks(block: int) -> None:
    """Also across the end of a block, where the last line of the block before counts."""
    lines = [b"%03d\n" % i for i in range(0, 120, 3)]
    for i in range(1, len(lines)):
        for wrong in (lines[i - 1], b"%03d\n" % (3 * i - 4), b"000\n"):
            if wrong != lines[i]:
                with pytest.raises(MalformedError):
                    check(b"".join([*lines[:i], wrong, *lines[i:]]))


def test_order_is_bytewise() -> None:
    ordered = [b"\x00", b"A", b"a", b"aa", b"b", b"\x7f", b"\x80", b"\xff"]
    check(b"".join(item + b"\n" for item in sorted(ordered)))


def test_a_byte_order_mark_is_a_line_like_any_other_after_the_first() -> None:
    assert check(b"a\n\xef\xbb\xbfb\n")[0] == 2


def test_lines_are_bounded(block: int) -> None:
    limits = Limits(line_bytes=10)
    assert check(b"0" * 10 + b"\n", limits)[0] == 1
    for data in (b"0" * 11 + b"\n", b"0\n" + b"1" * 11 + b"\n", b"0" * 5000 + b"\n", b"0" * 5000):
        with pytest.raises(MalformedError):
            check(data, limits)


def test_an_endless_line_is_given_up_early() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            assert self.given < 4 << 20, "read on and on"
            return b"x" * size

    with pytest.raises(MalformedError):
        check_set(Endless(), "s", Limits())  # type: ignore[arg-type]


@given(st.sets(line, max_size=30), st.integers(1, 40))
def test_blocks_end_at_line_ends_and_lose_nothing(lines: set[bytes], size: int) -> None:
    data = b"".join(item + b"\n" for item in sorted(lines))
    before = sections.BLOCK
    sections.BLOCK = size
    try:
        parts = list(blocks(io.BytesIO(data), "s"))
        assert b"".join(parts) == data
        assert all(part.endswith(b"\n") for part in parts)
        if not data.startswith(sections.BOM):
            assert check(data)[0] == len(lines)
    finally:
        sections.BLOCK = before


@given(st.lists(line, min_size=2, max_size=20))
def test_any_other_order_is_refused(lines: list[bytes]) -> None:
    data = b"".join(item + b"\n" for item in lines)
    if lines == sorted(set(lines)) and not data.startswith(sections.BOM):
        check(data)
    else:
        with pytest.raises(MalformedError):
            check(data)
