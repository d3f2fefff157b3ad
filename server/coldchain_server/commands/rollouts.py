"""``coldchain-server rollout``: when a published release reaches endpoints, by region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from coldchain_server.commands.options import channel_option, example, home_option, json_option, keyring_of, out, run
from coldchain_server.home import Home
from coldchain_server.release.rollout import change_rollout
from coldchain_server.signing.roles import now_utc


@click.group()
def rollout() -> None:
    """When a published release reaches endpoints, by region."""


def _rollout(directory: Path, channel: str, regions: tuple[str, ...], as_json: bool, **change: Any) -> None:
    home = Home(directory)
    home.require()

    async def work() -> dict[str, dict[str, Any]]:
        async with home.catalogue() as catalogue:
            return await change_rollout(home, catalogue, keyring_of(home), channel, regions, now=now_utc(), **change)

    found = run(work())
    lines = [
        f"{region:6} release {entry['release']}: {entry['share']} %{' held' if entry['held'] else ''}"
        for region, entry in found.items()
    ]
    out({"channel": channel, "regions": found}, as_json, lines)


region_option = click.option(
    "--region", "regions", multiple=True, help="A region; may be given again. All when none is."
)


@rollout.command("set", epilog=example("coldchain-server rollout set 25 --region us"))
@click.argument("share", type=click.IntRange(0, 100))
@region_option
@channel_option
@home_option
@json_option
def rollout_set(share: int, regions: tuple[str, ...], channel: str, directory: Path, as_json: bool) -> None:
    """Let SHARE percent of a region's endpoints apply the newest release."""
    _rollout(directory, channel, regions, as_json, share=share)


@rollout.command("hold", epilog=example("coldchain-server rollout hold --region jp"))
@region_option
@channel_option
@home_option
@json_option
def rollout_hold(regions: tuple[str, ...], channel: str, directory: Path, as_json: bool) -> None:
    """Stop a rollout where it is."""
    _rollout(directory, channel, regions, as_json, held=True)


@rollout.command("resume", epilog=example("coldchain-server rollout resume --region jp"))
@region_option
@channel_option
@home_option
@json_option
def rollout_resume(regions: tuple[str, ...], channel: str, directory: Path, as_json: bool) -> None:
    """Let a held rollout go on."""
    _rollout(directory, channel, regions, as_json, held=False)
