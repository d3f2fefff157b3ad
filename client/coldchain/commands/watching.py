"""``coldchain compare`` and ``monitor``: watching a publisher from outside; no endpoint is needed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from coldchain.bundle.description import check_token
from coldchain.commands.command import Add, Found, base_url, release_number
from coldchain.commands.endpoint import own_policy, show_nothing, show_progress
from coldchain.errors import MalformedError, UsageError
from coldchain.install.directory import read_file
from coldchain.limits import LIMITS


def add(command: Add) -> None:
    """Adds these commands."""
    compared = command(
        "compare",
        _compare,
        "prove that two regions' bundles of a release differ by their declared policies only",
        "coldchain compare https://coldchain.example us jp --root root.json",
    )
    compared.add_argument("url", metavar="URL", type=base_url, help="base URL or directory")
    compared.add_argument("first", metavar="REGION", help="e.g. us")
    compared.add_argument("second", metavar="REGION", help="e.g. jp")
    compared.add_argument(
        "--root", metavar="FILE", help="the publisher's root.json; without it the server's own is taken"
    )
    compared.add_argument(
        "--policy", metavar="FILE", help="your own log policy, in place of the one that the root carries"
    )
    compared.add_argument("--channel", default="stable", help="stable (default) or early")
    compared.add_argument(
        "--release", metavar="N", type=release_number, help="an earlier release (default: the newest)"
    )
    compared.add_argument("--product", default="coldchain", help=argparse.SUPPRESS)


def _compare(options: argparse.Namespace) -> Found:
    import asyncio

    from coldchain.monitor.regions import CompareSettings, compare_regions

    names = (_token(options.first, "region"), _token(options.second, "region"))
    settings = CompareSettings(
        root=root_file(options.root) if options.root else None,
        policy=own_policy(options.policy) if options.policy else None,
        channel=_token(options.channel, "channel"),
        product=_token(options.product, "product"),
        release=options.release,
        progress=show_progress if sys.stderr.isatty() and not options.json else show_nothing,
    )
    found = asyncio.run(compare_regions(options.url, names, settings))
    comparison = found.comparison
    sizes = " and ".join(
        f"{name} {records:,} records" for name, records in zip(comparison.regions, comparison.records, strict=True)
    )
    lines = [
        f"release {found.manifest.release} of {found.manifest.channel}: {sizes}, in {comparison.sections} sections",
        f"manifest {found.manifest_sha256}: {found.evidence}",
        f"root {found.root}" + ("" if found.pinned else " (NOT pinned: the server's own word; give --root)"),
    ]
    for one, count in comparison.explained.items():
        lines.append(f"  explained  {count:>8,}  {one.words()}")
    lines += [f"  UNEXPLAINED  {text}" for text in (*found.problems, *comparison.problems.shown)]
    if found.error is None:
        lines.append("every difference is a declared one; the canaries are those of this release")
    return found.as_json(), "\n".join(lines), found.error


def _token(text: str, what: str) -> str:
    try:
        return check_token(text, what)
    except MalformedError as error:
        raise UsageError(error.what) from error


def root_file(name: str) -> bytes:
    """The bytes of a root.json that somebody named.

    Raises:
        UsageError: it cannot be read.
    """
    data = read_file(Path(name), LIMITS.root_bytes)
    if data is None:
        raise UsageError(f"{name} is not a readable file", todo="give the root.json you got from the publisher")
    return data
