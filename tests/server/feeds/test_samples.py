"""The real samples through the whole room: what the engines load passes, what is refused the engine refuses or drops too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import yara_x

from coldchain.bundle.description import Section
from coldchain.engines.clamscan import expected
from coldchain_server.assembly.assemble import assemble
from coldchain_server.assembly.regions import DEFAULT, load_regions
from coldchain_server.feeds.archives import SourceFile
from coldchain_server.feeds.formats.clamav import LEFT_BEHIND, TYPES
from coldchain_server.feeds.formats.yara import compile_source
from coldchain_server.feeds.lint import LintReport, lint_snapshot
from coldchain_server.feeds.snapshots import take_snapshot
from coldchain_server.feeds.sources import read_source
from coldchain_server.storage.content import ContentStore
from tests.server.feeds.engine import Loaded, load, load_directory, needs_clamscan
from tests.server.feeds.samples import SERIES, SNAPSHOTS, needs_samples, versions

pytestmark = needs_samples

POLICY = """
[[regions.jp.policy]]
action = "leave-out"
kind = "signature"
name = "Eicar-Test-Signature"
reason = "a test"
"""
NO_DATABASES = (".txt", ".sign", ".cdiff", ".info", "COPYING", "SOURCE_COMMIT")
REFUSED = {
    "malformed-real/old_main_tail200.hdb": {"bad-size": 7},  # fails the whole set
    # One line of each for engines up to level 38, gone for many years: all others drop it without a word.
    **{f"clamav-cvd-cdiff-chain/test-{number}/test.ndb": {"no-engine": 1} for number in range(1, 7)},
}
"""Real files that the engine refuses or loads short, and what is wrong with them."""


class Store:
    """Content in memory."""

    def __init__(self, path: Path) -> None:
        self.content = ContentStore(path)

    def lint(self, feed: str, kind: str, files: Iterable[SourceFile], *, skip_bad: bool = False) -> LintReport:
        snapshot = take_snapshot(feed, kind, files, self.content.put)
        return lint_snapshot(snapshot, self.content, skip_bad=skip_bad)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "content")


def put(path: Path, sections: Iterable[Section], content: ContentStore) -> None:
    """Writes sections as an endpoint has them."""
    path.mkdir()
    for section in sections:
        (path / section.name).write_bytes(content.get(section.sha256))


def engine(tmp_path: Path, sections: Iterable[Section], content: ContentStore) -> tuple[Loaded, int]:
    """How the engine loads a bundle's ClamAV sections, and how many signatures it must report."""
    clamav = [section for section in sections if section.engine == "clamav"]
    put(tmp_path / "databases", clamav, content)
    target = tmp_path / "scanned"
    target.write_bytes(b"harmless\n")
    return load_directory(tmp_path / "databases", target), expected(tmp_path / "databases", clamav)


@needs_clamscan
def test_every_file_of_the_snapshots_gets_the_engines_verdict(store: Store) -> None:
    report = store.lint("real", "clamav", read_source(SNAPSHOTS))
    assert {file.file: dict(file.reasons) for file in report.files if file.errors} == REFUSED
    by_path = {file.file: file for file in report.files}
    judged = 0
    for one in read_source(SNAPSHOTS):
        file = by_path[one.path]
        extension = one.path.rpartition(".")[2]
        if extension not in TYPES:
            assert one.path.endswith(NO_DATABASES), one.path
            assert [finding.code for finding in file.findings] == ["not-a-database"]
            continue
        judged += 1
        loaded = load({f"a.{extension}": one.data})
        lines = [line for line in one.data.split(b"\n") if line.strip(b"\r") and not line.startswith(b"#")]
        counted = len(lines) if TYPES[extension].counted else 0
        assert (loaded.failed or loaded.known < counted) == bool(file.errors), (one.path, loaded.said)
        if not loaded.failed:
            assert loaded.known == (file.records if counted else 0) + file.counts.get("duplicate", 0), one.path
    assert judged > 90


@needs_clamscan
def test_the_engine_refuses_what_belongs_to_a_container_alone() -> None:
    for extension in LEFT_BEHIND:
        data = (SNAPSHOTS / "clamav-official" / f"main.{extension}").read_bytes()
        assert load({f"main.{extension}": data}).failed


