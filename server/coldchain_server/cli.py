"""``coldchain-server``: what operators type. Every command has ``--json``, an example in its help, and documented exit codes.

The passphrase of the keys comes from COLDCHAIN_PASSPHRASE or is asked for on a terminal; it is never an argument, because arguments
are visible to every user of the machine.
"""

from __future__ import annotations

from pathlib import Path

import click

import coldchain
from coldchain.bundle.description import check_token
from coldchain.errors import MalformedError, UsageError
from coldchain_server.assembly.regions import DEFAULT as DEFAULT_REGIONS
from coldchain_server.commands.attestations import release_attest, release_provenance
from coldchain_server.commands.edge import edge
from coldchain_server.commands.fast_path import suppress, withdraw
from coldchain_server.commands.feeds import feed
from coldchain_server.commands.group import Commands
from coldchain_server.commands.keys import keys
from coldchain_server.commands.options import (
    example,
    json_option,
    keyring_of,
    listening_options,
    out,
    passphrase,
    run,
)
from coldchain_server.commands.regions import region
from coldchain_server.commands.releases import release
from coldchain_server.commands.reports import reports
from coldchain_server.commands.residency import residency
from coldchain_server.commands.rollouts import rollout
from coldchain_server.commands.witness import witness
from coldchain_server.founding import Founding, found
from coldchain_server.home import DEFAULT_SETTINGS, Home
from coldchain_server.signing.key_files import DEMO, MODERATE
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import NO_WITNESS, policy_of
from coldchain_server.signing.roles import load_state, now_utc


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(coldchain.__version__, prog_name="coldchain-server")
def main() -> None:
    """Assemble, sign and serve anti-virus signature bundles as verifiable deltas.

    Exit codes are listed in docs/exit-codes.md.
    """


@main.command(epilog=example("coldchain-server init origin"))
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--product", default="coldchain", show_default=True, help="The product's name in all signed files.")
@click.option(
    "--regions", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="A regions.toml to start from."
)
@click.option("--log-name", default="", help="The public log's name, for ever; by default PRODUCT-log.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Witness, group and quorum lines (C2SP log policy): whose cosignatures customers ask for.",
)
@click.option("--demo-keys", is_flag=True, help="Stretch the passphrase cheaply: for demonstrations and tests only.")
@json_option
def init(
    directory: Path,
    product: str,
    regions: Path | None,
    log_name: str,
    policy: Path | None,
    demo_keys: bool,
    as_json: bool,
) -> None:
    """Make an origin in DIRECTORY: settings, regions, and a key ceremony for every role."""
    try:
        token = check_token(product, "product")
        text = regions.read_text(encoding="utf-8") if regions else DEFAULT_REGIONS
        lines = policy.read_bytes() if policy else NO_WITNESS
    except MalformedError as error:
        raise UsageError(error.what) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{getattr(error, 'filename', None) or regions} cannot be read: {error}") from error
    settings = DEFAULT_SETTINGS.replace('# product = "coldchain"', f'product = "{token}"')
    strength = DEMO if demo_keys else MODERATE
    founding = Founding(settings, text, passphrase(confirm=True), strength, log_name, lines)
    home = run(found(directory, founding, now=now_utc()))
    names = list(home.regions().regions)
    keyring = Keyring(home.keys, passphrase())
    told = policy_of(run(load_state(home.storage)))
    asked = told.witnesses_of(told.quorum)
    out(
        {
            "home": str(directory),
            "regions": names,
            "keys": sorted(keyring.files()),
            "log": told.logs[0].vkey,
            "witnesses": asked,
        },
        as_json,
        [
            f"made {len(keyring.files())} keys and signed version 1 of every role; regions: {' '.join(names)}",
            f"customers pin {directory.name}/root.json: give it to them on a way of its own",
            f"carry root-* and targets-* out of {directory.name}/keys, and one approver to another jurisdiction",
            f"public log: {told.logs[0].vkey}",
            f"  customers ask for a quorum of {', '.join(asked)}: give them this vkey"
            if asked
            else "  NO WITNESS yet: nobody else vouches for the log; coldchain-server keys policy FILE names some",
        ],
    )


@main.command(epilog=example("coldchain-server serve origin --port 8080"))
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@listening_options(8080)
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), help="Serve /metrics on this port of the loopback address."
)
@click.option("--no-sign", is_flag=True, help="Only serve: another process signs the timestamp anew.")
def serve(
    directory: Path,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    metrics_port: int | None,
    no_sign: bool,
) -> None:
    """Serve the published tree, and keep its timestamp fresh, until SIGTERM."""
    from coldchain_server.serve import serve_origin

    home = Home(directory)
    home.require()
    serve_origin(
        home,
        None if no_sign else keyring_of(home),
        host=host,
        port=port,
        tls_cert=tls_cert,
        tls_key=tls_key,
        metrics_port=metrics_port,
    )


@main.command(epilog=example("coldchain-server demo"))
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-run"),
    show_default=True,
    help="Where everything happens; made anew each time.",
)
def demo(directory: Path) -> None:
    """Show the whole journey with the real programs, in under a minute."""
    from coldchain_server.demo import main as run_demo

    run_demo(directory)


for command in (release_attest, release_provenance):
    release.add_command(command)
for command in (feed, region, release, rollout, reports, residency, withdraw, suppress, keys, witness, edge):
    main.add_command(command)
