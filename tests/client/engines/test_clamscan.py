"""Load tests with the installed ClamAV: the number that must come out is the one that comes out, for every type of database."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from coldchain.bundle.description import Section
from coldchain.engines import clamscan
from coldchain.engines.clamav import ClamAV
from coldchain.engines.interface import Canary, Corpora, LoadReport, LoadTest, canary_of
from coldchain.engines.settings import OneEngine
from coldchain.errors import EngineDownError, UsageError
from coldchain_server.feeds.formats.clamav import TYPES
from tests.client.agent.publisher import hashes
from tests.client.engines.daemon import EICAR, EICAR_RECORD
from tests.client.tuf.repository import digest
from tests.server.feeds.engine import needs_clamscan
from tests.server.feeds.lines import GOOD

CANARY = canary_of("clamav", "coldchain", "us", "stable", 7)
CANARY_FILE = {"coldchain-canary.ndb": f"{CANARY.name}:0:*:{CANARY.data.hex()}\n".encode()}
OF_LINES = [name for name, one in TYPES.items() if one.grammar is not None]


def tried(
    path: Path,
    files: Mapping[str, bytes],
    corpora: Corpora | None = None,
    *,
    canary: Canary | None = CANARY,
    settings: OneEngine | None = None,
) -> LoadReport:
    folder, work = path / "set", path / "work"
    folder.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    sections = []
    for name, data in {**files, **CANARY_FILE}.items():
        (folder / name).write_bytes(data)
        sections.append(Section(name, "set", "clamav", data.count(b"\n"), len(data), digest(data)))
    engine = ClamAV(settings or OneEngine("clamav", "clamav"))
    return engine.load_test(LoadTest(folder, sections, canary, corpora or Corpora(), work))


def test_what_is_not_counted_is_what_the_lint_says() -> None:
    assert {name for name, one in TYPES.items() if not one.counted} == clamscan.UNCOUNTED
    assert {name for name, one in TYPES.items() if one.switches_off} == clamscan._SWITCHES_OFF


@needs_clamscan
@pytest.mark.parametrize("extension", OF_LINES)
def test_good_databases_of_every_type_pass_with_exactly_their_count(extension: str, tmp_path: Path) -> None:
    lines = sorted(set(GOOD[extension]))
    report = tried(tmp_path, {f"a.{extension}": b"".join(line + b"\n" for line in lines)})
    assert report.loaded == report.expected == 1 + (len(lines) if TYPES[extension].counted else 0)
    assert report.canary
    assert report.version.startswith("ClamAV ")
    assert report.peak_bytes > 1 << 20
    assert report.seconds > 0


@needs_clamscan
@pytest.mark.parametrize("extension", [name for name in OF_LINES if TYPES[name].counted])
def test_records_that_the_set_switches_off_are_not_counted(extension: str, tmp_path: Path) -> None:
    """By name in an ign2, for every type whose records have names."""
    from coldchain.records import record_name

    lines = sorted(set(GOOD[extension]))
    named = [(name, line) for line in lines if (name := record_name(f"a.{extension}", line))]
    if not named:
        pytest.skip("records of this type have no names")
    off = f"{named[0][0]}\nAcme.Test.Nowhere\n".encode()
    report = tried(tmp_path, {f"a.{extension}": b"".join(line + b"\n" for line in lines), "b.ign2": off})
    assert 1 <= report.loaded == report.expected < len(lines) + 1  # the canary is one more


@needs_clamscan
def test_a_record_switched_off_by_its_md5_and_in_the_oldest_form(tmp_path: Path) -> None:
    import hashlib

    lines = hashes(1, 2, 3, 4).splitlines()
    names = [line.split(b":")[2] for line in lines]
    md5 = hashlib.md5(lines[0]).hexdigest().encode()
    other = hashlib.md5(b"another line").hexdigest().encode()
    off = b"\n".join([names[0] + b":" + md5, names[1] + b":" + other, b""])
    oldest = b"a.hsb:3:" + names[2] + b"\n"
    report = tried(tmp_path, {"a.hsb": hashes(1, 2, 3, 4), "b.ign2": off, "c.ign": oldest})
    assert (report.expected, report.loaded, report.problem) == (3, 3, "")


@needs_clamscan
def test_the_canary_must_be_found_under_its_own_name(tmp_path: Path) -> None:
    assert not tried(tmp_path, {"a.hsb": hashes(1)}, canary=canary_of("clamav", "coldchain", "us", "stable", 8)).canary
    report = tried(tmp_path, {"a.hsb": hashes(1)}, canary=Canary("Another.Name", CANARY.data))
    assert "canary" in report.problem
    assert tried(tmp_path, {"a.hsb": hashes(1)}, canary=None).problem == ""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "below").mkdir(parents=True)
    (folder / "one: two FOUND").write_bytes(b"good\n")
    (folder / "below" / "bad").write_bytes(EICAR)
    (folder / "link").symlink_to("below/bad")
    (folder / "nowhere").symlink_to("nothing")
    os.mkfifo(folder / "fifo")
    return folder


@needs_clamscan
def test_corpora(corpus: Path, tmp_path: Path) -> None:
    files = {"a.hsb": hashes(1), "e.ndb": EICAR_RECORD}
    bad, good = corpus / "below", corpus / "one: two FOUND"

    report = tried(tmp_path, files, Corpora((good,), (bad,)))
    assert (report.problem, report.must_detect, report.missed, report.clean_hits) == ("", 1, 0, 0)
    assert report.clean_files >= 1

    report = tried(tmp_path, files, Corpora((corpus,)))
    assert report.problem == f"1 clean file was detected: {bad / 'bad'}: Coldchain.Test.Eicar"
    assert report.clean_hits == 1

    report = tried(tmp_path, files, Corpora((), (corpus,)))
    assert (report.must_detect, report.missed, report.missed_names) == (2, 1, [str(good)])
    assert "1 of 2 files that must be detected" in report.problem


@needs_clamscan
def test_no_name_of_a_clean_file_hides_a_hit(tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    folder.mkdir()
    for name in ("a\nb", "Known viruses: 9", "x: y FOUND\nz", "\nInfected files: 0"):
        (folder / name).write_bytes(EICAR)
    report = tried(tmp_path, {"a.hsb": hashes(1), "e.ndb": EICAR_RECORD}, Corpora((folder,)))
    assert report.clean_hits >= 4
    assert report.loaded == 3


@needs_clamscan
def test_a_corpus_that_cannot_be_what_is_meant(tmp_path: Path) -> None:
    files = {"a.hsb": hashes(1)}
    (tmp_path / "a\nb").write_bytes(b"x")
    for corpora in (
        Corpora((tmp_path / "nothing",)),
        Corpora((), (tmp_path / "nothing",)),
        Corpora((), (tmp_path / "a\nb",)),
    ):
        with pytest.raises(UsageError):
            tried(tmp_path, files, corpora)


@needs_clamscan
def test_a_set_that_finds_the_machine_itself_is_refused_without_any_corpus(tmp_path: Path) -> None:
    report = tried(tmp_path, {"a.ndb": b"Acme.Test.Elf:6:0:7f454c46\n"})
    assert report.clean_hits >= 3
    assert str(Path(sys.executable).resolve()) in report.problem


@needs_clamscan
def test_limits(tmp_path: Path) -> None:
    many = hashes(*range(60_000))
    report = tried(tmp_path, {"a.hsb": many}, settings=OneEngine("clamav", "clamav", load_bytes=10 << 20))
    assert report.problem
    assert tried(tmp_path, {"a.hsb": many}).problem == ""
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\n[ "$1" = --version ] && exec clamscan --version\nsleep 9\n')
    slow.chmod(0o755)
    settings = OneEngine("clamav", "clamav", program=slow, load_seconds=1)
    assert "did not end within 1 seconds" in tried(tmp_path, {"a.hsb": hashes(1)}, settings=settings).problem


def test_without_the_program_nothing_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineDownError, match="not installed"):
        tried(tmp_path, {}, settings=OneEngine("clamav", "clamav", program=tmp_path / "nothing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineDownError, match="clamscan is not installed"):
        tried(tmp_path, {})
    silent = tmp_path / "clamscan"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    with pytest.raises(EngineDownError, match="does not say its version"):
        tried(tmp_path, {})
