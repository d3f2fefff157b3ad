"""``coldchain-server residency``: in whose jurisdiction the outcome reports of a region are kept."""

from __future__ import annotations

from pathlib import Path

import click

from coldchain.canonical import Object
from coldchain.errors import UsageError
from coldchain_server.commands.options import example, home_option, json_option, keyring_of, out, run, say
from coldchain_server.home import Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.reports.move import Signing, abandon, begin, go_on, logged_move, mover
from coldchain_server.reports.moving import Moving, all_moving
from coldchain_server.reports.stores import retire_store
from coldchain_server.reports.whereabouts import whereabouts
from coldchain_server.signing.roles import now_utc


@click.group()
def residency() -> None:
    """In whose jurisdiction the outcome reports of a region are kept."""


@residency.command("show", epilog=example("coldchain-server residency show"))
@click.option(
    "--verify", is_flag=True, help="Check every store's file, too, and ask the witnesses which log they hold."
)
@home_option
@json_option
def residency_show(verify: bool, directory: Path, as_json: bool) -> None:
    """Prove where every report is: read all stores and every move in the public log, and hold them against regions.toml.

    Ends with 53 where something does not fit.
    """
    home = Home(directory)
    home.require()
    found = run(whereabouts(home, now_utc(), HttpWitnesses() if verify else None))
    error = found.error
    if error is None or not as_json:
        out(found.as_json(), as_json, found.lines())
    if error is not None:
        raise error  # with --json it says all that was found


@residency.command("move", epilog=example("coldchain-server residency move --region us --to ch"))
@click.option("--region", default="", help="The region whose reports move; an old name stands for all of its names.")
@click.option("--all", "every", is_flag=True, help="Every region that is not there yet, in the order of regions.toml.")
@click.option("--to", "target", default="", help="The store that they move to.")
@click.option("--resume", is_flag=True, help="Go on with the moves that are on their way.")
@click.option("--abandon", "give_up", is_flag=True, help="Give up the move of --region, while it is not in the log.")
@home_option
@json_option
def residency_move(
    region: str, every: bool, target: str, resume: bool, give_up: bool, directory: Path, as_json: bool
) -> None:
    """Move the reports of a region to another store: copied, counted, compared, logged, switched, and removed where they were.

    Reports go on coming in meanwhile. Stopped anywhere, the same command (or --resume) goes on. Without a quorum of witnesses nothing
    takes effect.
    """
    _check(region, every=every, target=target, resume=resume, give_up=give_up)
    home = Home(directory)
    home.require()
    with mover(home):
        if give_up:
            moving = abandon(home, region)
            out(
                {"abandoned": moving.region, "store": moving.source},
                as_json,
                [f"the move of {moving.region} is given up; its reports are in store {moving.source}, as they were"],
            )
            return
        moved = run(_move(home, region, target, every=every, resume=resume))
    lines = [f"log entry {one.index}: {logged_move(one)}" for one in moved]
    idle = "no move is on its way" if resume else f"{region or 'every region'} is in store {target} already"
    out({"moves": [_as_json(one) for one in moved]}, as_json, lines or [idle])


@residency.command("retire", epilog=example("coldchain-server residency retire us"))
@click.argument("store")
@home_option
@json_option
def residency_retire(store: str, directory: Path, as_json: bool) -> None:
    """Take away a store that keeps nothing any more, so that its volume may go. What keeps something is not taken away."""
    home = Home(directory)
    home.require()
    with mover(home):
        where = retire_store(home, store)
    out({"store": store, "directory": str(where)}, as_json, [f"store {store} is no more; {where} may go"])


def _check(region: str, *, every: bool, target: str, resume: bool, give_up: bool) -> None:
    given = (bool(region), every, bool(target), resume, give_up)
    allowed = {
        (True, False, True, False, False),
        (False, True, True, False, False),
        (False, False, False, True, False),
        (True, False, False, False, True),
    }
    if given not in allowed:
        raise UsageError(
            "what is to move where?",
            todo="give --region NAME --to STORE, --all --to STORE, --resume, or --region NAME --abandon",
        )


async def _move(home: Home, region: str, target: str, *, every: bool, resume: bool) -> list[Moving]:
    signing = Signing(keyring_of(home), HttpWitnesses(), now_utc)
    regions = home.regions().regions
    names = [name for name, one in regions.items() if not one.alias] if every else [region]
    moved = []
    async with home.catalogue() as catalogue:
        if resume:
            return [await go_on(home, catalogue, moving, signing, say) for moving in all_moving(home)]
        for name in names:
            found = begin(home, name, target)
            if found is not None:
                moved.append(await go_on(home, catalogue, found, signing, say))
    return moved


def _as_json(one: Moving) -> Object:
    move, final = logged_move(one), one.final
    assert final is not None
    return {
        "region": one.region,
        "old_names": list(one.old_names),
        "from": one.source,
        "to": one.target,
        "index": one.index,
        "reports": move.reports,
        "rows": move.rows,
        "sha256": move.sha256,
        "at_switch": final.as_json(),
    }
