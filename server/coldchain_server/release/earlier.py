"""What earlier releases were made of: their feeds' snapshots, which a withdrawal, a suppression or another channel takes again.

The content of a release is decided by the snapshots and the policies that its manifest names (:mod:`coldchain_server.assembly.again`).
Taking the snapshots of an earlier manifest under the same policies gives its content under a new number, to the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from coldchain.bundle.manifest import FeedFacts, Manifest, parse_manifest
from coldchain.errors import StateError
from coldchain_server.assembly.again import feed_facts
from coldchain_server.assembly.regions import Regions
from coldchain_server.catalogue.interface import Catalogue, Release
from coldchain_server.feeds.lint import LintReport, lint_snapshot
from coldchain_server.feeds.snapshots import parse_snapshot
from coldchain_server.home import Home
from coldchain_server.signing.roles import RoleState

Policies = dict[str, set[tuple[str, str, str]]]
"""Region -> {(action, kind, name)}."""


def earlier_feeds(
    home: Home, manifest: Manifest, say: Callable[[str], None] = lambda _: None
) -> tuple[list[LintReport], tuple[FeedFacts, ...]]:
    """The feeds as a manifest names them, checked by this program's rules.

    Raises:
        LintError: rules that came with an update of this program refuse a snapshot now.
        StorageError: a snapshot is missing or damaged.
    """
    reports, facts = [], []
    for feed in manifest.feeds:
        snapshot, skip_bad = parse_snapshot(home.content.get(feed.snapshot)), bool(feed.skipped)
        report = lint_snapshot(snapshot, home.content, skip_bad=skip_bad, cache=home.lint)
        report.require(skip_bad=skip_bad)
        say(f"feed {feed.name} as in release {manifest.release}: {report.records:,} records")
        reports.append(report)
        facts.append(feed_facts(snapshot, report))
    return reports, tuple(facts)


def policies_of(regions: Regions) -> Policies:
    """What each region's policy does, without the reasons."""
    return {
        name: {(entry.action, entry.kind, entry.name) for entry in region.policy}
        for name, region in regions.regions.items()
    }


def declared_policies(manifest: Manifest) -> Policies:
    """The same, as a manifest declares it."""
    return {
        name: {(entry.action, entry.kind, entry.name) for entry in facts.policy}
        for name, facts in manifest.regions.items()
    }


def same_feeds(one: Sequence[FeedFacts], other: Sequence[FeedFacts]) -> bool:
    """Whether two releases were made of the same snapshots."""
    return {(feed.name, feed.snapshot) for feed in one} == {(feed.name, feed.snapshot) for feed in other}


def manifest_of(home: Home, release: Release) -> Manifest:
    """A release's manifest, from the content store."""
    return parse_manifest(home.content.get(release.manifest))


async def published_manifests(home: Home, catalogue: Catalogue, channel: str, since: int = 1) -> list[Manifest]:
    """The manifests of a channel's published releases from a number on, oldest first."""
    releases = [one for one in await catalogue.releases(channel) if one.state == "published" and one.number >= since]
    return [manifest_of(home, one) for one in releases]


async def newest_manifest(home: Home, catalogue: Catalogue, channel: str) -> Manifest:
    """The newest published release's manifest. Raises StateError when there is none."""
    published = [one for one in await catalogue.releases(channel) if one.state == "published"]
    if not published:
        raise StateError(f"no release of {channel} is published yet", todo="coldchain-server release publish N")
    return manifest_of(home, published[-1])


def withdrawn_releases(state: RoleState, channel: str) -> set[int]:
    """The releases of a channel that the published rollout says nobody should run."""
    facts = cast("Mapping[str, Mapping[str, Mapping[str, Any]]]", state.rollout())
    return {number for channels in facts.values() for number in channels.get(channel, {}).get("withdrawn", ())}


async def refuse_withdrawn(
    home: Home,
    catalogue: Catalogue,
    state: RoleState,
    channel: str,
    feeds: Sequence[FeedFacts],
    regions: Regions,
) -> None:
    """What was withdrawn does not come back by itself, as from an hourly build of a feed that nobody has mended.

    Raises:
        StateError: feeds and policies are those of a withdrawn release.
    """
    for number in sorted(withdrawn_releases(state, channel)):
        release = await catalogue.release(channel, number)
        if release is None:
            continue  # the catalogue is older than the published tree
        manifest = manifest_of(home, release)
        if same_feeds(manifest.feeds, feeds) and declared_policies(manifest) == policies_of(regions):
            raise StateError(
                f"the feeds hold what release {number} held, which was withdrawn",
                kept="the releases published before",
                todo="mend the feed, or: coldchain-server suppress NAME --reason WHY",
            )
