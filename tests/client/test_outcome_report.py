"""The report's bytes: one spelling, bounded, and no member that could tell who says it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import outcome_report
from coldchain.errors import ColdchainError, MalformedError, NewerFormatError
from coldchain.limits import LIMITS
from coldchain.outcome_report import MOST_CODE, MOST_RELEASE, OUTCOMES, OutcomeReport, ReportOutcome, parse_report

TOKENS = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
RELEASES = st.integers(1, MOST_RELEASE).flatmap(
    lambda release: st.tuples(st.integers(0, release - 1), st.just(release))
)
ENDS = st.sampled_from(OUTCOMES).flatmap(
    lambda outcome: st.tuples(st.just(outcome), st.just(0) if outcome == "applied" else st.integers(1, MOST_CODE))
)


def made(
    region: str, channel: str, releases: tuple[int, int], end: tuple[ReportOutcome, int], client: str
) -> OutcomeReport:
    return OutcomeReport(region, channel, *releases, *end, client)


REPORTS = st.builds(made, TOKENS, TOKENS, RELEASES, ENDS, st.from_regex(r"[0-9][0-9A-Za-z.+-]{0,31}", fullmatch=True))
ONE = OutcomeReport("us", "stable", 41, 42, "applied", 0, "0.1.0")


def test_the_worked_example_of_the_module() -> None:
    (line,) = re.findall(r"^    (\{.*\})$", outcome_report.__doc__ or "", re.MULTILINE)
    assert ONE.encode() == line.encode()
    assert f"this is all of it, {len(line)} bytes" in (outcome_report.__doc__ or "")


@given(REPORTS)
def test_there_and_back(report: OutcomeReport) -> None:
    data = report.encode()
    assert parse_report(data) == report
    assert len(data) <= LIMITS.report_bytes
    assert sorted(json.loads(data)) == ["channel", "client", "code", "format", "from", "outcome", "region", "to"]


@given(REPORTS, st.data())
def test_every_other_spelling_is_refused(report: OutcomeReport, data: st.DataObject) -> None:
    text = report.encode()
    place, byte = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 255))
    for other in (text[:place] + bytes([byte]) + text[place + 1 :], text[:place], text + b" ", b" " + text):
        if other != text:
            try:
                found = parse_report(other)
            except ColdchainError:
                continue
            assert found != report
            assert found.encode() == other


@given(st.binary(max_size=600))
def test_any_bytes_at_all(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_report(data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"from":41', '"from":42'),
        ('"from":41', '"from":-1'),
        ('"to":42', '"to":0'),
        ('"to":42', '"to":1000000000000000'),
        ('"to":42', '"to":42.0'),
        ('"to":42', '"to":true'),
        ('"code":0', '"code":12'),
        ('"code":0', '"code":100'),
        ('"outcome":"applied"', '"outcome":"refused"'),
        ('"outcome":"applied"', '"outcome":"held"'),
        ('"region":"us"', '"region":"US"'),
        ('"region":"us"', '"region":"../us"'),
        ('"channel":"stable"', '"channel":""'),
        ('"client":"0.1.0"', '"client":"curl"'),
        ('"client":"0.1.0"', '"client":"1' + "0" * 32 + '"'),
        ('"client":"0.1.0"', '"client":"1 2"'),
        ("}", ',"uuid":"1"}'),
        ('"region":"us",', ""),
        ("-report-1", "-report-"),
        ("coldchain-report-1", "other"),
    ],
)
def test_what_is_no_report(old: str, new: str) -> None:
    text = ONE.encode().decode()
    assert old in text
    with pytest.raises((MalformedError, NewerFormatError)):
        parse_report(text.replace(old, new, 1).encode())


def test_a_later_version_is_told_from_nonsense() -> None:
    with pytest.raises(NewerFormatError, match="coldchain-report-2"):
        parse_report(ONE.encode().replace(b"report-1", b"report-2"))
    with pytest.raises(MalformedError, match="longer than 512 bytes"):
        parse_report(ONE.encode() + b" " * 512)
