"""Withdrawing a release: a higher one with the content of the last good release before it, since a client never goes back.

Worked example, releases 40 to 42 published and 41 found bad: ``withdraw 41`` makes release 43 from the snapshots of 40. Its manifest
says ``"withdraws":{"reason":"…","releases":[41,42],"restores":40}``: 42 came after the bad one, so nothing vouches for it either. When
43 is published, the rollout names 41 and 42 as withdrawn, and an endpoint that runs one of them takes 43 at its next poll, whatever
its bucket; all others wait for the stages, which are shortened and of which the first is not skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from coldchain.bundle.manifest import MOST_WITHDRAWN, Manifest, Withdrawal
from coldchain.errors import ApprovalError, StateError
from coldchain_server.assembly.regions import Regions
from coldchain_server.catalogue.interface import Catalogue, Release
from coldchain_server.home import Home
from coldchain_server.release.build import build, discard
from coldchain_server.release.earlier import (
    Policies,
    declared_policies,
    manifest_of,
    policies_of,
    published_manifests,
    same_feeds,
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A release on the fast path: its number, whether it is still to be logged, and which waiting releases were given up for it."""

    number: int
    state: str
    gave_up: tuple[int, ...]
    manifest: Manifest


def choose(published: Sequence[Manifest], number: int, reason: str) -> tuple[Manifest, Withdrawal]:
    """Which release to restore, and what the new one withdraws.

    Args:
        published: the channel's published manifests, oldest first.
        number: the bad release.
        reason: in public.

    Raises:
        StateError: it is not published, was withdrawn already, or there is no good release before it.
    """
    withdrawn = {one for manifest in published if manifest.withdraws for one in manifest.withdraws.releases}
    if number not in {manifest.release for manifest in published}:
        raise StateError(f"release {number} is not published", todo="coldchain-server release list")
    bad = [
        manifest.release for manifest in published if manifest.release >= number and manifest.release not in withdrawn
    ]
    if number in withdrawn or not bad:
        raise StateError(f"release {number} was withdrawn already", todo="coldchain-server rollout show")
    if len(bad) > MOST_WITHDRAWN:
        raise StateError(
            f"{len(bad)} releases came since; one withdraws at most {MOST_WITHDRAWN}",
            todo="coldchain-server suppress NAME --reason WHY, or mend the feed and release as usual",
        )
    good = [one for one in published if one.release < number and one.release not in withdrawn]
    if not good:
        raise StateError(
            f"before release {number} there is no good one whose content could come back",
            todo="coldchain-server suppress NAME --reason WHY, or mend the feed and release as usual",
        )
    return good[-1], Withdrawal(tuple(bad), good[-1].release, reason)


def changed_policies(manifest: Manifest, regions: Regions) -> list[str]:
    """The regions whose policy is not any more what it was in an earlier release, and of new regions none."""
    before, now = declared_policies(manifest), policies_of(regions)
    return [region for region in now if region in before and before[region] != now[region]]


async def withdraw(
    home: Home,
    catalogue: Catalogue,
    channel: str,
    number: int,
    *,
    reason: str,
    now: datetime,
    policies_now: bool = False,
    without_gate: str = "",
    say: Say = lambda _: None,
) -> Prepared:
    """Builds the release that withdraws another one; it is logged, approved and published like any other.

    Run again after a crash, it goes on with the draft that is there. A release of the channel that waits is given up: it was made
    after the bad one.

    Args:
        home: the origin.
        catalogue: has the releases.
        channel: of the release.
        number: the bad release.
        reason: why, in public.
        now: the time of creation.
        policies_now: go on although regions.toml changed since the release that comes back.
        without_gate: why it goes out although a check of the gate is not run; it becomes public.
        say: told what happens.

    Raises:
        StateError: nothing to withdraw, nothing to restore, or policies changed.
        GateError: the release did not pass the gate.
        BusyError: another publisher is at work.
    """
    published = await published_manifests(home, catalogue, channel)
    good, withdrawal = choose(published, number, reason)
    regions = home.regions()
    if (changed := changed_policies(good, regions)) and not policies_now:
        raise StateError(
            f"the policy of {', '.join(changed)} changed since release {good.release}, so its content would not come back whole",
            kept="the releases published before",
            todo="restore regions.toml (and suppressed.toml), or say --policies-now",
        )
    return await prepare(
        home, catalogue, channel, good, withdrawal, policies_of(regions), now=now, without_gate=without_gate, say=say
    )


async def prepare(
    home: Home,
    catalogue: Catalogue,
    channel: str,
    content: Manifest,
    withdrawal: Withdrawal | None,
    policies: Policies,
    *,
    now: datetime,
    without_gate: str,
    say: Say,
) -> Prepared:
    """A release with the content of an earlier one: the waiting draft if it is that, else a new one, in whose way none waits."""
    gave_up: list[int] = []
    for release in await catalogue.releases(channel):
        if release.state not in ("built", "logged", "approved"):
            continue
        waiting = manifest_of(home, release)
        same = same_feeds(waiting.feeds, content.feeds) and declared_policies(waiting) == policies
        if same and waiting.withdraws == withdrawal:
            say(f"release {release.number} is {release.state} already")
            return Prepared(release.number, release.state, tuple(gave_up), waiting)
        await discard(home, catalogue, channel, release.number, now=now)
        gave_up.append(release.number)
    built = await build(
        home,
        catalogue,
        channel=channel,
        now=now,
        content_of=content,
        withdraws=withdrawal,
        without_gate=without_gate,
        say=say,
    )
    return Prepared(built.number, "built", tuple(gave_up), built.manifest)


async def check_withdrawal(home: Home, catalogue: Catalogue, manifest: Manifest, release: Release) -> None:
    """An approver's check: what a manifest says it withdraws and restores is so.

    Raises:
        ApprovalError: it is not.
    """
    said = manifest.withdraws
    if said is None:
        return
    published = await published_manifests(home, catalogue, release.channel)
    try:
        good, expected = choose(
            [one for one in published if one.release < manifest.release], min(said.releases), said.reason
        )
    except StateError as error:
        raise _refuse(error.what) from error
    if said != expected:
        raise _refuse(f"it should withdraw {list(expected.releases)} and restore {expected.restores}")
    if not same_feeds(manifest.feeds, good.feeds):
        raise _refuse(f"its snapshots are not those of release {good.release}")


def _refuse(what: str) -> ApprovalError:
    return ApprovalError(
        f"the manifest's withdrawal is not in order: {what}",
        kept="no signature was made",
        todo="discard the release, find out who changed what, and withdraw again",
    )
