"""``coldchain-server witness``: cosigns logs beside any fleet; needs nothing of an origin."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from coldchain.errors import MalformedError, StorageError, UsageError
from coldchain.tlog.vkey import Kind, NoteKey, parse_vkey
from coldchain_server.commands.options import example, json_option, listening_options, out, passphrase
from coldchain_server.signing.key_files import DEMO, MODERATE
from coldchain_server.witness.home import Sign, WitnessHome, found_witness


def _log_keys(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[NoteKey]:
    found = []
    for value in values:
        try:
            key = parse_vkey(value.strip())
        except MalformedError as error:
            raise UsageError(error.what, todo="copy the whole vkey that the log publishes") from error
        if key is None or key.kind is not Kind.ED25519:
            raise UsageError(
                f"--log: {value[:80]!r} is no Ed25519 key of a log", todo="take the log's vkey, not a witness's"
            )
        found.append(key)
    return found


@click.command(
    epilog=example('coldchain-server witness DIR --name witness.example.com/fleet --log "$(cat log.vkey)" --port 8081')
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", help="The witness's name in its signatures. Needed the first time: makes its key.")
@click.option(
    "--log", "logs", multiple=True, callback=_log_keys, metavar="VKEY", help="A log to follow from now on; repeatable."
)
@click.option(
    "--unfollow",
    "unfollowed",
    multiple=True,
    callback=_log_keys,
    metavar="VKEY",
    help="A log's key to believe no longer; what was cosigned stays remembered.",
)
@click.option("--no-serve", is_flag=True, help="Make, add, print the vkey, and stop.")
@listening_options(8081)
@click.option("--demo-keys", is_flag=True, help="Stretch the passphrase cheaply: for demonstrations and tests only.")
@json_option
def witness(
    directory: Path,
    name: str | None,
    logs: list[NoteKey],
    unfollowed: list[NoteKey],
    no_serve: bool,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    demo_keys: bool,
    as_json: bool,
) -> None:
    """Cosign the checkpoints of logs, as long as each continues the one before, until SIGTERM.

    DIR keeps the witness's key and what it has cosigned. Give the vkey that is printed to those who write policies.
    """
    if name is not None:
        home = found_witness(directory, name, passphrase(confirm=True), DEMO if demo_keys else MODERATE)
    else:
        home = WitnessHome(directory)
    key = home.key
    memory = home.memory()
    try:
        for log in logs:
            memory.follow(log.name, log.vkey)
        for log in unfollowed:
            memory.unfollow(log.name, log.vkey)
        followed = [
            {"origin": origin, "vkey": vkey, "size": head.size if (head := memory.head(origin)) else 0}
            for origin, vkey in memory.logs()
        ]
    finally:
        memory.close()
    sign = None if no_serve else home.signer(passphrase())  # a wrong passphrase shows before anything is announced
    lines = [key.vkey, *(f"follows {one['origin']}, {one['size']} entries cosigned" for one in followed)]
    out(
        {"witness": str(directory), "name": key.name, "vkey": key.vkey, "logs": followed},
        as_json,
        lines if followed else [*lines, "follows no log yet: add one with --log VKEY"],
    )
    if sign is not None:
        _serve(home, sign, host, port, tls_cert, tls_key)


def _serve(home: WitnessHome, sign: Sign, host: str, port: int, tls_cert: Path | None, tls_key: Path | None) -> None:
    from coldchain_server.web.json_log import log_as_json
    from coldchain_server.web.listening import run, tls_context, told_to_stop
    from coldchain_server.witness.service import witnessing

    log_as_json(sys.stderr)

    async def serving() -> None:
        stop = asyncio.Event()
        tls = tls_context(tls_cert, tls_key) if tls_cert else None
        with told_to_stop(stop):
            async with witnessing(home, sign, host, port, tls=tls):
                await stop.wait()

    try:
        run(serving())
    except OSError as error:
        raise StorageError(
            f"cannot serve on {host}:{port}: {error.strerror or error}", todo="take another --port"
        ) from error
