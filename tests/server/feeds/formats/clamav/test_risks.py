"""Signatures that load and must not go out unseen: headers alone, short patterns, hunts for documents."""

from __future__ import annotations

import pytest

from coldchain_server.feeds.formats.clamav import lint_lines
from coldchain_server.feeds.formats.clamav.headers import HEADERS
from tests.server.feeds.engine import load, needs_clamscan

MALWARE = b"e8000000005d81ed07304000"


def codes(extension: str, line: bytes) -> dict[str, str]:
    report, _ = lint_lines("a", extension, line + b"\n")
    return {finding.code: finding.severity for finding in report.findings}


def test_no_pattern_is_the_beginning_of_a_common_header() -> None:
    for header in HEADERS:
        for length in {3, 4, len(header) // 2, len(header)}:
            if length < 3:
                continue
            pattern = header[:length].hex().encode()
            for line, extension in (
                (b"Test.R-1:0:*:" + pattern, "ndb"),
                (b"Test.R-1:0:0:" + pattern, "ndb"),
                (b"Test.R-1=" + pattern, "db"),
                (b"Test.R-1;Target:0;0;" + pattern, "ldb"),
                (b"Test.R-1;Target:0;0|1;" + pattern + b";" + MALWARE, "ldb"),
                (b"Test.R-1;Target:0;0&1=0;" + pattern + b";" + MALWARE, "ldb"),
            ):
                assert codes(extension, line).get("magic-only") == "error", line


def test_a_header_with_bytes_of_the_malware_passes() -> None:
    for header in HEADERS:
        pattern = header.hex().encode()
        for line, extension in (
            (b"Test.R-1:0:*:" + pattern + MALWARE, "ndb"),
            (b"Test.R-1:0:*:" + pattern + b"*" + MALWARE, "ndb"),
            (b"Test.R-1;Target:0;0&1;" + pattern + b";" + MALWARE, "ldb"),
        ):
            assert "magic-only" not in codes(extension, line), line


def test_what_narrows_a_header_makes_a_warning_of_it() -> None:
    assert codes("ldb", b"Test.R-1;Engine:81-255,FileSize:10-20,Target:0;0;7f454c46")["magic-only"] == "warning"


def test_short_patterns_are_named() -> None:
    for line, extension in (
        (b"Test.R-1:0:*:a1b2c3", "ndb"),
        (b"Test.R-1:6:*:a1b2??c3", "ndb"),
        (b"Test.R-1;Target:0;0|1;a1b2;" + MALWARE, "ldb"),
    ):
        assert codes(extension, line).get("short-pattern") == "warning", line
    assert "short-pattern" not in codes("ndb", b"Test.R-1:0:*:" + MALWARE)


MARKS = (
    "TOP SECRET//NOFORN",
    "Company Confidential",
    "совершенно секретно",
    "绝密",
    "Streng Geheim",
    "for official use only",
)


@pytest.mark.parametrize("mark", MARKS)
def test_hunts_for_documents_are_flagged(mark: str) -> None:
    for code in ("utf-8", "utf-16-le"):
        pattern = mark.encode(code).hex().encode()
        for line, extension in (
            (b"Test.R-1:0:*:" + pattern, "ndb"),
            (b"Test.R-1:2:*:" + pattern, "ndb"),
            (b"Test.R-1:7:*:" + pattern, "ndb"),
            (b"Test.R-1;Target:0;0&1;" + MALWARE + b";" + pattern, "ldb"),
        ):
            report, lines = lint_lines("a", extension, line + b"\n")
            assert [flag.code for flag in report.flags] == ["document-hunt"], line
            assert lines == [line]  # flagged, not refused: a person decides


def test_plain_language_in_documents_is_flagged_and_in_programs_is_not() -> None:
    words = b"quarterly budget forecast".hex().encode()
    for target, flagged in ((2, True), (4, True), (7, True), (10, True), (0, False), (1, False), (6, False)):
        assert ("document-hunt" in codes("ndb", b"Test.R-1:%d:*:" % target + words)) == flagged, target


@needs_clamscan
def test_the_engine_would_report_every_program() -> None:
    for pattern, scanned in (
        (b"7f454c46", b"\x7fELF\x02\x01\x01" + bytes(57)),
        (b"4d5a9000", b"MZ\x90\x00" + bytes(60)),
    ):
        line = b"Test.R-1:0:*:" + pattern + b"\n"
        assert lint_lines("a", "ndb", line)[0].errors
        loaded = load({"a.ndb": line}, scanned)
        assert loaded.known == 1
        assert "Test.R-1.UNOFFICIAL FOUND" in loaded.said
