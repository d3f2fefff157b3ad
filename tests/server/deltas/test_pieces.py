"""File sections: cut, grouped and written so that the client makes the same files, within its bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.bundle.file_pieces import read_group
from coldchain.bundle.varint import Reader
from coldchain.limits import LIMITS
from coldchain_server.deltas import pieces
from coldchain_server.deltas.pieces import (
    GROUP_BYTES,
    OLD_BYTES,
    PIECE_BYTES,
    NewPiece,
    cut,
    encode_group,
    forms,
    group,
)
from coldchain_server.deltas.windows import BUDGET_BYTES, Window
from tests.client.bundle.bundles import file_bytes

WINDOW = Window(b"\0", b"rule a {\n  strings: $a = {00 11}\r\n}\n" * 3)
files = st.lists(st.tuples(file_bytes, st.one_of(st.none(), file_bytes)), min_size=1, max_size=4)


def read(form: bytes, some: list[NewPiece], window: Window | None) -> list[tuple[bytes, bool]]:
    source = Reader(form, "group")

    def old(index: int, start: int, length: int | None) -> bytes:
        piece = some[index]
        assert (start, length) == (piece.range or (0, None))
        return piece.old

    def content(source: Reader) -> bytes:
        assert window is not None
        assert source.take(len(window.head)) == window.head
        return window.content

    found = read_group(source, 0, len(some), old, content, LIMITS)
    source.done()
    return [(piece.data, piece.goes_on) for piece in found]


@settings(max_examples=60)
@given(files)
def test_every_form_comes_back(contents: list[tuple[bytes, bytes | None]]) -> None:
    some = [piece for i, (new, old) in enumerate(contents) for piece in cut(f"f{i}", new, old)]
    expected = [(piece.data, piece.goes_on) for piece in some]
    assert [data for data, _ in expected] == [
        new if old is not None else b"f%d\n" % i + new for i, (new, old) in enumerate(contents)
    ]
    for window in (None, WINDOW):
        for form in forms(some, window):
            assert read(form, some, window) == expected
        assert encode_group(some, window) == min(forms(some, window), key=len)


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2000, 2001, 5000])
@pytest.mark.parametrize("old_size", [None, 0, 1, 1500, 1501, 1502, 9000])
def test_large_files_are_cut_against_the_same_place(
    size: int, old_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)
    monkeypatch.setattr(pieces, "OLD_BYTES", 1500)
    new, old = random.Random(size).randbytes(size), None if old_size is None else random.Random(7).randbytes(old_size)
    found = list(cut("name", new, old))
    assert b"".join(piece.data for piece in found) == (new if old is not None else b"name\n" + new)
    assert [piece.goes_on for piece in found] == [True] * (len(found) - 1) + [False]
    for piece in found:
        assert len(piece.data) <= 1000
        assert len(piece.old) <= 1500
        if piece.range:
            assert old is not None
            assert piece.old == old[piece.range[0] : sum(piece.range)]
        else:
            assert piece.old == (old or b"")
        assert read(encode_group([piece], None), [piece], None) == [(piece.data, piece.goes_on)]


def test_groups_are_bounded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "GROUP_BYTES", 100)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 50)
    rng = random.Random(2)
    for _ in range(50):
        some = [
            NewPiece(str(i), bytes(rng.randrange(50)), bytes(rng.randrange(90)), rng.random() < 0.2) for i in range(20)
        ]
        groups = list(group(iter(some)))
        assert [piece for one in groups for piece in one] == some
        for one in groups:
            assert one
            assert not any(piece.goes_on for piece in one[:-1])
            assert len(one) == 1 or sum(len(piece.data) + len(piece.old) for piece in one) <= 150
    assert list(group(iter([]))) == []


def test_what_is_written_fits_what_the_client_allows() -> None:
    """A whole group and its packed form, its old files and a window beside them."""
    assert LIMITS.delta_block_bytes >= GROUP_BYTES + PIECE_BYTES
    assert LIMITS.delta_block_bytes >= PIECE_BYTES + OLD_BYTES
    assert LIMITS.zstd_dictionary_bytes >= GROUP_BYTES + PIECE_BYTES + BUDGET_BYTES


def test_a_changed_date_costs_its_digits() -> None:
    rng = random.Random(4)
    old = b"".join(b"  $s%d = { %s }\n" % (i, rng.randbytes(20).hex().encode()) for i in range(200))
    new = old.replace(b"$s100 = ", b"$s777 = ")
    assert len(encode_group([NewPiece("a", new, old)], None)) < 40
