"""Everything that one entry of the log names, for every region: is it there, is it that, and do regions differ as declared only.

::

    (whatever cannot be had for now is "unreachable", and asked for again by the next runs)
    counts        of the global bundle, the regions and their policies, against each other     regions-differ
    snapshots     of the feeds, by digest                                                       snapshot-missing
    full bundles  fetched by length and digest, taken apart to the bundle digest                bundle-missing, bundle-wrong
    each region   nothing that it must not hold, its canary                                     regions-differ
    each pair     every difference is a declared one                                            regions-differ

The global bundle itself is not published: what it is follows from the regions, since each pair of them agrees on all that neither's
policy speaks of.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from coldchain.agent.transport import Progress, Source
from coldchain.bundle.manifest import FeedFacts, Manifest
from coldchain.errors import NewerFormatError, ResponseError, TransportError, VerificationError
from coldchain.limits import Limits
from coldchain.monitor.declared import check_counts
from coldchain.monitor.decoded import fetch_bundle
from coldchain.monitor.differences import check_region, compare_bundles
from coldchain.monitor.findings import Alert
from coldchain.monitor.taken_apart import DecodedBundle, WorkDirectory

SHOWN: Final = 5


@dataclass(slots=True)
class ReleaseChecked:
    """What came of it: alerts, or (with none about regions) a summary; ``again`` when something could not be had."""

    alerts: list[Alert] = field(default_factory=list)
    summary: str = ""
    again: bool = False

    def missing(self, kind: str, where: str, error: TransportError) -> None:
        """Something could not be had: it is not there by the server's own word, or nobody can tell now."""
        self.again = True
        found = kind if isinstance(error, ResponseError) else "unreachable"
        self.alerts.append(Alert(found, f"{where}: {error.what}"))


async def check_release(
    source: Source, work: WorkDirectory, index: int, manifest: Manifest, progress: Progress, limits: Limits
) -> ReleaseChecked:
    """Checks everything that an entry names.

    Args:
        source: serves the published tree.
        work: a directory for bundles, emptied before and removed after.
        index: of the entry, for messages.
        manifest: the entry.
        progress: told how a download comes on.
        limits: bounds.

    Raises:
        StorageError: the disk refused.
    """
    found = ReleaseChecked()
    where = f"release {manifest.release} of {manifest.channel} (entry {index})"
    for feed in manifest.feeds:
        await _check_snapshot(source, feed, where, found, limits)
    work.make()
    try:
        bundles: dict[str, DecodedBundle] = {}
        for region in manifest.regions:
            try:
                bundles[region] = await fetch_bundle(source, work, manifest, region, progress, limits)
            except TransportError as error:
                found.missing("bundle-missing", f"{where}, region {region}", error)
            except (VerificationError, NewerFormatError) as error:
                found.alerts.append(Alert("bundle-wrong", f"{where}, region {region}: {error.what}"))
        problems = [*check_counts(manifest), *_differences(bundles, manifest, limits)]
    finally:
        work.clear()
    found.alerts += [Alert("regions-differ", f"{where}: {text}") for text in problems]
    if len(bundles) == len(manifest.regions) and not problems:
        found.summary = f"{where}: {len(bundles)} regions differ by their declared policies only"
    return found


def _differences(bundles: dict[str, DecodedBundle], manifest: Manifest, limits: Limits) -> list[str]:
    problems = []
    for region, bundle in bundles.items():
        alone = check_region(bundle, manifest, region, limits)
        problems += _some(alone.shown, alone.count)
    for one, other in combinations(bundles, 2):
        pair = compare_bundles(bundles[one], bundles[other], manifest, (one, other), limits).problems
        problems += [f"{one} and {other}: {text}" for text in _some(pair.shown, pair.count)]
    return problems


def _some(problems: list[str], count: int) -> list[str]:
    shown = problems[:SHOWN]
    return [*shown, f"and {count - len(shown):,} more differences"] if count > len(shown) else shown


async def _check_snapshot(source: Source, feed: FeedFacts, where: str, found: ReleaseChecked, limits: Limits) -> None:
    what = f"{where}, feed {feed.name}"
    try:
        data = (await source.get(f"snapshots/{feed.snapshot}", limits.description_bytes)).data
    except TransportError as error:
        found.missing("snapshot-missing", what, error)
        return
    if data is None:
        found.missing("snapshot-missing", what, ResponseError(f"the snapshot {feed.snapshot[:16]}… is not there"))
    elif hashlib.sha256(data).hexdigest() != feed.snapshot:
        found.alerts.append(Alert("snapshot-missing", f"{what}: the snapshot {feed.snapshot[:16]}… is another one"))
