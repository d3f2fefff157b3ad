"""Rollouts by schedule, signed for real under a virtual clock: one step at a time, whatever crashes, races and clocks do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coldchain.errors import HeldError, StateError, StorageError, UsageError
from coldchain_server.assembly.regions import load_regions
from coldchain_server.home import Home
from coldchain_server.release.rollout import Course, advance, advance_due, change_rollout, course
from coldchain_server.serve import advance_once, until_next_stage
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.roles import LIVES, load_state
from coldchain_server.signing.rotation import renew, rotate
from coldchain_server.storage.directory import DirectoryStorage
from tests.client.tuf.repository import NOW
from tests.server import origins

SCHEDULE = """
[stable]
emergency = { minutes = 1 }
stages = [
    { wave = 1, share = 5, minutes = 10 },
    { wave = 1, share = 100, minutes = 20 },
    { wave = 2, share = 50, minutes = 30 },
    { wave = 2, share = 100 },
]
"""
STAGES = [{"us": 5, "jp": 0}, {"us": 100, "jp": 0}, {"us": 100, "jp": 50}, {"us": 100, "jp": 100}]
MINUTES = [10, 20, 30]
MINUTE = timedelta(minutes=1)


def scheduled(home: Home, text: str = SCHEDULE) -> Home:
    """``us`` is in wave 1, ``jp`` in wave 2, and the channel has stages."""
    regions = home.directory / "regions.toml"
    regions.write_text(regions.read_text().replace('jurisdiction = "Japan"', 'jurisdiction = "Japan"\nwave = 2'))
    assert load_regions(regions.read_text()).regions["jp"].wave == 2
    (home.directory / "rollout.toml").write_text(text)
    return home


@pytest.fixture
async def rolling(approved_home: Home) -> Home:
    """Release 2 has just begun its first stage."""
    await origins.publish_release(scheduled(approved_home), 2)
    return approved_home


async def stands(home: Home) -> Course:
    return course(home, await load_state(home.storage), "stable")


async def shares(home: Home) -> Mapping[str, int]:
    """As endpoints read them, too."""
    found = (await stands(home)).shares
    assert {region: origins.read(home, region).share for region in found} == found
    return found


async def step(home: Home, now: datetime, **more: Any) -> bool:
    async with home.catalogue() as catalogue:
        return (await advance(home, catalogue, origins.keyring(home), "stable", now=now, **more))[1]


async def change(home: Home, now: datetime, *regions: str, **more: Any) -> None:
    async with home.catalogue() as catalogue:
        await change_rollout(home, catalogue, origins.keyring(home), "stable", regions, now=now, **more)


def signed(home: Home) -> dict[str, bytes]:
    """Everything that the timestamp leads to."""
    return {path.name: path.read_bytes() for path in sorted((home.public / "metadata").iterdir())}


async def test_a_release_goes_through_its_stages_each_in_its_time(rolling: Home) -> None:
    now = NOW
    for stage, wanted in enumerate(STAGES):
        assert await shares(rolling) == wanted
        if stage == len(MINUTES):
            break
        end = now + MINUTES[stage] * MINUTE
        assert (await stands(rolling)).due == end
        before = signed(rolling)
        assert not await step(rolling, end - timedelta(seconds=1))
        assert signed(rolling) == before, "signed although nothing was due"
        assert await step(rolling, end)
        now = end
    assert (await stands(rolling)).due is None
    assert not await step(rolling, now + timedelta(days=3))


async def test_a_pause_of_days_skips_no_stage(rolling: Home) -> None:
    late = NOW + timedelta(hours=30)
    for wanted in STAGES[1:]:
        assert await step(rolling, late)
        assert await shares(rolling) == wanted
        if wanted != STAGES[-1]:
            assert not await step(rolling, late)
        late += timedelta(minutes=31)


async def test_a_held_rollout_advances_nowhere_and_begins_its_stage_anew(rolling: Home) -> None:
    late = NOW + timedelta(hours=1)
    for region in ("us", "jp"):
        await change(rolling, NOW, region, held=True)
        assert (await stands(rolling)).due is None
        with pytest.raises(HeldError, match=f"held in {region}, so it advances nowhere"):
            await step(rolling, late, early=True)
        async with rolling.catalogue() as catalogue, catalogue.publisher():
            state = await load_state(rolling.storage)
            assert await advance_due(rolling, state, origins.keyring(rolling), ["stable"], now=late) == []
        await change(rolling, late, region, held=False)
        assert (await stands(rolling)).due == late + 10 * MINUTE
    assert await shares(rolling) == STAGES[0]


async def test_an_emergency_shortens_every_stage_and_skips_none(approved_home: Home) -> None:
    home = scheduled(approved_home)
    await origins.publish_release(home, 2, emergency=True)
    now = NOW
    for wanted in STAGES[:-1]:
        assert await shares(home) == wanted
        for early in (False, True) if wanted == STAGES[0] else (False,):
            if early:
                with pytest.raises(StateError, match="none skips it"):
                    await step(home, now + MINUTE - timedelta(seconds=1), early=True)
            else:
                assert not await step(home, now + MINUTE - timedelta(seconds=1))
        now += MINUTE
        assert await step(home, now)
    assert await shares(home) == STAGES[-1]


async def test_a_rollout_may_be_hurried_later_and_taken_on_by_hand(rolling: Home) -> None:
    await change(rolling, NOW, emergency=True)
    assert (await stands(rolling)).due == NOW + MINUTE
    with pytest.raises(StateError, match="none skips it"):
        await change(rolling, NOW + MINUTE / 2, "us", share=50)
    await change(rolling, NOW + MINUTE, "us", share=50)
    assert await shares(rolling) == {"us": 50, "jp": 0}
    assert await step(rolling, NOW + 2 * MINUTE)
    assert await shares(rolling) == STAGES[1]
    assert await step(rolling, NOW + 2 * MINUTE, early=True)
    assert await shares(rolling) == STAGES[2]


async def test_a_share_goes_down_only_where_it_is_held(rolling: Home) -> None:
    assert await step(rolling, NOW + 10 * MINUTE)
    for share in (0, 5, 99):
        with pytest.raises(StateError, match="does not go back"):
            await change(rolling, NOW + 11 * MINUTE, "us", share=share)
    await change(rolling, NOW + 11 * MINUTE, "us", held=True, share=20)
    await change(rolling, NOW + 12 * MINUTE, "us", held=False)
    assert await shares(rolling) == {"us": 20, "jp": 0}
    assert await step(rolling, NOW + 22 * MINUTE)
    assert await shares(rolling) == STAGES[1]


async def test_a_share_of_ones_own_and_a_schedule_do_not_go_together(approved_home: Home) -> None:
    home = scheduled(approved_home)
    with pytest.raises(UsageError, match="begins with the first of them"):
        await origins.publish_release(home, 2, share=10)
    regions = home.directory / "regions.toml"
    regions.write_text(regions.read_text().replace("wave = 2", "wave = 3"))
    with pytest.raises(UsageError, match="wave 3, which region jp is in"):
        await origins.publish_release(home, 2)
    assert origins.read_all(home) == 1
    with pytest.raises(UsageError, match="follows a schedule that could hurry"):
        await change(home, NOW, emergency=True)
    with pytest.raises(StateError, match="follows a schedule"):
        await step(home, NOW)


async def test_a_schedule_changed_on_the_way_goes_on_from_the_shares_in_force(rolling: Home) -> None:
    assert await step(rolling, NOW + 10 * MINUTE)
    more = SCHEDULE.replace(
        "share = 5, minutes = 10 }", "share = 2, minutes = 1 }, { wave = 1, share = 9, minutes = 9 }"
    )
    (rolling.directory / "rollout.toml").write_text(more)
    assert (await stands(rolling)).reached == 3
    assert await step(rolling, NOW + 30 * MINUTE)
    assert await shares(rolling) == STAGES[2]
    (rolling.directory / "rollout.toml").unlink()
    with pytest.raises(StateError, match="follows a schedule"):
        await step(rolling, NOW + 300 * MINUTE)
    await change(rolling, NOW + 300 * MINUTE, share=100)
    assert await shares_of_everybody(rolling) == {"us": 100, "jp": 100}


async def shares_of_everybody(home: Home) -> dict[str, int]:
    return {region: entry["share"] for region, entry in (await stands(home)).entries.items()}


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [timedelta(minutes=4), timedelta(hours=3), timedelta(days=20)])
async def test_a_clock_that_jumps_back_delays_by_a_stage_at_most(rolling: Home, back: timedelta) -> None:
    """The stage was signed by a clock that was ahead; the right one finds it in the future."""
    ahead = NOW + back
    await change(rolling, ahead, held=True)
    await change(rolling, ahead, held=False)
    assert (await stands(rolling)).due == ahead + 10 * MINUTE
    took, now = [], NOW
    while await shares(rolling) == STAGES[0]:
        took.append(now)
        await step(rolling, now)
        now += MINUTE
        assert now - NOW < 20 * MINUTE, "it never went on"
    assert await shares(rolling) == STAGES[1], "a stage was skipped"
    assert len(took) >= 10, "the stage was cut short"


async def test_a_release_that_a_slow_clock_began_has_its_first_stage_all_the_same(approved_home: Home) -> None:
    home, late = scheduled(approved_home), NOW + timedelta(hours=30)
    state = await load_state(home.storage)
    assert await renew(state, origins.keyring(home), home.storage, now=late, every=3600.0)
    await origins.publish_release(home, 2, now=NOW)  # 30 hours behind what the other one signed
    assert (await stands(home)).due == late + 10 * MINUTE
    assert not await step(home, late + 9 * MINUTE)
    assert await shares(home) == STAGES[0]


async def test_a_clock_that_jumps_ahead_costs_one_stage_and_not_the_next(rolling: Home) -> None:
    ahead = NOW + timedelta(hours=24)
    assert await step(rolling, ahead)
    for _ in range(3):
        assert not await step(rolling, ahead)
    assert await shares(rolling) == STAGES[1]
    assert not await step(rolling, NOW + 10 * MINUTE) or await shares(rolling) == STAGES[1]


# -- crashes and races -------------------------------------------------------------------------------------------------


async def test_a_crash_between_any_two_files_and_the_next_try_give_one_signed_state(
    rolling: Home, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares and the moment since which they are in force are one state: the old one or the new one, and the next try ends it."""
    end = NOW + 10 * MINUTE
    whole = origins.copy(rolling, memory / "whole")
    assert await step(whole, end)
    put, calls = DirectoryStorage.put, 0

    async def dies(storage: DirectoryStorage, path: str, data: Any, *, replace: bool = False) -> None:
        nonlocal calls
        if calls == 0:
            raise StorageError("the process died here")
        calls -= 1
        await put(storage, path, data, replace=replace)

    for point in range(10):
        home = origins.copy(rolling, memory / "origin-2")
        with monkeypatch.context() as patch:
            patch.setattr(DirectoryStorage, "put", dies)
            calls = point
            try:
                await step(home, end)
                break
            except StorageError:
                assert await shares(home) == STAGES[0], "torn"
        assert await step(home, end)
        assert signed(home) == signed(whole), f"after a crash before file {point} another state was signed"
    assert point == 5, "a pack for each region, rollout, snapshot, timestamp"


