"""Security catalogues: the frame of signed trust lists, and nothing else."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.feeds.formats.clamav import lint_lines
from coldchain_server.feeds.formats.clamav.catalogue_file import SIGNED_DATA, TRUST_LIST, check_catalogue
from coldchain_server.feeds.formats.clamav.grammar import PlacedError


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 + len(length)]) + length + content


def catalogue(
    *, kind: bytes = SIGNED_DATA, inner: bytes = TRUST_LIST, version: bytes = b"\x01", filler: bytes = b"x" * 300
) -> bytes:
    trust = der(0x30, der(0x06, inner), der(0xA0, der(0x04, filler)))
    return der(0x30, der(0x06, kind), der(0xA0, der(0x30, der(0x02, version), der(0x31), trust)))


def test_a_catalogue_is_one_record_and_a_matter_for_a_person() -> None:
    for filler in (b"", b"x" * 100, b"x" * 300, b"x" * 70_000):
        report, _ = lint_lines("a.cat", "cat", catalogue(filler=filler))
        assert (report.records, report.errors) == (1, [])
        assert [flag.code for flag in report.flags] == ["trusts-files"]


def test_anything_else_is_refused() -> None:
    good = catalogue()
    cases = [
        b"", b"hello", good + b"x", good[:-1], b"\x30\x80" + good[2:], b"\x31" + good[1:], b"\x30\x02\x05\x00",
        catalogue(kind=TRUST_LIST), catalogue(inner=SIGNED_DATA), catalogue(version=b"\x02"),
        b"\x30\x81\x05" + b"\x05\x00\x05\x00\x05", b"\x30\x82\x00\x02\x05\x00", b"\x3f\x01\x00",
    ]  # fmt: skip
    for data in cases:
        report, _ = lint_lines("a.cat", "cat", data)
        assert report.records == 0, data[:20]
        assert report.errors[0].code == ("bad-catalogue" if data else "empty-file")
    for end in range(1, 40):
        assert lint_lines("a.cat", "cat", good[:end])[0].errors


@given(st.binary(max_size=60) | st.tuples(st.integers(0, 59), st.integers(0, 255)))
def test_any_bytes_pass_or_are_refused(change: bytes | tuple[int, int]) -> None:
    data = bytearray(catalogue(filler=b""))
    if isinstance(change, bytes):
        data = bytearray(change)
    else:
        data[change[0] % len(data)] = change[1]
    with contextlib.suppress(PlacedError):
        assert check_catalogue(bytes(data), []) == 1
