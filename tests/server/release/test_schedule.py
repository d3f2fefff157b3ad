"""Stages of a rollout: read strictly, walked in their order, whatever shares are in force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import UsageError
from coldchain_server.release.schedule import DEFAULT, Schedule, Stage, load_schedules

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
CHANNELS = ("stable", "early")
GOOD = """
[stable]
emergency = { seconds = 90 }
stages = [
    { wave = 1, share = 1, hours = 2 },
    { wave = 1, share = 100, days = 1 },
    { wave = 2, share = 10, minutes = 30 },
    { wave = 2, share = 100 },
]
"""
WAVES = {"us": 1, "jp": 1, "row": 2}


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Any schedule that the file can hold."""
    stages: list[Stage] = []
    waves = sorted(draw(st.sets(st.integers(1, 99), min_size=1, max_size=4)))
    for wave in waves:
        shares = sorted({*draw(st.sets(st.integers(1, 99), max_size=4)), 100})
        stages += [Stage(wave, share, draw(st.integers(1, 86_400))) for share in shares]
    stages[-1] = Stage(stages[-1].wave, 100, None)
    return Schedule(tuple(stages), draw(st.integers(1, 86_400)))


def written(schedule: Schedule) -> str:
    rows = [
        f"{{ wave = {one.wave}, share = {one.share}{f', seconds = {one.lasts}' if one.lasts else ''} }}"
        for one in schedule.stages
    ]
    return f"[early]\nemergency = {{ seconds = {schedule.emergency} }}\nstages = [{', '.join(rows)}]\n"


def test_a_file_is_read() -> None:
    found = load_schedules(GOOD, CHANNELS)["stable"]
    assert found.emergency == 90
    assert found.stages == (Stage(1, 1, 7200), Stage(1, 100, 86_400), Stage(2, 10, 1800), Stage(2, 100, None))
    assert load_schedules("", CHANNELS) == load_schedules(DEFAULT, CHANNELS) == {}


def test_the_example_in_the_file_is_in_order_and_fits_the_default_regions() -> None:
    example = "\n".join(line.removeprefix("# ") for line in DEFAULT.partition("# [stable]")[2].splitlines())
    load_schedules(f"[stable]{example}", CHANNELS)["stable"].check_waves({"us": 1, "row": 2}, "stable")


@given(schedules())
def test_what_is_written_is_read(schedule: Schedule) -> None:
    assert load_schedules(written(schedule), CHANNELS) == {"early": schedule}


