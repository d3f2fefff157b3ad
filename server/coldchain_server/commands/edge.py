"""``coldchain-server edge``: serves a region from a verified copy; needs nothing of an origin, and no key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

import coldchain
from coldchain.commands.command import own_policy, root_file
from coldchain.errors import NotInstalledError, StaleError, UsageError
from coldchain.install import durable
from coldchain.install.directory import ROOT_POLICY, read_file
from coldchain.install.source_health import read_source_health
from coldchain.mirror.directory import MirrorConfig, MirrorDirectory
from coldchain.mirror.pulled import utc_now
from coldchain.mirror.wanted import Wanted
from coldchain_server.commands.group import Commands
from coldchain_server.commands.options import example, json_option, listening_options, out

MOST_TOKEN = 1024
EXAMPLE = "coldchain-server edge DIR --region jp --upstream https://origin.example --root root.json"


@click.command(epilog=example(f"{EXAMPLE} --port 8080"))
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--region", "regions", multiple=True, metavar="NAME", help="A region to serve; repeatable; remembered.")
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="URL",
    help="An origin or another edge; repeatable: asked in their order; remembered.",
)
@click.option("--root", metavar="FILE", help="The publisher's root.json; needed the first time.")
@click.option("--policy", metavar="FILE", help="A log policy of your own, or the word root for the root's; remembered.")
@click.option(
    "--grace", type=click.IntRange(0), metavar="HOURS", help="How long a file stays that nothing names any more (24)."
)
@click.option(
    "--report-token",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Take endpoints' outcome reports and send them on with the token in this file (reports add-edge).",
)
@click.option(
    "--reports-per-network",
    type=click.IntRange(0),
    metavar="NUMBER",
    help="Reports from one network (/24, /48) in an hour (100); 0: no cap, behind a proxy.",
)
@click.option("--reports-every", type=click.FloatRange(0.1), hidden=True, help="Seconds between batches.")
@click.option("--product", hidden=True, help="Another product than coldchain.")
@listening_options(8080)
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), help="Serve /metrics on this port of the loopback address."
)
@click.option("--status", is_flag=True, help="Say what the edge has and how old it is, and stop.")
@json_option
def edge(
    directory: Path,
    regions: tuple[str, ...],
    upstreams: tuple[str, ...],
    root: str | None,
    policy: str | None,
    grace: int | None,
    report_token: Path | None,
    reports_per_network: int | None,
    reports_every: float | None,
    product: str | None,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    metrics_port: int | None,
    status: bool,
    as_json: bool,
) -> None:
    """Serve a region's files from a copy that is verified before it is served, until SIGTERM.

    DIR keeps the copy. Cut off from every upstream the edge goes on serving what it verified last, and says how old that is.
    """
    mirror = MirrorDirectory(directory)
    old = mirror.config()
    if status:
        return _status(mirror, old, as_json)
    wanted = Wanted(
        example=EXAMPLE,
        url_option="--upstream",
        regions=regions,
        urls=upstreams,
        root=root_file(root) if root is not None else None,
        policy=policy if policy in (None, ROOT_POLICY) else own_policy(policy),
        grace=grace,
        product=product,
    )
    config = wanted.over(mirror, old)
    if config.packs:
        raise UsageError(f"{directory} is a mirror that makes packs", todo="give the edge a directory of its own")
    token = _token(report_token) if report_token is not None else None
    mirror.make()
    if config != old or wanted.root is not None or wanted.policy is not None:
        with durable.disk(mirror.path), mirror.own.locked():
            wanted.remember(mirror, config)
    from coldchain_server.edge.serve import EdgeReports, serve_edge

    reports = None
    if token is not None:
        reports = EdgeReports(token)
        if reports_per_network is not None:
            reports = replace(reports, per_network=reports_per_network)
        if reports_every is not None:
            reports = replace(reports, every=reports_every)
    return serve_edge(
        mirror,
        config,
        host=host,
        port=port,
        changed=config != old,
        tls_cert=tls_cert,
        tls_key=tls_key,
        metrics_port=metrics_port,
        reports=reports,
    )


def _token(path: Path) -> str:
    """The token in this file. Raises UsageError when there is none."""
    data = read_file(path, MOST_TOKEN)
    try:
        words = (data or b"").decode("ascii").split()
    except UnicodeDecodeError:
        words = []
    if len(words) != 1:
        raise UsageError(
            f"{path} holds no token of an edge",
            todo="write into it what `coldchain-server reports add-edge NAME --region REGION` printed at the upstream",
        )
    return words[0]


def _status(mirror: MirrorDirectory, config: MirrorConfig | None, as_json: bool) -> None:
    """Prints it.

    Raises:
        NotInstalledError: nothing was pulled yet.
        Exit: what is served has expired.
    """
    from coldchain_server.edge.freshness import Freshness

    if config is None:
        raise NotInstalledError(f"{mirror.path} is no edge's directory", todo=EXAMPLE)
    freshness, now = Freshness(mirror), utc_now()
    served, age = freshness.served, freshness.age()
    late = {url: one for url, one in read_source_health(mirror.own).late.items() if one.left(now) > 0}
    if not served.releases or served.good_until is None:
        raise NotInstalledError(f"{mirror.path} holds nothing that is verified yet", todo="start the edge; see its log")
    lines = [
        *(f"{region} {channel} {release}" for region, channel, release in served.releases),
        f"  known to be the newest {age:,} seconds ago" if age is not None else "  never confirmed by an upstream",
        f"  good until {served.good_until:%Y-%m-%d %H:%M} UTC",
        *(f"  upstream {url}{f': {late[url].why}, asked later' if url in late else ''}" for url in config.urls),
    ]
    upstreams = [{"url": url, "late": late[url].why if url in late else None} for url in config.urls]
    stale = served.good_until <= now
    if stale:
        lines.append(
            "STALE: it stays, and clients that have it keep protecting with it; the log says what upstreams answered"
        )
    facts = {"directory": str(mirror.path), **freshness.facts(), "stale": stale, "upstreams": upstreams}
    out(facts, as_json, lines)
    if stale:
        raise click.exceptions.Exit(StaleError.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(coldchain.__version__, prog_name="coldchain-server")
def alone() -> None:
    """The program where nothing but this command is asked for."""


alone.add_command(edge)
