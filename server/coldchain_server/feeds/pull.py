"""Pulling a feed: read its source, keep a snapshot, check every line, and only then make it the feed's newest.

A feed whose source is broken keeps its last good snapshot; nothing of a refused one reaches the catalogue.
"""

from __future__ import annotations

from pathlib import Path

from coldchain.errors import LintError, StateError
from coldchain_server.catalogue.interface import Catalogue, Feed, Snapshot
from coldchain_server.feeds.lint import LintReport, Progress, lint_snapshot
from coldchain_server.feeds.snapshots import FeedSnapshot, check_feed_name, parse_snapshot, take_snapshot
from coldchain_server.feeds.sources import read_source
from coldchain_server.home import Home


async def pull(
    home: Home, catalogue: Catalogue, feed: Feed, *, taken: str, progress: Progress | None = None
) -> LintReport:
    """A new snapshot of a feed, checked and remembered.

    Args:
        home: the origin.
        catalogue: remembers the feed (new or changed) and the snapshot.
        feed: where it comes from.
        taken: the time (UTC, ``…SSZ``).
        progress: told after each file.

    Raises:
        LintError: the source is broken or holds errors; the feed is as it was.
        UsageError: nothing is at its path.
    """
    check_feed_name(feed.name)
    try:
        snapshot = take_snapshot(feed.name, feed.kind, read_source(Path(feed.path)), home.content.put)
        report = lint_snapshot(snapshot, home.content, skip_bad=feed.skip_bad, cache=home.lint, progress=progress)
        report.require(skip_bad=feed.skip_bad)
    except LintError as error:
        error.kept = error.kept or "the feed's last good snapshot"
        raise
    digest = home.content.put(snapshot.encode())
    await catalogue.put_snapshot(
        Snapshot(digest, feed.name, taken, len(snapshot.files), report.records, report.skipped)
    )
    # after it: a feed's row never names a snapshot that has none
    await catalogue.put_feed(Feed(feed.name, feed.kind, feed.path, feed.skip_bad, digest))
    return report


def checked_again(home: Home, feed: Feed, progress: Progress | None = None) -> tuple[FeedSnapshot, LintReport]:
    """The feed's newest snapshot and its report, from the cache where nothing changed.

    Raises:
        StateError: the feed has no snapshot yet.
        LintError: rules that came with an update of this program refuse it now.
    """
    if not feed.snapshot:
        raise StateError(f"feed {feed.name} has no snapshot yet", todo=f"coldchain-server feed pull {feed.name}")
    snapshot = parse_snapshot(home.content.get(feed.snapshot))
    report = lint_snapshot(snapshot, home.content, skip_bad=feed.skip_bad, cache=home.lint, progress=progress)
    report.require(skip_bad=feed.skip_bad)
    return snapshot, report