async def test_many_at_once_make_one_step(rolling: Home) -> None:
    end = NOW + 10 * MINUTE
    moved = await asyncio.gather(*(step(rolling, end) for _ in range(4)))
    assert sorted(moved) == [False, False, False, True]
    assert await shares(rolling) == STAGES[1]


# -- beside other signing ----------------------------------------------------------------------------------------------


async def test_where_a_schedule_stands_survives_every_other_signing(rolling: Home) -> None:
    standing = (await stands(rolling)).standing
    assert standing is not None
    async with rolling.catalogue() as catalogue, catalogue.publisher():
        keyring, late = origins.keyring(rolling), NOW + LIVES["rollout"] * 0.6
        state = await load_state(rolling.storage)
        assert "rollout" in await renew(state, keyring, rolling.storage, now=late, every=1)
        for role in ("rollout", "snapshot"):
            state = await load_state(rolling.storage)
            await rotate(state, keyring, rolling.storage, role, now=late, strength=DEMO)
    assert (await stands(rolling)).standing == standing


async def test_the_server_takes_stages_on_and_looks_again_in_time(
    rolling: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = origins.keyring(rolling)
    for now, moved, wait in ((9, [], 60.0), (9.5, [], 30.0), (10, ["stable"], 60.0), (10, [], 60.0)):
        monkeypatch.setattr("coldchain_server.serve.now_utc", lambda now=now: NOW + now * MINUTE)
        assert await advance_once(rolling, keyring) == moved
        assert await until_next_stage(rolling, 60.0) == wait
    (rolling.directory / "rollout.toml").write_text("[stable]\n")
    assert await advance_once(rolling, keyring) == []
    assert await until_next_stage(rolling, 60.0) == 60.0