@needs_clamscan
def test_the_assembled_bundles_of_all_regions_load_whole(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="13 errors"):
        store.lint("real", "clamav", read_source(SNAPSHOTS)).require(skip_bad=False)
    report = store.lint("real", "clamav", read_source(SNAPSHOTS), skip_bad=True)
    report.require(skip_bad=True)
    assert (report.skipped, report.reasons) == (13, {"bad-size": 7, "no-engine": 6})
    regions = load_regions(DEFAULT + POLICY)
    counts = {}
    for region in ("us", "jp", "row"):
        made = assemble(
            report.sections,
            regions,
            region,
            product="coldchain",
            channel="stable",
            release=1,
            content=store.content.get,
            store=store.content.put,
        )
        path = tmp_path / region
        path.mkdir()
        loaded, expected = engine(path, made.description.sections, store.content)
        assert not loaded.failed, loaded.said
        assert loaded.known == expected
        counts[region] = loaded.known
    assert counts["us"] == counts["row"] > 60_000
    assert counts["jp"] < counts["us"]


@needs_clamscan
def test_twinclams_and_the_line_that_vanishes(store: Store, tmp_path: Path) -> None:
    twinclams(3, store, tmp_path)


def twinclams(wanted: int, store: Store, tmp_path: Path) -> None:
    for version, files in versions("twinclams-ldb", wanted):
        sources = [SourceFile(path, data) for path, data in files.items()]
        strict = store.lint("twin", "clamav", sources)
        for finding in strict.errors:
            line = files[finding.file].split(b"\n")[finding.line - 1].rstrip(b"\r") + b"\n"
            loaded = load({f"a.{finding.file.rpartition('.')[2]}": line})
            assert loaded.failed or loaded.known == 0, (version, finding, loaded.said)
        report = store.lint("twin", "clamav", sources, skip_bad=True)
        path = tmp_path / version
        path.mkdir()
        loaded, expected = engine(path, [one.described() for one in report.sections], store.content)
        assert loaded.known == expected > 0, (version, loaded.said)
        whole = load({Path(name).name: data for name, data in files.items() if name.endswith(".ldb")})
        records = sum(one.records for one in report.sections if one.name.endswith(".ldb"))
        texts = [data.replace(b"\r", b"") for name, data in files.items() if name.endswith(".ldb")]
        lines = [[line for line in text.split(b"\n") if line and not line.startswith(b"#")] for text in texts]
        # The engine counts a repeated line again; what it is short of is what we refuse.
        assert whole.known == sum(map(len, lines)) - len(strict.errors), (version, whole.said)
        assert report.skipped == len(strict.errors) == sum(len(set(one)) for one in lines) - records


def series(name: str, wanted: int, store: Store, part: int = 1) -> None:
    """So many versions of a series, of each every ``part``-th file."""
    for version, files in versions(name, wanted):
        sources = [SourceFile(path, data) for path, data in sorted(files.items())[::part]]
        skip = SERIES[name] == "indicators"  # maltrail's lists hold some expressions and names that are no ASCII
        report = store.lint("real", SERIES[name], sources, skip_bad=skip)
        assert skip or report.errors == [], (version, [str(one) for one in report.errors[:5]])
        assert set(report.reasons) <= {"not-ascii", "not-an-indicator"}, report.reasons
        assert report.skipped * 1_000 <= report.records, (report.skipped, report.records)
        if SERIES[name] != "list":
            report.require(skip_bad=False)
            assert all(file.records for file in report.files), version
        for section in report.sections:
            if section.engine == "yara":
                rules: yara_x.Rules = compile_source(store.content.get(section.sha256).decode(), section.name)
                assert len(list(rules)) == section.records


@pytest.mark.parametrize("name", sorted(set(SERIES) - {"twinclams-ldb", "certgraveyard-yara"}))
def test_the_first_version_of_each_series_passes(name: str, store: Store) -> None:
    series(name, 1, store, part=8 if name in ("maltrail-iocs", "reversinglabs-yara") else 1)


@pytest.mark.faults
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", sorted(SERIES))
def test_versions_of_each_series_pass_to_the_newest(name: str, store: Store, tmp_path: Path) -> None:
    if name == "twinclams-ldb":
        twinclams(40, store, tmp_path)
    else:
        series(name, 4, store)
