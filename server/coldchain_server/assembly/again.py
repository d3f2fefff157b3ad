"""Assembling a whole release, and assembling it again from nothing but its manifest and the snapshots that the manifest names.

Building, approving and rebuilding share this, so they cannot drift apart. What a manifest does not say does not decide a bundle: of a
region its name and policy, of a feed its snapshot, and whether bad records were left out (``skipped`` names some) or there were none.
Worked example: of a manifest with the regions ``us`` (no policy) and ``jp`` (leave out ``A-7``), the regions ``us`` and ``jp`` of
:func:`regions_of` have these policies, and jurisdictions and waves that mean nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from coldchain.bundle.description import BundleDescription
from coldchain.bundle.manifest import BundleFacts, FeedFacts, Manifest, Policy, RegionFacts
from coldchain_server.assembly.assemble import AssembledBundle, assemble
from coldchain_server.assembly.regions import GLOBAL, Action, PolicyEntry, Region, Regions, Subject
from coldchain_server.assembly.sections import PreparedSection
from coldchain_server.feeds.lint import LintReport, lint_snapshot
from coldchain_server.feeds.snapshots import FeedSnapshot, parse_snapshot
from coldchain_server.storage.content import ContentStore


@dataclass(frozen=True, slots=True)
class Again:
    """What came out: bundles by region (and GLOBAL), and what a manifest would say of the feeds."""

    bundles: Mapping[str, AssembledBundle]
    feeds: tuple[FeedFacts, ...]


def regions_of(manifest: Manifest) -> Regions:
    """The regions with the policies that a manifest declares. Their other facts decide no bundle and stand for nothing."""
    return Regions(
        GLOBAL,
        {
            name: Region(
                name,
                "",
                policy=tuple(
                    PolicyEntry(cast(Action, one.action), cast(Subject, one.kind), one.name, one.reason)
                    for one in facts.policy
                ),
            )
            for name, facts in manifest.regions.items()
        },
    )


def assemble_again(
    manifest: Manifest,
    regions: Regions,
    content: ContentStore,
    names: Collection[str] | None = None,
    cache: Path | None = None,
) -> Again:
    """The release's bundles, from the snapshots in ``content``; every line is checked anew.

    Args:
        manifest: names product, channel, release and snapshots.
        regions: with their policies.
        content: holds the snapshots and their files; takes the sections.
        names: the regions to assemble besides the global bundle; None for all.
        cache: what the caller found in earlier checks of the same files; nobody else's word may stand in it.

    Raises:
        LintError: a snapshot is refused by this program's rules, or nothing can be assembled from it.
        MalformedError: a snapshot does not follow its format.
        StorageError: a file is missing or damaged.
    """
    sections: list[PreparedSection] = []
    feeds = []
    for feed in manifest.feeds:
        snapshot = parse_snapshot(content.get(feed.snapshot))
        skip_bad = bool(feed.skipped)
        report = lint_snapshot(snapshot, content, skip_bad=skip_bad, cache=cache)  # anew: the assembler's is hearsay
        report.require(skip_bad=skip_bad)
        sections += report.sections
        feeds.append(feed_facts(snapshot, report))
    bundles = assemble_all(
        content, regions, sections, manifest.product, manifest.channel, manifest.release, names=names
    )
    return Again(bundles, tuple(feeds))


def assemble_all(
    content: ContentStore,
    regions: Regions,
    sections: Sequence[PreparedSection],
    product: str,
    channel: str,
    number: int,
    names: Collection[str] | None = None,
) -> dict[str, AssembledBundle]:
    """The global bundle and that of every region (or of ``names`` alone), with all their content stored."""
    made = {}
    for region in (GLOBAL, *(regions.regions if names is None else names)):
        made[region] = assemble(
            sections,
            regions,
            region,
            product=product,
            channel=channel,
            release=number,
            content=content.get,
            store=content.put,
        )
        content.put(made[region].description.encode())
    return made


def feed_facts(snapshot: FeedSnapshot, report: LintReport) -> FeedFacts:
    """What the manifest says of a feed."""
    return FeedFacts(snapshot.feed, snapshot.digest, len(snapshot.files), report.records, report.reasons)


def bundle_facts(description: BundleDescription) -> BundleFacts:
    """What the manifest says of a bundle."""
    return BundleFacts(description.digest, description.total_bytes, description.total_records)


def region_facts(bundle: AssembledBundle) -> RegionFacts:
    """What the manifest says of a region."""
    policy = tuple(
        Policy(one.entry.action, one.entry.kind, one.entry.name, one.entry.reason, one.records)
        for one in bundle.applied
    )
    return RegionFacts(bundle_facts(bundle.description), policy)
