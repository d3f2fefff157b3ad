"""``coldchain-server feed``: where signatures come from."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from coldchain.errors import LintError, StateError, StorageError, UsageError
from coldchain_server.catalogue.interface import Feed
from coldchain_server.commands.options import example, home_option, json_option, out, run, shown
from coldchain_server.feeds.lint import LintReport
from coldchain_server.feeds.pull import pull
from coldchain_server.feeds.snapshots import KINDS
from coldchain_server.home import Home
from coldchain_server.signing.roles import now_utc, utc_text

_SHOWN = 20


@click.group()
def feed() -> None:
    """Where signatures come from."""


@feed.command("add", epilog=example("coldchain-server feed add acme /srv/feeds/acme --kind clamav"))
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--kind", type=click.Choice(KINDS), default="clamav", show_default=True, help="What its files hold.")
@click.option("--skip-bad", is_flag=True, help="Publish without the bad records; their counts become public.")
@home_option
@json_option
def feed_add(name: str, path: Path, kind: str, skip_bad: bool, directory: Path, as_json: bool) -> None:
    """Add a feed: a directory, archive or file. Every line is checked; errors refuse it."""
    home = Home(directory)
    home.require()
    report = _pull(home, Feed(name, kind, str(path.resolve()), skip_bad))
    out({**report.as_json(), "kind": kind}, as_json, _told(name, report))


def _pull(home: Home, one: Feed) -> LintReport:
    async def work() -> LintReport:
        async with home.catalogue() as catalogue:
            with ExitStack() as stack:
                progress = None
                if sys.stderr.isatty():
                    bar = stack.enter_context(
                        click.progressbar(length=1, label=f"  checking {one.name}", file=sys.stderr)
                    )

                    def progress(done: int, total: int) -> None:
                        bar.length = total
                        bar.update(done - bar.pos)

                return await pull(home, catalogue, one, taken=utc_text(now_utc()), progress=progress)

    return run(work())


def _told(name: str, report: LintReport) -> list[str]:
    lines = [f"feed {name}: {report.records:,} records in {len(report.sections)} sections, {len(report.files)} files"]
    notable = [finding for file in report.files for finding in file.findings if finding.severity != "error"]
    lines += [f"  {line}" for finding in notable[:_SHOWN] for line in str(finding).splitlines()[:1]]
    lines += [f"  and {len(notable) - _SHOWN} more (all of them: --json)"] if len(notable) > _SHOWN else []
    lines += [f"  {report.skipped:,} bad records are left out: {report.reasons}"] if report.skipped else []
    return lines


@feed.command("pull", epilog=example("coldchain-server feed pull acme"))
@click.argument("names", nargs=-1)
@home_option
@json_option
def feed_pull(names: tuple[str, ...], directory: Path, as_json: bool) -> None:
    """Read feeds anew (all when none is named); a feed that is refused keeps its last good snapshot."""
    home = Home(directory)
    known = {one.name: one for one in _feeds(home)}
    if unknown := [name for name in names if name not in known]:
        raise StateError(f"there is no feed {unknown[0]!r}", todo="coldchain-server feed list")
    pulled, failed, lines = [], [], []
    for name in dict.fromkeys(names or known):
        try:
            report = _pull(home, known[name])
        except (LintError, UsageError, StorageError) as error:  # the other feeds must not wait for this one
            click.echo(f"coldchain-server: {shown(error.explain())}", err=True)
            failed.append({"feed": name, **error.as_json()})
        else:
            pulled.append({**report.as_json(), "kind": known[name].kind})
            lines += _told(name, report)
    out({"feeds": pulled, "failed": failed}, as_json, lines)
    if failed:
        names_of_failed = ", ".join(str(one["feed"]) for one in failed)
        click.echo(f"coldchain-server: not pulled, with their last good snapshots kept: {names_of_failed}", err=True)
        raise click.exceptions.Exit(LintError.exit_code)


@feed.command("list", epilog=example("coldchain-server feed list"))
@home_option
@json_option
def feed_list(directory: Path, as_json: bool) -> None:
    """Show the feeds and their newest snapshots."""
    feeds = _feeds(Home(directory))
    rows = [
        {"name": one.name, "kind": one.kind, "path": one.path, "skip_bad": one.skip_bad, "snapshot": one.snapshot}
        for one in feeds
    ]
    lines = [f"{one.name:20} {one.kind:10} {one.snapshot[:16] or '-':18} {one.path}" for one in feeds] or [
        "there is no feed yet"
    ]
    out({"feeds": rows}, as_json, lines)


@feed.command("remove", epilog=example("coldchain-server feed remove acme"))
@click.argument("name")
@home_option
@json_option
def feed_remove(name: str, directory: Path, as_json: bool) -> None:
    """Forget a feed: the next release is built without it. Its snapshots stay."""
    home = Home(directory)
    home.require()

    async def work() -> bool:
        async with home.catalogue() as catalogue:
            return await catalogue.remove_feed(name)

    if not run(work()):
        raise StateError(f"there is no feed {name!r}", todo="coldchain-server feed list")
    out({"removed": name}, as_json, [f"feed {name} is forgotten"])


def _feeds(home: Home) -> list[Feed]:
    home.require()

    async def work() -> list[Feed]:
        async with home.catalogue() as catalogue:
            return await catalogue.feeds()

    return run(work())
