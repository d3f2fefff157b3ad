"""``coldchain diff``: what is different between two installed versions, section by section, in one pass over both.

Sets are sorted, so one walk finds the records that came and went. A record that went and one that came with the same signature
name count as one *changed*, not as two. Of files (YARA sources and the like) rules are compared by name and text, other files
by their lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from coldchain.bundle.description import Section
from coldchain.bundle.header import CANARIES
from coldchain.bundle.sections import blocks
from coldchain.canonical import Object
from coldchain.install.versions import OldVersion, Version
from coldchain.limits import LIMITS, Limits
from coldchain.records import record_name, rule_names, rule_text

SHOWN = 1000


@dataclass(slots=True)
class SectionDifference:
    """How a section differs: counts, and the first records of each sort (a name, or the line where there is none)."""

    name: str
    what: str
    added: int = 0
    removed: int = 0
    changed: int = 0
    added_names: list[str] = field(default_factory=list)
    removed_names: list[str] = field(default_factory=list)
    changed_names: list[str] = field(default_factory=list)

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "section": self.name,
            "what": self.what,
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "added_names": list(self.added_names),
            "removed_names": list(self.removed_names),
            "changed_names": list(self.changed_names),
        }


def compare(old: Version, new: Version, limits: Limits = LIMITS) -> list[SectionDifference]:
    """The sections that differ, in name order. Canaries always do, and are left out.

    Raises:
        DamagedError: a version cannot be read.
    """
    before, after = OldVersion(old, limits), OldVersion(new, limits)
    olds = {section.name: section for section in before.description.sections}
    news = {section.name: section for section in after.description.sections}
    out = []
    for name in sorted((olds.keys() | news.keys()) - CANARIES):
        a, b = olds.get(name), news.get(name)
        if a and b and (a.sha256, a.kind, a.engine) == (b.sha256, b.kind, b.engine):
            continue
        if a is None or b is None:
            one = a or b
            assert one is not None
            found = SectionDifference(name, "removed" if a else "added")
            found.removed, found.added = (one.records, 0) if a else (0, one.records)
        else:
            found = SectionDifference(name, "changed")
            with before.open(name) as old_file, after.open(name) as new_file:
                _fill(found, a, b, old_file, new_file, limits)
        out.append(found)
    return out


def _fill(found: SectionDifference, a: Section, b: Section, old: BinaryIO, new: BinaryIO, limits: Limits) -> None:
    if a.kind == b.kind == "set":
        gone, came = _walk(_lines(old, a.name, limits), _lines(new, b.name, limits))
        _count(found, _named(a, gone), _named(b, came))
        return
    before, after = old.read(), new.read()
    if b.engine == "yara":
        _count(found, *_rules(before, after))
    else:
        first, second = Counter(before.splitlines()), Counter(after.splitlines())
        _count(found, _named(a, list((first - second).elements())), _named(b, list((second - first).elements())))


def _lines(file: BinaryIO, what: str, limits: Limits) -> Iterator[bytes]:
    for block in blocks(file, what, limits):
        yield from block[:-1].split(b"\n")


def _walk(old: Iterator[bytes], new: Iterator[bytes]) -> tuple[list[bytes], list[bytes]]:
    gone: list[bytes] = []
    came: list[bytes] = []
    a, b = next(old, None), next(new, None)
    while a is not None or b is not None:
        if a == b:
            a, b = next(old, None), next(new, None)
        elif b is None or (a is not None and a < b):
            assert a is not None
            gone.append(a)
            a = next(old, None)
        else:
            came.append(b)
            b = next(new, None)
    return gone, came


def _named(section: Section, lines: list[bytes]) -> list[str]:
    if section.engine != "clamav":
        return [line.decode("utf-8", "replace") for line in lines]
    return [record_name(section.name, line) or line.decode("utf-8", "replace") for line in lines]


def _rules(before: bytes, after: bytes) -> tuple[list[str], list[str]]:
    """Rules whose text differs, on both sides; a rule that is the same in both is on neither."""
    olds = {name: rule_text(before, name) for name in rule_names(before)}
    news = {name: rule_text(after, name) for name in rule_names(after)}
    gone = [name for name, text in olds.items() if news.get(name) != text]
    return gone, [name for name, text in news.items() if olds.get(name) != text]


def _count(found: SectionDifference, gone: list[str], came: list[str]) -> None:
    first, second = Counter(gone), Counter(came)
    both = first & second
    for names, counter in (("changed", both), ("removed", first - both), ("added", second - both)):
        setattr(found, names, counter.total())
        setattr(found, f"{names}_names", sorted(counter)[:SHOWN])
