"""Bytecode programs: a real one passes, and no change of its frame does."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.feeds.formats.clamav import lint_lines
from coldchain_server.feeds.formats.clamav.bytecode import LOGICAL, MAGIC_NUMBERS, check_bytecode
from coldchain_server.feeds.formats.clamav.grammar import LineError
from tests.server.feeds.engine import load, needs_clamscan


def number(value: int) -> bytes:
    digits = b""
    while value:
        digits += bytes([0x60 + (value & 15)])
        value >>= 4
    return bytes([0x60 + len(digits)]) + digits


def string(text: bytes) -> bytes:
    return b"|" + number(len(text)) + b"".join(bytes([0x60 + (one & 15), 0x60 + (one >> 4)]) for one in text)


def program(
    *, level: int = 7, kind: int = LOGICAL, low: int = 0, high: int = 0, functions: int = 1, longest: int = 4096,
    magic: tuple[int, int] = MAGIC_NUMBERS, trigger: bytes = b"Test.Y-1.{};Engine:56-255,Target:0;0;0:434c414d4156", body: bytes = b"",
) -> bytes:  # fmt: skip
    """A program that does nothing: one function which returns 0."""
    header = b"ClamBC" + number(level) + number(1_700_000_000) + string(b"tester\0") + number(0) + number(kind)
    header += (
        number(low) + number(high) + number(0) + string(b"test\0") + number(0) + number(functions) + number(magic[0])
    )
    header += bytes([0x60 + (magic[1] & 15), 0x60 + (magic[1] >> 4)]) + b":%d" % longest
    return header + b"\n" + trigger + b"\n" + (body or b"Tedaaa\nEaeaaa\nGad`@`\nA`b`bLaab`b`Faaaa\nBb`bT`aE\nS\n")


def test_a_program_is_one_record_and_a_matter_for_a_person() -> None:
    report, lines = lint_lines("a.cbc", "cbc", program())
    assert (report.records, report.skipped, lines, report.errors) == (1, 0, [], [])
    assert [flag.code for flag in report.flags] == ["bytecode"]


def test_faults_of_the_frame_are_refused() -> None:
    body = b"Tedaaa\nEaeaaa\nGad`@`\n"
    cases = {
        "nothing": b"",
        "not a program": b"hello\n",
        "format": program(level=5),
        "kind": program(kind=0),
        "kind above": program(kind=263),
        "levels": program(low=9999),
        "past": program(low=1, high=50),
        "magic": program(magic=(1, 42)),
        "magic 2": program(magic=(MAGIC_NUMBERS[0], 41)),
        "functions": program(functions=2),
        "long": program(longest=20),
        "no trigger": program(trigger=b""),
        "bad trigger": program(trigger=b"Test.Y-1;Target:0;0"),
        "order": program(body=b"E\nT\nG\n"),
        "cut": program(body=body),
        "block first": program(body=body + b"Bb\nAb\n"),
        "odd letter": program(body=body + b"A`\nX\n"),
        "blank": program(body=body + b"A`\n\nB\n"),
    }
    for name, data in cases.items():
        report, _ = lint_lines("a.cbc", "cbc", data)
        assert report.records == 0, name
        assert report.errors, name
        assert all(finding.fix for finding in report.errors)


def test_every_truncation_of_the_header_is_refused() -> None:
    header, rest = program().split(b"\n", 1)
    for end in range(len(header) - 4):
        with pytest.raises(LineError):
            check_bytecode(header[:end] + b"\n" + rest, [])


@given(st.integers(0, 400), st.integers(0, 255))
def test_any_change_passes_or_is_refused(at: int, byte: int) -> None:
    data = bytearray(program())
    data[at % len(data)] = byte
    with contextlib.suppress(LineError):
        assert check_bytecode(bytes(data), []) == 1


@needs_clamscan
def test_the_engine_agrees_about_what_it_refuses_by_the_header() -> None:
    for data in (
        program(kind=0),
        program(magic=(1, 42)),
        program(functions=2),
        program(trigger=b"Test.Y-1;Target:0;0"),
    ):
        assert load({"a.cbc": data}).failed
        assert lint_lines("a.cbc", "cbc", data)[0].errors
