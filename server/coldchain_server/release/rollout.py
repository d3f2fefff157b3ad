"""When: the share of endpoints per region and channel, stage by stage, and holding a rollout where it is. Signed by one online key.

The rollout role can delay and never introduce: *what* may run stands in the region roles, signed by two.

A step (the beginning, a stage, a hold) is one signed state. Shares and the moment since which they are in force go out together, and
nothing about a rollout is kept elsewhere: after a crash the step was made or was not, and whoever comes next reads off the published
tree which. Steps are made by ``serve`` and by ``rollout advance``, one at a time under the publisher's lock, and never two stages at
once, however long nobody looked.

- A schedule stands still while its release is held in any region: what is wrong in one may be wrong in all.
- Under a schedule a share goes down only where it is held, and no share goes up before the first stage has lasted its time, which an
  emergency shortens and nothing leaves out.
- A stage that is said to begin in the future (a clock was wrong) begins now; a release begins no earlier than the last signature.
- A rollout halts itself, in every region of its schedule, when the reports of endpoints in one of them say that the release fails there
  (:mod:`coldchain_server.reports.judgement`). Why, stands in the signed role, until a person lets it go on; then reports count anew.
  Only reports of the release that rolls out count: what endpoints say of a bad one does not hold up its withdrawal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from coldchain.bundle.manifest import Manifest
from coldchain.canonical import Object
from coldchain.errors import HeldError, StateError, UsageError
from coldchain.verify import MOST_WITHDRAWN
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.home import Home
from coldchain_server.release.schedule import Schedule
from coldchain_server.reports.judgement import HaltRule, Judgement, judge
from coldchain_server.reports.tally import pardon, senders, tallies
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import LIVES, ROLLOUT, RoleState, load_state, sign
from coldchain_server.signing.rotation import publish_roles, role_signers

Entries = dict[str, dict[str, Any]]
"""Region -> {release, share, held, and withdrawn if any} of one channel."""

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_CLOCKS_DIFFER: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Halted:
    """That a rollout halted itself: when, and what the reports of which region said."""

    at: datetime
    region: str
    why: str

    def as_json(self) -> Object:
        """For the role, and for ``--json``."""
        return {"at": self.at.strftime(_TIME), "region": self.region, "why": self.why}


@dataclass(frozen=True, slots=True)
class Standing:
    """What is signed about a channel's schedule: the release, since when its shares are in force, and whether it hurries.

    ``halted`` says why it halted itself; None when it did not, or a person let it go on.
    """

    release: int
    since: datetime
    emergency: bool = False
    halted: Halted | None = None

    def as_json(self) -> Object:
        """The channel's member."""
        out: Object = {"release": self.release, "since": self.since.strftime(_TIME), "emergency": self.emergency}
        return out | ({"halted": self.halted.as_json()} if self.halted is not None else {})


@dataclass(frozen=True, slots=True)
class Course:
    """A channel's rollout as it stands: the published entries, and the schedule it follows, if it follows one."""

    channel: str
    entries: Entries
    standing: Standing | None
    schedule: Schedule | None
    waves: Mapping[str, int]
    """Of the regions that the schedule's release is in."""

    @property
    def scheduled(self) -> bool:
        """Whether a schedule is in force."""
        return self.schedule is not None and self.standing is not None and bool(self.waves)

    @property
    def held(self) -> list[str]:
        """The scheduled regions in which it is held."""
        return [region for region in self.waves if self.entries[region]["held"]]

    @property
    def shares(self) -> dict[str, int]:
        """The shares in force in the scheduled regions."""
        return {region: self.entries[region]["share"] for region in self.waves}

    @property
    def reached(self) -> int:
        """How many stages are reached; 0 without a schedule."""
        return self.schedule.reached(self.shares, self.waves) if self.schedule else 0

    @property
    def due(self) -> datetime | None:
        """When the next stage may come; None when none does: no schedule, held, or at its end."""
        if not self.scheduled or self.held:
            return None
        assert self.schedule is not None
        assert self.standing is not None
        if self.schedule.next_shares(self.shares, self.waves) is None:
            return None
        return self.schedule.end(self.reached, self.standing.since, self.standing.emergency)

    def first_stage_ends(self) -> datetime | None:
        """Until when no share may grow; None when the first stage is over, or there is no schedule."""
        if not self.scheduled or self.reached > 1:
            return None
        assert self.schedule is not None
        assert self.standing is not None
        return self.standing.since + self.schedule.lasts(0, emergency=True)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        found: dict[str, Any] = {"channel": self.channel, "regions": self.entries}
        if self.scheduled:
            assert self.schedule is not None
            assert self.standing is not None
            stages = len(self.schedule.stages)
            due = self.due.strftime(_TIME) if self.due else None
            found["schedule"] = {**self.standing.as_json(), "stage": self.reached, "stages": stages, "due": due}
        return found


