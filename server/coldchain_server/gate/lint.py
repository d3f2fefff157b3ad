"""The check *lint*: every line of every section that will be served follows its type's grammar, and every set is canonical.

The feeds' files were linted when they were pulled; here it is what a client will hold, after assembly, policies, encoding and
decoding. Sections of one content are looked at once, whatever the number of regions, and those that were in order in an earlier
release not again: what they hold is known by their SHA-256, which was compared when they were taken apart.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from coldchain.bundle.canary import CLAMAV_SECTION, YARA_SECTION
from coldchain.bundle.description import Section
from coldchain.bundle.sections import check_set
from coldchain.errors import MalformedError
from coldchain.monitor.taken_apart import DecodedBundle
from coldchain_server.feeds.formats.clamav import TYPES, lint_lines
from coldchain_server.feeds.formats.yara import lint_yara
from coldchain_server.feeds.lint import RULES, YARA_VERSION
from coldchain_server.gate.result import Result, failed, passed

_SHOWN = 3


def check_lint(bundles: Mapping[str, DecodedBundle], feeds: str, cache: Path | None = None) -> Result:
    """Looks at every section of every bundle.

    Args:
        bundles: region -> the bundle, taken apart.
        feeds: what the lint said of the feeds: how many records are good, left out, flagged.
        cache: a directory that remembers contents which were in order; None looks at everything anew.
    """
    sections = {
        (section.name, section.sha256): (bundle, section)
        for bundle in bundles.values()
        for section in bundle.description.sections
    }
    findings: list[str] = []
    bad = 0
    for bundle, section in sections.values():
        problems = _remembered(bundle, section, cache)
        bad += bool(problems)
        findings += [f"{section.name}: {problem}" for problem in problems]
    looked = f"{len(sections):,} sections as they will be served, line by line"
    if bad:
        return failed("lint", f"{feeds}; {bad:,} of {looked} are not in order", findings)
    return passed("lint", f"{feeds}; {looked}")


def _remembered(bundle: DecodedBundle, section: Section, cache: Path | None) -> list[str]:
    """The section's problems, unless the same bytes were in order before, by the same rules."""
    if cache is None:
        return _problems(bundle, section)
    parts = (RULES, YARA_VERSION, section.engine, section.kind, section.name, str(section.records), section.sha256)
    mark = cache / f"{hashlib.sha256(chr(10).join(('served', *parts)).encode()).hexdigest()}.served"
    if mark.exists():
        return []
    problems = _problems(bundle, section)
    if not problems:
        with contextlib.suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            mark.touch()
    return problems


def _problems(bundle: DecodedBundle, section: Section) -> list[str]:
    if section.kind == "set":
        try:
            with bundle.open(section.name) as file:
                records, length, digest = check_set(file, section.name)
        except MalformedError as error:
            return [error.what.removeprefix(f"{section.name}: ")]
        if (records, length, digest) != (section.records, section.bytes, section.sha256):
            return ["holds other records than bundle.json says"]
    if section.engine == "list" or section.name in (CLAMAV_SECTION, YARA_SECTION):
        return []
    data = bundle.path(section).read_bytes()
    extension = section.name.rpartition(".")[2]
    if section.engine == "yara":
        report = lint_yara(section.name, data)[0]
    elif extension in TYPES:
        report = lint_lines(section.name, extension, data)[0]
    else:
        return ["no engine has databases of this type"]
    found = _some(str(finding).replace("\n", " ") for finding in report.errors)
    if not found and report.records != section.records:
        return [f"holds {report.records:,} records, and bundle.json says {section.records:,}"]
    return found


def _some(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    more = [f"and {len(every) - _SHOWN:,} more"] if len(every) > _SHOWN else []
    return [*every[:_SHOWN], *more]
