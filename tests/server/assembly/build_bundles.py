"""Run by test_determinism.py in processes of their own: reads a directory as a feed and prints the digest of every region's bundle.

python build_bundles.py FEED KIND STORE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from coldchain_server.assembly.assemble import assemble
from coldchain_server.assembly.regions import DEFAULT, GLOBAL, load_regions
from coldchain_server.feeds.lint import lint_snapshot
from coldchain_server.feeds.snapshots import take_snapshot
from coldchain_server.feeds.sources import read_source
from coldchain_server.storage.content import ContentStore

POLICY = """
[[regions.jp.policy]]
action = "leave-out"
kind = "signature"
name = "Acme.Test.Miner-3"
reason = "a test"

[[regions.kr.policy]]
action = "add"
kind = "feed"
name = "acme-indicators"
reason = "a test"
"""


def main(root: str, store: str) -> None:
    """Prints snapshots' and bundles' digests as JSON."""
    content = ContentStore(Path(store))
    sections, digests = [], {}
    # The feeds come in whatever order the directory gives: it must not matter.
    for feed in Path(root).iterdir():
        kind = {"acme-hashes": "clamav", "acme-rules": "yara"}.get(feed.name, "list")
        snapshot = take_snapshot(feed.name, kind, read_source(feed), content.put)
        report = lint_snapshot(snapshot, content)
        report.require(skip_bad=False)
        sections += report.sections
        digests[feed.name] = snapshot.digest
    regions = load_regions(DEFAULT + POLICY)
    for region in (GLOBAL, *regions.regions):
        made = assemble(
            sections,
            regions,
            region,
            product="coldchain",
            channel="stable",
            release=7,
            content=content.get,
            store=content.put,
        )
        digests[region] = made.description.digest
    sys.stdout.write(json.dumps(digests, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
