"""``rollout.toml``: in which stages a release reaches endpoints by itself, channel by channel.

::

    [stable]
    emergency = { minutes = 5 }                      # the longest that a stage lasts in an emergency
    halt = { percent = 2.0, reports = 50, failures = 3 }   # when reports of endpoints halt it (coldchain_server.reports.judgement)
    stages = [
        { wave = 1, share = 1, hours = 2 },          # 1 % of the endpoints in the regions of wave 1, for two hours; then
        { wave = 1, share = 25, hours = 6 },
        { wave = 1, share = 100, hours = 12 },
        { wave = 2, share = 10, hours = 6 },
        { wave = 2, share = 100 },                   # the last one has no end
    ]

``halt`` is as above where it is not said, and ``halt = false`` leaves a rollout alone whatever endpoints report.
A channel without stages goes to everybody at once. Which wave a region is in stands in ``regions.toml``. Waves go in their order and
each one to its end; within a wave shares only grow. How far a rollout has come is read off the shares in force: the stages whose
shares every region has reached are done. So a share that an operator set, or another ``rollout.toml``, needs no second book.

Worked example, ``us`` in wave 1 and ``row`` in wave 2: the shares ``{"us": 25, "row": 0}`` have reached two stages of those above;
next comes ``{"us": 100, "row": 0}``, six hours after the second stage began, in an emergency five minutes after.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from coldchain.errors import UsageError
from coldchain_server.reports.judgement import HaltRule

_UNITS: Final = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400}
_MOST_SECONDS: Final = 90 * 86_400
_MOST_STAGES: Final = 64
_EMERGENCY_SECONDS: Final = 300
_MOST_REPORTS: Final = 10**9

DEFAULT: Final = """\
# In which stages a release reaches endpoints by itself. A channel that is not named here goes to everybody at once.
# Waves (regions.toml) go in their order; each stage lasts as long as it says, the last one for good.
# `coldchain-server rollout show` tells where a release stands; `rollout hold` stops it there.

# [stable]
# emergency = { minutes = 5 }        # the longest that a stage lasts in an emergency; no stage is left out
# halt = { percent = 2.0, reports = 50, failures = 3 }   # a region's reports that halt it; halt = false: none do (docs/reports.md)
# stages = [
#     { wave = 1, share = 1, hours = 2 },
#     { wave = 1, share = 25, hours = 6 },
#     { wave = 1, share = 100, hours = 12 },
#     { wave = 2, share = 10, hours = 6 },
#     { wave = 2, share = 100 },
# ]
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """``share`` percent of a wave's endpoints, for ``lasts`` seconds; None: for good."""

    wave: int
    share: int
    lasts: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """The stages of a channel, how many seconds one lasts at most in an emergency, and when reports halt it; None: never."""

    stages: tuple[Stage, ...]
    emergency: int = _EMERGENCY_SECONDS
    halt: HaltRule | None = HaltRule()  # noqa: RUF009  it is frozen

    def shares(self, stage: int, waves: Mapping[str, int]) -> dict[str, int]:
        """Region -> percent while a stage (counted from 0) lasts; ``waves`` is region -> wave."""
        found = dict.fromkeys(waves, 0)
        for one in self.stages[: stage + 1]:
            found |= {region: one.share for region, wave in waves.items() if wave == one.wave}
        return found

    def reached(self, shares: Mapping[str, int], waves: Mapping[str, int]) -> int:
        """How many stages, from the first on, all these regions have reached."""
        for stage in range(len(self.stages)):
            wanted = self.shares(stage, waves)
            if any(shares[region] < wanted[region] for region in waves):
                return stage
        return len(self.stages)

    def lasts(self, stage: int, emergency: bool) -> timedelta:
        """How long a stage lasts before the next one may come."""
        seconds = self.stages[stage].lasts or 0
        return timedelta(seconds=min(seconds, self.emergency) if emergency else seconds)

    def end(self, reached: int, since: datetime, emergency: bool) -> datetime:
        """When the stage that is in force since then is over."""
        return since + (self.lasts(reached - 1, emergency) if reached else timedelta(0))

    def next_shares(self, shares: Mapping[str, int], waves: Mapping[str, int]) -> dict[str, int] | None:
        """The shares of the stage that comes next, never below those in force; None when every stage is reached."""
        stage = self.reached(shares, waves)
        if stage == len(self.stages):
            return None
        return {region: max(shares[region], share) for region, share in self.shares(stage, waves).items()}

    def check_waves(self, waves: Mapping[str, int], channel: str) -> None:
        """Raises UsageError for a region that no stage would ever reach."""
        named = {stage.wave for stage in self.stages}
        for region, wave in waves.items():
            if wave not in named:
                raise UsageError(
                    f"rollout.toml: [{channel}]: no stage is about wave {wave}, which region {region} is in",
                    todo="add stages for that wave, or change the region's wave in regions.toml",
                )


