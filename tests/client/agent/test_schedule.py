"""When an agent polls: for any course of events, and for a thousand agents at once."""

from __future__ import annotations

import random

from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.agent_fleet import PICTURE, outage, picture, run, shown
from coldchain.agent.schedule import DAY_SECONDS, Ending, Rules, after, first_wait, interval, poll_now

DRAWS = st.floats(0, 1, exclude_max=True)
ENDINGS: tuple[Ending, ...] = ("good", "locked", "unreachable", "failed")
RULES = st.builds(Rules, st.none() | st.integers(60, 86_400), st.integers(60, 3600), st.integers(3600, 86_400))
HINTS = st.none() | st.floats(0, DAY_SECONDS)
TOLD = st.floats(-10, 2 * DAY_SECONDS)


@given(st.sampled_from(ENDINGS), st.integers(0, 10**7), TOLD, HINTS, RULES, DRAWS)
def test_never_earlier_than_told_and_never_never(
    ending: Ending, failures: int, told: float, hint: float | None, rules: Rules, draw: float
) -> None:
    found = after(ending, failures, told, hint, rules, lambda: draw)
    least = min(max(told, 0.0), DAY_SECONDS)
    assert found.earliest >= least
    assert (least or 30) <= found.wait <= 2 * DAY_SECONDS
    assert found.earliest <= found.wait
    if ending == "good" and hint is not None and hint <= rules.most_poll_seconds:
        assert found.wait >= hint
        assert found.earliest >= hint  # and not an agent that is started anew either
    assert first_wait(found.earliest, lambda: draw) >= found.earliest
    assert poll_now(told) == least


@given(RULES, HINTS, DRAWS)
def test_the_customer_has_the_last_word_on_the_interval(rules: Rules, hint: float | None, draw: float) -> None:
    every = interval(rules, hint)
    assert rules.least_poll_seconds <= every <= rules.most_poll_seconds
    if rules.poll_seconds is not None:
        assert every >= min(rules.poll_seconds, rules.most_poll_seconds)
    wait = after("good", 9, 0.0, hint, rules, lambda: draw).wait
    assert every <= wait <= 1.25 * every


@given(st.sampled_from(["failed", "unreachable"]), RULES)
def test_failures_double_the_wait_up_to_a_day(ending: Ending, rules: Rules) -> None:
    failures, waits = 0, []
    for _ in range(30):
        least = after(ending, failures, 0.0, None, rules, lambda: 0.0).wait
        most = after(ending, failures, 0.0, None, rules, lambda: 1.0).wait
        assert most == 2 * least  # wide enough to be apart
        waits.append(most)
        failures = after(ending, failures, 0.0, None, rules, lambda: 0.5).failures
    # who could not reach anybody has bothered nobody: the usual interval is far enough
    most = DAY_SECONDS if ending == "failed" else interval(rules, None)
    assert waits == [min(60.0 * 2**number, most) for number in range(30)]
    assert failures == 30
    assert after("good", failures, 0.0, None, rules, lambda: 0.5).failures == 0
    assert after("locked", failures, 0.0, None, rules, lambda: 0.5).failures == 30


def test_the_first_poll_is_within_a_minute() -> None:
    chance = random.Random(1)
    waits = [first_wait(0.0, chance.random) for _ in range(1000)]
    assert 0 <= min(waits) < 2
    assert 58 < max(waits) < 60
    assert first_wait(500.0, lambda: 0.0) == 500.0


@given(st.integers(0, 2**32), st.integers(5, 900), st.booleans())
@example(0, 5, True)
def test_a_small_fleet_in_any_outage(seed: int, retry: int, as_date: bool) -> None:
    fleet = run(12, outage(1800.0, retry, as_date=as_date), 6000.0, seed=seed)
    # a date has whole seconds
    assert [one for one in fleet.early if one[1] - one[0] > 1e-6] == []
    assert fleet.good >= 12


def test_a_thousand_agents_started_together_against_a_server_that_is_too_busy() -> None:
    fleet, naive = shown()
    assert fleet.early == []
    ours = fleet.histogram(10.0)
    # The first minute is a sixth of the fleet in ten seconds; nothing later is above that, nor is the return of the server.
    first = max(ours[bin_] for bin_ in range(6))
    assert first < 1000 / 6 * 1.25
    assert max(count for bin_, count in ours.items() if bin_ >= 6) < first
    assert max(count for bin_, count in ours.items() if bin_ >= 60) < 60  # after ten minutes
    assert max(count for bin_, count in ours.items() if bin_ >= 360) < 25  # the server is back
    minutes = fleet.histogram(60.0)
    assert min(minutes[minute] for minute in range(4, 61)) > 20  # spread means everywhere
    assert len(fleet.asked) < len(naive.asked) / 3
    assert max(naive.histogram(10.0).values()) == 1000  # the check can fail
    assert max(fleet.histogram(1.0).values()) < 40
    # and within an hour and a quarter of the server's return all of them have their news
    back = [second for second in fleet.asked if second >= 3600.0]
    assert fleet.good == len(back)
    assert len([second for second in back if second < 3600.0 + 2 * 3600.0]) >= 1000


def test_the_picture_in_the_page_is_of_this_fleet() -> None:
    fleet, naive = shown()
    assert PICTURE.read_text(encoding="utf-8") == picture(fleet, naive, 180, 3600.0)
