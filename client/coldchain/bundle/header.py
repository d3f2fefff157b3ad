r"""The header of a delta: which bundle comes of which, and what happens to each section.

It is one column (:mod:`coldchain.bundle.columns`) whose dictionary is the names of the old bundle's sections, each with LF, as far as
they fit in 64 KiB, so a new list named like its neighbours costs little. Numbers are varints::

    flags     1 full, 2 a ClamAV canary, 4 a YARA canary
    full      product, region and channel, each length and bytes, then the release
    otherwise the release less the old one less 1
    steps     through the old sections in name order

A step is ``skip * 4 + step``: that many sections are kept, then 0 end (skip 0), 1 the next section changes, 2 the next section
goes, 3 a section comes: ``engine * 2 + kind``, for a set ``shared, length, bytes`` of its name (sharing with the last name written
so; the names of files stand before their content, which often repeats them). A set that changes adds ``removed count, added
count``, one that comes its ``added count``; a file adds its records, changed: zigzag of the difference. Canary sections follow from
the header (:mod:`coldchain.bundle.canary`) and cost nothing.

Worked example, one set changes by one added record, release 42 -> 43: ``00 00 01 00 01 00``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from coldchain.bundle.canary import CLAMAV_SECTION, YARA_SECTION
from coldchain.bundle.description import (
    BundleDescription,
    Engine,
    Kind,
    Section,
    check_section_name,
    check_token,
)
from coldchain.bundle.varint import Reader, unzigzag
from coldchain.errors import MalformedError
from coldchain.limits import Limits

FULL, CLAMAV_CANARY, YARA_CANARY = 1, 2, 4
END, CHANGED, REMOVED, ADDED = range(4)
ENGINES: tuple[Engine, ...] = ("clamav", "yara", "list")
KINDS: tuple[Kind, ...] = ("set", "file")
CANARY_OF: dict[Engine, str] = {"clamav": CLAMAV_SECTION, "yara": YARA_SECTION}
CANARIES = frozenset(CANARY_OF.values())
NAMES_BYTES = 1 << 16


@dataclass(slots=True)
class Change:
    """One section that the delta writes: what it was, what it will be, and how many records go and come.

    The name of a file section that comes is empty until its content is read.
    """

    name: str
    kind: Kind
    engine: Engine
    old: Section | None
    removed: int = 0
    added: int = 0
    records: int = 0


@dataclass(slots=True)
class Header:
    """A decoded header."""

    product: str
    region: str
    channel: str
    release: int
    canaries: tuple[Engine, ...]
    kept: list[Section] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def describe(self, sections: list[Section]) -> BundleDescription:
        """The new description with these sections."""
        ordered = tuple(sorted(sections, key=lambda section: section.name))
        return BundleDescription(self.product, self.region, self.channel, self.release, ordered)

    def take_name(self, name: bytes, limits: Limits) -> str:
        """The name of a section that comes, once it is known to be a plain one that no other section has.

        Raises:
            MalformedError: any other name; also one that differs from another only in case.
        """
        try:
            text = check_section_name(name.decode("ascii"), limits)
        except UnicodeDecodeError as error:
            raise MalformedError("delta: a name that is not ASCII") from error
        if text in CANARIES:
            raise MalformedError("delta: a canary is not written out")
        if text.lower() in self.names:
            raise MalformedError(f"delta: section {text} comes twice")
        self.names.add(text.lower())
        return text


def old_sections(old: BundleDescription | None) -> list[Section]:
    """The sections that steps and windows count: those of the old bundle without its canaries."""
    return [section for section in old.sections if section.name not in CANARIES] if old else []


def names_of(old: BundleDescription | None) -> bytes:
    """The header's dictionary."""
    names = "".join(section.name + "\n" for section in old_sections(old)).encode()
    return names if len(names) <= NAMES_BYTES else names[: names.rindex(b"\n", 0, NAMES_BYTES) + 1]