def course(home: Home, state: RoleState, channel: str) -> Course:
    """How a channel's rollout stands. Raises UsageError for a ``rollout.toml`` or ``regions.toml`` that is not in order."""
    facts = cast("dict[str, Entries]", state.rollout())
    entries = {region: dict(channels[channel]) for region, channels in facts.items() if channel in channels}
    found = cast("dict[str, Any] | None", state.schedules().get(channel))
    standing = None
    if found is not None:
        halted = found.get("halted")
        standing = Standing(
            found["release"],
            _time(found["since"]),
            found["emergency"],
            Halted(_time(halted["at"]), halted["region"], halted["why"]) if halted is not None else None,
        )
    schedule = home.schedules().get(channel)
    waves: dict[str, int] = {}
    if standing is not None and schedule is not None:
        regions = home.regions().regions
        about = {region for region, entry in entries.items() if entry["release"] == standing.release}
        waves = {region: regions[region].wave for region in regions if region in about}
        schedule.check_waves(waves, channel)
    return Course(channel, entries, standing, schedule, waves)


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def begin(
    home: Home, state: RoleState, manifest: Manifest, now: datetime, *, share: int | None, emergency: bool
) -> tuple[Object, Object]:
    """The facts of the rollout role with which a release begins, and the schedules.

    Args:
        home: the origin, whose ``rollout.toml`` may have stages for the channel.
        state: the published state.
        manifest: of the release.
        now: when it begins.
        share: percent in every region; None: by the schedule, or 100 without one.
        emergency: shorten the stages. What withdraws another release always does.

    Raises:
        UsageError: a share although there is a schedule, or files that are not in order.
    """
    channel, regions = manifest.channel, home.regions().regions
    schedule = home.schedules().get(channel)
    shares = dict.fromkeys(manifest.regions, 100 if share is None else share)
    schedules = state.schedules()
    schedules.pop(channel, None)
    if schedule is not None:
        if share is not None:
            raise UsageError(
                f"rollout.toml has stages for channel {channel}, so a release begins with the first of them",
                todo="leave --share out; --emergency shortens the stages",
            )
        waves = {region: regions[region].wave for region in manifest.regions}
        schedule.check_waves(waves, channel)
        shares = schedule.shares(0, waves)
        hurry = emergency or manifest.withdraws is not None
        # a clock that is behind what was signed already is wrong: a stage that began in the past would be over at once
        since = max(now, state.timestamp.signed.expires - LIVES["timestamp"])
        schedules[channel] = Standing(manifest.release, since, hurry).as_json()
    facts = state.rollout()
    newly = manifest.withdraws.releases if manifest.withdraws else ()
    for region in manifest.regions:
        channels: dict[str, Any] = dict(cast("dict[str, Any]", facts.get(region, {})))
        withdrawn = sorted({*channels.get(channel, {}).get("withdrawn", ()), *newly})[-MOST_WITHDRAWN:]
        entry: Object = {"release": manifest.release, "share": shares[region], "held": False}
        channels[channel] = entry | ({"withdrawn": cast(Any, withdrawn)} if withdrawn else {})
        facts = {**facts, region: channels}
    return facts, schedules


