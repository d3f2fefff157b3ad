"""The same hostile mirror for freshclam and for us, by the script that makes docs/freshclam.md: its quick cases in every run.

What is asserted is ours, and that freshclam ran at all: what it did is its own business, and the page's.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.freshclam_cases import CASES, Bench, Case, Found, Lists, bench, table
from benchmarks.updaters import Coldchain, Freshclam

QUICK = ("429", "cut unannounced")
CODES = {
    "429": 21,
    "503": 21,
    "404": 22,
    "cut": 20,
    "cut unannounced": 20,
    "corrupt": 12,
    "restored": 13,
    "drip": 20,
    "redirect": 22,
}
"""Our exit code in each case; killed has none."""

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def made() -> Iterator[Bench]:
    with bench() as found:
        yield found


def check(case: Case, found: Found) -> None:
    before = "release 2" if case.name == "restored" else "release 1"
    assert found.code == CODES.get(case.name), case
    assert (found.active, found.left_over, found.early) == (before, 0, 0), case
    assert (found.next_code, found.next_active, found.next_left_over) == (0, "release 2", 0), case


@pytest.mark.parametrize("name", QUICK)
def test_ours_refuses_keeps_what_it_has_and_recovers(made: Bench, name: str) -> None:
    (case,) = [one for one in CASES if one.name == name]
    (ours,) = [one for one in made.programs if isinstance(one, Coldchain)]
    check(case, made.run(case, ours, 300))


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [case.name for case in CASES if case.name not in QUICK])
def test_ours_in_the_slow_cases(made: Bench, name: str) -> None:
    (case,) = [one for one in CASES if one.name == name]
    (ours,) = [one for one in made.programs if isinstance(one, Coldchain)]
    check(case, made.run(case, ours, 600))


@pytest.mark.skipif(bool(Freshclam.missing()), reason=Freshclam.missing() or "-")
def test_freshclam_runs_in_the_same_cases(made: Bench) -> None:
    (case,) = [case for case in CASES if case.name == "corrupt"]
    results = {case.name: {one.name: made.run(case, one, 300) for one in made.programs}}
    check(case, results[case.name]["coldchain"])
    page = table(results)
    assert page.count("| freshclam |") == page.count("| coldchain |") == 1
    for found in results.values():
        assert found["freshclam"].code is not None
        assert found["freshclam"].requests >= 1


def test_a_list_is_called_what_it_is() -> None:
    lists = Lists()
    assert lists.name(None) == "nothing"
    assert lists.name(lists.second) == "release 2"
    shuffled = b"".join(reversed(lists.first.splitlines(keepends=True)))
    assert lists.name(shuffled) == "release 1"
    part = b"".join(lists.first.splitlines(keepends=True)[:25])
    assert lists.name(part) == "25 of 20,000 signatures of release 1"
    assert lists.name(lists.first[:-9] + b"x" + lists.first[-8:]) == "another list than any published one"
