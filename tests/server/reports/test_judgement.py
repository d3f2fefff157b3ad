"""The judgement against floods in both directions, with the numbers that docs/reports.md states, and what honest counts lead to."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain_server.reports import judgement
from coldchain_server.reports.judgement import HaltRule, Tally, judge

RULE = HaltRule()
FLOOD = 1_000_000
COUNTS = st.tuples(st.integers(0, 400), st.integers(0, 400)).map(lambda pair: (max(pair), min(pair)))


def tallied(*counts: tuple[int, int]) -> list[Tally]:
    return [Tally(f"edge-{number}", *one) for number, one in enumerate(counts)]


def halts(*counts: tuple[int, int], rule: HaltRule = RULE) -> bool:
    return judge(tallied(*counts), rule).halts


def test_one_sender_decides_alone() -> None:
    """At the limit and beside it: percent, reports, failures."""
    for (reports, failures), expected in {
        (0, 0): False,
        (49, 49): False,
        (50, 3): True,
        (50, 2): False,
        (150, 3): True,
        (151, 3): False,
        (FLOOD, 20_000): True,
        (FLOOD, 19_999): False,
    }.items():
        assert halts((reports, failures)) is expected, (reports, failures)


def test_the_worked_example() -> None:
    found = judge([Tally("a", 100, 4), Tally("b", 100, 5), Tally("c", 100, 3), Tally("d", FLOOD, 0)], RULE)
    assert (found.halts, found.deciding, found.reports, found.failures, found.rate) == (True, ("a", "c"), 200, 7, 3.5)
    assert found.senders == 4
    found = judge([*tallied((100, 0), (100, 0), (100, 0)), Tally("d", FLOOD, FLOOD)], RULE)
    assert (found.halts, found.reports, found.failures, found.alone) == (False, 200, 0, ("d",))


@pytest.mark.parametrize("others", range(2, 40))
def test_one_flood_neither_halts_what_the_others_call_good_nor_hides_what_they_see(others: int) -> None:
    for size in (100, 1_000, FLOOD, 10**12):
        good, bad = [(100, 0)] * others, [(100, 4)] * others
        assert not halts(*good, (size, size)), (others, size)
        assert halts(*bad, (size, 0)), (others, size)
        assert not halts(*good)
        assert halts(*bad)


def test_counted_together_the_same_floods_decide() -> None:
    """Why senders are judged: ten of them as one, and the flood halts, or hides."""
    assert halts((900 + FLOOD, FLOOD))
    assert not halts((900 + FLOOD, 36))


def test_with_nobody_left_out_a_flood_halts_what_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [(100, 0)] * 12, [(FLOOD, FLOOD)] * 2
    assert not halts(*counts[0], *counts[1])
    monkeypatch.setattr(judgement, "_LEFT_OUT", 100)  # one, and not the tenth
    assert halts(*counts[0], *counts[1])


@pytest.mark.parametrize("senders", [10, 11, 20, 21, 30])
def test_a_tenth_of_the_senders_together_does_not_decide_and_more_may(senders: int) -> None:
    liars = -(-senders // 10)
    honest = senders - liars
    assert not halts(*[(100, 0)] * honest, *[(FLOOD, FLOOD)] * liars)
    assert halts(*[(100, 4)] * honest, *[(FLOOD, 0)] * liars)
    # one liar more than are left out halts what is good; to hide what is bad takes more, for a sender's weight is bounded
    assert halts(*[(100, 0)] * (honest - 1), *[(FLOOD, FLOOD)] * (liars + 1))
    assert halts(*[(100, 12)] * (honest - 1), *[(FLOOD, 0)] * (liars + 1))


def test_without_a_bound_on_weight_one_liar_more_hides_what_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [(100, 12)] * 17, [(FLOOD, 0)] * 3
    assert halts(*counts[0], *counts[1])
    monkeypatch.setattr(judgement, "HEAVIEST", 10**9)
    assert not halts(*counts[0], *counts[1])


def test_of_two_senders_either_halts_and_neither_hides() -> None:
    assert halts((100, 0), (FLOOD, FLOOD))
    assert halts((100, 4), (FLOOD, 0))
    assert not halts((100, 0), (FLOOD, 0))


def test_others_that_have_said_too_little_do_not_outvote() -> None:
    """A large edge that sees 3 % beside two small ones that have seen nothing yet."""
    assert halts((5_000, 150), (10, 0), (10, 0))
    assert not halts((5_000, 150), (60, 0), (60, 0))
    assert judge(tallied((5_000, 150), (60, 0), (60, 0)), RULE).alone == ("edge-0",)


def test_many_small_senders_are_heard_together() -> None:
    """Each of them alone has far too few reports: 200 edges with ten each, of which 4 % fail somewhere."""
    draw = random.Random(7)
    bad = [(10, sum(draw.random() < 0.04 for _ in range(10))) for _ in range(200)]
    assert halts(*bad)
    assert halts(*bad, (FLOOD, 0))
    good = [(10, int(draw.random() < 0.02)) for _ in range(200)]
    assert not halts(*good)
    assert not halts(*good, (FLOOD, FLOOD))


@settings(max_examples=120, deadline=None)
@given(honest=st.lists(COUNTS, min_size=2, max_size=25), liar=st.tuples(st.integers(0, FLOOD), st.integers(0, FLOOD)))
def test_one_liar_moves_no_judgement_past_what_honest_senders_all_say(
    honest: list[tuple[int, int]], liar: tuple[int, int]
) -> None:
    """Whatever one sender says: where every other one is below the limit, and has said enough, it does not halt; where every other
    one is past it, it halts."""
    lie = (max(liar), min(liar))
    good = [(reports + 100, 0) for reports, _ in honest]
    bad = [(reports + 100, (reports + 100) // 20) for reports, _ in honest]
    assert not halts(*good, lie)
    assert halts(*bad, lie)


@settings(max_examples=80, deadline=None)
@given(counts=st.lists(COUNTS, max_size=25))
def test_order_and_silent_senders_do_not_matter(counts: list[tuple[int, int]]) -> None:
    found = judge(tallied(*counts), RULE)
    assert found == judge([*reversed(tallied(*counts)), Tally("silent", 0, 0)], RULE)
    assert found.senders == sum(reports > 0 for reports, _ in counts)
    assert found.failures <= found.reports
    if found.halts:
        assert found.reports >= RULE.reports
        assert found.failures >= RULE.failures
