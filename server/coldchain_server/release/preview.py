"""What ``regions.toml`` would do to a region's bundle, before anything is published; nothing is signed and nothing remembered.

The bundle is assembled from the snapshots of the newest published release, so what differs from the published bundle is the policy's
doing alone. Before a first release the feeds' newest snapshots are taken, and there is nothing to compare with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coldchain.bundle.description import BundleDescription
from coldchain.bundle.manifest import Manifest, Policy, parse_manifest
from coldchain.errors import LintError, StateError
from coldchain_server.assembly.again import assemble_all, region_facts
from coldchain_server.assembly.regions import Regions
from coldchain_server.assembly.sections import PreparedSection
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.deltas.diff import diff_bundles
from coldchain_server.feeds.lint import lint_snapshot
from coldchain_server.feeds.snapshots import parse_snapshot
from coldchain_server.home import Home
from coldchain_server.release.bundle_files import load_description
from coldchain_server.storage.content import Overlay

State = Literal["new", "as published", "gone"]


@dataclass(frozen=True, slots=True)
class SectionChange:
    """A section that would differ: records before and after (None: not there), and how many come and go (None: a file changed)."""

    name: str
    before: int | None
    after: int | None
    added: int | None
    removed: int | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a region would get. ``published`` is the release it is compared with; None when there is none for this region."""

    region: str
    channel: str
    published: int | None
    before: tuple[int, int] | None
    """Records and bytes of the published bundle, without its canary."""
    after: tuple[int, int]
    policy: tuple[tuple[State, Policy], ...]
    sections: tuple[SectionChange, ...]

    @property
    def unchanged(self) -> bool:
        """Whether the bundle would hold what the published one holds."""
        return self.before is not None and not self.sections

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "region": self.region,
            "channel": self.channel,
            "published": self.published,
            "unchanged": self.unchanged,
            "before": {"records": self.before[0], "bytes": self.before[1]} if self.before else None,
            "after": {"records": self.after[0], "bytes": self.after[1]},
            "policy": [
                {
                    "state": state,
                    "action": one.action,
                    "kind": one.kind,
                    "name": one.name,
                    "reason": one.reason,
                    "records": one.records,
                }
                for state, one in self.policy
            ],
            "sections": [
                {"name": one.name, "before": one.before, "after": one.after, "added": one.added, "removed": one.removed}
                for one in self.sections
            ],
        }


async def preview(
    home: Home, catalogue: Catalogue, channel: str, region: str, regions: Regions | None = None
) -> Preview:
    """The bundle a region would get.

    Args:
        home: the origin; it stays as it is.
        catalogue: has the published releases.
        channel: which channel.
        region: which region.
        regions: to try instead of those in regions.toml.

    Raises:
        StateError: no such region.
        LintError: nothing is left for the region, or a snapshot is refused.
    """
    regions = home.regions() if regions is None else regions
    if region not in regions.regions:
        raise StateError(f"there is no region {region!r}", todo="regions are " + ", ".join(regions.regions))
    releases = [one for one in await catalogue.releases(channel) if one.state == "published"]
    manifest = parse_manifest(home.content.get(releases[-1].manifest)) if releases else None
    facts = manifest.regions.get(region) if manifest else None
    with tempfile.TemporaryDirectory(prefix="coldchain-preview-") as folder:
        content = Overlay(Path(folder), home.content)
        sections = await _sections(home, catalogue, manifest, content)
        number = releases[-1].number if releases else 1
        product = home.settings().product
        made = assemble_all(content, regions, sections, product, channel, number, names=[region])[region]
        old = load_description(home.content, facts.facts.bundle) if facts else None
        policy = _policy(facts.policy if facts else (), region_facts(made).policy)
        changes = tuple(_changes(old, made.description, content)) if old else ()
    return Preview(
        region=region,
        channel=channel,
        published=manifest.release if manifest and facts else None,
        before=_size(old) if old else None,
        after=_size(made.description),
        policy=policy,
        sections=changes,
    )


async def _sections(
    home: Home, catalogue: Catalogue, manifest: Manifest | None, content: Overlay
) -> list[PreparedSection]:
    if manifest is not None:
        wanted = [(feed.snapshot, bool(feed.skipped)) for feed in manifest.feeds]
    else:
        wanted = [(feed.snapshot, feed.skip_bad) for feed in await catalogue.feeds() if feed.snapshot]
    found: list[PreparedSection] = []
    for digest, skip_bad in wanted:
        report = lint_snapshot(parse_snapshot(content.get(digest)), content, skip_bad=skip_bad, cache=home.lint)
        report.require(skip_bad=skip_bad)
        found += report.sections
    if not found:
        raise LintError("there is nothing to assemble", todo="coldchain-server feed add NAME PATH --kind KIND")
    return found


def _size(description: BundleDescription) -> tuple[int, int]:
    own = [one for one in description.sections if not one.name.startswith("coldchain-canary.")]
    return sum(one.records for one in own), sum(one.bytes for one in own)


def _policy(published: Sequence[Policy], tried: Sequence[Policy]) -> tuple[tuple[State, Policy], ...]:
    before = {(one.action, one.kind, one.name) for one in published}
    after = {(one.action, one.kind, one.name) for one in tried}
    rows: list[tuple[State, Policy]] = [
        ("as published" if (one.action, one.kind, one.name) in before else "new", one) for one in tried
    ]
    return (*rows, *(("gone", one) for one in published if (one.action, one.kind, one.name) not in after))


def _changes(old: BundleDescription, new: BundleDescription, content: Overlay) -> list[SectionChange]:
    found = []
    sets = diff_bundles(old, new, content).sets
    before, after = ({one.name: one for one in which.sections} for which in (old, new))
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if name.startswith("coldchain-canary.") or (was and now and was.sha256 == now.sha256):
            continue
        counts: tuple[int | None, int | None] = (None, None)
        if name in sets:
            counts = len(sets[name].added), len(sets[name].removed)
        elif was is None or now is None:
            counts = (now.records if now else 0, was.records if was else 0)
        found.append(SectionChange(name, was.records if was else None, now.records if now else None, *counts))
    return found
