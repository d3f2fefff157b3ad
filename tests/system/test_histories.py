"""Real histories replayed as feeds: every step ends on the signed bundle, and after the first none needs the full one.

The quick run takes the first versions of each series; the complete histories are marked ``faults`` and print their figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.history import Files, versions
from tests.server.origins import NO_ENGINES
from tests.system.histories import Part, Replay, Step, regions_toml, replaying

SERIES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "series"


FILES = 12


@dataclass(frozen=True)
class Series:
    """A sample history: its feeds, and how many of its versions the quick run takes."""

    name: str
    parts: tuple[Part, ...]
    quick: int

    @property
    def archive(self) -> Path:
        path = SERIES / f"{self.name}.tar.xz"
        if not path.is_file():
            pytest.skip("the sample histories are not beside this repository")
        return path


ALL = [
    Series(
        # One line names the attribute "20191220Engine": the engine drops that signature without a word. From version 112 on another
        # has a part of one byte between jumps: the engine refuses it, and the whole file with it.
        "twinclams-ldb",
        (Part("twinclams", "clamav", (".ldb", ".ign2"), frozenset({"unknown-attribute", "too-short"})),),
        5,
    ),
    Series(
        # Four rules of groundbait declare a pattern twice or name such a rule: no compiler takes them.
        "eset-iocs",
        (
            Part("eset-rules", "yara", (".yar",), frozenset({"does-not-compile"})),
            Part("eset-hashes", "hashes", (".md5", ".sha1", ".sha256")),
        ),
        6,
    ),
    Series("threatfox-ips-daily", (Part("threatfox", "addresses", (".txt",)),), 2),
    Series("reversinglabs-yara", (Part("reversinglabs", "yara", (".yara",)),), 2),
    Series(
        # Its trails are written for a sensor that knows regular expressions and Unicode names; a plain list does not.
        "maltrail-iocs",
        (Part("maltrail", "indicators", (".txt",), frozenset({"not-ascii", "not-an-indicator"})),),
        2,
    ),
    Series("certgraveyard-yara", (Part("certgraveyard", "yara", (".yara",)),), 2),
]


async def replay(series: Series, at: Replay, versions_of: list[tuple[str, Files]] | None = None) -> list[Step]:
    """All versions (or those given) through the whole path; checks what must hold of every one."""
    steps: list[Step] = []
    allowed = frozenset[str]().union(*(part.bad for part in series.parts))
    for name, files in versions_of if versions_of is not None else versions(series.archive):
        step = await at.step(files)
        expected = ("updated", "delta") if steps else ("installed", "full")
        assert (step.outcome.action, step.outcome.way, step.outcome.fallback) == (*expected, None), name
        assert step.left_out <= allowed, name
        steps.append(step)
    return steps


def some_files(taken: list[tuple[str, Files]]) -> list[tuple[str, Files]]:
    """Feeds of many files cut to some, those that change first: a thousand files that are new cost a disk's flush each."""
    seen = sorted({path for _, files in taken for path in files})
    changing = {path for path in seen if len({files.get(path) for _, files in taken}) > 1}
    kept = set(sorted(seen, key=lambda path: path not in changing)[:FILES])
    return [(name, {path: data for path, data in files.items() if path in kept}) for name, files in taken]


@pytest.mark.parametrize("series", ALL, ids=lambda series: series.name)
async def test_the_first_versions_go_through_the_whole_path(series: Series, tmp_path: Path) -> None:
    taken = some_files(list(islice(versions(series.archive), series.quick)))
    async with replaying(tmp_path, series.parts, regions=regions_toml(["us", "jp"])) as at:
        steps = await replay(series, at, taken)
    assert len(steps) == series.quick
    for step in steps[1:]:
        assert step.delta is not None
        assert step.delta < step.full


@pytest.mark.faults
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("series", ALL, ids=lambda series: series.name)
async def test_a_whole_history_goes_through_the_whole_path(
    series: Series, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = f"recent_deltas = 2\nkeep_generations = 4\n{NO_ENGINES}"
    async with replaying(tmp_path, series.parts, regions=regions_toml(["us"]), settings=settings) as at:
        steps = await replay(series, at)
    left_out = set().union(*(step.left_out for step in steps))
    assert left_out == frozenset().union(*(part.bad for part in series.parts))
    deltas = [step.delta for step in steps[1:] if step.delta is not None]
    assert len(deltas) == len(steps) - 1
    full_downloads = sum(step.outcome.way == "full" for step in steps[1:])
    assert full_downloads == 0
    fulls = sum(step.full for step in steps[1:])
    with capsys.disabled():
        print(
            f"\n{series.name}: {len(deltas)} steps, deltas {sum(deltas):,} bytes (median {sorted(deltas)[len(deltas) // 2]:,}, "
            f"largest {max(deltas):,}), full bundles instead would be {fulls:,}; full downloads after the first: {full_downloads}"
        )