async def change_rollout(
    home: Home,
    catalogue: Catalogue,
    keyring: Keyring,
    channel: str,
    regions: Sequence[str],
    *,
    now: datetime,
    share: int | None = None,
    held: bool | None = None,
    emergency: bool = False,
    ignore: Collection[str] = (),
) -> Entries:
    """Changes share or hold of the channel's newest release in some regions (all when none is named), and publishes it.

    Args:
        home: the origin.
        catalogue: has the publisher's lock.
        keyring: must hold the keys of rollout, snapshot and timestamp.
        channel: which channel.
        regions: which regions.
        now: the time of signing.
        share: percent from now on; None leaves it.
        held: hold, or go on; None leaves it. A stage that goes on begins anew.
        emergency: the schedule's stages are shortened from now on.
        ignore: senders whose reports count no more for this release, when it goes on.

    Returns:
        Region -> {release, share, held} of the channel, as published now.

    Raises:
        UsageError: no such region, a share outside 0 to 100, no schedule that could hurry, or no such sender.
        StateError: the channel has no release there yet, or the schedule does not allow it.
    """
    if share is not None and not 0 <= share <= 100:
        raise UsageError(f"a share is 0 to 100 percent, not {share}")
    async with catalogue.publisher(wait=30):
        state = await load_state(home.storage)
        now_stands = course(home, state, channel)
        wanted = list(regions) or list(now_stands.entries)
        if not wanted:
            raise StateError(f"no release of {channel} is published yet", todo="coldchain-server release publish N")
        entries, standing = dict(now_stands.entries), now_stands.standing
        for region in wanted:
            if region not in state.rollout():
                raise UsageError(f"there is no region {region!r}", todo="regions are " + ", ".join(state.rollout()))
            if region not in entries:
                raise StateError(f"region {region} has no release of {channel} yet")
            entry = dict(entries[region])
            entry["held"] = entry["held"] if held is None else held
            if share is not None:
                if region in now_stands.waves:
                    _check_share(now_stands, region, share, entry["held"], now)
                entry["share"] = share
            entries[region] = entry
        if standing is not None and now_stands.scheduled:
            goes_on = held is False and bool(now_stands.held)
            raised = any(entries[region]["share"] > share for region, share in now_stands.shares.items())
            standing = replace(standing, since=now if goes_on or raised else standing.since)
            standing = replace(standing, emergency=standing.emergency or emergency)
            if held is False:
                # before it goes on: whoever dies in between leaves it held, and the reports that halted it do not halt it again
                about = [region for region in now_stands.waves if region in wanted]
                await asyncio.to_thread(_pardon, home, about, channel, standing.release, ignore)
                if not any(entries[region]["held"] for region in now_stands.waves):
                    standing = replace(standing, halted=None)
        elif emergency:
            raise UsageError(
                f"no release of channel {channel} follows a schedule that could hurry",
                todo="coldchain-server rollout show",
            )
        if (entries, standing) != (now_stands.entries, now_stands.standing):
            await _publish(home, state, keyring, {channel: (entries, standing)}, now)
    return entries


def _pardon(home: Home, regions: Sequence[str], channel: str, release: int, ignore: Collection[str]) -> None:
    """Has these regions' reports count anew. Raises UsageError, and changes nothing, where nobody of that name has reported."""
    known = {one for region in regions for one in senders(home, region, channel, release)}
    if unknown := sorted(set(ignore) - known):
        raise UsageError(
            f"nobody named {unknown[0]!r} has reported of release {release}",
            kept="the rollout as it is",
            todo="coldchain-server reports show",
        )
    for region in regions:
        pardon(home, region, channel, release, ignore)


def _check_share(stands: Course, region: str, share: int, held: bool, now: datetime) -> None:
    """What a schedule in force does not allow."""
    before, number = stands.entries[region]["share"], stands.entries[region]["release"]
    if share < before and not held:
        raise StateError(
            f"release {number} goes to {before} % in {region}, and a rollout by schedule does not go back",
            kept="the rollout as it is",
            todo=f"coldchain-server rollout hold --region {region}",
        )
    ends = stands.first_stage_ends()
    if share > before and ends is not None and now < ends:
        raise StateError(
            f"the first stage of release {number} lasts until {ends:%H:%M:%S} UTC at least; none skips it",
            kept="the rollout as it is",
            todo="wait, or let it go on by itself; rollout set --emergency shortens the stages after it",
        )


async def advance(
    home: Home, catalogue: Catalogue, keyring: Keyring, channel: str, *, now: datetime, early: bool = False
) -> tuple[Course, bool]:
    """Makes a channel's next step, if its time has come; returns how the rollout stands then, and whether it moved.

    Args:
        home: the origin.
        catalogue: has the publisher's lock.
        keyring: must hold the keys of rollout, snapshot and timestamp.
        channel: which channel.
        now: the time.
        early: before its time, on an operator's word; the first stage lasts its time all the same.

    Raises:
        HeldError: it is held in a region.
        StateError: no release of the channel follows a schedule, or it is too early even so.
        UsageError: ``rollout.toml`` is not in order.
    """
    async with catalogue.publisher(wait=30):
        state = await load_state(home.storage)
        if await halt_due(home, state, keyring, [channel], now=now):
            state = await load_state(home.storage)
        stands = course(home, state, channel)
        if not stands.scheduled:
            raise StateError(
                f"no release of {channel} follows a schedule",
                todo="rollout.toml may name stages for the next one; coldchain-server rollout set SHARE",
            )
        if stands.held:
            halted = stands.standing.halted if stands.standing is not None else None
            why = f" (it halted itself: {halted.why})" if halted is not None else ""
            raise HeldError(
                f"the rollout is held in {', '.join(stands.held)}, so it advances nowhere{why}",
                kept="the shares in force",
                todo="coldchain-server rollout resume",
            )
        ends = stands.first_stage_ends()
        if early and ends is not None and now < ends:
            raise StateError(
                f"the first stage lasts until {ends:%H:%M:%S} UTC at least; none skips it",
                kept="the shares in force",
            )
        moved = await advance_due(home, state, keyring, [channel], now=now, early=early)
        if moved:
            stands = course(home, await load_state(home.storage), channel)
    return stands, bool(moved)


