"""Building a release: from the feeds' snapshots to a draft with every region's bundle, deltas, manifest and role.

Nothing is published and nothing signed: the published tree is only read. The release is logged next (:mod:`.log`), which makes the
region roles, and then approved (:mod:`.approve`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import coldchain
from coldchain.bundle.description import BundleDescription
from coldchain.bundle.manifest import FeedFacts, FileFacts, Manifest, Withdrawal
from coldchain.errors import GateError, StateError
from coldchain.limits import LIMITS
from coldchain.verify import MANIFEST
from coldchain_server.assembly.again import assemble_all, bundle_facts, feed_facts, region_facts
from coldchain_server.assembly.provenance import source_digest
from coldchain_server.assembly.regions import GLOBAL
from coldchain_server.catalogue.interface import Bundle, Catalogue, Release
from coldchain_server.deltas.changes import BundleChange
from coldchain_server.deltas.diff import diff_bundles
from coldchain_server.deltas.encoded import Encoded
from coldchain_server.feeds.lint import LintReport
from coldchain_server.feeds.pull import checked_again, pull
from coldchain_server.gate.gate import Order, run_gate
from coldchain_server.gate.history import found_before, keep_found
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.release.bundle_files import Source, load_description, write_bundle_files
from coldchain_server.release.drafts import Draft
from coldchain_server.release.earlier import earlier_feeds, refuse_withdrawn
from coldchain_server.release.publish import reconcile
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import ROLLOUT, RoleState, load_state, utc_text

OTHERS: Final = "other-sections"
MOST_CHANGES: Final = 200
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Built:
    """A finished draft."""

    channel: str
    number: int
    manifest: Manifest
    reports: tuple[LintReport, ...]
    sizes: Mapping[str, Mapping[str, int]]
    """Region -> file name -> bytes."""
    unchanged: bool
    """No section differs from the release before."""


async def build(
    home: Home,
    catalogue: Catalogue,
    *,
    channel: str,
    now: datetime,
    pull_feeds: bool = True,
    content_of: Manifest | None = None,
    withdraws: Withdrawal | None = None,
    without_gate: str = "",
    say: Say = lambda _: None,
) -> Built:
    """Builds the channel's next release.

    Args:
        home: the origin.
        catalogue: gets the release once its draft is durable.
        channel: which channel.
        now: the time of creation and signing.
        pull_feeds: read the feeds' sources anew; otherwise take their newest snapshots.
        content_of: take the snapshots that this earlier manifest names, instead of what the feeds hold now.
        withdraws: what this release takes back; it stands in the manifest.
        without_gate: why the release goes out although a check of the gate is not run; it becomes public.
        say: told what happens, a line at a time.

    Raises:
        StateError: there is no feed, an unpublished release of this channel waits, or the feeds hold what was withdrawn.
        LintError: a feed is refused.
        GateError: the release did not pass the gate, or a check was not run and there is no reason.
        BusyError: another publisher is at work.
    """
    settings, regions = home.settings(), home.regions()
    home.check_channel(channel)
    async with catalogue.publisher():
        state = await load_state(home.storage)
        await reconcile(home, catalogue, state, now=now)
        await _nothing_waits(catalogue, channel)
        for region in regions.regions:
            state.keyids(region)  # a region without a role: say so before the work, not after
        if content_of is None:
            reports, feeds = await _feeds(home, catalogue, now, pull_feeds, say)
            await refuse_withdrawn(home, catalogue, state, channel, feeds, regions)
        else:
            reports, feeds = earlier_feeds(home, content_of, say)
        sections = [section for report in reports for section in report.sections]
        number = max(await catalogue.next_number(channel), highest_published(state, channel) + 1)
        draft = Draft(home.draft(channel, number))
        draft.remove()
        home.content.sweep()
        bundles = assemble_all(home.content, regions, sections, settings.product, channel, number)
        history = await _history(catalogue, channel, [GLOBAL, *regions.regions])
        files, changes, encoded = {}, {}, Encoded(home.encoded / channel)
        for region in regions.regions:
            say(f"region {region}: bundle and deltas")
            written = write_bundle_files(
                home,
                draft,
                channel,
                region,
                bundles[region].description,
                history[region],
                recent=settings.recent_deltas,
                encoded=encoded,
            )
            files[region], changes[region] = written
        changes[GLOBAL] = _change(home, history[GLOBAL], bundles[GLOBAL].description)
        before = await catalogue.releases(channel)
        published = [release for release in before if release.state == "published"]
        facts = {
            name: replace(region_facts(bundles[name]), full=FileFacts(*files[name]["full.ccd"]))
            for name in regions.regions
        }
        order = Order(
            product=settings.product,
            regions=facts,
            files={name: draft.target(name, "full.ccd") for name in facts},
            served={name: [draft.target(name, file) for file in files[name]] for name in facts},
            feeds=_lint_words(reports),
            before=found_before(home, published[-1], settings.gate) if published else None,
            cache=home.gate / "lint",
        )
        try:
            tried = run_gate(home, order, settings.gate, say)
            gate = tried.require(f"release {number} of {channel}", without_gate or settings.gate.without)
        except GateError:
            draft.remove()
            raise
        manifest = Manifest(
            product=settings.product,
            channel=channel,
            release=number,
            previous=_previous(before, state, channel, number),
            created=utc_text(now),
            whole=bundle_facts(bundles[GLOBAL].description),
            regions=facts,
            feeds=feeds,
            assembler=coldchain.__version__,
            changes=fit_changes(_counts(changes)),
            gate=gate,
            source=source_digest(),
            withdraws=withdraws,
        )
        data = manifest.encode()
        if len(data) > LIMITS.log_entry_bytes:
            raise StateError(
                f"the manifest has {len(data):,} bytes, and an entry of the public log holds {LIMITS.log_entry_bytes:,}",
                kept="the releases published before",
                todo="shorten the reasons in regions.toml, or merge policies into fewer ones",
            )
        draft.write(draft.directory / MANIFEST, data)
        home.content.put(data)
        keep_found(home, channel, number, tried.found)
        created = utc_text(now)
        await catalogue.put_release(
            Release(channel, number, "built", manifest.digest, created, created),
            [_row(channel, number, name, bundle.description) for name, bundle in bundles.items()],
        )
        encoded.forget()
    sizes = {region: {name: length for name, (length, _) in found.items()} for region, found in files.items()}
    return Built(channel, number, manifest, tuple(reports), sizes, bool(published) and not manifest.changes[GLOBAL])


async def _nothing_waits(catalogue: Catalogue, channel: str) -> None:
    for release in await catalogue.releases(channel):
        if release.state in ("built", "logged", "approved"):
            raise StateError(
                f"release {release.number} of {channel} is {release.state} and not published",
                todo=f"log, approve and publish it, or: coldchain-server release discard {release.number}",
            )


async def _feeds(
    home: Home, catalogue: Catalogue, now: datetime, pull_feeds: bool, say: Say
) -> tuple[list[LintReport], tuple[FeedFacts, ...]]:
    reports, facts = [], []
    known = await catalogue.feeds()
    if not known:
        raise StateError("there is no feed yet", todo="coldchain-server feed add NAME PATH --kind KIND")
    for feed in known:
        if pull_feeds:
            await pull(home, catalogue, feed, taken=utc_text(now))
    for feed in await catalogue.feeds():
        snapshot, report = checked_again(home, feed)
        say(f"feed {feed.name}: {report.records:,} records in {len(report.sections)} sections")
        facts.append(feed_facts(snapshot, report))
        reports.append(report)
    return reports, tuple(facts)


def highest_published(state: RoleState, channel: str) -> int:
    """The channel's highest release in the signed tree, 0 for none: a catalogue from an old backup may not know it."""
    facts = [state.channel(region, channel) for region in state.delegated if region != ROLLOUT]
    return max((int(one["release"]) for one in facts if one is not None), default=0)


