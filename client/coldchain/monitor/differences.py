"""Whether two regions' bundles of one release differ by their declared policies only, record by record.

Two things must hold, and what does not is named::

    one region      holds nothing that it must not (declared.py); each section is of a feed that the manifest names; each engine's
                    canary is exactly the one that follows from product, region, channel and release
    two regions     without what the other must not hold, each is the same as the other, byte for byte; and each policy took
                    away (or added) as many records as the manifest says

Worked example, region ``jp`` leaves out signature ``A-7`` and counts 1 record::

    us  acme-main.hdb   A-6 A-7 A-8        only in us: A-7, left out by jp: explained, 1 of 1 declared
    jp  acme-main.hdb   A-6 A-8            were A-8 missing too: not explained

Sections belong to feeds by their names (``acme-main.hdb`` to ``acme``). Where two feeds' names allow both (``acme`` and ``acme-x``),
a policy about either explains, and the counts tell which it was. What is in a record that one region leaves out, these two cannot
tell: a third region, or a rebuild, does. Sets are walked as streams, since both sides are sorted; a file is
compared by its lines, YARA sources without the rules in question byte for byte. This is written apart from the assembler on purpose.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Protocol

from coldchain.bundle.canary import canary_section
from coldchain.bundle.description import BundleDescription, Engine, Section
from coldchain.bundle.header import CANARIES
from coldchain.bundle.manifest import Manifest
from coldchain.bundle.sections import blocks
from coldchain.canonical import Object
from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain.monitor.declared import Declared, Excluded, excluded, reasons
from coldchain.monitor.names import policy_name
from coldchain.monitor.rule_spans import Rule, rules_of, without

SHOWN: Final = 200
_ENGINES: Final[tuple[Engine, ...]] = ("clamav", "yara", "list")


class Bundle(Protocol):
    """A decoded bundle."""

    description: BundleDescription

    def open(self, name: str) -> BinaryIO:
        """A section's content, from its start."""


@dataclass(slots=True)
class Problems:
    """What is not explained: the first :data:`SHOWN` in words, and how many there are."""

    shown: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, text: str) -> None:
        """One more."""
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(text)


@dataclass(slots=True)
class Comparison:
    """Two regions' bundles held against each other.

    Attributes:
        regions: their names.
        sections: how many different section names were looked at.
        records: the records of both.
        explained: how many records each declared policy explains.
        problems: what no policy explains.
    """

    regions: tuple[str, str]
    sections: int = 0
    records: tuple[int, int] = (0, 0)
    explained: dict[Declared, int] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "regions": list(self.regions),
            "sections": self.sections,
            "records": list(self.records),
            "explained": [
                {
                    "region": one.region,
                    "action": one.policy.action,
                    "kind": one.policy.kind,
                    "name": one.policy.name,
                    "reason": one.policy.reason,
                    "records": count,
                }
                for one, count in self.explained.items()
            ],
            "unexplained": list(self.problems.shown),
            "unexplained_count": self.problems.count,
        }


def candidates(manifest: Manifest, section: str) -> list[str]:
    """The feeds that a section can be of, by its name."""
    return [feed.name for feed in manifest.feeds if section.startswith(f"{feed.name}-")]


def check_region(bundle: Bundle, manifest: Manifest, region: str, limits: Limits = LIMITS) -> Problems:
    """What is wrong with one region's bundle by the manifest alone.

    Args:
        bundle: the region's, decoded; its digest is the manifest's.
        manifest: of the release.
        region: which.
        limits: bounds.
    """
    problems = Problems()
    what, facts = bundle.description, manifest.regions[region].facts
    named = (what.product, what.region, what.channel, what.release)
    if named != (manifest.product, region, manifest.channel, manifest.release):
        problems.add(f"{region}: the bundle names itself {' '.join(map(str, named))}")
    if (what.digest, what.total_bytes, what.total_records) != (facts.bundle, facts.bytes, facts.records):
        problems.add(f"{region}: digest, bytes or records are not those of the manifest")
    _check_canaries(bundle, problems)
    out = excluded(manifest, region)
    for section in what.sections:
        if section.name in CANARIES:
            continue
        feeds = candidates(manifest, section.name)
        if not feeds:
            problems.add(f"{region}: {section.name} is of no feed that the manifest names")
        elif all(feed in out.feeds for feed in feeds):
            problems.add(f"{region}: {section.name} is there, against: {_whose(out.feeds[feeds[0]])}")
        if out.signatures:
            _check_names(bundle, section, out, region, problems, limits)
    return problems


def _whose(declared: tuple[Declared, ...]) -> str:
    return "; ".join(one.words() for one in declared)


