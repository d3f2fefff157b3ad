"""``coldchain-server rollout``: when a published release reaches endpoints, by region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from coldchain.errors import UsageError
from coldchain_server.commands.options import channel_option, example, home_option, json_option, keyring_of, out, run
from coldchain_server.home import Home
from coldchain_server.release.rollout import Course, Entries, advance, change_rollout, course
from coldchain_server.signing.roles import load_state, now_utc


@click.group()
def rollout() -> None:
    """When a published release reaches endpoints, by region."""


def _rollout(directory: Path, channel: str, regions: tuple[str, ...], as_json: bool, **change: Any) -> None:
    home = Home(directory)
    home.require()

    async def work() -> Entries:
        async with home.catalogue() as catalogue:
            return await change_rollout(home, catalogue, keyring_of(home), channel, regions, now=now_utc(), **change)

    found = run(work())
    out({"channel": channel, "regions": found}, as_json, _lines(found))


def _lines(entries: Entries) -> list[str]:
    lines = []
    for region, entry in entries.items():
        withdrawn = ", ".join(map(str, entry.get("withdrawn", ())))
        line = f"{region:6} release {entry['release']}: {entry['share']} %{' held' if entry['held'] else ''}"
        lines.append(line + (f", and endpoints on withdrawn {withdrawn} at once" if withdrawn else ""))
    return lines


def _course(stands: Course, as_json: bool, moved: bool | None = None) -> None:
    """Where a rollout stands, for a person or as JSON."""
    lines = _lines(stands.entries)
    if stands.scheduled:
        assert stands.schedule is not None
        assert stands.standing is not None
        stages, since = len(stands.schedule.stages), f"{stands.standing.since:%Y-%m-%d %H:%M:%S} UTC"
        hurry = ", in an emergency" if stands.standing.emergency else ""
        lines.append(f"stage {stands.reached} of {stages} since {since}{hurry}")
        halted = stands.standing.halted
        if halted is not None:
            lines.append(f"HALTED ITSELF at {halted.at:%Y-%m-%d %H:%M:%S} UTC: {halted.why}")
        if stands.held:
            lines.append(f"held in {', '.join(stands.held)}: it advances nowhere until coldchain-server rollout resume")
        elif stands.due is not None:
            lines.append(f"the next stage comes at {stands.due:%Y-%m-%d %H:%M:%S} UTC")
    elif stands.entries:
        lines.append("no schedule: shares change by rollout set alone")
    found = stands.as_json() | ({} if moved is None else {"moved": moved})
    out(found, as_json, lines or [f"no release of {stands.channel} is published yet"])


region_option = click.option(
    "--region", "regions", multiple=True, help="A region; may be given again. All when none is."
)


@rollout.command("set", epilog=example("coldchain-server rollout set 25 --region us"))
@click.argument("share", type=click.IntRange(0, 100), required=False)
@click.option("--emergency", is_flag=True, help="From now on stages last only as long as an emergency's do.")
@region_option
@channel_option
@home_option
@json_option
def rollout_set(
    share: int | None, emergency: bool, regions: tuple[str, ...], channel: str, directory: Path, as_json: bool
) -> None:
    """Let SHARE percent of a region's endpoints apply the newest release.

    Where stages of rollout.toml are in force, they go on from the shares that you set. No share grows before the first stage was there
    for its time, and none falls but where the rollout is held.
    """
    if share is None and not emergency:
        raise UsageError("there is nothing to set", todo="give a SHARE, or --emergency")
    _rollout(directory, channel, regions, as_json, share=share, emergency=emergency)


@rollout.command("advance", epilog=example("coldchain-server rollout advance"))
@click.option("--early", is_flag=True, help="Before the stage's time is over; the first stage lasts its time even so.")
@channel_option
@home_option
@json_option
def rollout_advance(early: bool, channel: str, directory: Path, as_json: bool) -> None:
    """Go on to the next stage if its time has come: what serve does by itself."""
    home = Home(directory)
    home.require()

    async def work() -> tuple[Course, bool]:
        async with home.catalogue() as catalogue:
            return await advance(home, catalogue, keyring_of(home), channel, now=now_utc(), early=early)

    stands, moved = run(work())
    _course(stands, as_json, moved)


@rollout.command("hold", epilog=example("coldchain-server rollout hold --region jp"))
@region_option
@channel_option
@home_option
@json_option
def rollout_hold(regions: tuple[str, ...], channel: str, directory: Path, as_json: bool) -> None:
    """Stop a rollout where it is. Held in one region, its stages advance in none."""
    _rollout(directory, channel, regions, as_json, held=True)


@rollout.command("resume", epilog=example("coldchain-server rollout resume --region jp"))
@click.option(
    "--ignore-reports-of",
    "ignore",
    multiple=True,
    metavar="NAME",
    help="A sender (reports show) whose reports count no more for this release; may be given again.",
)
@region_option
@channel_option
@home_option
@json_option
def rollout_resume(
    ignore: tuple[str, ...], regions: tuple[str, ...], channel: str, directory: Path, as_json: bool
) -> None:
    """Let a held rollout go on. The stage it stands in begins anew, and endpoints' reports of it count anew."""
    _rollout(directory, channel, regions, as_json, held=False, ignore=ignore)


@rollout.command("show", epilog=example("coldchain-server rollout show"))
@channel_option
@home_option
@json_option
def rollout_show(channel: str, directory: Path, as_json: bool) -> None:
    """Show the published shares of a channel, and which stage they are."""
    home = Home(directory)
    home.require()
    home.check_channel(channel)
    _course(course(home, run(load_state(home.storage)), channel), as_json)
