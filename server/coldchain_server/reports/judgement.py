"""Whether what endpoints of one region report of a release should halt its rollout. Counts go in, a judgement comes out.

The rule (``rollout.toml``)::

    halt = { percent = 2.0, reports = 50, failures = 3 }     # at least so many per cent of at least so many reports,
                                                             # and at least so many of them, say that it failed

Reports have no sender's name in them, so anybody may make them up. What is known is the *sender* of the counts: an edge by its token,
or ``direct`` for endpoints that came without one. So senders are judged, not reports:

- a sender weighs at most :data:`HEAVIEST` times as much as the one in the middle of them all (or as much as it takes to be heard
  beside senders that have said hardly anything: ``reports``, or as many as have ``failures`` at the limit);
- of three senders and more, the tenth (one at least) that speaks worst of the release and the tenth that speaks best are left out,
  each by how far its failures are above or below the limit. The rest decides: so one sender neither halts what the others call good,
  nor hides what the others see;
- where the rest has less than ``reports`` reports, and where there are only two senders, those that speak best are left out and
  all others decide: a halt delays, and nothing worse, so the doubt is for it. One sender decides alone.

Worked example, limit 2 %: edges a, b, c with 100 reports each, of which 4, 5 and 3 failed, and d with 1,000,000 of which none did.
d weighs 400; b (farthest above) and d (farthest below) are left out; a and c decide: 7 of 200 is 3.5 %, and the rollout halts.
Had a, b, c seen no failures, and d claimed 1,000,000: d and one of the others are left out, 0 of 200 decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

HEAVIEST: Final = 4
_LEFT_OUT: Final = 10


@dataclass(frozen=True, slots=True)
class HaltRule:
    """When a rollout halts: ``percent`` in hundredths (200 is 2 %), of at least ``reports``, and at least ``failures``."""

    percent: int = 200
    reports: int = 50
    failures: int = 3

    @property
    def share(self) -> Fraction:
        """The limit as a share of one."""
        return Fraction(self.percent, 10_000)

    def as_json(self) -> dict[str, float | int]:
        """As ``rollout.toml`` says it."""
        return {"percent": self.percent / 100, "reports": self.reports, "failures": self.failures}


@dataclass(frozen=True, slots=True)
class Tally:
    """What one sender counted of a release: reports, and those of them that say that it failed."""

    sender: str
    reports: int
    failures: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows.

    Attributes:
        halts: whether the rollout should halt.
        reports: of the senders that decided,
        failures: of them, and
        rate: in per cent, with each sender's weight.
        deciding: whose counts these are.
        senders: how many there are in all.
        alone: senders that are past the limit by themselves though it does not halt: somebody should look at them.
    """

    halts: bool
    reports: int
    failures: int
    rate: float
    deciding: tuple[str, ...]
    senders: int
    alone: tuple[str, ...] = ()


def judge(tallies: Sequence[Tally], rule: HaltRule) -> Judgement:
    """The judgement of one region's counts of a release."""
    said = [one for one in tallies if one.reports]
    weighed = _weighed(said, rule)
    order = sorted(said, key=lambda one: (weighed[one.sender].excess, one.sender))
    out = -(-len(order) // _LEFT_OUT) if len(order) > 1 else 0
    deciding = order[out : len(order) - out] if len(order) > 2 else []
    if sum(one.reports for one in deciding) < rule.reports:
        deciding = order[out:]
    reports = sum((weighed[one.sender].reports for one in deciding), Fraction())
    failures = sum((weighed[one.sender].failures for one in deciding), Fraction())
    halts = _past(reports, failures, rule)
    alone = tuple(
        sorted(one.sender for one in said if not halts and _past(Fraction(one.reports), Fraction(one.failures), rule))
    )
    return Judgement(
        halts=halts,
        reports=sum(one.reports for one in deciding),
        failures=sum(one.failures for one in deciding),
        rate=float(100 * failures / reports) if reports else 0.0,
        deciding=tuple(sorted(one.sender for one in deciding)),
        senders=len(said),
        alone=alone,
    )


@dataclass(frozen=True, slots=True)
class _Weight:
    reports: Fraction
    failures: Fraction
    excess: Fraction


def _weighed(tallies: Sequence[Tally], rule: HaltRule) -> Mapping[str, _Weight]:
    if not tallies:
        return {}
    # a flood's own size must not be what it is measured by: of two senders the smaller one counts
    middle = sorted(one.reports for one in tallies)[(len(tallies) - 1) // 2]
    most = max(HEAVIEST * middle, rule.reports, ceil(rule.failures / rule.share))
    found = {}
    for one in tallies:
        scale = Fraction(min(one.reports, most), one.reports)
        reports, failures = one.reports * scale, one.failures * scale
        found[one.sender] = _Weight(reports, failures, failures - rule.share * reports)
    return found


def _past(reports: Fraction, failures: Fraction, rule: HaltRule) -> bool:
    return reports >= rule.reports and failures >= rule.failures and failures >= rule.share * reports
