"""``coldchain-server keys``: keys and the roles they sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from coldchain.errors import UsageError
from coldchain_server.commands.options import example, home_option, json_option, keyring_of, out, run
from coldchain_server.home import Home
from coldchain_server.signing.ceremony import TOP_LEVEL
from coldchain_server.signing.key_files import DEMO, MODERATE
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state, now_utc, utc_text
from coldchain_server.signing.rotation import (
    ROTATABLE,
    add_regions,
    expiring,
    renew_offline,
    rotate,
    set_log_policy,
)


@click.group()
def keys() -> None:
    """Keys and the roles they sign."""


@keys.command("list", epilog=example("coldchain-server keys list"))
@home_option
@json_option
def keys_list(directory: Path, as_json: bool) -> None:
    """Show which keys are here, what they sign, and when roles expire."""
    home = Home(directory)
    home.require()
    state = run(load_state(home.storage))
    names = keyring_of(home).names()
    rows: list[dict[str, Any]] = []
    for role in ("root", "targets", *sorted(state.delegated), "snapshot", "timestamp"):
        keyids, threshold = state.keyids(role)
        expires = getattr(state, role) if role in TOP_LEVEL else state.delegated[role]
        here = [names[keyid] for keyid in keyids if keyid in names]
        rows.append(
            {
                "role": role,
                "threshold": threshold,
                "keys": keyids,
                "here": here,
                "expires": utc_text(expires.signed.expires),
            }
        )
    lines = [
        f"{row['role']:10} {row['threshold']} of {len(row['keys'])}  until {row['expires']}  here: {' '.join(row['here']) or 'none'}"
        for row in rows
    ]
    warnings = expiring(state, now_utc())
    out({"roles": rows, "warnings": warnings}, as_json, lines + warnings)


@keys.command("rotate", epilog=example("coldchain-server keys rotate timestamp"))
@click.argument("role", type=click.Choice(ROTATABLE))
@click.option("--demo-keys", is_flag=True, help="Stretch the passphrase cheaply: for demonstrations and tests only.")
@home_option
@json_option
def keys_rotate(role: str, demo_keys: bool, directory: Path, as_json: bool) -> None:
    """Make new keys for a role and swear them in (``region``: those of all region roles)."""
    home = Home(directory)
    home.require()

    async def work() -> list[str]:
        async with home.catalogue() as catalogue, catalogue.publisher(wait=30):
            state = await load_state(home.storage)
            strength = DEMO if demo_keys else MODERATE
            return await rotate(state, keyring_of(home), home.storage, role, now=now_utc(), strength=strength)

    names = run(work())
    out(
        {"role": role, "keys": names},
        as_json,
        [f"{role} is signed by {', '.join(names)} from now on; destroy the old keys"],
    )


@keys.command("renew", epilog=example("coldchain-server keys renew root"))
@click.argument("role", type=click.Choice(["root", "targets"]))
@home_option
@json_option
def keys_renew(role: str, directory: Path, as_json: bool) -> None:
    """Sign an offline role anew with the same keys, for another year."""
    home = Home(directory)
    home.require()

    async def work() -> None:
        async with home.catalogue() as catalogue, catalogue.publisher(wait=30):
            await renew_offline(await load_state(home.storage), keyring_of(home), home.storage, role, now=now_utc())

    run(work())
    out({"role": role}, as_json, [f"{role} is signed for another year"])


@keys.command("log", epilog=example("coldchain-server keys log > log.vkey"))
@home_option
@json_option
def keys_log(directory: Path, as_json: bool) -> None:
    """Print the public log's key (its vkey): what witnesses and policies need."""
    home = Home(directory)
    home.require()
    vkey = policy_of(run(load_state(home.storage))).logs[0].vkey
    out({"vkey": vkey}, as_json, [vkey])


@keys.command("policy", epilog=example("coldchain-server keys policy witnesses.policy"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--log-name", default="", help="The log's name, if there is no log yet; by default PRODUCT-log.")
@home_option
@json_option
def keys_policy(file: Path, log_name: str, directory: Path, as_json: bool) -> None:
    """Tell customers which witnesses to ask for: FILE has witness, group and quorum lines (C2SP log policy).

    It goes into a new root, so root keys must be here. Customers with a policy of their own keep that.
    """
    home = Home(directory)
    home.require()
    name = log_name or f"{home.settings().product}-log"
    try:
        lines = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error

    async def work() -> bytes:
        async with home.catalogue() as catalogue, catalogue.publisher(wait=30):
            state = await load_state(home.storage)
            return await set_log_policy(state, keyring_of(home), home.storage, lines, log_name=name, now=now_utc())

    policy = run(work()).decode()
    follow = "publish a release now: by this policy new endpoints judge the newest one, too"
    out(
        {"policy": policy.splitlines()},
        as_json,
        ["the root carries this policy from now on:", *policy.splitlines(), follow],
    )


@keys.command("regions", epilog=example("coldchain-server keys regions"))
@home_option
@json_option
def keys_regions(directory: Path, as_json: bool) -> None:
    """Swear in roles for regions that were added to regions.toml."""
    home = Home(directory)
    home.require()

    async def work() -> list[str]:
        async with home.catalogue() as catalogue, catalogue.publisher(wait=30):
            state = await load_state(home.storage)
            names, product = list(home.regions().regions), home.settings().product
            return await add_regions(state, keyring_of(home), home.storage, names, product=product, now=now_utc())

    new = run(work())
    out({"added": new}, as_json, [f"new roles: {' '.join(new)}" if new else "every region has its role already"])
