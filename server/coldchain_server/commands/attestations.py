"""``coldchain-server release attest`` and ``provenance``: what others, and the assembler, state about a release."""

from __future__ import annotations

import json
from pathlib import Path

import click

from coldchain.attestation import provenance, sign_statement
from coldchain.bundle.manifest import Manifest
from coldchain.errors import KeyringError, UsageError
from coldchain.install.directory import read_file
from coldchain.limits import LIMITS
from coldchain_server.commands.options import channel_option, example, home_option, json_option, keyring_of, out, run
from coldchain_server.home import Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.release.attest import Attested, logged_manifest
from coldchain_server.release.attest import attest as attest_release
from coldchain_server.release.log import ASSEMBLER
from coldchain_server.signing.nacl_signer import sign_with
from coldchain_server.signing.roles import load_state, now_utc


@click.command("attest", epilog=example("coldchain-server release attest 42 stable-42.dsse.json"))
@click.argument("number", type=click.IntRange(min=1))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--log", "logged", is_flag=True, help="Put it into the public log too, as an entry of its own.")
@channel_option
@home_option
@json_option
def release_attest(number: int, file: Path, logged: bool, channel: str, directory: Path, as_json: bool) -> None:
    """Check a rebuilder's attestation and publish it beside the release.

    It comes from `coldchain rebuild URL N --sign KEYFILE`, run by somebody else. Customers whose policy asks for rebuilders fetch it.
    """
    home = Home(directory)
    home.require()
    data = read_file(file, LIMITS.attestation_bytes)
    if data is None:
        raise UsageError(f"{file} is not a readable file of at most {LIMITS.attestation_bytes:,} bytes")

    async def work() -> Attested:
        async with home.catalogue() as catalogue:
            log = (keyring_of(home), HttpWitnesses()) if logged else None
            return await attest_release(home, catalogue, channel, number, data, now=now_utc(), log=log)

    found = run(work())
    stated = found.rebuild
    lines = [
        f"release {number} of {channel}: rebuilt on {stated.rebuilt} with version {stated.assembler}, published as {found.path}",
        f"  by key {stated.key.raw.hex()}; whether it counts is in each customer's policy",
    ]
    lines += [f"  NOT rebuilt: {', '.join(found.left_out)}"] if found.left_out else []
    lines += [f"  public log: entry {found.index}"] if found.index is not None else []
    out(
        {
            "release": number,
            "channel": channel,
            "key": stated.key.raw.hex(),
            "keyid": stated.key.keyid,
            "path": found.path,
            "left_out": list(found.left_out),
            "index": found.index,
        },
        as_json,
        lines,
    )


@click.command("provenance", epilog=example("coldchain-server release provenance 42 --sign"))
@click.argument("number", type=click.IntRange(min=1))
@click.option("--sign", is_flag=True, help="In a DSSE envelope, signed by the assembler's key.")
@channel_option
@home_option
@json_option
def release_provenance(number: int, sign: bool, channel: str, directory: Path, as_json: bool) -> None:
    """Print a release's provenance: an in-toto Statement with the SLSA predicate, for other people's tools.

    It says nothing that the manifest in the public log does not say.
    """
    home = Home(directory)
    home.require()

    async def work() -> tuple[Manifest, frozenset[str]]:
        async with home.catalogue() as catalogue:
            manifest = await logged_manifest(home, catalogue, channel, number)
        state = await load_state(home.storage)
        return manifest, frozenset(state.keyids(next(iter(manifest.regions)))[0])

    manifest, keyids = run(work())
    statement = provenance(manifest)
    data = statement.encode()
    if sign:
        keyring = keyring_of(home)
        names = sorted(
            name for keyid, name in keyring.names().items() if keyid in keyids and name.startswith(ASSEMBLER)
        )
        if not names:
            raise KeyringError("the assembler's key is not here", todo="bring its file into the keys directory")
        data = sign_statement(statement, *sign_with(keyring.signer(names[0]))).encode()
    out(json.loads(data), as_json, [data.decode()])
