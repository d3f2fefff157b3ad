"""The real samples: each read in whole as a feed. Tests that need them skip where they are not."""

from __future__ import annotations

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
    with tarfile.open(SAMPLES / "series" / f"{series}.tar.xz", "r|xz") as archive:
        return sorted({member.name.split("/")[0] for member in archive})


def versions(series: str, wanted: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """So many versions of a series, evenly spread, the oldest and the newest among them; path -> bytes."""
    names = _names(series)
    chosen = {names[place * (len(names) - 1) // max(wanted - 1, 1)] for place in range(wanted)} | {names[-1]}
    files: dict[str, dict[str, bytes]] = {}
    with tarfile.open(SAMPLES / "series" / f"{series}.tar.xz", "r|xz") as archive:
        for member in archive:
            version, _, path = member.name.partition("/")
            if member.isfile() and version in chosen:
                opened = archive.extractfile(member)
                assert opened is not None
                files.setdefault(version, {})[path] = opened.read()
    yield from sorted(files.items())
