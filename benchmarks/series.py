"""The histories a run goes through: what is at hand, what each must reach, and which of its steps are taken.

Series and the few snapshots with several versions come from ``../shared/samples`` beside the checkout. Two ClamAV databases exist
there only as one state, but in the order in which their lines were appended, which is the order of time: they are *replayed*, the
first lines as the old version and the next :data:`REPLAYED` lines as what a release adds.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.history import Contents, Files, evenly, versions
from coldchain.bundle.description import BundleDescription

SAMPLES: Final = Path(__file__).resolve().parents[2] / "shared" / "samples"
REPLAYED: Final = 200
REPLAYS: Final = 10
HASHES, INDICATORS, TEXTS = 0.85, 0.60, 1.00
_CVD_HEAD: Final = 512


@dataclass(frozen=True, slots=True)
class Series:
    """One history. ``goal`` is the largest ratio to the best peer that meets the goal of its kind of data."""

    name: str
    kind: str
    goal: float
    source: str

    @property
    def path(self) -> Path:
        """Where its data lies."""
        return SAMPLES / self.source

    def versions(self) -> Iterator[tuple[str, Files]]:
        """(name, files by path) of each version, in order."""
        if self.path.suffix == ".xz":
            return versions(self.path)
        if self.name.startswith("replay-"):
            return _replayed(self.path)
        return _chain(self.path) if self.name == "clamav-chain" else _directories(self.path)


SERIES: Final = (
    Series("threatfox-ips-daily", "indicators", INDICATORS, "series/threatfox-ips-daily.tar.xz"),
    Series("maltrail-iocs", "indicators", INDICATORS, "series/maltrail-iocs.tar.xz"),
    Series("eset-iocs", "indicators", INDICATORS, "series/eset-iocs.tar.xz"),
    Series("twinclams-ldb", "text", TEXTS, "series/twinclams-ldb.tar.xz"),
    Series("clamav-ndb", "text", TEXTS, "snapshots/clamav-official/older"),
    Series("clamav-chain", "text", TEXTS, "snapshots/clamav-cvd-cdiff-chain"),
    Series("certgraveyard-yara", "rules", TEXTS, "series/certgraveyard-yara.tar.xz"),
    Series("reversinglabs-yara", "rules", TEXTS, "series/reversinglabs-yara.tar.xz"),
    Series("lmd-clamav", "hashes", HASHES, "snapshots/lmd-clamav"),
    Series("replay-daily-hsb", "hashes", HASHES, "snapshots/clamav-official/daily_head20000.hsb"),
    Series("replay-main-hdb", "hashes", HASHES, "snapshots/clamav-official/main_head20000.hdb"),
)


def _directories(path: Path) -> Iterator[tuple[str, Files]]:
    for version in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        yield (
            version.name,
            {file.name: file.read_bytes() for file in sorted(version.iterdir()) if file.suffix != ".txt"},
        )


def _replayed(path: Path) -> Iterator[tuple[str, Files]]:
    lines = path.read_bytes().splitlines(keepends=True)
    for step in range(REPLAYS + 1):
        count = len(lines) - REPLAYED * (REPLAYS - step)
        yield f"+{REPLAYED * step}", {path.name: b"".join(lines[:count])}


def _chain(path: Path) -> Iterator[tuple[str, Files]]:
    """Genuine CVDs: a tar.gz after a head of 512 bytes."""
    for cvd in sorted(path.glob("test-*.cvd")):
        with tarfile.open(fileobj=io.BytesIO(cvd.read_bytes()[_CVD_HEAD:]), mode="r:gz") as tar:
            files = Files()
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() and not member.name.startswith("COPYING") else None
                if stream:
                    files[member.name] = stream.read()
            yield cvd.stem, files


@dataclass(frozen=True, slots=True)
class Pair:
    """Two consecutive versions as bundles."""

    version: str
    old: BundleDescription
    new: BundleDescription


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which steps of a history are measured: every ``every``-th, or at most ``most`` evenly spread ones."""

    every: int | None
    most: int

    def pick(self, count: int) -> list[int]:
        """Indexes below ``count``."""
        return list(range(0, count, self.every)) if self.every else evenly(count, self.most)

    def say(self, taken: int, count: int) -> str:
        """What is printed of it."""
        if taken == count:
            return f"all {count} steps"
        return f"every {self.every}th of {count} steps" if self.every else f"{taken} of {count} steps, evenly spread"


def pairs(series: Series, count: int, sampling: Sampling, contents: Contents) -> Iterator[Pair]:
    """The picked steps of a series with ``count`` versions. A version without a record gives no step."""
    picked = set(sampling.pick(count - 1))
    before: BundleDescription | None = None
    for index, (version, files) in enumerate(series.versions()):
        wanted = index in picked or index - 1 in picked
        now = contents.bundle(series.name, files, index + 1) if wanted else None
        if index - 1 in picked and before and now and before.sections and now.sections:
            yield Pair(version, before, now)
        before = now
        if index > max(picked):
            return


def count_versions(series: Series) -> int:
    """How many versions a series has, by the samples' manifest where it says so: counting an archive means unpacking all of it."""
    if series.path.suffix != ".xz":
        return sum(1 for _ in series.versions())
    manifest = SAMPLES / "manifest.json"
    if manifest.exists():
        listed = json.loads(manifest.read_bytes())["series"].get(series.name)
        if listed:
            return int(listed["versions"])
    with tarfile.open(series.path, "r|xz") as tar:
        return len({member.name.partition("/")[0] for member in tar if member.isfile()})
