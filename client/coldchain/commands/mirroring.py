"""``coldchain mirror``: a verified copy of the published tree, for closed networks."""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from coldchain.bundle.description import check_token
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
from coldchain.errors import MalformedError, UsageError
from coldchain.evidence import effective_policy
from coldchain.install import durable, public_log, trusted
from coldchain.install.directory import ROOT_POLICY, check_region, urls
from coldchain.mirror.directory import MOST_GRACE, MirrorConfig, MirrorDirectory
from coldchain.tuf.trusted_set import pinned_root


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
    old = directory.config()
    pinned = root_file(options.root) if options.root else None
    policy = own_policy(options.policy) if options.policy not in (None, ROOT_POLICY) else None
    config = _config(options, old, pinned, policy)
    directory.make()
    with durable.disk(directory.path), directory.own.locked():
        if policy is not None:
            public_log.keep_policy(directory.own, policy)
        if pinned is not None:
            trusted.pin(directory.own, pinned)
        directory.write_config(config)
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


def _config(
    options: argparse.Namespace, old: MirrorConfig | None, pinned: bytes | None, policy: bytes | None
) -> MirrorConfig:
    """What is asked for: the options that were given, over what was remembered.

    Raises:
        UsageError: a first run lacks something, or another root or product is asked for than before.
    """
    if options.grace is not None and options.grace > MOST_GRACE:
        raise UsageError(f"--grace {options.grace} is more than a year", todo=f"give at most {MOST_GRACE} hours")
    fingerprint = hashlib.sha256(pinned).hexdigest() if pinned is not None else None
    try:
        regions = tuple(sorted({check_region(one) for one in options.region or ()}))
        product = check_token(options.product, "product") if options.product else None
    except MalformedError as error:
        raise UsageError(error.what) from error
    if old is None:
        if fingerprint is None or not regions or not options.url:
            raise UsageError(
                f"{options.directory} is no mirror yet: a first run needs --root, --region and --url",
                todo="coldchain mirror DIR --root root.json --region us --url https://coldchain.example",
            )
        assert pinned is not None
        effective_policy(pinned_root(pinned), policy)
        config = MirrorConfig(product or "coldchain", regions, fingerprint, urls(options.url))
    else:
        if fingerprint not in (None, old.root) or product not in (None, old.product):
            raise UsageError(
                f"{options.directory} mirrors another root or product than the one given",
                kept="nothing was changed",
                todo="leave --root out, or take another directory",
            )
        config = replace(old, regions=regions or old.regions, urls=urls(options.url) if options.url else old.urls)
    if options.policy is not None:
        config = replace(config, policy=hashlib.sha256(policy).hexdigest() if policy is not None else ROOT_POLICY)
    if options.packs is not None:
        config = replace(config, packs=options.packs)
    return config if options.grace is None else replace(config, grace=options.grace)
