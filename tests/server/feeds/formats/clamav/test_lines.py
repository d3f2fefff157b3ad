"""Each type's grammar on good and bad lines; what the engine says of the same lines is in test_engine.py."""

from __future__ import annotations

import pytest

from coldchain_server.feeds.formats.clamav import TYPES, lint_lines
from tests.server.feeds.lines import BAD, GOOD

LINE_TYPES = [name for name, one in TYPES.items() if one.grammar is not None]


def test_every_type_of_lines_has_good_and_bad_ones() -> None:
    assert set(GOOD) == set(BAD) == set(LINE_TYPES)


@pytest.mark.parametrize("extension", LINE_TYPES)
def test_good_lines_pass(extension: str) -> None:
    for line in GOOD[extension]:
        report, lines = lint_lines("a", extension, line + b"\n")
        assert lines == [line], (line, report.findings)
        assert report.records == 1
        assert report.errors == []


@pytest.mark.parametrize("extension", LINE_TYPES)
def test_bad_lines_are_named_with_place_reason_and_fix(extension: str) -> None:
    good = GOOD[extension][0]
    for line, code in BAD[extension].items():
        report, lines = lint_lines("a", extension, good + b"\n" + line + b"\n")
        assert lines == [good], line
        assert (report.records, report.skipped) == (1, 1)
        (finding,) = report.errors
        assert finding.code == code, (line, finding)
        assert finding.line == 2
        assert 0 <= finding.column <= len(line) + 1
        assert finding.message
        assert finding.fix
