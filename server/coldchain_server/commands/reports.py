"""``coldchain-server reports``: what endpoints report of updates, and the edges that send it on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from coldchain.errors import StateError, UsageError
from coldchain.mirror.directory import OWN
from coldchain_server.commands.options import example, home_option, json_option, out, run
from coldchain_server.home import Home
from coldchain_server.release.rollout import course, judgements
from coldchain_server.reports.edges import FILE, EdgeList
from coldchain_server.reports.shown import shown
from coldchain_server.reports.spool import edge_reports
from coldchain_server.signing.roles import load_state
from coldchain_server.storage.durable import make_directory


@click.group()
def reports() -> None:
    """What endpoints report of updates, where they were told to."""


@reports.command("show", epilog=example("coldchain-server reports show --region us"))
@click.option("--region", "regions", multiple=True, help="A region; may be given again. All when none is.")
@click.option("--release", type=click.IntRange(1), help="Only of this release.")
@home_option
@json_option
def reports_show(regions: tuple[str, ...], release: int | None, directory: Path, as_json: bool) -> None:
    """Count reports by region, channel, release and outcome, with each sender's rate of failures."""
    home = Home(directory)
    home.require()
    known = home.regions().regions
    for region in regions:
        if region not in known:
            raise UsageError(f"there is no region {region!r}", todo="regions are " + ", ".join(known))
    found = [one for one in shown(home, regions or tuple(known)) if release in (None, one.release)]
    doubts = _doubts(home)
    value = {"reports": [one.as_json() for one in found], "alone": doubts}
    lines = [line for one in found for line in one.lines()]
    lines += [f"look at {one['sender']}: in {one['region']} it alone is past the limit" for one in doubts]
    out(value, as_json, lines or ["nothing was reported yet"])


def _doubts(home: Home) -> list[dict[str, Any]]:
    """The senders that alone would halt a rollout which the others call good."""
    try:
        state = run(load_state(home.storage))
    except StateError:
        return []
    return [
        {"channel": channel, "region": region, "sender": sender}
        for channel in home.settings().channels
        for region, (_, judgement) in judgements(home, course(home, state, channel)).items()
        for sender in judgement.alone
    ]


@reports.command("add-edge", epilog=example("coldchain-server reports add-edge tokyo-1 --region jp"))
@click.argument("name")
@click.option(
    "--region", "regions", multiple=True, required=True, help="Whose reports it sends on; may be given again."
)
@click.option(
    "--edge",
    "behind",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The directory of an edge that the new one stands behind, instead of an origin's.",
)
@home_option
@json_option
def reports_add_edge(name: str, regions: tuple[str, ...], behind: Path | None, directory: Path, as_json: bool) -> None:
    """Let an edge send counted reports on: prints its token, once.

    Put the token into a file that only the edge may read, and start the edge with --report-token FILE. Run this as the user whose
    directory it is.
    """
    if behind is None:
        home = Home(directory)
        home.require()
        _check(regions, home.regions().regions)
        path = home.directory / FILE
    else:
        if not (behind / OWN).is_dir():
            raise UsageError(f"{behind} is no edge's directory", todo="start that edge first")
        make_directory(edge_reports(behind))
        path = edge_reports(behind) / FILE
    token = EdgeList(path).add(name, regions)
    value = {"name": name, "regions": list(regions), "token": token, "file": str(path)}
    out(value, as_json, [token])


def _check(regions: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for region in regions:
        if region not in known:
            raise UsageError(f"there is no region {region!r}", todo="regions are " + ", ".join(known))
