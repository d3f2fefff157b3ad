"""Months on a virtual clock (:mod:`tests.system.month`): a few seeds in every run, 1,000 by ``make faults``; broken rules are found.

Each negative control breaks one rule of the code under test and looks for a seed among the first that shows it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coldchain.agent.current_metadata import CurrentMetadata
from coldchain.agent.sources import Sources
from coldchain.errors import ColdchainError
from coldchain.install.source_health import DOUBT_AFTER, SourceHealth
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import rollout_state
from coldchain_server.edge.freshness import Freshness
from coldchain_server.home import Home
from coldchain_server.release.schedule import Schedule
from coldchain_server.signing.keyring import Keyring
from tests.system import month_edges, month_endpoints
from tests.system.month import month, template, totals

QUICK = 1
MANY = 1000
BROKEN = 200

Made = tuple[Home, Keyring]
Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    with template() as found:
        yield found


@pytest.mark.parametrize("seed", range(QUICK))
def test_a_month_replays_exactly_in_any_process(made: Made, seed: int) -> None:
    found = month(made, seed)
    assert found.counts["applied"] > 8
    assert found.counts["pulled"] > 50
    assert len(found.history) >= 4
    printed = subprocess.run(
        [sys.executable, "-m", "tests.system.month", str(seed)],
        cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONHASHSEED": "12345"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert printed == "\n".join([*found.trace, found.published, ""])


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_many_months(made: Made) -> None:
    counts: dict[str, int] = {}
    for seed in range(MANY):
        totals(month(made, seed), counts)
    print(f"\n{MANY} months: " + ", ".join(f"{word} {count:,}" for word, count in sorted(counts.items())))


# -- negative controls -------------------------------------------------------------------------------------------------


def no_second_opinion(patch: pytest.MonkeyPatch) -> None:
    """Whoever answers is believed to have the newest."""

    async def believes(_self: CurrentMetadata, found: TrustedSet) -> TrustedSet:
        return found

    patch.setattr(CurrentMetadata, "_doubt", believes)


def news_reassure(patch: pytest.MonkeyPatch) -> None:
    """The others are asked only when nothing new came: somebody who lags always has something new."""

    def doubtful(self: SourceHealth, sha256: str, age: float, now: Any) -> bool:
        same = self.timestamp is not None and self.timestamp[0] == sha256 and now - self.timestamp[1] >= DOUBT_AFTER
        return same or age > 3600

    patch.setattr(SourceHealth, "doubtful", doubtful)


def no_failover(patch: pytest.MonkeyPatch) -> None:
    """The first of the list is asked, and nobody else."""
    real = Sources.first_good

    async def first_only(self: Sources, ask: Any, *, blame: bool = False) -> Any:
        kept, self._sources = self._sources, self._sources[:1]
        try:
            return await real(self, ask, blame=blame)
        finally:
            self._sources = kept

    patch.setattr(Sources, "first_good", first_only)


def forgetful(patch: pytest.MonkeyPatch) -> None:
    """What was seen before counts for nothing: older states are taken."""
    patch.setattr(TrustedSet, "recall", lambda *_: None)


def unverified(patch: pytest.MonkeyPatch) -> None:
    """An edge serves what it got, if its own check agrees or not."""
    real = month_edges.MemoryPull.run

    async def run(self: Any) -> Any:
        try:
            return await real(self)
        except ColdchainError:
            first = self.sources.first
            got = (await first.get(month_edges.TIMESTAMP, 1 << 20)).data
            self.directory.served = {**self.directory.served, "timestamp.json": got or b""}
            raise

    patch.setattr(month_edges.MemoryPull, "run", run)


def names_first(patch: pytest.MonkeyPatch) -> None:
    """An edge switches to a generation before the files that it names are there."""

    async def run(self: Any) -> Any:
        found, source = await self.sources.first_good(self._refresh, blame=True)
        self.sources.prefer(source)
        roles = {name: found.role(name) for name in ("targets", "rollout", *self.config.regions)}
        named = {
            f"{role.version}.{name}.json": role.raw for name, role in {**roles, "snapshot": found.snapshot}.items()
        }
        self.directory.own.disk.step()
        self.directory.served = {**named, "1.root.json": found.root.raw, "timestamp.json": found.timestamp.raw}
        return await real(self)

    real = month_edges.MemoryPull.run
    patch.setattr(month_edges.MemoryPull, "run", run)


def confirmed_by_itself(patch: pytest.MonkeyPatch) -> None:
    """An edge counts its age from its last look, whatever the other one says of its own."""
    real = Freshness.confirm
    patch.setattr(Freshness, "confirm", lambda self, _moment: real(self, self._now()))


def falling(patch: pytest.MonkeyPatch) -> None:
    """A stage lowers a share."""
    real = Schedule.next_shares

    def lower(self: Schedule, shares: Any, waves: Any) -> Any:
        found = real(self, shares, waves)
        return found and {
            region: min(share, shares[region] - 1) if shares[region] > 1 else share for region, share in found.items()
        }

    patch.setattr(Schedule, "next_shares", lower)


def patient(patch: pytest.MonkeyPatch) -> None:
    """An endpoint on a withdrawn release waits for its share."""
    real = rollout_state

    def without(*values: Any) -> Any:
        found = real(*values)
        return found and type(found)(found.release, found.share, found.held)

    patch.setattr(month_endpoints, "rollout_state", without)


FOUND: dict[Break, str] = {
    no_second_opinion: "has not seen state",
    news_reassure: "has not seen state",
    no_failover: "missed the newest state|failed: |has not seen state",
    forgetful: "older state than before",
    unverified: "serves what does not verify",
    names_first: "serves a torn",
    confirmed_by_itself: "is older than the",
    falling: "the share of .* fell",
    patient: "stays on .*, which was withdrawn",
}


def breaks(made: Made, broken: Break, patch: pytest.MonkeyPatch, seeds: range) -> tuple[int, str]:
    """The first of the seeds that shows it, and how."""
    with patch.context() as patched:
        broken(patched)
        for seed in seeds:
            try:
                month(made, seed)
            except AssertionError as error:
                notes = "".join(error.__notes__)
                assert f"python -m tests.system.month {seed}" in notes
                return seed, str(error)
    raise AssertionError(f"{len(seeds)} months, and nothing was found")


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("broken", FOUND)
def test_a_broken_rule_is_found(broken: Break, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    seed, how = breaks(made, broken, monkeypatch, range(BROKEN))
    print(f"\n{broken.__name__}: seed {seed}: {how}")
    assert re.search(FOUND[broken], how), how
