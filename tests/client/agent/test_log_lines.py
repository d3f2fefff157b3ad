"""The log: a line for each event, whole and harmless, in three forms."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from coldchain.agent.log_lines import LogLines, is_journal

NOW = datetime(2026, 6, 1, 12, 28, tzinfo=UTC)


def written(*, as_json: bool = False, journal: bool = False, words: str = "it broke", **fields: str | int) -> str:
    out = io.StringIO()
    LogLines(out, as_json=as_json, journal=journal, now=lambda: NOW).line("warning", "poll failed", words, **fields)
    return out.getvalue()


def test_the_three_forms() -> None:
    assert written() == "2026-06-01T12:28:00Z warning poll failed: it broke\n"
    assert written(words="") == "2026-06-01T12:28:00Z warning poll failed\n"
    assert written(journal=True) == "<4>poll failed: it broke\n"
    told = json.loads(written(as_json=True, exit_code=21))
    assert told == {"time": "2026-06-01T12:28:00Z", "level": "warning", "event": "poll failed", "exit_code": 21}
    assert written(as_json=True, journal=True).startswith("<4>{")


@given(st.text(max_size=40))
def test_nothing_that_a_server_says_begins_another_line_or_moves_a_cursor(text: str) -> None:
    for journal in (False, True):
        line = written(words=text, journal=journal)
        assert line.endswith("\n")
        assert line[:-1].isprintable()
    line = written(as_json=True, what=text)
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert json.loads(line)["what"] == text


def test_a_log_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    LogLines(None).line("error", "x")
    closed = io.StringIO()
    closed.close()
    LogLines(closed).line("error", "x")
    with Path("/dev/full").open("w") as full:
        LogLines(full).line("error", "x")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as stream, (tmp_path / "b").open("w") as other:
        found = os.fstat(stream.fileno())
        good = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(stream, good)
        assert not is_journal(other, good)
        assert not is_journal(None, good)
        assert not is_journal(io.StringIO(), good)
        for text in ("", "1", ":", "x:y", f"{found.st_dev}:"):
            assert not is_journal(stream, {"JOURNAL_STREAM": text})
    assert not is_journal(sys.stderr, {})
