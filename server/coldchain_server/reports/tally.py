"""A region's reports of one release by sender, less what a person saw and let the rollout go on all the same."""

from __future__ import annotations

from collections.abc import Collection

from coldchain_server.home import Home
from coldchain_server.reports.judgement import Tally
from coldchain_server.reports.store import Pardon, ReportStore
from coldchain_server.reports.stores import report_store

APPLIED = "applied"


def tallies(home: Home, region: str, channel: str, release: int) -> list[Tally]:
    """What counts now, ordered by sender.

    Raises:
        UsageError: regions.toml is not in order.
        StorageError: the store cannot be read.
    """
    with report_store(home, region) as store:
        pardons = {one.sender: one for one in _pardons(store, region, channel, release)}
        found = []
        for sender, one in _raw(store, region, channel, release).items():
            pardon = pardons.get(sender)
            if pardon is None:
                found.append(one)
            elif not pardon.ignored:
                # never below nothing: old hours may have been forgotten since
                reports = max(one.reports - pardon.reports, 0)
                found.append(Tally(sender, reports, min(max(one.failures - pardon.failures, 0), reports)))
        return found


def senders(home: Home, region: str, channel: str, release: int) -> list[str]:
    """Who has reported of the release."""
    with report_store(home, region) as store:
        return list(_raw(store, region, channel, release))


def ignored(home: Home, region: str, channel: str, release: int) -> list[str]:
    """The senders that do not count for this release, by a person's word."""
    with report_store(home, region) as store:
        return [one.sender for one in _pardons(store, region, channel, release) if one.ignored]


def pardon(home: Home, region: str, channel: str, release: int, ignore: Collection[str] = ()) -> None:
    """From now on the release is judged anew: what was reported so far counts no more, and these senders not at all.

    Raises:
        BusyError: the region's reports are being moved.
        StorageError: the store refused; nothing changed.
    """
    with report_store(home, region) as store:
        before = {one.sender for one in _pardons(store, region, channel, release) if one.ignored}
        raw = _raw(store, region, channel, release)
        store.pardon(
            Pardon(region, channel, release, one, *_counts(raw.get(one)), int(one in before or one in ignore))
            for one in sorted({*raw, *before, *ignore})
        )


def _counts(one: Tally | None) -> tuple[int, int]:
    return (one.reports, one.failures) if one is not None else (0, 0)


def _raw(store: ReportStore, region: str, channel: str, release: int) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for sender, outcome, count in store.sums(region, channel, release):
        one = found.get(sender, Tally(sender, 0, 0))
        failures = one.failures + (count if outcome != APPLIED else 0)
        found[sender] = Tally(sender, one.reports + count, failures)
    return found


def _pardons(store: ReportStore, region: str, channel: str, release: int) -> list[Pardon]:
    return [one for one in store.pardons(region) if (one.channel, one.release) == (channel, release)]
