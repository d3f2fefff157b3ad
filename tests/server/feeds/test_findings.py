"""Findings in words and in JSON, and totals beyond the bound."""

from __future__ import annotations

from coldchain_server.feeds.findings import MORE, FileReport, Finding, Findings


def test_the_worked_example() -> None:
    fix = "copy the whole hash again"
    finding = Finding("acme.hdb", 3, 1, "error", "bad-hash", "the hash has 31 hex digits", fix)
    assert str(finding) == "acme.hdb:3:1: error bad-hash: the hash has 31 hex digits\n  fix: copy the whole hash again"
    assert str(Finding("a", 3, 0, "flag", "x", "y", "")) == "a:3: flag x: y"
    assert str(Finding("a", 0, 0, "warning", "x", "y", "")) == "a: warning x: y"
    assert Finding(**finding.as_json()) == finding  # type: ignore[arg-type]


def test_nothing_is_lost_beyond_the_bound() -> None:
    for bound in range(8):
        found = Findings("a", bound)
        for code, severity in (("w", "warning"), ("e1", "error"), ("e2", "error"), ("e1", "error"), ("f", "flag")):
            found.add(1, 1, severity, code, "message", "fix")  # type: ignore[arg-type]
        report = FileReport("a", "hdb", "set", "clamav")
        found.into(report)
        assert report.reasons == {"e1": 2, "e2": 1}
        assert len(report.findings) == min(bound, 5) + (bound < 5)
        assert report.errors if bound < 4 else True
        if bound < 5:
            last = report.findings[-1]
            assert last.code == MORE
            assert last.severity == ("error" if bound < 4 else "flag")
