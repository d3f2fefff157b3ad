"""Change lists on disk: exact, strict, bounded."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.varint import encode_varints
from coldchain.errors import MalformedError, NewerFormatError
from coldchain_server.deltas.changes import MAGIC, encode_change_list, parse_change_list
from coldchain_server.deltas.diff import diff_bundles
from tests.client.bundle.bundles import Store, describe
from tests.server.deltas.histories import histories


@pytest.fixture(scope="module")
def small() -> bytes:
    store = Store()
    old = describe({"a": [b"1", b"2", b"3"], "b": [b"x"], "c": b"file"}, store, 1)
    new = describe({"a": [b"0", b"2", b"3", b"4"], "b": [b"x", b"y"], "d": b"file"}, store, 2)
    return encode_change_list(diff_bundles(old, new, store))


@given(histories(2))
def test_what_is_written_is_read(history: list[dict[str, bytes | list[bytes]]]) -> None:
    store = Store()
    old, new = (describe(content, store, i + 1) for i, content in enumerate(history))
    for change in (diff_bundles(old, new, store), diff_bundles(None, new, store)):
        data = encode_change_list(change)
        assert parse_change_list(data) == change
        assert encode_change_list(parse_change_list(data)) == data


def test_damage_raises_only_our_error(small: bytes) -> None:
    good = parse_change_list(small)
    bad = [small[:end] for end in range(len(small))]
    bad += [small[:at] + bytes([small[at] ^ mask]) + small[at + 1 :] for at in range(len(small)) for mask in (1, 128)]
    for data in bad:
        try:
            assert parse_change_list(data) == good  # some bits of a zstd frame have no meaning
        except (MalformedError, NewerFormatError):
            continue
    for data in (b"", b"CCD\x01", small + b"\0", small[:4]):
        with pytest.raises(MalformedError):
            parse_change_list(data)
    with pytest.raises(NewerFormatError):
        parse_change_list(b"CCH\x02" + small[4:])


def rewritten(small: bytes, find: bytes, put: bytes) -> bytes:
    body = zstandard.ZstdDecompressor().decompress(small[4:])
    assert body.count(find) == 1
    return MAGIC + zstandard.ZstdCompressor(write_checksum=True).compress(body.replace(find, put))


def test_records_must_fit_the_sections(small: bytes) -> None:
    section = b"\x01a\x01\x02" + b"\x00\x011" + b"\x00\x010\x02\x014"
    assert parse_change_list(rewritten(small, section, section)) == parse_change_list(small)
    for other in (
        b"\x01b" + section[2:],  # another name
        b"\x01a\x01\x03" + section[4:],  # counts that do not add up
        section.replace(b"\x00\x011", b"\x03\x011"),  # an ordinal past the end
        section.replace(b"\x02\x014", b"\x03\x014"),
        section.replace(b"\x02\x014", b"\x02\x010"),  # a line twice
    ):
        with pytest.raises(MalformedError):
            parse_change_list(rewritten(small, section, other))


def test_a_bomb_is_refused() -> None:
    frame = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(bytes(64 << 20))
    for data in (frame, b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little"), zstandard.compress(b"")):
        with pytest.raises(MalformedError):
            parse_change_list(MAGIC + data)


@given(st.binary(max_size=80))
def test_foreign_bytes_raise_only_our_error(data: bytes) -> None:
    for body in (data, encode_varints([0, len(data)]) + data):
        with pytest.raises((MalformedError, NewerFormatError)):
            parse_change_list(MAGIC + zstandard.ZstdCompressor(write_checksum=True).compress(body))