async def _history(catalogue: Catalogue, channel: str, regions: Sequence[str]) -> dict[str, list[Source]]:
    """Per region, the published releases that had a bundle for it, oldest first."""
    history: dict[str, list[Source]] = {region: [] for region in regions}
    for release in await catalogue.releases(channel):
        if release.state != "published":
            continue
        for bundle in await catalogue.bundles(channel, release.number):
            if bundle.region in history:
                history[bundle.region].append(Source(release.number, bundle.digest))
    return history


def _change(home: Home, history: Sequence[Source], new: BundleDescription) -> BundleChange | None:
    if not history:
        return None
    return diff_bundles(load_description(home.content, history[-1].digest), new, home.content)


def _counts(changes: Mapping[str, BundleChange | None]) -> dict[str, dict[str, tuple[int, int]]]:
    """Per section (added, removed): all of the global bundle's, and of a region's those that differ from them."""
    counted = {region: _section_counts(change) if change else {} for region, change in changes.items()}
    whole = counted.pop(GLOBAL)
    found = {GLOBAL: whole}
    for region, sections in counted.items():
        names = sorted({*sections, *whole})
        differing = {name: sections.get(name, (0, 0)) for name in names if sections.get(name) != whole.get(name)}
        if differing:
            found[region] = differing
    return found


