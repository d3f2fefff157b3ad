"""``coldchain mirror``: a verified copy of the published tree, for closed networks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from coldchain.commands.command import (
    Add,
    Found,
    base_url,
    own_policy,
    root_file,
    time_words,
    whole_number,
)
from coldchain.commands.endpoint import show_nothing, show_progress
from coldchain.install import durable
from coldchain.install.directory import ROOT_POLICY
from coldchain.mirror.directory import MirrorDirectory
from coldchain.mirror.wanted import Wanted


def add(command: Add) -> None:
    """Adds this command."""
    mirror = command(
        "mirror",
        _mirror,
        "fetch, verify and keep a copy of what a publisher serves, for any web server or memory stick to pass on",
        "coldchain mirror /srv/coldchain --region us --url https://coldchain.example --root root.json\n"
        "  coldchain mirror /srv/coldchain",
    )
    mirror.add_argument("directory", metavar="DIR", help="the mirror's directory: what a web server is pointed at")
    mirror.add_argument(
        "--region", action="append", metavar="NAME", help="e.g. us; more than one is in order; remembered"
    )
    mirror.add_argument(
        "--url",
        action="append",
        type=base_url,
        help="base URL or directory of an origin or another mirror; more than one: in order; remembered",
    )
    mirror.add_argument("--root", metavar="FILE", help="the publisher's root.json; needed the first time")
    mirror.add_argument(
        "--policy",
        metavar="FILE",
        help="your own log policy, in place of the one that the root carries (the word root: the root's); remembered",
    )
    mirror.add_argument(
        "--packs",
        action=argparse.BooleanOptionalAction,
        help="make packs for endpoints without a network, or no longer; remembered",
    )
    mirror.add_argument(
        "--grace",
        metavar="HOURS",
        type=whole_number,
        help="how long a file stays after nothing names it any more (default 24); remembered",
    )
    mirror.add_argument(
        "--check", action="store_true", help="hash every file again, fetch anew what is damaged, make all packs again"
    )
    mirror.add_argument("--product", help=argparse.SUPPRESS)


def _mirror(options: argparse.Namespace) -> Found:
    import asyncio

    from coldchain.mirror.pull import pull
    from coldchain.mirror.pulled import PullSettings

    directory = MirrorDirectory(Path(options.directory))
    wanted = Wanted(
        example="coldchain mirror DIR --root root.json --region us --url https://coldchain.example",
        regions=options.region or (),
        urls=options.url or (),
        root=root_file(options.root) if options.root else None,
        policy=options.policy if options.policy in (None, ROOT_POLICY) else own_policy(options.policy),
        packs=options.packs,
        grace=options.grace,
        product=options.product,
    )
    config = wanted.over(directory, directory.config())
    directory.make()
    with durable.disk(directory.path), directory.own.locked():
        wanted.remember(directory, config)
        settings = PullSettings(
            check=options.check,
            progress=show_progress if sys.stderr.isatty() and not options.json else show_nothing,
        )
        done = asyncio.run(pull(directory, config, settings))
    lines = [
        f"{done.action}: " + ", ".join(f"{region} {channel} {number}" for region, channel, number in done.releases),
        f"  {done.files:,} new files, {done.bytes:,} bytes ({done.bytes_down:,} bytes came, {done.requests:,} requests)",
        f"  {done.served:,} files, {done.served_bytes:,} bytes, are served from {directory.path}",
    ]
    if done.waiting or done.removed:
        lines.append(
            f"  {done.waiting:,} of them are no longer named and stay up to {config.grace} hours; {done.removed:,} were removed"
        )
    if done.packs:
        lines.append(f"  packs: {', '.join(done.packs)}")
    lines.append(f"  good until {time_words(done.good_until)}: run it again before, best every hour")
    return {"directory": str(directory.path), **done.as_json()}, "\n".join(lines), None
