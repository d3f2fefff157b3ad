"""What surrounds the lines: line ends, comments, marks, blank lines, lengths, repetition; and any bytes at all."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.sections import check_set
from coldchain.errors import UsageError
from coldchain.limits import LIMITS
from coldchain_server.assembly.canonical_sections import canonical_set
from coldchain_server.feeds.formats.clamav import TYPES, clamav_type, lint_lines, signature_name
from tests.server.feeds.engine import load, needs_clamscan
from tests.server.feeds.lines import BAD, GOOD, MD5

LINE_TYPES = [name for name, one in TYPES.items() if one.grammar is not None]


@pytest.mark.parametrize("extension", LINE_TYPES)
def test_faults_around_good_lines(extension: str) -> None:
    line, kind = GOOD[extension][0], TYPES[extension]
    blank = "warning" if kind.blanks else "error"
    long = b"#" + b"x" * (kind.buffer - 2)
    cases: list[tuple[bytes, str, str]] = [
        (line, "no-line-end", "warning"),
        (line + b"\r\n", "crlf", "warning"),
        (b"# words\n" + line + b"\n", "comment", "warning"),
        (line + b"\n" + line + b"\n", "duplicate", "warning"),
        (b"\n" + line + b"\n", "blank-line", blank),
        (line + b"\n\n" + line + b"\n", "blank-line", blank),
        (b"\xef\xbb\xbf" + line + b"\n", "byte-order-mark", "error"),
        (line + b"\n\xef\xbb\xbf" + line + b"\n", "byte-order-mark", "error"),
        (b"\xff\xfe" + line + b"\n", "byte-order-mark", "error"),
        (line + b"\n" + line[:1] + b"\x00" + line[1:] + b"\n", "zero-byte", "error"),
        (line[:1] + b"\r" + line[1:] + b"\n", "carriage-return", "error"),
        (line + b"\n" + line + b"y" * kind.buffer + b"\n", "long-line", "error"),
        (long + b"\n" + line + b"\n", "long-line", "error"),
        (b"", "empty-file", "error"),
    ]
    for data, code, severity in cases:
        report, lines = lint_lines("a", extension, data)
        found = {finding.code: finding.severity for finding in report.findings}
        assert found.get(code) == severity, (data[:80], code, report.findings)
        assert all(one == line for one in lines), data[:80]
        assert len(lines) == report.records


@needs_clamscan
@pytest.mark.parametrize("extension", ["hdb", "ndb", "ldb", "cdb", "idb", "pdb", "ftm", "ign2"])
def test_the_engine_confirms_what_surrounds_lines(extension: str) -> None:
    line, kind = GOOD[extension][0], TYPES[extension]
    cases = {
        "no line end": line,
        "crlf": line + b"\r\n" + line + b"\r\n",
        "comment": b"# words\n" + line + b"\n",
        "blank": line + b"\n\n" + line + b"\n",
        "mark": b"\xef\xbb\xbf" + line + b"\n",
        "empty": b"",
        "longest": line + b"\n" + b"#" + b"x" * (kind.buffer - 3) + b"\n",
        "too long": line + b"\n" + b"#" + b"x" * (kind.buffer - 1) + b"\n",
    }
    for name, data in cases.items():
        report, lines = lint_lines("a", extension, data)
        loaded = load({f"a.{extension}": data})
        ours = not report.errors
        theirs = not loaded.failed and (
            not kind.counted or loaded.known == len(data.replace(b"\n\n", b"\n").split(line)) - 1
        )
        if name in (
            "mark",
            "empty",
            "too long",
        ):  # some loaders take these without a word, and never for what was meant
            assert not ours
        else:
            assert ours == theirs, (name, loaded.said, report.findings)
        if lines and kind.kind == "set":
            again = load({f"a.{extension}": canonical_set(lines)[0]})
            assert not again.failed
            assert again.known == (len(set(lines)) if kind.counted else 0)


def test_totals_stay_true_beyond_the_bound() -> None:
    data = b"x\n" * 30 + MD5 + b":1:A\n" + b"# c\n" * 5 + MD5[:-1] + b":1:A\n"
    for bound in (1, 10, 30, 100):
        report, _ = lint_lines("a", "hdb", data, replace(LIMITS, findings=bound))
        assert report.reasons == {"field-count": 30, "bad-hash": 1}
        assert report.skipped == 31
        assert len(report.findings) <= bound + 1
        assert bool(report.errors)


def test_more_records_than_allowed_are_refused_and_counted() -> None:
    data = b"".join(MD5 + b":%d:A\n" % size for size in range(1, 11))
    report, lines = lint_lines("a", "hdb", data, replace(LIMITS, records=4))
    assert (len(lines), report.skipped) == (4, 6)
    assert [finding.code for finding in report.errors] == ["too-many"]


def test_an_unknown_extension_is_an_error_of_use() -> None:
    for extension in ("exe", "", "hdb2"):
        with pytest.raises(UsageError):
            clamav_type(extension)
    assert clamav_type(".HDB").extension == "hdb"


def test_names_are_those_the_engine_reports() -> None:
    assert signature_name("hdb", MD5 + b":68:Test.A-1") == "Test.A-1"
    assert signature_name("mdb", b"68:" + MD5 + b":Test.A-1") == "Test.A-1"
    assert signature_name("ldb", GOOD["ldb"][0]) == "Test.L-1"
    assert signature_name("hdb", b"nonsense") is None
    assert signature_name("ftm", GOOD["ftm"][0]) is None
    assert signature_name("cat", b"x") is None


_PIECES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\x00", b"#", b":", b";", b"*", b"{", b"(", b"[", b"/", b"\xef\xbb\xbf"]),
    st.sampled_from([line for lines in GOOD.values() for line in lines]),
    st.sampled_from([line for lines in BAD.values() for line in lines]),
)


@given(st.sampled_from(sorted(TYPES)), st.lists(_PIECES, max_size=12).map(b"".join))
def test_any_bytes_give_findings_and_no_exception(extension: str, data: bytes) -> None:
    report, lines = lint_lines("a", extension, data)
    kind = TYPES[extension]
    if kind.whole is not None:
        assert report.records == 0 or not report.errors
        return
    assert report.records == len(lines)
    # Every line of the file is a record, left out with a finding, or a comment or blank line that is named.
    given = data.split(b"\n")
    count = len(given) - (not given[-1]) if data else 0
    named = sum(report.counts.get(code, 0) for code in ("comment", "duplicate")) if kind.kind == "set" else (
        report.counts.get("comment", 0)
    )  # fmt: skip
    blank = report.counts.get("blank-line", 0) if kind.blanks else 0
    assert count == report.records + report.skipped + named + blank
    assert (report.skipped > 0) == bool([one for one in report.errors if one.code not in ("empty-file",)])
    if lines and kind.kind == "set":
        # What passes makes a section that every client takes.
        section, records = canonical_set(lines)
        assert check_set(io.BytesIO(section), "a")[0] == records == len(lines)
        again, same = lint_lines("a", extension, section)
        assert (again.errors, sorted(same)) == ([], sorted(lines))
