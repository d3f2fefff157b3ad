"""A whole snapshot: nothing is dropped silently, the cache changes nothing, and each trap of the engine is caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.engines.clamscan import expected
from coldchain.errors import LintError
from coldchain_server.feeds.archives import SourceFile
from coldchain_server.feeds.formats.clamav import TYPES
from coldchain_server.feeds.lint import LintReport, lint_snapshot
from coldchain_server.feeds.snapshots import take_snapshot
from coldchain_server.storage.content import ContentStore
from tests.server.feeds.engine import load, needs_clamscan
from tests.server.feeds.lines import BAD, GOOD, MD5, SHA256

RULE = b'rule Good { strings: $a = "e8000000005d81ed" condition: $a }\n'


class Feed:
    def __init__(self, path: Path) -> None:
        self.content = ContentStore(path / "content")
        self.cache = path / "cache"

    def lint(
        self, files: dict[str, bytes], kind: str = "clamav", *, skip_bad: bool = False, cache: bool = False
    ) -> LintReport:
        sources = [SourceFile(path, data) for path, data in files.items()]
        snapshot = take_snapshot("acme", kind, sources, self.content.put)
        return lint_snapshot(snapshot, self.content, skip_bad=skip_bad, cache=self.cache if cache else None)

    def sections(self, report: LintReport) -> dict[str, bytes]:
        return {section.name: self.content.get(section.sha256) for section in report.sections}


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path)


def everything() -> dict[str, bytes]:
    return {f"a.{extension}": b"".join(line + b"\n" for line in lines) for extension, lines in GOOD.items()} | {
        "r.yar": RULE
    }


def test_every_type_becomes_a_section(feed: Feed) -> None:
    report = feed.lint(everything())
    assert report.errors == []
    sections = feed.sections(report)
    assert set(sections) == {f"acme-{path}" for path in everything()}
    for path, data in everything().items():
        extension = path.rpartition(".")[2]
        if extension not in TYPES or TYPES[extension].kind == "file":
            assert sections[f"acme-{path}"] == data  # byte for byte
        else:
            assert sections[f"acme-{path}"].split(b"\n")[:-1] == sorted(GOOD[extension])


@needs_clamscan
def test_the_engine_counts_what_is_expected(feed: Feed, tmp_path: Path) -> None:
    files = {path: data for path, data in everything().items() if path not in ("r.yar", "a.cfg", "a.ftm")}
    for leave in ((), ("a.ign", "a.ign2")):
        report = feed.lint({path: data for path, data in files.items() if path not in leave})
        sections = [one.described() for one in report.sections]
        loaded = load(feed.sections(report))
        folder = tmp_path / f"without {len(leave)}"
        folder.mkdir()
        for name, data in feed.sections(report).items():
            (folder / name).write_bytes(data)
        assert loaded.known == expected(folder, sections), loaded.said


@pytest.mark.parametrize("extension", sorted(BAD))
def test_errors_refuse_the_feed_and_skipping_counts_them(feed: Feed, extension: str) -> None:
    bad = BAD[extension]
    files = {f"a.{extension}": b"\n".join([GOOD[extension][0], *bad]) + b"\n", "b.hdb": MD5 + b":7:Other\n"}
    strict = feed.lint(files)
    with pytest.raises(LintError) as caught:
        strict.require(skip_bad=False)
    assert f"{len(bad)} errors" in str(caught.value)
    assert set(feed.sections(strict)) == {"acme-b.hdb"}
    report = feed.lint(files, skip_bad=True)
    report.require(skip_bad=True)
    assert report.skipped == sum(report.reasons.values()) == len(bad)
    assert report.reasons == {code: list(bad.values()).count(code) for code in sorted(set(bad.values()))}
    assert feed.sections(report)[f"acme-a.{extension}"] == GOOD[extension][0] + b"\n"


def test_no_file_is_passed_over_in_silence(feed: Feed) -> None:
    files = {
        "README.md": b"x",
        "a.info": b"ClamAV-VDB:x\n",
        "a.hdb": MD5 + b":7:A\n",
        "b.HDB": MD5 + b":8:B\n",
        "empty.ndb": b"# c\n",
        "x": b"",
    }
    report = feed.lint(files)
    assert [file.file for file in report.files] == sorted(files)
    assert {file.file for file in report.files if not file.records} == {"README.md", "a.info", "empty.ndb", "x"}
    assert all(file.findings for file in report.files if not file.records)
    assert report.errors == []
    with pytest.raises(LintError):
        feed.lint({"README.md": b"x"}).require(skip_bad=True)
    taken = feed.lint({"a.hdb": MD5 + b":7:A\n", "b.ioc": b"<xml/>"}, skip_bad=True)
    assert taken.reasons == {"not-taken": 1}  # an engine would load it


def test_lists_are_what_they_are_declared_to_be(feed: Feed) -> None:
    files = {
        "domains.txt": b"Evil.example\n",
        "c2-ips.txt": b"8.8.8.8\n",
        "all.sha256": SHA256 + b"\n",
        "odd.txt": b"x\n",
    }
    report = feed.lint(files, "list")
    assert set(feed.sections(report)) == {"acme-domains.list", "acme-c2-ips.list", "acme-all.sha256.list"}
    assert [file.file for file in report.files if not file.records] == ["odd.txt"]
    assert feed.lint({"x.txt": b"evil.example\n"}, "domains").records == 1
    assert feed.lint({"x.txt": b"evil.example\n"}, "addresses").errors
    assert feed.lint({"x.hdb": MD5 + b":7:A\n"}, "yara").records == 0


def test_the_cache_changes_nothing_but_the_time(feed: Feed) -> None:
    files = {**everything(), "bad.hdb": b"x\n" * 40, "words.txt": b"x"}
    for skip_bad in (False, True):
        plain = feed.lint(files, skip_bad=skip_bad)
        first = feed.lint(files, skip_bad=skip_bad, cache=True)
        entries = list(feed.cache.iterdir())
        assert len(entries) == len(files) * (1 + skip_bad)
        again = feed.lint(files, skip_bad=skip_bad, cache=True)
        assert first == plain == again
        for entry in entries[::9]:
            whole = entry.read_bytes()
            for damage in (b"", whole[:-1], b"{}", whole.replace(b"records", b"recodrs")):
                entry.write_bytes(damage)
                assert feed.lint(files, skip_bad=skip_bad, cache=True) == plain
                entry.write_bytes(whole)
    for section in feed.lint(files, skip_bad=True).sections:
        feed.content(section.sha256).unlink(missing_ok=True)  # some are the same
    assert feed.lint(files, skip_bad=True, cache=True) == feed.lint(files, skip_bad=True)


TRAPS: dict[str, tuple[str, bytes, str]] = {
    "a line of garbage": ("hdb", b"garbage:not:a:valid:line\n", "bad-size"),
    "a functionality level of the future": ("hdb", MD5 + b":68:A:9999\n", "no-engine"),
    "a level of the future, ldb": ("ldb", b"A;Engine:9999-99999,Target:0;0;deadbeefcafe\n", "no-engine"),
    "a broken YARA file": ("yar", b"rule A { condition: }\n", "does-not-compile"),
    "a broken rule beside a good one": ("yar", RULE + b"rule A { condition: }\n", "does-not-compile"),
    "a blank line": ("hdb", MD5 + b":68:A\n\n" + MD5 + b":69:A\n", "blank-line"),
    "a blank line, ndb": ("ndb", b"A:0:*:deadbeef\n\n", "blank-line"),
    "a byte order mark": ("hdb", b"\xef\xbb\xbf" + MD5 + b":68:A\n", "byte-order-mark"),
    "an empty file": ("hdb", b"", "empty-file"),
    "a pattern of one byte": ("ndb", b"A:0:*:41\n", "too-short"),
    "any size without its level": ("hdb", MD5 + b":*:A\n", "wildcard-level"),
    "a pattern that is every ELF": ("ndb", b"A:0:*:7f454c46\n", "magic-only"),
    "a pattern that is every PE": ("ndb", b"A:0:0:4d5a9000\n", "magic-only"),
    "an attribute that makes a line vanish": ("ldb", b"A;20191220Engine:81-255;0;deadbeefcafe\n", "unknown-attribute"),
    "an exception for a YARA rule by its full name": ("ign2", b"YARA.Rule\n", "switches-nothing-off"),
    "an exception for a name with its end": ("ign2", b"A.UNOFFICIAL\n", "switches-nothing-off"),
}
HARMLESS = {
    "crlf": MD5 + b":68:A\r\n",
    "no line end": MD5 + b":68:A",
    "comment": b"# c\n" + MD5 + b":68:A\n",
    "upper case": MD5.upper() + b":68:A\n",
    "duplicates": (MD5 + b":68:A\n") * 3,
}


@pytest.mark.parametrize("name", sorted(TRAPS))
def test_every_trap_is_caught(feed: Feed, name: str) -> None:
    extension, data, code = TRAPS[name]
    report = feed.lint({f"a.{extension}": data, "b.hdb": MD5 + b":7:B\n"})
    assert code in report.reasons, report.errors
    with pytest.raises(LintError):
        report.require(skip_bad=False)


@needs_clamscan
@pytest.mark.parametrize("name", sorted(TRAPS))
def test_every_trap_is_one(name: str) -> None:
    extension, data, code = TRAPS[name]
    loaded = load({f"a.{extension}": data}, b"\x7fELF" + bytes(60) if "ELF" in name else b"MZ\x90" + bytes(61))
    lines = len([line for line in data.split(b"\n") if line.startswith(b"rule ") or (line and extension != "yar")])
    if code == "magic-only":
        assert "FOUND" in loaded.said or loaded.failed
    elif extension == "ign2":
        both = load({"a.ign2": data, "a.ndb": b"A:0:*:deadbeefcafe\n", "r.yar": RULE.replace(b"Good", b"Rule")})
        assert both.known == 2  # nothing is switched off
    elif code == "byte-order-mark":
        assert loaded.failed or loaded.known == 0
    else:
        assert loaded.failed or loaded.known < max(lines, 1), loaded.said


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_what_the_engine_accepts_gives_one_canonical_section(feed: Feed, name: str) -> None:
    report = feed.lint({"a.hdb": HARMLESS[name]})
    assert report.errors == []
    assert feed.sections(report) == {"acme-a.hdb": MD5 + b":68:A\n"}
    assert [finding.severity for finding in report.files[0].findings if finding.line == 0 or name != "x"].count(
        "warning"
    ) >= 1