def parse_header(source: Reader, old: BundleDescription | None, limits: Limits) -> Header:
    """The header's content; ``source`` holds exactly the header.

    Raises:
        MalformedError: it does not follow the format, or does not fit the old bundle.
    """
    flags = source.varint(7)
    if bool(flags & FULL) != (old is None):
        raise MalformedError(f"{source.what}: a full bundle is not a delta, and a delta needs its old bundle")
    if old is None:
        product, region, channel = (check_token(_text(source, 64), word) for word in ("product", "region", "channel"))
        release = source.varint(2**53 - 1)
        if not release:
            raise MalformedError(f"{source.what}: release 0")
    else:
        product, region, channel = old.product, old.region, old.channel
        release = old.release + 1 + source.varint(2**31)
    canaries: tuple[Engine, ...] = ()
    if flags & CLAMAV_CANARY:
        canaries += ("clamav",)
    if flags & YARA_CANARY:
        canaries += ("yara",)
    header = Header(product, region, channel, release, canaries)
    header.names.update(name for engine, name in CANARY_OF.items() if engine in canaries)
    _parse_steps(source, old_sections(old), header, limits)
    source.done()
    return header


def _text(source: Reader, most: int) -> str:
    try:
        return source.take(source.varint(most)).decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{source.what}: a name that is not ASCII") from error


def _parse_steps(source: Reader, olds: list[Section], header: Header, limits: Limits) -> None:
    at = 0
    name = b""
    coming: list[tuple[Change, bytes]] = []
    while True:
        tag = source.varint()
        skip, step = tag >> 2, tag & 3
        if step == END and skip:
            raise MalformedError(f"{source.what}: a skip before the end")
        if skip > len(olds) - at or (step in (CHANGED, REMOVED) and skip == len(olds) - at):
            raise MalformedError(f"{source.what}: a step past the old bundle's last section")
        header.kept.extend(olds[at:] if step == END else olds[at : at + skip])
        at += skip
        if len(header.changes) + len(header.kept) + len(header.canaries) + (step != END) > limits.sections:
            raise MalformedError(f"{source.what}: more sections than allowed")
        if step == END:
            break
        if step == CHANGED:
            header.changes.append(_changed(source, olds[at], limits))
            at += 1
        elif step == REMOVED:
            at += 1
        else:
            change = _added(source)
            header.changes.append(change)
            if change.kind == "set":
                name = name[: source.varint(len(name))] + source.take(source.varint(limits.section_name_bytes))
                # At once, not at the end: each name may go on where the last one ended, and all of them are held.
                if len(name) > limits.section_name_bytes:
                    raise MalformedError(f"{source.what}: a name longer than allowed")
                coming.append((change, name))
            change.added, change.records = _coming_records(source, change.kind, limits)
    header.names.update(section.name.lower() for section in header.kept)
    header.names.update(change.name.lower() for change in header.changes if change.old)
    for change, text in coming:
        change.name = header.take_name(text, limits)
    names = [change.name for change in header.changes if change.name]
    if any(b <= a for a, b in itertools.pairwise(names)):
        raise MalformedError(f"{source.what}: sections out of order")


def _changed(source: Reader, old: Section, limits: Limits) -> Change:
    change = Change(old.name, old.kind, old.engine, old)
    if old.kind == "set":
        change.removed = source.varint(old.records)
        change.added = source.varint(limits.records)
    else:
        change.records = old.records + unzigzag(source.varint())
        if not 0 <= change.records <= limits.records:
            raise MalformedError(f"{source.what}: a number of records out of range")
    return change


def _added(source: Reader) -> Change:
    tag = source.varint(2 * len(ENGINES) - 1)
    return Change("", KINDS[tag & 1], ENGINES[tag >> 1], None)


def _coming_records(source: Reader, kind: Kind, limits: Limits) -> tuple[int, int]:
    records = source.varint(limits.records)
    return (records, 0) if kind == "set" else (0, records)
