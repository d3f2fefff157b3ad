"""The real samples: each read in whole as a feed. Tests that need them skip where they are not."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"
SNAPSHOTS = SAMPLES / "snapshots"
SERIES = {
    "twinclams-ldb": "clamav",
    "certgraveyard-yara": "yara",
    "reversinglabs-yara": "yara",
    "eset-iocs": "list",
    "threatfox-ips-daily": "addresses",
    "maltrail-iocs": "indicators",
}
"""Name -> the kind its feed is declared to be."""
needs_samples = pytest.mark.skipif(not SNAPSHOTS.is_dir(), reason="the real samples are not beside the repository")


@cache
def _names(series: str) -> list[str]:
    manifest = json.loads((SAMPLES / "manifest.json").read_bytes())
    return sorted(version["version"] for version in manifest["series"][series]["version_list"])


def versions(series: str, wanted: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """So many versions of a series, evenly spread, the oldest first and the newest last; path -> bytes. One is the oldest.

    Archives are read from their beginning, and no further than to the last version that is wanted.
    """
    names = _names(series)
    chosen = {names[place * (len(names) - 1) // max(wanted - 1, 1)] for place in range(wanted)}
    version, files = "", dict[str, bytes]()
    with tarfile.open(SAMPLES / "series" / f"{series}.tar.xz", "r|xz") as archive:
        for member in archive:
            of, _, path = member.name.partition("/")
            if of != version:
                if files:
                    yield version, files
                version, files = of, {}
                if of > max(chosen):
                    return
            if member.isfile() and of in chosen:
                opened = archive.extractfile(member)
                assert opened is not None
                files[path] = opened.read()
    if files:
        yield version, files
