"""Blocks of added records: the smallest form that the client reads back, whatever the lines are."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.bundle.delta import ADDRESSES, HASHES, TEXT, decode_block
from coldchain.bundle.text_lines import OLD_CONTENT, REMOVED_LINES, WINDOW
from coldchain.bundle.varint import Reader
from coldchain.errors import InternalError
from coldchain.limits import LIMITS
from coldchain_server.deltas import blocks
from coldchain_server.deltas.blocks import References, Segments, encode_block, schema_of
from coldchain_server.deltas.encode import BLOCK_BYTES, BLOCK_RECORDS, SHARED_OLD_BYTES
from coldchain_server.deltas.windows import BUDGET_BYTES, Window
from tests.client.bundle.bundles import lines_of_a_kind, odd_line

HASH = b"%032x:68:Win.Trojan.Agent-%d-0"

segments = st.lists(lines_of_a_kind.map(lambda lines: sorted(set(lines))).filter(bool), min_size=1, max_size=3)


def decode(form: bytes, parts: Segments, references: References, window: Window | None = None) -> Segments:
    source = Reader(form, "block")

    def reference(mode: int) -> bytes:
        if mode == WINDOW:
            assert window is not None
            assert source.take(len(window.head)) == window.head
        return references[mode]

    return decode_block(source, [len(part) for part in parts], reference, LIMITS)


@settings(max_examples=50)
@given(segments, st.lists(odd_line, max_size=9))
def test_whatever_the_lines_are(parts: Segments, old: list[bytes]) -> None:
    text = b"".join(line + b"\n" for line in old)
    window = Window(b"\1\0\1", text + b"".join(line + b"\n" for line in parts[0]))
    references = {REMOVED_LINES: text, OLD_CONTENT: text * 2, WINDOW: window.content}
    assert decode(encode_block(parts, references, window), parts, references, window) == parts
    assert decode(encode_block(parts, {}), parts, {}) == parts


def test_each_schema_is_chosen_where_it_suits() -> None:
    hashes = sorted(HASH % (7919**9 * i % 2**128, 7_000_000 + i) for i in range(60))
    addresses = sorted(b"%d.%d.%d.%d" % tuple(random.Random(i).randbytes(4)) for i in range(60))
    words = sorted(b"word%d" % i for i in range(60))
    for lines, schema in ((hashes, HASHES), (addresses, ADDRESSES), (words, TEXT)):
        assert schema_of(lines) == schema
        assert encode_block([lines], {})[0] == schema
    assert schema_of([line[:32] for line in hashes]) == HASHES
    assert schema_of([*hashes[:20], *words]) == TEXT


def test_a_window_is_used_where_it_holds_the_lines() -> None:
    lines = [b"Acme.Body-%d:1:EP+0:%030x" % (i, 31**20 * (i + 7)) for i in range(3)]
    window = Window(b"\0", b"\n".join(lines))
    form = encode_block([lines], {WINDOW: window.content}, window)
    assert form[:3] == bytes([TEXT, WINDOW << 2, 0])
    assert len(form) < 40


def test_a_form_that_the_client_misreads_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small it is: the next one is taken, and none at all is an error before anything is published."""
    lines = [b"%d.example" % i for i in range(100, 140)]
    other = [b"%d.example" % i for i in range(200, 240)]
    real = blocks._texts

    def with_wrong_ones(
        parts: Segments, references: References, window: Window | None, model_bytes: int
    ) -> Iterator[bytes]:
        yield b""
        yield b"\0"
        yield b"\x01\x09"
        yield min(real([other], references, window, model_bytes), key=len)  # another 40 lines
        yield from real(parts, references, window, model_bytes)

    good = encode_block([lines], {})
    monkeypatch.setattr(blocks, "_texts", with_wrong_ones)
    assert encode_block([lines], {}) == good
    monkeypatch.setattr(blocks, "_texts", lambda *_: iter([b"\0", min(real([other], {}, None, 0), key=len)]))
    with pytest.raises(InternalError, match="reads back"):
        encode_block([lines], {})


def test_more_templates_than_an_index_can_name() -> None:
    """Never the smallest form, and never one that reads back."""
    records = [(bytes(16), 0, b"x" * (1 + i % 7) + b"%d" % i, list[int]()) for i in range(65_536)]
    assert len(blocks._name_columns(records, 0)) >= 1 << 25


def test_what_is_written_fits_what_the_client_allows() -> None:
    """Blocks, windows and old content, each with a line of the longest kind to spare."""
    assert LIMITS.delta_block_records >= BLOCK_RECORDS
    assert BLOCK_BYTES + LIMITS.line_bytes < LIMITS.delta_block_bytes
    assert LIMITS.zstd_dictionary_bytes >= SHARED_OLD_BYTES
    assert LIMITS.zstd_dictionary_bytes >= BUDGET_BYTES
