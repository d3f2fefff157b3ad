"""``coldchain compare`` and ``monitor``: watching a publisher from outside; no endpoint is needed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from coldchain.bundle.description import check_token
from coldchain.canonical import Object
from coldchain.commands.command import Add, Found, base_url, own_policy, release_number, shown
from coldchain.commands.endpoint import show_nothing, show_progress
from coldchain.errors import ColdchainError, MalformedError, ThrottledError, TransportError, UsageError
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
    watched = command(
        "monitor",
        _monitor,
        "follow the public log, hold it against its witnesses, and check everything that it names",
        "coldchain monitor https://coldchain.example --state /var/lib/coldchain-monitor --root root.json --once",
    )
    watched.add_argument("url", metavar="URL", type=base_url, help="base URL or directory")
    watched.add_argument("--state", metavar="DIR", required=True, help="what the monitor remembers; reports and proofs")
    watched.add_argument("--root", metavar="FILE", help="the publisher's root.json; needed the first time")
    watched.add_argument(
        "--policy", metavar="FILE", help="your own log policy, in place of the one that the root carries"
    )
    watched.add_argument("--once", action="store_true", help="run once and end with a code (docs/exit-codes.md)")
    watched.add_argument(
        "--interval",
        metavar="S",
        type=_seconds,
        default=600.0,
        help="seconds between runs without --once (default 600)",
    )
    watched.add_argument(
        "--patience", metavar="S", type=_seconds, default=3600.0, help="seconds a witness may be behind (default 3600)"
    )
    watched.add_argument("--pause", type=_seconds, default=5.0, help=argparse.SUPPRESS)
    watched.add_argument("--metrics", metavar="FILE", help="write metrics for Prometheus' textfile collector")
    watched.add_argument(
        "--all",
        action="store_true",
        dest="every",
        help="on a first run: fetch the bundles of all entries, not the newest",
    )
    watched.add_argument("--acknowledge", action="store_true", help="what stands from earlier runs is settled")
    watched.add_argument("--product", default="coldchain", help=argparse.SUPPRESS)


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


def _monitor(options: argparse.Namespace) -> Found:
    import asyncio

    from coldchain.monitor.directory import MonitorDirectory
    from coldchain.monitor.settings import WatchSettings
    from coldchain.monitor.watch import watch

    terminal = sys.stderr.isatty() and not options.json
    settings = WatchSettings(
        url=options.url,
        root=root_file(options.root) if options.root else None,
        policy=own_policy(options.policy) if options.policy else None,
        product=_token(options.product, "product"),
        every=options.every,
        acknowledge=options.acknowledge,
        metrics=Path(options.metrics) if options.metrics else None,
        patience=options.patience,
        pause=options.pause,
        progress=show_progress if terminal else show_nothing,
        say=_say if terminal else lambda _: None,
    )
    directory = MonitorDirectory(Path(options.state))
    while True:
        seconds = options.interval
        try:
            report = asyncio.run(watch(directory, settings))
        except TransportError as error:
            if options.once:
                raise
            out({} if options.json else None, "", error)
            if isinstance(error, ThrottledError) and error.retry_after is not None:
                seconds = max(seconds, error.retry_after)
        else:
            if terminal:
                sys.stderr.write("\r\x1b[K")
            if options.once:
                return report.as_json(), report.text(), report.error
            out(report.as_json() if options.json else None, report.text(), report.error)
        settings.acknowledge = False
        time.sleep(seconds)


def out(found: Object | None, text: str, error: ColdchainError | None) -> None:
    """One run of many: a line of JSON on stdout, or words and errors as the command line shows them."""
    if found is not None:
        print_line(json.dumps({**found, **(error.as_json() if error else {})}, sort_keys=True))
        return
    if text:
        print_line(text)
    if error is not None:
        sys.stderr.write(f"coldchain: {shown(error.explain())}\n")
        sys.stderr.flush()


def print_line(text: str) -> None:
    """On stdout, at once."""
    sys.stdout.write(f"{shown(text)}\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{shown(text)} …")
    sys.stderr.flush()


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds")
    return float(text)


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
