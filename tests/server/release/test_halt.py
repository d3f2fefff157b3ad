"""A rollout that endpoints' reports halt: where, when, once, by whose word it goes on, and what it does not stop."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from coldchain.errors import BusyError, HeldError, UsageError
from coldchain_server.home import Home
from coldchain_server.release.rollout import Course, advance, change_rollout, course, halt_due, judgements
from coldchain_server.release.schedule import load_schedules
from coldchain_server.reports.judgement import HaltRule
from coldchain_server.reports.store import Count
from coldchain_server.reports.stores import report_store
from coldchain_server.serve import advance_once, forget_old
from coldchain_server.signing.roles import load_state
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.release.test_rollout import MINUTE, SCHEDULE, change, scheduled, signed, stands

HOUR = "2026-06-01T09:00:00Z"


@pytest.fixture
async def rolling(approved_home: Home) -> Home:
    """Release 2 has just begun its first stage, in us."""
    await origins.publish_release(scheduled(approved_home), 2)
    return approved_home


def say(home: Home, applied: int, failed: int, *, region: str = "us", release: int = 2, sender: str = "direct") -> None:
    """So many endpoints have reported."""
    rows = [("applied", 0, applied), ("engine-failed", 30, failed)]
    with report_store(home, region) as store:
        store.add(
            Count(region, "stable", 1, release, outcome, code, "0.1.0", HOUR, sender, count)
            for outcome, code, count in rows
            if count
        )


async def judge(home: Home, minutes: float = 1) -> str:
    """What ``serve`` does when reports came; why it halted, if it did now."""
    async with home.catalogue() as catalogue, catalogue.publisher():
        state, now = await load_state(home.storage), NOW + minutes * MINUTE
        found = await halt_due(home, state, origins.keyring(home), ["stable", "early"], now=now)
    return found["stable"].why if found else ""


async def halted(home: Home) -> tuple[list[str], str]:
    found: Course = await stands(home)
    assert found.standing is not None
    for region in found.waves:
        assert origins.read(home, region).held is (region in found.held)
    return found.held, found.standing.halted.why if found.standing.halted else ""


async def test_it_is_held_in_every_region_of_its_schedule_once_and_says_why(rolling: Home) -> None:
    say(rolling, 97, 2)
    assert await judge(rolling) == ""
    before = signed(rolling)
    assert await judge(rolling) == ""
    assert signed(rolling) == before
    say(rolling, 0, 1)
    why = await judge(rolling, 2)
    assert (
        why
        == "endpoints in us report that release 2 fails: 3 of 100 reports by one sender, 3.0 %, and the limit is 2 %"
    )
    assert await halted(rolling) == (["us", "jp"], why)
    after = signed(rolling)
    assert await judge(rolling, 3) == ""  # idempotent, whoever comes again
    assert signed(rolling) == after
    shown = (await stands(rolling)).as_json()["schedule"]["halted"]
    assert shown == {"at": f"{NOW + 2 * MINUTE:%Y-%m-%dT%H:%M:%SZ}", "region": "us", "why": why}
    # the shares in force stay, and no stage comes
    found = await stands(rolling)
    assert (found.shares, found.due) == ({"us": 5, "jp": 0}, None)


async def test_advance_judges_before_it_goes_on(rolling: Home) -> None:
    say(rolling, 60, 60)
    async with rolling.catalogue() as catalogue:
        with pytest.raises(HeldError, match="it halted itself: endpoints in us report that release 2 fails"):
            await advance(rolling, catalogue, origins.keyring(rolling), "stable", now=NOW + 60 * MINUTE)
    assert (await stands(rolling)).shares == {"us": 5, "jp": 0}


async def test_serve_s_look_judges_before_it_goes_on(rolling: Home) -> None:
    say(rolling, 60, 60)
    assert (
        await advance_once(rolling, origins.keyring(rolling)) == []
    )  # NOW is long ago by the real clock: a stage was due
    assert (await halted(rolling))[0] == ["us", "jp"]
    assert (await stands(rolling)).shares == {"us": 5, "jp": 0}


async def test_reports_that_cannot_be_read_stop_the_stages(rolling: Home, caplog: pytest.LogCaptureFixture) -> None:
    (rolling.directory / "reports" / "ch").mkdir(parents=True)
    (rolling.directory / "reports" / "ch" / "reports.sqlite").write_bytes(b"damaged" * 1000)
    assert await advance_once(rolling, origins.keyring(rolling)) == []
    assert "rollouts stand still: endpoints' reports cannot be read" in caplog.text
    assert (await stands(rolling)).shares == {"us": 5, "jp": 0}
    forget_old(rolling)


async def test_what_was_seen_does_not_halt_it_again_and_what_comes_then_counts_anew(rolling: Home) -> None:
    say(rolling, 50, 50)
    assert await judge(rolling)
    await change(rolling, NOW + 2 * MINUTE, held=False)
    assert await halted(rolling) == ([], "")
    assert await judge(rolling, 3) == ""
    say(rolling, 47, 2)
    assert await judge(rolling, 4) == ""
    say(rolling, 0, 1)
    assert "3 of 50 reports" in await judge(rolling, 5)


async def test_without_the_pardon_it_would_halt_at_once(rolling: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    say(rolling, 50, 50)
    assert await judge(rolling)
    monkeypatch.setattr("coldchain_server.release.rollout.pardon", lambda *_: None)
    await change(rolling, NOW + 2 * MINUTE, held=False)
    assert await judge(rolling, 3)


async def test_resumed_in_one_region_it_stays_halted_in_the_other(rolling: Home) -> None:
    say(rolling, 50, 50)
    why = await judge(rolling)
    await change(rolling, NOW + 2 * MINUTE, "us", held=False)
    assert await halted(rolling) == (["jp"], why)
    assert await judge(rolling, 3) == ""
    say(rolling, 50, 50)
    assert await judge(rolling, 4)
    assert (await halted(rolling))[0] == ["us", "jp"]


async def test_a_sender_that_made_it_up_is_left_out_for_this_release(rolling: Home) -> None:
    say(rolling, 0, 1_000_000, sender="stolen")
    assert await judge(rolling)
    await change(rolling, NOW + 2 * MINUTE, held=False, ignore=["stolen"])
    say(rolling, 0, 1_000_000, sender="stolen")
    assert await judge(rolling, 3) == ""
    # and stays left out when it is resumed once more; others do count
    say(rolling, 47, 3, sender="honest")
    assert await judge(rolling, 4)
    await change(rolling, NOW + 5 * MINUTE, held=False)
    say(rolling, 0, 1_000_000, sender="stolen")
    assert await judge(rolling, 6) == ""


async def test_a_person_s_hold_in_one_region_does_not_hide_another(rolling: Home) -> None:
    await change(rolling, NOW + MINUTE, "jp", held=True)
    say(rolling, 50, 50, region="jp")
    assert await judge(rolling, 2) == ""
    say(rolling, 50, 50, region="us")
    assert await judge(rolling, 3)
    assert (await halted(rolling))[0] == ["us", "jp"]


async def test_only_the_release_that_rolls_out_is_judged(rolling: Home) -> None:
    """So what endpoints say of a bad release does not stop its withdrawal, which is a higher one."""
    for release in (1, 3):
        say(rolling, 0, 10_000, release=release)
    assert await judge(rolling) == ""
    assert await halted(rolling) == ([], "")


@pytest.mark.parametrize(
    ("halt", "halts"),
    [
        ("false", False),
        ("{ percent = 5.0 }", False),
        ("{ failures = 5 }", False),
        ("{ reports = 101 }", False),
        ("{}", True),
    ],
)
async def test_the_limits_are_those_of_the_file(rolling: Home, halt: str, halts: bool) -> None:
    say(rolling, 96, 4)
    text = SCHEDULE.replace("[stable]", f"[stable]\nhalt = {halt}")
    (rolling.directory / "rollout.toml").write_text(text)
    assert bool(await judge(rolling)) is halts


async def test_without_stages_nothing_is_judged(rolling: Home) -> None:
    say(rolling, 0, 1000)
    (rolling.directory / "rollout.toml").unlink()
    assert judgements(rolling, await stands(rolling)) == {}
    assert await judge(rolling) == ""


async def test_a_region_that_is_being_moved_is_not_resumed_past_its_reports(rolling: Home) -> None:
    say(rolling, 50, 50)
    assert await judge(rolling)
    with report_store(rolling, "us") as store:
        store.seal("us")
    with pytest.raises(BusyError):
        await change(rolling, NOW + 2 * MINUTE, held=False)
    assert (await halted(rolling))[0] == ["us", "jp"]


async def test_killed_between_the_pardon_and_the_role_it_is_still_held(
    rolling: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(rolling, 50, 50)
    why = await judge(rolling)

    async def dies(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("coldchain_server.release.rollout._publish", dies)
        with pytest.raises(RuntimeError):
            await change(rolling, NOW + 2 * MINUTE, held=False)
    assert await halted(rolling) == (["us", "jp"], why)
    await change(rolling, NOW + 3 * MINUTE, held=False)
    assert await halted(rolling) == ([], "")


async def test_two_that_judge_at_once_halt_it_once(rolling: Home) -> None:
    say(rolling, 50, 50)

    async def one() -> str:
        async with rolling.catalogue() as catalogue, catalogue.publisher(wait=30):
            state = await load_state(rolling.storage)
            found = await halt_due(rolling, state, origins.keyring(rolling), ["stable"], now=NOW + MINUTE)
        return found["stable"].why if found else ""

    assert sorted(bool(why) for why in await asyncio.gather(one(), one(), one())) == [False, False, True]


def test_what_the_file_may_say_of_it() -> None:
    def rule(text: str) -> HaltRule | None:
        return load_schedules(SCHEDULE.replace("[stable]", f"[stable]\n{text}"), ("stable",))["stable"].halt

    assert rule("") == HaltRule(200, 50, 3)
    assert rule("halt = false") is None
    assert rule("halt = { percent = 0.25, reports = 1, failures = 1 }") == HaltRule(25, 1, 1)
    for bad in ("true", "2", "'2'", "{ percent = 0 }", "{ percent = 101 }", "{ percent = true }", "{ percent = nan }"):
        with pytest.raises(UsageError, match="halt"):
            rule(f"halt = {bad}")
    for bad in (
        "{ reports = 0 }",
        "{ reports = 1.5 }",
        "{ failures = true }",
        "{ failures = 10000000000 }",
        "{ rate = 1 }",
    ):
        with pytest.raises(UsageError, match="halt"):
            rule(f"halt = {bad}")


async def test_old_counts_are_forgotten_and_the_pardon_does_not_go_below_nothing(rolling: Home) -> None:
    say(rolling, 500, 500)
    assert await judge(rolling)
    await change(rolling, NOW + 2 * MINUTE, held=False)
    forget_old(rolling)  # the real clock is long after NOW
    with report_store(rolling, "us") as store:
        assert store.rows("us") == []
    (_, said), *_ = judgements(rolling, await stands(rolling)).values()
    assert (said.halts, said.reports) == (False, 0)
    assert timedelta(days=rolling.settings().reports_days) == timedelta(days=90)


async def test_an_origin_of_an_earlier_version_has_no_such_member(rolling: Home) -> None:
    """A standing without ``halted`` reads as one that did not halt."""
    state = await load_state(rolling.storage)
    assert "halted" not in str(state.schedules())
    found = course(rolling, state, "stable")
    assert found.standing is not None
    assert found.standing.halted is None


async def test_resume_without_a_schedule_needs_no_reports(published_home: Home) -> None:
    async with published_home.catalogue() as catalogue:
        ring = origins.keyring(published_home)
        for held in (True, False):
            await change_rollout(published_home, catalogue, ring, "stable", [], now=NOW, held=held)
    assert not (published_home.directory / "reports").exists()