async def advance_due(
    home: Home, state: RoleState, keyring: Keyring, channels: Sequence[str], *, now: datetime, early: bool = False
) -> list[str]:
    """One step in each channel whose stage is over; returns the channels. The caller holds the publisher's lock.

    Raises:
        UsageError: ``rollout.toml`` or ``regions.toml`` is not in order; nothing moved.
    """
    changes: dict[str, tuple[Entries, Standing | None]] = {}
    for channel in channels:
        stands = course(home, state, channel)
        due = stands.due
        if due is None:
            continue
        assert stands.schedule is not None
        assert stands.standing is not None
        standing = replace(stands.standing, since=now)
        if stands.standing.since - now > _CLOCKS_DIFFER:
            changes[channel] = stands.entries, standing
        elif now >= due or early:
            shares = stands.schedule.next_shares(stands.shares, stands.waves) or {}
            moved = {region: stands.entries[region] | {"share": share} for region, share in shares.items()}
            changes[channel] = stands.entries | moved, standing
    if changes:
        await _publish(home, state, keyring, changes, now)
    return list(changes)


async def halt_due(
    home: Home, state: RoleState, keyring: Keyring, channels: Sequence[str], *, now: datetime
) -> dict[str, Halted]:
    """Holds each channel's rollout, in all regions of its schedule, where the reports of one say so.

    The caller has the publisher's lock.

    Returns:
        Channel -> why, of those that are held now and were not.

    Raises:
        UsageError: ``rollout.toml`` or ``regions.toml`` is not in order; nothing changed.
        StorageError: a region's reports cannot be read; nothing changed.
    """
    changes: dict[str, tuple[Entries, Standing | None]] = {}
    found: dict[str, Halted] = {}
    for channel in channels:
        stands = course(home, state, channel)
        for region, (rule, judgement) in (await asyncio.to_thread(judgements, home, stands)).items():
            if judgement.halts and channel not in changes:
                assert stands.standing is not None
                found[channel] = Halted(now, region, _why(stands.standing.release, region, judgement, rule))
                held = {
                    region: entry | {"held": True} for region, entry in stands.entries.items() if region in stands.waves
                }
                changes[channel] = stands.entries | held, replace(stands.standing, halted=found[channel])
    if changes:
        await _publish(home, state, keyring, changes, now)
    return found


def judgements(home: Home, stands: Course) -> dict[str, tuple[HaltRule, Judgement]]:
    """What the reports of each region say of the release that rolls out: of those where it is not held; none where nothing halts it."""
    rule = stands.schedule.halt if stands.scheduled and stands.schedule is not None else None
    if rule is None or stands.standing is None:
        return {}
    release = stands.standing.release
    return {
        region: (rule, judge(tallies(home, region, stands.channel, release), rule))
        for region in stands.waves
        if not stands.entries[region]["held"]
    }


def _why(release: int, region: str, said: Judgement, rule: HaltRule) -> str:
    """In public, so without the senders' names."""
    of = f"{len(said.deciding)} of {said.senders} senders" if said.senders > 1 else "one sender"
    return (
        f"endpoints in {region} report that release {release} fails: {said.failures:,} of {said.reports:,} reports by {of},"
        f" {said.rate:.1f} %, and the limit is {rule.percent / 100:g} %"
    )


async def _publish(
    home: Home,
    state: RoleState,
    keyring: Keyring,
    changes: Mapping[str, tuple[Entries, Standing | None]],
    now: datetime,
) -> None:
    """One new rollout role with these channels' entries and standings."""
    facts, schedules = cast("dict[str, dict[str, Any]]", state.rollout()), state.schedules()
    for channel, (entries, standing) in changes.items():
        facts = {
            region: {**channels, **({channel: entries[region]} if region in entries else {})}
            for region, channels in facts.items()
        }
        if standing is not None:
            schedules[channel] = standing.as_json()
    rollout = state.next_rollout(now, cast(Any, facts), schedules)
    sign(rollout, role_signers(state, keyring, ROLLOUT))
    await publish_roles(state, keyring, home.storage, {ROLLOUT: rollout}, now)
