"""``coldchain-server release``: build, approve and publish releases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coldchain.bundle.manifest import Manifest
from coldchain.errors import ColdchainError, StateError, UsageError
from coldchain_server.catalogue.interface import Catalogue, Release
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
from coldchain_server.release.approve import approve as approve_release
from coldchain_server.release.build import build as build_release
from coldchain_server.release.build import discard as discard_release
from coldchain_server.release.earlier import manifest_of
from coldchain_server.release.gate_again import GateAgain, gate_again
from coldchain_server.release.log import Logged, log_release
from coldchain_server.release.publish import publish as publish_release
from coldchain_server.release.rollout import Course, course
from coldchain_server.signing.roles import load_state, now_utc


@click.group()
def release() -> None:
    """Build, approve and publish releases."""


@release.command("build", epilog=example("coldchain-server release build --home origin"))
@channel_option
@click.option("--no-pull", is_flag=True, help="Take the feeds' newest snapshots instead of reading their sources.")
@click.option(
    "--content-of",
    metavar="CHANNEL:N",
    default="",
    help="Take what another release was made of, as early:7 to promote it, instead of what the feeds hold now.",
)
@click.option("--no-log", is_flag=True, help="Only build: look at it first, and put it into the public log later.")
@click.option(
    "--without-gate",
    default="",
    metavar="REASON",
    help="Go on although a check of the gate cannot be run here. The reason is published in the manifest.",
)
@home_option
@json_option
def release_build(
    channel: str, no_pull: bool, content_of: str, no_log: bool, without_gate: str, directory: Path, as_json: bool
) -> None:
    """Build the next release (every region's bundle, deltas and manifest) and put it into the public log.

    Before that it is tried in every installed engine (docs/gate.md), and what fails there is not released.
    An entry of the log cannot be taken back. Approvals come after it: nothing can be valid that is not logged.
    """
    home = Home(directory)
    home.require()
    reason = check_reason(without_gate, "--without-gate") if without_gate else ""

    async def work() -> Any:
        async with home.catalogue() as catalogue:
            return await build_release(
                home,
                catalogue,
                channel=channel,
                now=now_utc(),
                pull_feeds=not no_pull,
                content_of=await _content(home, catalogue, content_of) if content_of else None,
                without_gate=reason,
                say=say,
            )

    built = run(work())
    logged = None
    error: ColdchainError | None = None
    if not no_log:
        try:
            logged = run(_log(home, channel, built.number))
        except ColdchainError as refused:
            error = refused
    manifest = built.manifest
    lines = [f"release {built.number} of {channel}: {manifest.whole.records:,} records, {manifest.whole.bytes:,} bytes"]
    for name, facts in manifest.regions.items():
        sizes = built.sizes[name]
        newest = max((int(file[5:-4]) for file in sizes if file.startswith("from-")), default=None)
        delta = f", from {newest}: {sizes[f'from-{newest}.ccd']:,}" if newest else ""
        lines.append(f"  {name:5} {facts.facts.records:,} records; full {sizes['full.ccd']:,} bytes{delta}")
        lines += [
            f"        {entry.action} {entry.kind} {entry.name} ({entry.records} records): {entry.reason}"
            for entry in facts.policy
        ]
    lines += ["  nothing changed since the release before"] if built.unchanged else []
    lines += [f"  {line}" for line in (manifest.gate_words(), *manifest.gate_exceptions())]
    if error is not None:
        if not as_json:
            out({}, as_json, lines)
        error.todo = f"{error.todo}; then: coldchain-server release log {built.number}".removeprefix("; ")
        raise error
    step = "log" if logged is None else "approve"
    lines += _log_lines(logged) if logged is not None else []
    lines.append(f"next: coldchain-server release {step} {built.number}")
    found = {"channel": channel, "release": built.number, "manifest": json.loads(manifest.encode())}
    out(found | (_log_json(logged) if logged is not None else {}), as_json, lines)


async def _content(home: Home, catalogue: Catalogue, named: str) -> Manifest:
    """The manifest of a published release, by ``CHANNEL:N``."""
    channel, colon, number = named.partition(":")
    if not colon or not number.isdecimal() or len(number) > 15:
        raise UsageError(f"{named!r} names no release", todo="as in --content-of early:7")
    home.check_channel(channel)
    found = await catalogue.release(channel, int(number))
    if found is None or found.state != "published":
        raise StateError(f"release {number} of {channel} is not published", todo="coldchain-server release list")
    return manifest_of(home, found)


async def _log(home: Home, channel: str, number: int) -> Logged:
    from coldchain_server.log.http_witnesses import HttpWitnesses  # aiohttp: a third of what other commands start with

    async with home.catalogue() as catalogue:
        keyring, witnesses = keyring_of(home), HttpWitnesses()
        return await log_release(home, catalogue, keyring, witnesses, channel, number, now=now_utc())


def _log_lines(logged: Logged) -> list[str]:
    who = f"cosigned by {', '.join(logged.witnesses)}" if logged.witnesses else "the policy asks for no witness"
    return [
        f"  public log: entry {logged.index} of {logged.origin}, {who}; proof {logged.proof_bytes:,} bytes",
    ]


def _log_json(logged: Logged) -> dict[str, Any]:
    return {
        "log": logged.origin,
        "index": logged.index,
        "size": logged.size,
        "witnesses": list(logged.witnesses),
        "proof_bytes": logged.proof_bytes,
    }


@release.command("log", epilog=example("coldchain-server release log 42"))
@number_argument
@channel_option
@home_option
@json_option
def release_log(number: int, channel: str, directory: Path, as_json: bool) -> None:
    """Put a built release into the public log and before the witnesses, if building it did not.

    Without a quorum of witnesses nothing can be signed; run it again when they answer.
    """
    home = Home(directory)
    home.require()
    logged = run(_log(home, channel, number))
    out(
        {"release": number, "channel": channel, **_log_json(logged)},
        as_json,
        [*_log_lines(logged), f"next: coldchain-server release approve {number}"],
    )


@release.command("approve", epilog=example("coldchain-server release approve 42 --key approver-1"))
@number_argument
@channel_option
@click.option("--key", default="", help="The approver's key; by default one at hand that has not signed.")
@click.option("--gate", is_flag=True, help="Try the release in this machine's engines first, as release gate does.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="A directory of your own, which nobody else can write: files that you have checked before are not checked again.",
)
@home_option
@json_option
def release_approve(
    number: int, channel: str, key: str, gate: bool, cache: Path | None, directory: Path, as_json: bool
) -> None:
    """Check a built release and add an approver's signature to every region's role."""
    home = Home(directory)
    home.require()
    if cache is not None and cache.resolve().is_relative_to(home.directory.resolve()):
        raise UsageError(
            f"{cache} is inside the origin's directory, where the assembler writes", todo="give a directory of your own"
        )

    async def work() -> tuple[str, bool]:
        async with home.catalogue() as catalogue:
            if gate:
                tried = await gate_again(home, catalogue, channel, number, say=say)
                if tried.error is not None:
                    raise tried.error
            keyring = keyring_of(home)
            return await approve_release(home, catalogue, keyring, channel, number, now=now_utc(), key=key, cache=cache)

    signed, complete = run(work())
    state = "every region has its signatures" if complete else "more signatures are needed"
    follow = f"next: coldchain-server release publish {number}" if complete else "next: another approver"
    line = f"release {number} of {channel}: bundles assembled again and compared, signed by {signed}; {state}"
    out({"release": number, "channel": channel, "signed": signed, "approved": complete}, as_json, [line, follow])


@release.command("gate", epilog=example("coldchain-server release gate 42"))
@number_argument
@channel_option
@home_option
@json_option
def release_gate(number: int, channel: str, directory: Path, as_json: bool) -> None:
    """Try a release again in this machine's engines, and compare with what its manifest says of the gate."""
    home = Home(directory)
    home.require()

    async def work() -> GateAgain:
        async with home.catalogue() as catalogue:
            return await gate_again(home, catalogue, channel, number, say=say)

    found = run(work())
    if found.error is not None:
        raise found.error
    lines, rows = [f"release {number} of {channel}, tried again here:"], []
    for here, said in found.rows():
        claim = said.result if said else "nothing"
        lines.append(f"  {here.check:14} {here.result:7} (the manifest says {claim}): {here.detail}")
        rows.append({"check": here.check, "result": here.result, "detail": here.detail, "manifest": claim})
    lines += [f"  {line}" for line in found.manifest.gate_exceptions()]
    out({"release": number, "channel": channel, "checks": rows, "without": found.manifest.without_gate}, as_json, lines)


@release.command("publish", epilog=example("coldchain-server release publish 42 --share 10"))
@number_argument
@channel_option
@click.option(
    "--share",
    type=click.IntRange(0, 100),
    help="Percent of endpoints at first; by default all, or the first stage of rollout.toml.",
)
@click.option("--emergency", is_flag=True, help="Stages of rollout.toml last only as long as an emergency's do.")
@home_option
@json_option
def release_publish(
    number: int, channel: str, share: int | None, emergency: bool, directory: Path, as_json: bool
) -> None:
    """Publish an approved release in every region."""
    home = Home(directory)
    home.require()

    async def work() -> tuple[Manifest, Course]:
        async with home.catalogue() as catalogue:
            keyring, now = keyring_of(home), now_utc()
            manifest = await publish_release(
                home, catalogue, keyring, channel, number, now=now, share=share, emergency=emergency
            )
        return manifest, course(home, await load_state(home.storage), channel)

    manifest, stands = run(work())
    regions = sorted(manifest.regions)
    shares = {region: stands.entries[region]["share"] for region in regions}
    percent = sorted(set(shares.values()))
    words = f"for {percent[0]} % of endpoints" if len(percent) == 1 else "by wave"
    lines = [f"release {number} of {channel} is published in {', '.join(regions)} {words}"]
    if stands.due is not None:
        lines.append(f"the next stage comes at {stands.due:%Y-%m-%d %H:%M:%S} UTC: coldchain-server rollout show")
    share = percent[0] if len(percent) == 1 else None
    found = {"release": number, "channel": channel, "regions": regions, "share": share, "shares": shares}
    out(found | {"manifest": manifest.digest}, as_json, lines)


@release.command("discard", epilog=example("coldchain-server release discard 42"))
@number_argument
@channel_option
@home_option
@json_option
def release_discard(number: int, channel: str, directory: Path, as_json: bool) -> None:
    """Give up a release that is not published. In the public log it stays, with its number."""
    home = Home(directory)
    home.require()

    async def work() -> bool:
        async with home.catalogue() as catalogue:
            return await discard_release(home, catalogue, channel, number, now=now_utc())

    logged = run(work())
    rest = "it stays in the public log, and its number is used" if logged else "its number is the next one's"
    out(
        {"release": number, "channel": channel, "state": "discarded", "logged": logged},
        as_json,
        [f"release {number} of {channel} is given up; {rest}"],
    )


@release.command("list", epilog=example("coldchain-server release list"))
@channel_option
@home_option
@json_option
def release_list(channel: str, directory: Path, as_json: bool) -> None:
    """Show the releases of a channel."""
    home = Home(directory)
    home.require()

    async def work() -> list[Release]:
        async with home.catalogue() as catalogue:
            return await catalogue.releases(channel)

    found = run(work())
    if not found:
        home.check_channel(channel)
    lines = [f"{one.number:6} {one.state:10} {one.changed}  manifest {one.manifest[:16]}" for one in found]
    rows = [
        {"release": one.number, "state": one.state, "created": one.created, "manifest": one.manifest} for one in found
    ]
    out({"channel": channel, "releases": rows}, as_json, lines or [f"{channel} has no release yet"])


@release.command("show", epilog=example("coldchain-server release show 42"))
@number_argument
@channel_option
@home_option
@json_option
def release_show(number: int, channel: str, directory: Path, as_json: bool) -> None:
    """Show a release's manifest."""
    home = Home(directory)
    home.require()

    async def work() -> Release | None:
        async with home.catalogue() as catalogue:
            return await catalogue.release(channel, number)

    found = run(work())
    if found is None:
        raise StateError(f"there is no release {number} of {channel}", todo="coldchain-server release list")
    manifest = json.loads(home.content.get(found.manifest))
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    out({"state": found.state, "manifest": manifest}, as_json, [f"release {number} of {channel}: {found.state}", text])
