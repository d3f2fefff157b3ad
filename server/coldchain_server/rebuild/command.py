"""``coldchain rebuild``: joins the customers' command line where this distribution is installed (``commands.elsewhere`` there)."""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
from pathlib import Path

from coldchain.bundle.description import check_token
from coldchain.commands.command import Add, Found, base_url, release_number, utc_now
from coldchain.errors import MalformedError, UsageError
from coldchain.install import durable
from coldchain.install.directory import read_file
from coldchain.limits import LIMITS


def add(command: Add) -> None:
    """Adds the command."""
    made = command(
        "rebuild",
        _rebuild,
        "assemble a release again from its published sources and compare every bundle's digest",
        "coldchain rebuild https://coldchain.example 42 --root root.json --sign alice.json",
    )
    made.add_argument("url", metavar="URL", type=base_url, help="base URL or directory")
    made.add_argument("number", metavar="N", type=release_number, help="the release")
    made.add_argument("--channel", default="stable", help="stable (default) or early")
    made.add_argument("--product", default="coldchain", help=argparse.SUPPRESS)
    made.add_argument("--region", metavar="R", nargs="+", default=[], help="only these (default: every region)")
    made.add_argument("--root", metavar="FILE", help="the publisher's root.json; without it the server's own is taken")
    made.add_argument("--policy", metavar="FILE", help="your own log policy, in place of the one that the root carries")
    made.add_argument(
        "--sign", metavar="KEYFILE", help="if it rebuilds, say so with this key (COLDCHAIN_PASSPHRASE opens it)"
    )
    made.add_argument("--new-key", action="store_true", help="make KEYFILE first; it must not exist yet")
    made.add_argument(
        "-o", "--output", metavar="FILE", help="where the attestation goes (default: CHANNEL-N.dsse.json)"
    )


def _rebuild(options: argparse.Namespace) -> Found:
    from coldchain_server.commands.options import passphrase
    from coldchain_server.rebuild.rebuild import Order, rebuild
    from coldchain_server.signing.keyring import new_key_file, open_key_file
    from coldchain_server.signing.nacl_signer import sign_with

    if not options.sign and (options.new_key or options.output):
        raise UsageError("--new-key and --output go with --sign", todo="give --sign KEYFILE")
    shown = sys.stderr.isatty() and not options.json
    order = Order(
        url=options.url,
        number=options.number,
        channel=_token(options.channel, "channel"),
        product=_token(options.product, "product"),
        regions=[_token(name, "region") for name in options.region],
        root=_file(options.root, LIMITS.root_bytes),
        policy=_file(options.policy, LIMITS.log_policy_bytes),
        say=_say if shown else lambda _: None,
    )
    signer, ask = None, functools.cache(passphrase(confirm=options.new_key))  # a person is asked once
    if options.sign:
        # before the work, so that a wrong passphrase costs no hour
        if options.new_key:
            new_key_file(Path(options.sign), ask)
        signer = open_key_file(Path(options.sign), ask)
    found = asyncio.run(rebuild(order, utc_now()))
    data, stated, error = found.as_json(), found.manifest, found.error
    lines = [f"release {stated.release} of {stated.channel}: {found.logged.words()}"]
    if not (options.root or options.policy):
        lines.append("  NOT pinned: whose log this is is the server's own word; give --root or --policy")
    for row in found.rows:
        state = (
            f"same    {row.rebuilt}"
            if not row.differs
            else f"DIFFERS {row.published} is published, {row.rebuilt} came out"
        )
        if row.differs and row.published == row.rebuilt:
            state = f"DIFFERS {row.differs}"
        lines.append(f"  {row.region:6} {state}")
    if error is not None:
        return data, "\n".join(lines), error
    lines.append(f"every bundle of {len(found.rows)} came out as published, bit for bit")
    if not found.same_assembler:
        lines.append(f"  (with another assembler than the manifest's, {stated.assembler})")
    if signer is not None:
        key, sign = sign_with(signer)
        envelope = found.attestation(key, sign, utc_now()).encode()
        target = Path(options.output or f"{stated.channel}-{stated.release}.dsse.json")
        _write(target, envelope)
        data |= {"attestation": str(target), "keyid": key.keyid, "key": key.raw.hex()}
        lines += [
            f"signed: {target}",
            f"  by key {key.raw.hex()}",
            "  customers who believe you write into their log policy: # coldchain: rebuilder NAME " + key.raw.hex(),
            f"next: give {target} to the publisher (coldchain-server release attest {stated.release} {target})",
        ]
    return data, "\n".join(lines), None


def _write(target: Path, data: bytes) -> None:
    with durable.disk(target), durable.open_folder(target.absolute().parent) as folder:
        folder.write(target.name, data)


def _file(name: str | None, most: int) -> bytes | None:
    if name is None:
        return None
    data = read_file(Path(name), most)
    if data is None:
        raise UsageError(f"{name} is not a readable file of at most {most:,} bytes")
    return data


def _token(text: str, what: str) -> str:
    try:
        return check_token(text, what)
    except MalformedError as error:
        raise UsageError(error.what) from error


def _say(line: str) -> None:
    sys.stderr.write("".join(c if c.isprintable() else "?" for c in line) + "\n")
    sys.stderr.flush()
