"""``coldchain-server withdraw`` and ``suppress``: something bad is out. Both make a higher release at once; the threshold holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from coldchain.errors import UsageError
from coldchain_server.assembly.suppressions import check_line
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.commands.options import (
    channel_option,
    example,
    home_option,
    json_option,
    keyring_of,
    number_argument,
    out,
    run,
    say,
)
from coldchain_server.gate.settings import check_reason
from coldchain_server.home import Home
from coldchain_server.release import suppress as suppressing
from coldchain_server.release.approve import approve
from coldchain_server.release.log import log_release
from coldchain_server.release.publish import publish
from coldchain_server.release.withdraw import Prepared
from coldchain_server.release.withdraw import withdraw as withdraw_release
from coldchain_server.signing.roles import now_utc

reason_option = click.option("--reason", default="", help="Why, in public: it stands in the release's manifest.")
publish_option = click.option(
    "--publish",
    "at_once",
    is_flag=True,
    help="Approve it with an approver's key that is here, and publish it, in the same breath.",
)
without_gate_option = click.option(
    "--without-gate",
    default="",
    metavar="REASON",
    help="Go on although a check of the gate cannot be run here. The reason is published in the manifest.",
)


async def _whole(
    home: Home, channel: str, prepare: Callable[[Catalogue], Awaitable[Prepared]], at_once: bool
) -> tuple[Prepared, str]:
    """From the draft to the log, and with ``at_once`` to the timestamp; returns the draft and the state it came to."""
    from coldchain_server.log.http_witnesses import HttpWitnesses  # aiohttp: a third of what other commands start with

    async with home.catalogue() as catalogue:
        found = await prepare(catalogue)
        state, keyring = found.state, keyring_of(home)
        if state == "built":
            await log_release(home, catalogue, keyring, HttpWitnesses(), channel, found.number, now=now_utc())
            state = "logged"
        while at_once and state == "logged":
            _, complete = await approve(home, catalogue, keyring, channel, found.number, now=now_utc())
            state = "approved" if complete else state
        if at_once:
            await publish(home, catalogue, keyring, channel, found.number, now=now_utc(), emergency=True)
            state = "published"
    return found, state


def _told(found: Prepared, state: str, channel: str, head: str, as_json: bool, **more: Any) -> None:
    lines = [f"release {number} was waiting and is given up" for number in found.gave_up] + [head]
    follow = {
        "logged": f"coldchain-server release approve {found.number}, then release publish {found.number} --emergency",
        "approved": f"coldchain-server release publish {found.number} --emergency",
    }.get(state)
    lines.append(f"it is {state}" + (f"; next: {follow}" if follow else ""))
    answer = {"channel": channel, "release": found.number, "state": state, "gave_up": list(found.gave_up)}
    out(answer | more, as_json, lines)


@click.command(epilog=example('coldchain-server withdraw 41 --reason "matches a printer driver"'))
@number_argument
@reason_option
@publish_option
@without_gate_option
@click.option("--policies-now", is_flag=True, help="Go on although policies changed since the release that comes back.")
@channel_option
@home_option
@json_option
def withdraw(
    number: int,
    reason: str,
    at_once: bool,
    without_gate: str,
    policies_now: bool,
    channel: str,
    directory: Path,
    as_json: bool,
) -> None:
    """Take back release NUMBER: build and log a higher release with the content of the last good one before it.

    Endpoints that run release NUMBER or a later one take it at their next poll, once it is approved and published.
    """
    home = Home(directory)
    home.require()
    check_line(reason, "--reason")

    async def prepare(catalogue: Catalogue) -> Prepared:
        return await withdraw_release(
            home,
            catalogue,
            channel,
            number,
            reason=reason,
            now=now_utc(),
            policies_now=policies_now,
            without_gate=check_reason(without_gate, "--without-gate") if without_gate else "",
            say=say,
        )

    found, state = run(_whole(home, channel, prepare, at_once))
    said = found.manifest.withdraws
    assert said is not None
    many = ", ".join(map(str, said.releases))
    head = f"release {found.number} of {channel} withdraws {many} and restores the content of {said.restores}"
    _told(found, state, channel, head, as_json, withdraws=list(said.releases), restores=said.restores)


@click.command(epilog=example('coldchain-server suppress Acme.Test.Backdoor-1423 --reason "matches a printer driver"'))
@click.argument("name")
@reason_option
@without_gate_option
@click.option("--lift", is_flag=True, help="Take the suppression away again, for the releases from now on.")
@publish_option
@channel_option
@home_option
@json_option
def suppress(
    name: str,
    reason: str,
    at_once: bool,
    without_gate: str,
    lift: bool,
    channel: str,
    directory: Path,
    as_json: bool,
) -> None:
    """Leave the signature NAME out in every region: build and log a small release without it.

    It stays out of all later releases, with its public reason, until you lift that.
    """
    home = Home(directory)
    home.require()
    if lift:
        if reason or at_once:
            raise UsageError("--lift changes later releases only", todo="leave --reason and --publish out")
        suppressing.lift(home, name)
        out({"lifted": name}, as_json, [f"{name} is in the releases from now on again: coldchain-server release build"])
        return
    check_line(reason, "--reason")

    async def prepare(catalogue: Catalogue) -> Prepared:
        without = check_reason(without_gate, "--without-gate") if without_gate else ""
        return await suppressing.suppress(
            home, catalogue, channel, name, reason=reason, now=now_utc(), without_gate=without, say=say
        )

    found, state = run(_whole(home, channel, prepare, at_once))
    records = sum(
        one.records
        for facts in list(found.manifest.regions.values())[:1]
        for one in facts.policy
        if (one.kind, one.name) == ("signature", name)
    )
    head = f"release {found.number} of {channel} leaves {name} out in every region ({records} records)"
    _told(found, state, channel, head, as_json, suppresses=name, records=records)
