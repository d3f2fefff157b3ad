"""A batch's bytes: one spelling, ordered, each count once, nothing finer than an hour."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.errors import ColdchainError, MalformedError
from coldchain.limits import LIMITS
from coldchain.outcome_report import OutcomeReport
from coldchain_server.reports import batch
from coldchain_server.reports.batch import encode_batch, parse_batch
from coldchain_server.reports.ledger import summed
from coldchain_server.reports.store import Count
from tests.client.test_outcome_report import REPORTS

ONE = Count("us", "stable", 41, 42, "applied", 0, "0.1.0", "2026-06-01T09:00:00Z", "edge-1", 12)
HOURS = st.sampled_from([f"2026-06-01T{hour:02}:00:00Z" for hour in range(24)])


def counted(report: OutcomeReport, hour: str, count: int) -> Count:
    facts = (report.channel, report.source, report.release, report.outcome, report.code, report.client)
    return Count("us", *facts, hour, "edge-1", count)


COUNTS = st.lists(st.builds(counted, REPORTS, HOURS, st.integers(1, 10**9)), max_size=4).map(summed)


def test_the_worked_example_of_the_module() -> None:
    (text,) = re.findall(r"^    (\{\"counts.*?\})\n\n", batch.__doc__ or "", re.MULTILINE | re.DOTALL)
    data = re.sub(r"\n\s*", "", text).encode()
    found = parse_batch(data, "edge-1")
    assert (found.region, found.counts) == ("us", (ONE,))
    assert encode_batch("us", found.number, [ONE]) == data


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.integers(1, 2**53 - 1))
def test_there_and_back(counts: list[Count], number: int) -> None:
    data = encode_batch("us", number, counts)
    found = parse_batch(data, "edge-1")
    assert (found.region, found.number, list(found.counts)) == ("us", number, counts)
    assert b"edge-1" not in data


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.data())
def test_every_other_spelling_is_refused(counts: list[Count], data: st.DataObject) -> None:
    text = encode_batch("us", 7, counts)
    place, byte = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 255))
    other = text[:place] + bytes([byte]) + text[place + 1 :]
    try:
        found = parse_batch(other, "edge-1")
    except ColdchainError:
        return
    assert encode_batch(found.region, found.number, found.counts) == other


def test_what_is_no_batch() -> None:
    good = encode_batch("us", 7, [ONE])
    two = [ONE, replace(ONE, channel="a")]
    for bad in (
        encode_batch("us", 7, two),
        encode_batch("us", 7, [ONE, ONE]),
        encode_batch("us", 7, [ONE, replace(ONE, count=13)]),
        encode_batch("us", 0, [ONE]),
        encode_batch("us", 7, [replace(ONE, count=0)]),
        encode_batch("us", 7, [replace(ONE, hour="2026-06-01T09:30:00Z")]),
        encode_batch("us", 7, [replace(ONE, hour="2026-06-01T09:00:01Z")]),
        encode_batch("us", 7, [replace(ONE, hour="yesterday")]),
        encode_batch("../x", 7, [ONE]),
        good.replace(b"42", b"41"),
        good + b"\n",
        b"",
        b"[]",
    ):
        with pytest.raises(MalformedError):
            parse_batch(bad, "edge-1")


def test_its_bounds() -> None:
    many = summed(replace(ONE, source=source, release=10**14 + 7) for source in range(LIMITS.report_batch_counts + 1))
    assert len(encode_batch("us", 7, many[:-1])) < LIMITS.report_batch_bytes
    assert len(parse_batch(encode_batch("us", 7, many[:-1]), "edge-1").counts) == LIMITS.report_batch_counts
    with pytest.raises(MalformedError, match="at most 1000"):
        parse_batch(encode_batch("us", 7, many), "edge-1")
    with pytest.raises(MalformedError, match="longer than"):
        parse_batch(b" " * (LIMITS.report_batch_bytes + 1), "edge-1")
    longest = replace(ONE, channel="c" * 32, source=10**14, release=10**15 - 1, version="1" * 32, count=10**15)
    size = len(encode_batch("us", 7, [replace(longest, outcome="engine-failed", code=30)])) + 1
    assert size * LIMITS.report_batch_counts < LIMITS.report_batch_bytes
