"""The counts, for people and programs: by region, channel, release and outcome, with each sender's rate of failures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from coldchain.outcome_report import OUTCOMES
from coldchain_server.home import Home
from coldchain_server.reports.stores import report_store
from coldchain_server.reports.tally import APPLIED, ignored


@dataclass(slots=True)
class Shown:
    """One release in one region: for each sender, how many reports of each outcome."""

    region: str
    channel: str
    release: int
    senders: dict[str, dict[str, int]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; rates are in per cent."""
        total = _sum(self.senders.values())
        return {
            "region": self.region,
            "channel": self.channel,
            "release": self.release,
            **_facts(total),
            "senders": [
                {"sender": sender, **_facts(counts), "ignored": sender in self.ignored}
                for sender, counts in self.senders.items()
            ],
        }

    def lines(self) -> list[str]:
        """For a person."""
        head = f"{self.region:6} {self.channel} release {self.release}: {_words(_sum(self.senders.values()))}"
        rows = [
            f"         {sender}: {_words(counts)}" + (", ignored for this release" if sender in self.ignored else "")
            for sender, counts in self.senders.items()
        ]
        return [head, *rows]


def _sum(rows: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    for row in rows:
        for outcome, count in row.items():
            total[outcome] += count
    return total


def _facts(counts: dict[str, int]) -> dict[str, Any]:
    number = sum(counts.values())
    failures = number - counts.get(APPLIED, 0)
    return {
        "reports": number,
        "outcomes": {outcome: counts.get(outcome, 0) for outcome in OUTCOMES},
        "failures": failures,
        "percent": round(100 * failures / number, 3) if number else 0.0,
    }


def _words(counts: dict[str, int]) -> str:
    facts = _facts(counts)
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in facts["outcomes"].items() if count)
    return f"{facts['reports']:,} reports ({said}), {facts['percent']:g} % failures"


def shown(home: Home, regions: Sequence[str]) -> list[Shown]:
    """What the stores hold of these regions, in their order, newest release first.

    Raises:
        StorageError: a store cannot be read.
    """
    found: list[Shown] = []
    for region in regions:
        senders: defaultdict[tuple[str, int], dict[str, dict[str, int]]] = defaultdict(dict)
        with report_store(home, region) as store:
            for one in store.rows(region):
                row = senders[one.channel, one.release].setdefault(one.sender, {})
                row[one.outcome] = row.get(one.outcome, 0) + one.count
        for channel, release in sorted(senders, key=lambda key: (key[0], -key[1])):
            passed = tuple(ignored(home, region, channel, release))
            found.append(Shown(region, channel, release, dict(sorted(senders[channel, release].items())), passed))
    return found