def fit_changes(counts: dict[str, dict[str, tuple[int, int]]]) -> dict[str, dict[str, tuple[int, int]]]:
    """The counts, few enough for an entry of the log: where very many sections changed, the smallest changes are summed up.

    The sum stands under :data:`OTHERS`, which cannot be a section's name: those end with their type.
    """
    fitted = {}
    for region, sections in counts.items():
        most = MOST_CHANGES if region == GLOBAL else MOST_CHANGES // 10
        names = sorted(sections, key=lambda name: (-sum(sections[name]), name))
        kept = {name: sections[name] for name in sorted(names[:most])}
        rest = [sections[name] for name in names[most:]]
        if rest:
            kept[OTHERS] = (sum(added for added, _ in rest), sum(removed for _, removed in rest))
        fitted[region] = kept
    return fitted


def _previous(before: Sequence[Release], state: RoleState, channel: str, number: int) -> str | None:
    """The manifest of the release before this one in the log: published, or given up after it was logged."""
    for release in before:
        if release.number == number - 1:
            return release.manifest
    facts = [state.channel(region, channel) for region in state.delegated if region != ROLLOUT]
    return next((str(one["manifest"]) for one in facts if one is not None and one["release"] == number - 1), None)


def _section_counts(change: BundleChange) -> dict[str, tuple[int, int]]:
    counts = {}
    old = {section.name: section for section in change.old.sections} if change.old else {}
    new = {section.name: section for section in change.new.sections}
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if name.startswith("coldchain-canary.") or (before and after and before.sha256 == after.sha256):
            continue
        listed = change.sets.get(name)
        if listed is not None:
            counts[name] = (len(listed.added), len(listed.removed))
        elif before is None or after is None:
            counts[name] = (after.records if after else 0, before.records if before else 0)
        else:
            counts[name] = (1, 1)
    return counts


def _lint_words(reports: Sequence[LintReport]) -> str:
    records, skipped = sum(report.records for report in reports), sum(report.skipped for report in reports)
    flags = sum(len(report.flags) for report in reports)
    return f"{records} records good, {skipped} left out as bad, {flags} flagged for a person"


def _row(channel: str, number: int, region: str, description: BundleDescription) -> Bundle:
    return Bundle(channel, number, region, description.digest, description.total_bytes, description.total_records)


async def discard(home: Home, catalogue: Catalogue, channel: str, number: int, *, now: datetime) -> bool:
    """Gives up a release that is not published.

    One that is in the public log keeps its number, and the next one names it as the one before it. The number of one that never
    was is used again, so that the log's entries of a channel have no gap.

    Returns:
        Whether the release is in the log.

    Raises:
        StateError: it is published, or there is none.
    """
    async with catalogue.publisher():
        state = await load_state(home.storage)
        await reconcile(home, catalogue, state, now=now)
        release = await catalogue.release(channel, number)
        logged = True
        if release is not None and release.state == "built":
            # a try that was cut short may have logged it
            log = PublicLog(home.storage, policy_of(state).log_keys[0])
            logged = await log.find(home.content.get(release.manifest)) is not None
        if logged:
            await catalogue.set_state(channel, number, "discarded", utc_text(now))
        else:
            await catalogue.forget_release(channel, number)
        Draft(home.draft(channel, number)).remove()
    return logged
