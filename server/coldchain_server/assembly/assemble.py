"""From prepared sections to a bundle per region: the same inputs give the same bytes on any machine.

What decides a bundle: product, region, channel, release number, the prepared sections, the region's policy. Not the time, not the
order feeds were added in, not the machine, not Python's version or hash seed. The *global* bundle is that of the region ``global``
without policy and without anything regional; a region's bundle is the global one with its declared policy, and its own canary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coldchain.bundle.canary import canary_section
from coldchain.bundle.description import (
    BundleDescription,
    Engine,
    Kind,
    Section,
    check_section_name,
    parse_description,
)
from coldchain.errors import LintError, MalformedError
from coldchain_server.assembly.policies import named_records, without_signatures
from coldchain_server.assembly.regions import GLOBAL, PolicyEntry, Regions
from coldchain_server.assembly.sections import PreparedSection
from coldchain_server.feeds.formats.clamav import TYPES

_ENGINES: tuple[Engine, ...] = ("clamav", "yara")


@dataclass(frozen=True, slots=True)
class AppliedPolicy:
    """A policy entry and how many records it took out of, or put into, the region's bundle."""

    entry: PolicyEntry
    records: int


@dataclass(frozen=True, slots=True)
class AssembledBundle:
    """One region's bundle: its description (the sections' content is in the store) and what its policy did."""

    description: BundleDescription
    applied: tuple[AppliedPolicy, ...]


def assemble(
    sections: Iterable[PreparedSection],
    regions: Regions,
    region: str,
    *,
    product: str,
    channel: str,
    release: int,
    content: Callable[[str], bytes],
    store: Callable[[bytes], str],
) -> AssembledBundle:
    """One region's bundle, or the global one for :data:`~coldchain_server.assembly.regions.GLOBAL`.

    Args:
        sections: everything the feeds hold.
        regions: all regions, because what another one adds is not part of this one.
        region: which bundle.
        product: the product's name.
        channel: ``stable`` or ``early``.
        release: the release's number, from 1.
        content: SHA-256 -> bytes of a section.
        store: keeps bytes and returns their SHA-256.

    Raises:
        LintError: two files give one section name, engines would keep only one of two sections, nothing is left, or the
            bundle exceeds a bound of clients.
    """
    policy = () if region == GLOBAL else regions.regions[region].policy
    kept, counts = _select(list(sections), regions, policy, content, store)
    found = [section.described() for section in kept]
    found += _canaries(found, product, region, channel, release, store)
    if not found:
        raise LintError(f"region {region}: nothing is left to publish", kept="the releases published before")
    _check_names(found)
    _check_single(found)
    description = BundleDescription(product, region, channel, release, tuple(sorted(found, key=lambda one: one.name)))
    try:
        parse_description(description.encode())
    except MalformedError as error:  # a client would refuse it for the same reason, after it was signed
        raise LintError(f"region {region}: no client takes this bundle: {error.what}") from error
    applied = tuple(AppliedPolicy(entry, counts.get((entry.kind, entry.name), 0)) for entry in policy)
    return AssembledBundle(description, applied)


def _select(
    sections: list[PreparedSection],
    regions: Regions,
    policy: tuple[PolicyEntry, ...],
    content: Callable[[str], bytes],
    store: Callable[[bytes], str],
) -> tuple[list[PreparedSection], dict[tuple[str, str], int]]:
    added = {(entry.kind, entry.name) for entry in policy if entry.action == "add"}
    left_out = {(entry.kind, entry.name) for entry in policy if entry.action == "leave-out"}
    feeds = {name for kind, name in left_out if kind == "feed"}
    feeds |= {name for name in regions.regional("feed") if ("feed", name) not in added}
    names = {name for kind, name in left_out if kind == "signature"}
    names |= {name for name in regions.regional("signature") if ("signature", name) not in added}
    additions = frozenset(name for kind, name in added if kind == "signature")
    counts: dict[tuple[str, str], int] = {}
    kept = []
    for section in sections:
        if section.feed in feeds or ("feed", section.feed) in added:
            counts["feed", section.feed] = counts.get(("feed", section.feed), 0) + section.records
        if section.feed in feeds:
            continue
        for name, records in named_records(section, content(section.sha256), additions).items() if additions else ():
            counts["signature", name] = counts.get(("signature", name), 0) + records
        smaller: PreparedSection | None = section
        if names:
            smaller, gone = without_signatures(section, frozenset(names), content, store)
            for name, records in gone.items():
                counts["signature", name] = counts.get(("signature", name), 0) + records
        if smaller is not None:
            kept.append(smaller)
    return kept, counts


def _canaries(
    found: list[Section], product: str, region: str, channel: str, release: int, store: Callable[[bytes], str]
) -> list[Section]:
    canaries = []
    for engine in _ENGINES:
        made = canary_section(engine, product, region, channel, release)
        if made is not None and any(section.engine == engine for section in found):
            name, data = made
            kind: Kind = "set" if engine == "clamav" else "file"
            canaries.append(Section(name, kind, engine, 1, len(data), store(data)))
    return canaries


def _check_names(found: list[Section]) -> None:
    seen: set[str] = set()
    for section in found:
        if check_section_name(section.name).lower() in seen:
            raise LintError(
                f"two files would both be the section {section.name!r}", todo="rename one of them in its feed"
            )
        seen.add(section.name.lower())


def _check_single(found: list[Section]) -> None:
    """Refuses a second section of a type of which engines keep only the last one read, and drop the others without a word."""
    seen: dict[str, str] = {}
    for section in found:
        extension = section.name.rpartition(".")[2]
        if section.engine != "clamav" or not TYPES[extension].single:
            continue
        if extension in seen:
            raise LintError(
                f"engines keep only one {extension} section, and there are {seen[extension]} and {section.name}",
                todo="join the files in one feed, or leave one feed out by a policy",
            )
        seen[extension] = section.name
