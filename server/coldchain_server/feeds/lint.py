"""Checking a whole snapshot and preparing its sections: every file by its format, every line by its type's own grammar.

Nothing is dropped silently. Errors refuse the feed; with ``skip_bad`` the bad records are left out and counted by reason, and the
counts are published in the manifest. Files that are no database of the feed's kind (a README) are named in a warning.

A file's result depends on its bytes, its path, the feed's kind and the rules alone, so it is kept in a cache directory under the
SHA-256 of these: checking a feed again costs what changed. ``RULES`` changes when a rule does, and the rules of YARA with its compiler;
caches of other rules are not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

from coldchain import canonical
from coldchain.bundle.description import Engine, Kind
from coldchain.errors import LintError, MalformedError
from coldchain_server.assembly.canonical_sections import canonical_set, section_name, section_names
from coldchain_server.assembly.sections import PreparedSection
from coldchain_server.feeds.archives import FEED_LIMITS, FeedLimits
from coldchain_server.feeds.findings import FileReport, Finding
from coldchain_server.feeds.formats import indicators
from coldchain_server.feeds.formats.clamav import LEFT_BEHIND, NOT_TAKEN, TYPES, lint_lines
from coldchain_server.feeds.formats.yara import lint_yara
from coldchain_server.feeds.snapshots import FeedSnapshot, SnapshotFile
from coldchain_server.storage.content import ContentStore

RULES: Final = "3"
YARA_EXTENSIONS: Final = frozenset({"yar", "yara"})
YARA_VERSION: Final = version("yara-x")
_SHOWN: Final = 8

Progress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


@dataclass(slots=True)
class LintReport:
    """What a snapshot holds and what is wrong with it."""

    feed: str
    snapshot: str
    files: list[FileReport] = field(default_factory=list)
    sections: list[PreparedSection] = field(default_factory=list)

    @property
    def records(self) -> int:
        """Good records of all files."""
        return sum(section.records for section in self.sections)

    @property
    def skipped(self) -> int:
        """Records left out because they are bad."""
        return sum(file.skipped for file in self.files)

    @property
    def errors(self) -> list[Finding]:
        """Everything that refuses the feed."""
        return [finding for file in self.files for finding in file.errors]

    @property
    def flags(self) -> list[Finding]:
        """Everything a person must look at."""
        return [finding for file in self.files for finding in file.findings if finding.severity == "flag"]

    @property
    def reasons(self) -> dict[str, int]:
        """Errors by code, in the order of codes."""
        total: Counter[str] = Counter()
        for file in self.files:
            total += file.reasons
        return dict(sorted(total.items()))

    def as_json(self) -> canonical.Object:
        """For ``--json``: every finding of every file."""
        return {
            "feed": self.feed,
            "snapshot": self.snapshot,
            "files": len(self.files),
            "records": self.records,
            "skipped": self.skipped,
            "reasons": dict(self.reasons),
            "findings": [dict(finding.as_json()) for file in self.files for finding in file.findings],
        }

    def require(self, *, skip_bad: bool) -> None:
        """Raises LintError when there are errors and they are not to be skipped, or nothing good is left."""
        errors = self.errors
        if errors and not skip_bad:
            shown = "\n".join(f"  {line}" for finding in errors[:_SHOWN] for line in str(finding).splitlines())
            count = sum(self.reasons.values())
            more = f"\n  and {count - _SHOWN:,} more (--json lists them)" if count > _SHOWN else ""
            raise LintError(
                f"feed {self.feed!r} has {count:,} errors:\n{shown}{more}",
                kept="the feed's last good snapshot",
                todo="mend the lines at their source, or publish without them: --skip-bad (the counts become public)",
                findings=[finding.as_json() for file in self.files for finding in file.findings],
            )
        if not self.sections:
            todo = "every record in it is bad: without --skip-bad each is named, with its fix"
            if not errors:
                todo = "check --kind, the files' extensions, and that the copy was complete"
            raise LintError(f"feed {self.feed!r} holds nothing that an engine or a list could use", todo=todo)


def lint_snapshot(
    snapshot: FeedSnapshot,
    content: ContentStore,
    *,
    skip_bad: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
    limits: FeedLimits = FEED_LIMITS,
) -> LintReport:
    """Checks every file and stores its canonical section.

    Args:
        snapshot: which files, and of what kind they are declared.
        content: holds the files; takes the sections.
        skip_bad: leave bad records out of the sections.
        cache: directory of earlier results; None checks everything anew.
        progress: told after each file.
        limits: bounds of lines.

    Returns:
        The report. It raises nothing for bad lines: see :meth:`LintReport.require`.
    """
    report = LintReport(snapshot.feed, snapshot.digest)
    paths: list[tuple[str, Engine]] = []
    for number, file in enumerate(snapshot.files, 1):
        key = _key(snapshot, file, skip_bad, limits)
        known = _recall(cache, key, content)
        if known is None:
            known = _check(snapshot, file, content, skip_bad, limits)
            _remember(cache, key, known)
        report.files.append(known[0])
        if known[1] is not None:
            report.sections.append(known[1])
            paths.append((file.path, known[1].engine))
        if progress is not None:
            progress(number, len(snapshot.files))
    # A name depends on the names beside it, so it is not part of what is remembered of a file.
    names = section_names(snapshot.feed, paths)
    report.sections = [section.named(name) for section, name in zip(report.sections, names, strict=True)]
    return report


Checked = tuple[FileReport, PreparedSection | None]


def _check(
    snapshot: FeedSnapshot, file: SnapshotFile, content: ContentStore, skip_bad: bool, limits: FeedLimits
) -> Checked:
    extension = PurePosixPath(file.path).suffix.lower().removeprefix(".")
    if snapshot.kind == "clamav" and extension in TYPES:
        return _clamav(snapshot, file, extension, content, skip_bad)
    if snapshot.kind in ("clamav", "yara") and extension in YARA_EXTENSIONS:
        report, source = lint_yara(file.path, content.get(file.sha256), skip_bad=skip_bad)
        usable = report.records and (skip_bad or not report.errors)
        return report, _section(snapshot, file, "file", "yara", report.records, source, content) if usable else None
    if snapshot.kind in indicators.TYPES or snapshot.kind == "list":
        kind = snapshot.kind if snapshot.kind != "list" else indicators.declared_type(file.path)
        if kind is not None:
            report, lines = indicators.lint_indicators(file.path, kind, content.get(file.sha256), limits)
            data, records = canonical_set(lines)
            usable = records and (skip_bad or not report.errors)
            return report, _section(snapshot, file, "set", "list", records, data, content) if usable else None
    return _not_ours(snapshot, file), None


def _clamav(
    snapshot: FeedSnapshot, file: SnapshotFile, extension: str, content: ContentStore, skip_bad: bool
) -> Checked:
    original = content.get(file.sha256)
    report, lines = lint_lines(file.path, extension, original)
    if not report.records or (report.errors and not skip_bad):
        return report, None
    if report.kind == "set":
        data, records = canonical_set(lines)
    else:
        # Kept byte for byte where nothing had to go; else the good lines in their order.
        data = original if not report.skipped else b"".join(line + b"\n" for line in lines)
        records = report.records
    return report, _section(snapshot, file, report.kind, "clamav", records, data, content)


def _section(
    snapshot: FeedSnapshot,
    file: SnapshotFile,
    kind: Kind,
    engine: Engine,
    records: int,
    data: bytes,
    content: ContentStore,
) -> PreparedSection:
    name = section_name(snapshot.feed, file.path, engine)
    return PreparedSection(name, snapshot.feed, kind, engine, records, len(data), content.put(data))


def _not_ours(snapshot: FeedSnapshot, file: SnapshotFile) -> FileReport:
    report = FileReport(file=file.path, type="", kind="file", engine="none")
    extension = PurePosixPath(file.path).suffix.lower().removeprefix(".")
    if snapshot.kind == "clamav" and extension in NOT_TAKEN:
        # An engine would load it: to leave it out would be to drop signatures without a word.
        why = NOT_TAKEN[extension]
        report.skipped = 1
        report.findings.append(Finding(file.path, 0, 0, "error", "not-taken", why, "leave the file out of the feed"))
        return report
    if snapshot.kind == "list":
        message, fix = (
            "the name does not say which indicators the file holds",
            "name it addresses, domains, urls or hashes",
        )
    elif snapshot.kind == "clamav" and extension in LEFT_BEHIND:
        message, fix = LEFT_BEHIND[extension], "nothing"
    else:
        message, fix = f"no database of a {snapshot.kind} feed has this extension", "nothing, if that is meant"
    report.findings.append(Finding(file.path, 0, 0, "warning", "not-a-database", f"left out: {message}", fix))
    return report


def _key(snapshot: FeedSnapshot, file: SnapshotFile, skip_bad: bool, limits: FeedLimits) -> str:
    rules = f"{RULES} {YARA_VERSION} {limits.line_bytes}"
    parts = (rules, snapshot.feed, snapshot.kind, file.path, file.sha256, "skip" if skip_bad else "strict")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _remember(cache: Path | None, key: str, checked: Checked) -> None:
    if cache is None:
        return
    report, section = checked
    document: canonical.Object = {
        "report": {
            "file": report.file,
            "type": report.type,
            "kind": report.kind,
            "engine": report.engine,
            "records": report.records,
            "skipped": report.skipped,
            "findings": [dict(finding.as_json()) for finding in report.findings],
            "unlisted": dict(report.unlisted),
        },
        "section": None if section is None else {name: getattr(section, name) for name in _SECTION_FIELDS},
    }
    cache.mkdir(parents=True, exist_ok=True)
    temporary = cache / f".{key}.{os.getpid()}"
    with contextlib.suppress(MalformedError):  # text that canonical JSON cannot hold is checked again each time
        temporary.write_bytes(canonical.encode(document))
        temporary.rename(cache / f"{key}.json")


_SECTION_FIELDS: Final = ("name", "feed", "kind", "engine", "records", "length", "sha256")


def _recall(cache: Path | None, key: str, content: ContentStore) -> Checked | None:
    """An earlier result, if it is whole and its section is still stored. A damaged entry counts as none."""
    if cache is None:
        return None
    try:
        document = cast(dict[str, Any], canonical.read_canonical((cache / f"{key}.json").read_bytes(), "cache"))
        report = FileReport(**{**document["report"], "findings": list(_findings(document["report"]["findings"]))})
        section = None if document["section"] is None else PreparedSection(**document["section"])
    except (OSError, MalformedError, KeyError, TypeError):
        return None
    if section is not None and section.sha256 not in content:
        return None
    return report, section


def _findings(items: list[dict[str, Any]]) -> Iterator[Finding]:
    for item in items:
        yield Finding(**item)