BAD = [
    ("[stable", "rollout.toml: "),
    ("stable = 1", "not a table"),
    ("[beta]\nstages = []", "no channel 'beta'"),
    ("[stable]", "stages is a list"),
    ("[stable]\nstages = []", "stages is a list"),
    ("[stable]\nstages = 1", "stages is a list"),
    ("[stable]\nstages = [1]", "stage 1: not a table"),
    ("[stable]\nstages = [{ wave = 1, share = 100 }]\nmore = 1", "unknown key 'more'"),
    ("[stable]\nstages = [{ wave = 1, share = 100, weeks = 1 }]", "unknown key 'weeks'"),
    ("[stable]\nstages = [{ share = 100 }]", "wave is a number"),
    ("[stable]\nstages = [{ wave = 0, share = 100 }]", "wave is a number"),
    ("[stable]\nstages = [{ wave = true, share = 100 }]", "wave is a number"),
    ("[stable]\nstages = [{ wave = 1, share = 0 }]", "share is 1 to 100"),
    ("[stable]\nstages = [{ wave = 1, share = 101 }]", "share is 1 to 100"),
    ("[stable]\nstages = [{ wave = 1, share = 99 }]", "the last stage has a share of 100 and no time"),
    ("[stable]\nstages = [{ wave = 1, share = 100, hours = 1 }]", "the last stage has a share of 100 and no time"),
    ("[stable]\nstages = [{ wave = 1, share = 1 }, { wave = 1, share = 100 }]", "does not say how long"),
    ("[stable]\nstages = [{ wave = 1, share = 1, hours = 1, minutes = 1 }, { wave = 1, share = 100 }]", "one time"),
    ("[stable]\nstages = [{ wave = 1, share = 1, hours = 0 }, { wave = 1, share = 100 }]", "one time"),
    ("[stable]\nstages = [{ wave = 1, share = 1, hours = 1.5 }, { wave = 1, share = 100 }]", "one time"),
    ("[stable]\nstages = [{ wave = 1, share = 1, days = 91 }, { wave = 1, share = 100 }]", "at most 90 days"),
    ("[stable]\nstages = [{ wave = 1, share = 9, hours = 1 }, { wave = 1, share = 9 }]", "must grow"),
    ("[stable]\nstages = [{ wave = 1, share = 100, hours = 1 }, { wave = 1, share = 100 }]", "must grow"),
    ("[stable]\nstages = [{ wave = 2, share = 100, hours = 1 }, { wave = 1, share = 100 }]", "waves go in their order"),
    ("[stable]\nstages = [{ wave = 1, share = 9, hours = 1 }, { wave = 2, share = 100 }]", "must come to 100 %"),
    ("[stable]\nemergency = 5\nstages = [{ wave = 1, share = 100 }]", "emergency is a time"),
    ("[stable]\nemergency = {}\nstages = [{ wave = 1, share = 100 }]", "emergency is a time"),
    ("[stable]\nemergency = { weeks = 1 }\nstages = [{ wave = 1, share = 100 }]", "unknown key 'weeks'"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_what_is_not_in_order_is_named(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"rollout\.toml") as caught:
        load_schedules(text, CHANNELS)
    assert words in caught.value.what


def test_a_region_that_no_stage_reaches_is_named() -> None:
    schedule = load_schedules(GOOD, CHANNELS)["stable"]
    schedule.check_waves(WAVES, "stable")
    with pytest.raises(UsageError, match="no stage is about wave 3, which region nz is in"):
        schedule.check_waves({**WAVES, "nz": 3}, "stable")


@given(schedules(), st.data())
def test_stages_come_one_by_one_in_their_order_and_end_at_everybody(schedule: Schedule, data: st.DataObject) -> None:
    named = sorted({stage.wave for stage in schedule.stages})
    waves = {f"r{number}": wave for number, wave in enumerate(data.draw(st.lists(st.sampled_from(named), min_size=1)))}
    shares, seen = dict.fromkeys(waves, 0), []
    while (later := schedule.next_shares(shares, waves)) is not None:
        assert all(later[region] >= shares[region] for region in waves), "a share fell"
        assert later != shares, "a stage that changes nothing came"
        for region, wave in waves.items():
            earlier = {later[other] for other, theirs in waves.items() if theirs < wave}
            assert later[region] == 0 or earlier <= {100}, "a wave began before the one before it was through"
        shares = later
        seen.append(shares)
    assert set(shares.values()) == {100}
    first = schedule.shares(0, waves)
    assert seen[0] == first or set(first.values()) == {0}, "the first stage was skipped"
    assert schedule.reached(shares, waves) == len(schedule.stages)


@given(schedules(), st.data())
def test_shares_that_somebody_set_never_fall_and_lead_on(schedule: Schedule, data: st.DataObject) -> None:
    waves = {f"r{number}": stage.wave for number, stage in enumerate(schedule.stages)}
    shares = {region: data.draw(st.integers(0, 100)) for region in waves}
    steps = 0
    while (later := schedule.next_shares(shares, waves)) is not None:
        assert all(later[region] >= shares[region] for region in waves)
        assert schedule.reached(later, waves) > schedule.reached(shares, waves)
        shares, steps = later, steps + 1
    assert set(shares.values()) == {100}
    assert steps <= len(schedule.stages)


@given(schedules(), st.booleans(), st.data())
def test_emergencies_shorten_and_leave_nothing_out(schedule: Schedule, emergency: bool, data: st.DataObject) -> None:
    stage = data.draw(st.integers(0, len(schedule.stages) - 1))
    lasts, hurried = schedule.lasts(stage, emergency=False), schedule.lasts(stage, emergency=True)
    assert hurried <= lasts
    assert hurried <= timedelta(seconds=schedule.emergency)
    last = stage == len(schedule.stages) - 1
    assert (hurried > timedelta(0)) != last, "a stage was left out"
    assert schedule.end(stage + 1, NOW, emergency) == NOW + (hurried if emergency else lasts)
    assert schedule.end(0, NOW, emergency) == NOW