def _check_canaries(bundle: Bundle, problems: Problems) -> None:
    what = bundle.description
    found = {section.name: section for section in what.sections if section.name in CANARIES}
    engines = {section.engine for section in what.sections if section.name not in CANARIES}
    for engine in _ENGINES:
        made = canary_section(engine, what.product, what.region, what.channel, what.release)
        if made is None:
            continue
        name, content = made
        section = found.get(name)
        if engine in engines and section is None:
            problems.add(f"{what.region}: the canary {name} is missing")
        elif engine not in engines and section is not None:
            problems.add(f"{what.region}: the canary {name} is there without any section of its engine")
        elif section is not None and section.sha256 != hashlib.sha256(content).hexdigest():
            problems.add(f"{what.region}: {name} is not the canary of this release")


def _check_names(
    bundle: Bundle, section: Section, out: Excluded, region: str, problems: Problems, limits: Limits
) -> None:
    names: Iterator[str | None]
    with bundle.open(section.name) as file:
        if section.engine == "yara":
            try:
                names = iter([rule.name for rule in rules_of(file.read(), section.name)])
            except MalformedError as error:
                return problems.add(f"{region}: {error.what}")
        else:
            names = (policy_name(section, line) for line in _lines(file, section, limits))
        for name in names:
            if name is not None and name in out.signatures:
                problems.add(f"{region}: {section.name} holds {name!r}, against: {_whose(out.signatures[name])}")
    return None


def _lines(file: BinaryIO, section: Section, limits: Limits) -> Iterator[bytes]:
    if section.kind == "set":
        for block in blocks(file, section.name, limits):
            yield from block[:-1].split(b"\n")
    else:
        yield from file.read().split(b"\n")


def compare_bundles(
    a: Bundle, b: Bundle, manifest: Manifest, regions: tuple[str, str], limits: Limits = LIMITS
) -> Comparison:
    """Holds two regions' bundles against each other. What either must not hold at all is :func:`check_region`'s business.

    Args:
        a: the first region's bundle.
        b: the second's.
        manifest: of the release.
        regions: their names.
        limits: bounds.
    """
    return _Comparing(a, b, manifest, regions, limits).run()