def load_schedules(text: str, channels: Iterable[str]) -> dict[str, Schedule]:
    """Reads ``rollout.toml`` strictly. Raises UsageError for anything unknown, out of order or out of range."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"rollout.toml: {error}") from error
    known = tuple(channels)
    if unknown := sorted(set(document) - set(known)):
        raise UsageError(f"rollout.toml: there is no channel {unknown[0]!r}", todo="channels are " + ", ".join(known))
    return {channel: _schedule(table, f"rollout.toml: [{channel}]") for channel, table in document.items()}


def _schedule(table: object, what: str) -> Schedule:
    if not isinstance(table, dict):
        raise UsageError(f"{what}: not a table")
    _only(table, {"emergency", "stages", "halt"}, what)
    rows = table.get("stages")
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST_STAGES:
        raise UsageError(f"{what}: stages is a list of 1 to {_MOST_STAGES} tables")
    stages = tuple(_stage(row, f"{what}: stage {number}") for number, row in enumerate(rows, start=1))
    _check_order(stages, what)
    emergency = _EMERGENCY_SECONDS
    if "emergency" in table:
        time = table["emergency"]
        if not isinstance(time, dict):
            raise UsageError(f"{what}: emergency is a time such as {{ minutes = 5 }}")
        _only(time, set(_UNITS), f"{what}: emergency")
        emergency = _seconds(time, f"{what}: emergency") or 0
        if not emergency:
            raise UsageError(f"{what}: emergency is a time such as {{ minutes = 5 }}")
    return Schedule(stages, emergency, _halt(table.get("halt", {}), f"{what}: halt"))


def _halt(table: object, what: str) -> HaltRule | None:
    if table is False:
        return None
    if not isinstance(table, dict):
        raise UsageError(f"{what} is a table such as {{ percent = 2.0, reports = 50, failures = 3 }}, or false")
    _only(table, {"percent", "reports", "failures"}, what)
    default = HaltRule()
    percent = table.get("percent", default.percent / 100)
    if type(percent) not in (int, float) or not 0.01 <= percent <= 100:
        raise UsageError(f"{what}: percent is a number from 0.01 to 100")
    numbers = []
    for name, value in (("reports", default.reports), ("failures", default.failures)):
        number = table.get(name, value)
        if type(number) is not int or not 1 <= number <= _MOST_REPORTS:
            raise UsageError(f"{what}: {name} is a whole number from 1 to {_MOST_REPORTS}")
        numbers.append(number)
    return HaltRule(round(percent * 100), *numbers)


def _stage(row: object, what: str) -> Stage:
    if not isinstance(row, dict):
        raise UsageError(f"{what}: not a table")
    _only(row, {"wave", "share", *_UNITS}, what)
    wave, share = row.get("wave"), row.get("share")
    if type(wave) is not int or not 1 <= wave <= 99:
        raise UsageError(f"{what}: wave is a number from 1 to 99")
    if type(share) is not int or not 1 <= share <= 100:
        raise UsageError(f"{what}: share is 1 to 100 percent")
    return Stage(wave, share, _seconds(row, what))


def _seconds(table: Mapping[str, Any], what: str) -> int | None:
    given = [unit for unit in _UNITS if unit in table]
    if not given:
        return None
    value = table[given[0]]
    if len(given) > 1 or type(value) is not int or not 1 <= value * _UNITS[given[0]] <= _MOST_SECONDS:
        raise UsageError(f"{what}: one time, in whole {', '.join(_UNITS)}, of at most 90 days")
    return value * _UNITS[given[0]]


def _check_order(stages: tuple[Stage, ...], what: str) -> None:
    for number, (stage, after) in enumerate(pairwise(stages), start=1):
        if stage.lasts is None:
            raise UsageError(f"{what}: stage {number} does not say how long it lasts")
        if after.wave == stage.wave and after.share <= stage.share:
            raise UsageError(f"{what}: shares of wave {stage.wave} must grow from stage to stage")
        if after.wave < stage.wave:
            raise UsageError(f"{what}: waves go in their order")
        if after.wave > stage.wave and stage.share != 100:
            raise UsageError(f"{what}: wave {stage.wave} must come to 100 % before wave {after.wave} begins")
    if stages[-1].lasts is not None or stages[-1].share != 100:
        raise UsageError(f"{what}: the last stage has a share of 100 and no time")


def _only(table: dict[str, Any], known: set[str], what: str) -> None:
    if unknown := sorted(set(table) - known):
        raise UsageError(f"{what}: unknown key {unknown[0]!r}", todo="keys are " + ", ".join(sorted(known)))
