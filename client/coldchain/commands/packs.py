"""``coldchain pack``, and ``coldchain verify`` of a file: what travels where no network goes."""

from __future__ import annotations

import argparse
from pathlib import Path

from coldchain.agent.pack_source import open_pack_file
from coldchain.bundle.pack import is_pack, read_pack
from coldchain.canonical import Object
from coldchain.commands import receipts
from coldchain.commands.command import (
    Add,
    Found,
    base_url,
    own_policy,
    release_number,
    root_file,
    time_words,
    utc_now,
)
from coldchain.commands.view import Checks, Verdict, view
from coldchain.errors import UsageError
from coldchain.pack_audit import audit_pack
from coldchain.receipt import is_receipt


def add(command: Add) -> None:
    """Adds these commands."""
    pack = command(
        "pack",
        _pack,
        "fetch and verify what an update needs and write it to one file, for endpoints without a network",
        "coldchain pack https://coldchain.example --root root.json --region us --from 41 -o us-42.pack",
    )
    pack.add_argument(
        "url", metavar="URL", type=base_url, help="a server, a mirror, or a directory with the published tree"
    )
    pack.add_argument(
        "--root", required=True, metavar="FILE", help="the publisher's root.json, as pinned on the endpoints"
    )
    pack.add_argument("--region", required=True, help="e.g. us")
    pack.add_argument("--channel", default="stable", help="stable (default) or early")
    pack.add_argument(
        "--from",
        dest="start",
        metavar="N",
        type=release_number,
        help="the release that the endpoints have; without it the full bundle, which is for all endpoints",
    )
    pack.add_argument("--policy", metavar="FILE", help="your own log policy, in place of the one that the root carries")
    pack.add_argument("--product", default="coldchain", help=argparse.SUPPRESS)
    pack.add_argument("-o", "--output", required=True, metavar="FILE", help="the pack to write; an old one is replaced")


def _pack(options: argparse.Namespace) -> Found:
    import asyncio

    from coldchain.agent.make_pack import Wanted, make_pack

    policy = own_policy(options.policy) if options.policy else None
    wanted = Wanted(options.region, options.channel, options.start, options.product, policy)
    output = Path(options.output)
    pinned = root_file(options.root)
    made = asyncio.run(make_pack(options.url, pinned, output, wanted, utc_now()))
    content = f"the delta from release {made.start}" if made.start else "the full bundle"
    lines = [
        f"{output}: release {made.release} of region {options.region}, {content}, {made.content + made.overhead:,} bytes",
        f"  {made.content:,} bytes of it, and {made.overhead:,} bytes of evidence ({made.parts} parts, compressed; "
        f"tiles of the log are {made.tiles:,} of them)",
        f"  take it to the endpoints before {time_words(made.good_until)}: then its metadata expires",
        f"next: coldchain update DIR --pack {output}",
    ]
    if options.start and made.start is None:
        lines.insert(1, f"  no delta is published from release {options.start}, so it is the full bundle")
    return {"file": str(output), **made.as_json()}, "\n".join(lines), None


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``coldchain verify`` that are about files."""
    parser.add_argument("--root", metavar="FILE", help="of a pack or receipt: the root.json to trust")
    parser.add_argument("--region", help="of a pack: the region it must be for")
    parser.add_argument("--channel", help="of a pack: the channel it must be for")
    parser.add_argument("--policy", metavar="FILE", help="of a pack: your own log policy")


def refuse_file_options(options: argparse.Namespace) -> None:
    """An endpoint's directory has its root, its region and its policy in it.

    Raises:
        UsageError: one of them was given.
    """
    for name in ("root", "region", "channel", "policy"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name} is for packs and receipts, and {options.path} is no file",
                todo="name an existing file, or leave the option away",
            )


def verify_file(path: Path, options: argparse.Namespace) -> Found:
    """``coldchain verify FILE``.

    Raises:
        UsageError: it is neither a pack nor a receipt, or no root was given.
    """
    with open_pack_file(path) as (file, size):
        beginning = file.read(16)
        file.seek(0)
        if is_receipt(beginning):
            return receipts.verify_receipt(path, options.root, None)
        if not is_pack(beginning):
            raise UsageError(
                f"{path} is neither a pack nor a receipt",
                todo="give an endpoint's directory, or a file of `coldchain pack` or `coldchain receipt`",
            )
        if options.root is None:
            raise UsageError(
                f"{path} is a pack, and a pack proves nothing without a root",
                todo="give the root.json you got from the publisher: --root root.json",
            )
        pinned = root_file(options.root)
        policy = own_policy(options.policy) if options.policy else None
        pack = read_pack(file, size)
        found = audit_pack(pack, file, pinned, utc_now(), region=options.region, channel=options.channel, policy=policy)
    verdict = None
    if found.genuine:
        content = f"from release {found.source}" if found.source else "from nothing"
        verdict = Verdict(
            f"the pack brings release {found.release} of region {pack.region}, {content}, as signed and logged "
            f"({len(found.checks)} checks)"
        )
    data: Object = {
        "release": found.release,
        "from": found.source,
        "region": pack.region,
        "channel": pack.channel,
        "ok": found.error is None,
        "genuine": found.genuine,
        "good_until": f"{found.good_until:%Y-%m-%dT%H:%M:%SZ}" if found.good_until else None,
        "newest_cosignature": f"{found.newest_cosignature:%Y-%m-%dT%H:%M:%SZ}" if found.newest_cosignature else None,
        "checks": [{"name": check.name, "detail": check.detail, "ok": check.ok} for check in found.checks],
        "notes": list(found.notes),
    }
    return data, view(Checks(tuple(found.checks), tuple(found.notes)), verdict), found.error