class _Comparing:
    def __init__(self, a: Bundle, b: Bundle, manifest: Manifest, regions: tuple[str, str], limits: Limits) -> None:
        self.sides = {regions[0]: a, regions[1]: b}
        self.out = {region: excluded(manifest, region) for region in regions}
        self.manifest, self.regions, self.limits = manifest, regions, limits
        self.counts: Counter[Declared] = Counter()
        self.found = Comparison(regions)

    def run(self) -> Comparison:
        first, second = self.regions
        olds, news = (self._sections(region) for region in self.regions)
        names = sorted(olds.keys() | news.keys())
        for name in names:
            a, b = olds.get(name), news.get(name)
            if a is None or b is None:
                holder, lacking = (first, second) if a else (second, first)
                self._whole(a or b, holder, lacking)
            elif (a.kind, a.engine) != (b.kind, b.engine):
                self._problem(name, "is of another kind in each region")
            elif a.sha256 != b.sha256:
                self._both(a, b)
            elif a != b:
                self._problem(name, "counts its records differently in each region")
        self.found.sections = len(names)
        self.found.records = (
            self.sides[first].description.total_records,
            self.sides[second].description.total_records,
        )
        self._check_counts()
        self.found.explained = {one: count for one, count in self.counts.items() if count}
        return self.found

    def _sections(self, region: str) -> dict[str, Section]:
        every = self.sides[region].description.sections
        return {section.name: section for section in every if section.name not in CANARIES}

    def _problem(self, section: str, text: str) -> None:
        self.found.problems.add(f"{section}: {text}")

    def _declared(self, declared: Iterable[Declared], holder: str, lacking: str, records: int = 1) -> bool:
        """Whether policies explain that only ``holder`` has these records; each that does counts them."""
        found = reasons(declared, holder, lacking)
        self.counts.update(dict.fromkeys(found, records))
        return bool(found)

    def _explain(self, section: str, name: str | None, shown: bytes, holder: str, lacking: str) -> None:
        """One record that only ``holder`` has."""
        declared = self.out[lacking].signatures.get(name, ()) if name is not None else ()
        if not self._declared(declared, holder, lacking):
            line = shown[:SHOWN].decode("utf-8", "replace")
            self._problem(section, f"only {holder} has {name or 'the line'!r}, and no policy says so: {line}")

    def _whole(self, section: Section | None, holder: str, lacking: str) -> None:
        """A section that only ``holder`` has: of a feed that the other must not hold, or all of its records explained."""
        assert section is not None
        for feed in candidates(self.manifest, section.name):
            if self._declared(self.out[lacking].feeds.get(feed, ()), holder, lacking, section.records):
                return
        if section.engine == "yara":
            source = self._read(holder, section)
            rules = self._rules(source, section)
            for rule in rules or ():
                self._explain(section.name, rule.name, source[rule.start : rule.end], holder, lacking)
            if rules == []:
                self._problem(section.name, f"only {holder} has it, and it holds no rule")
            return
        with self.sides[holder].open(section.name) as file:
            for line in _lines(file, section, self.limits):
                if line or section.kind == "set":
                    self._explain(section.name, policy_name(section, line), line, holder, lacking)

    def _both(self, a: Section, b: Section) -> None:
        first, second = self.regions
        if a.engine == "yara":
            self._sources(a, b)
        elif a.kind == "set":
            with self.sides[first].open(a.name) as one, self.sides[second].open(b.name) as other:
                walk = _walk(_lines(one, a, self.limits), _lines(other, b, self.limits))
                for line, in_first in walk:
                    holder, lacking = (first, second) if in_first else (second, first)
                    self._explain(a.name, policy_name(a, line), line, holder, lacking)
        else:
            self._files(a, b)

    def _ways(self, a: Section, b: Section) -> list[tuple[Section, str, str]]:
        first, second = self.regions
        return [(a, first, second), (b, second, first)]

    def _files(self, a: Section, b: Section) -> None:
        """Lines whose order carries meaning: without the declared ones, both are the same."""
        rest = []
        for section, holder, lacking in self._ways(a, b):
            kept = []
            for line in self._read(holder, section).split(b"\n"):
                name = policy_name(section, line)
                if not self._declared(self.out[lacking].signatures.get(name or "", ()), holder, lacking):
                    kept.append(line)
            rest.append(kept)
        if rest[0] != rest[1]:
            at = next((i for i, (x, y) in enumerate(zip(*rest, strict=False)) if x != y), min(map(len, rest)))
            self._problem(a.name, f"differs from line {at + 1} on (declared ones left aside), and no policy says so")

    def _sources(self, a: Section, b: Section) -> None:
        rest = []
        for section, holder, lacking in self._ways(a, b):
            source = self._read(holder, section)
            rules = self._rules(source, section)
            if rules is None:
                return
            said = self.out[lacking].signatures
            gone = {rule.name for rule in rules if self._declared(said.get(rule.name, ()), holder, lacking)}
            rest.append(without(source, rules, gone))
        if rest[0] != rest[1]:
            same = next((i for i, (x, y) in enumerate(zip(*rest, strict=False)) if x != y), min(map(len, rest)))
            line = rest[0].count(b"\n", 0, same) + 1
            self._problem(a.name, f"differs from line {line} on (declared rules left aside), and no policy says so")

    def _rules(self, source: bytes, section: Section) -> list[Rule] | None:
        try:
            return rules_of(source, section.name)
        except MalformedError as error:
            self._problem(section.name, f"differs, and cannot be taken apart: {error.what}")
            return None

    def _read(self, region: str, section: Section) -> bytes:
        with self.sides[region].open(section.name) as file:
            return file.read()

    # -- counts ------------------------------------------------------------------------------------------------------

    def _check_counts(self) -> None:
        """Each policy of the two must have taken away, or added, as many records as it declares."""
        first, second = self.regions
        for region, other in ((first, second), (second, first)):
            for entry in self.manifest.regions[region].policy:
                mine, theirs = self.out[region], self.out[other]
                names = "feeds" if entry.kind == "feed" else "signatures"
                adds = entry.action == "add"
                # what both lack, or both add, is no difference between these two
                if entry.name not in getattr(mine if not adds else theirs, names):
                    continue
                if entry.name in getattr(theirs if not adds else mine, names):
                    continue
                least, most = entry.records - self._slack(entry.kind), entry.records
                found = self.counts[Declared(region, entry)]
                if not max(least, 0) <= found <= most:
                    self.found.problems.add(
                        f"{Declared(region, entry).words()}: {entry.records} records declared, {found} found"
                    )

    def _slack(self, kind: str) -> int:
        """How many records the other policies of the two may hide from a count."""
        mine, theirs = (self.out[region] for region in self.regions)
        if kind == "signature":
            return 0 if mine.feeds.keys() == theirs.feeds.keys() else self.limits.records
        every = {one for out in (mine, theirs) for said in out.signatures.values() for one in said}
        if any(one.policy.action == "add" for one in every):
            return self.limits.records  # how often a feed holds what others add, nobody counts who leaves that feed out
        return sum(one.policy.records for one in every)


def _walk(a: Iterator[bytes], b: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The lines that only one of two ascending streams has, and whether it is the first."""
    x, y = next(a, None), next(b, None)
    while x is not None or y is not None:
        if x == y:
            x, y = next(a, None), next(b, None)
        elif y is None or (x is not None and x < y):
            assert x is not None
            yield x, True
            x = next(a, None)
        else:
            yield y, False
            y = next(b, None)
