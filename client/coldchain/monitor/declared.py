"""What a manifest's declared policies mean: which feeds and signatures a region must not hold, and by whose word.

What some region *adds* is regional: it is in no other region's bundle unless that one adds it too. So what a region must not hold is
what it leaves out, and what others add and it does not. Worked example::

    us   add signature A-7                 must not hold: -             difference us against jp: A-7, declared by us
    jp   leave out feed acme               must not hold: acme, A-7     and all of feed acme, declared by jp
    kr   (nothing)                         must not hold: A-7

The manifest's counts are held against each other too (:func:`check_counts`), which needs no bundle at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coldchain.bundle.manifest import Manifest, Policy

CANARIES = 2


@dataclass(frozen=True, slots=True)
class Declared:
    """A policy entry and the region that declares it."""

    region: str
    policy: Policy

    def words(self) -> str:
        """For a person."""
        one = self.policy
        return f"{self.region} {one.action} {one.kind} {one.name!r} ({one.reason})"


@dataclass(frozen=True, slots=True)
class Excluded:
    """What a region must not hold: names, each with who says so."""

    feeds: Mapping[str, tuple[Declared, ...]] = field(default_factory=dict)
    signatures: Mapping[str, tuple[Declared, ...]] = field(default_factory=dict)


def excluded(manifest: Manifest, region: str) -> Excluded:
    """What the region must not hold, by all regions' policies."""
    entries = [Declared(name, entry) for name, facts in manifest.regions.items() for entry in facts.policy]
    added = {
        (one.policy.kind, one.policy.name) for one in entries if one.policy.action == "add" and one.region == region
    }
    found: dict[str, dict[str, tuple[Declared, ...]]] = {"feed": {}, "signature": {}}
    for one in entries:
        kind, name = one.policy.kind, one.policy.name
        leaves = one.policy.action == "leave-out" and one.region == region
        foreign = one.policy.action == "add" and one.region != region and (kind, name) not in added
        if leaves or foreign:
            found[kind][name] = (*found[kind].get(name, ()), one)
    return Excluded(found["feed"], found["signature"])


def reasons(declared: Iterable[Declared], holder: str, lacking: str) -> list[Declared]:
    """Which declarations explain that ``holder`` has what ``lacking`` has not: its leaving out, the other's adding, or both."""
    return [one for one in declared if (one.region, one.policy.action) in ((lacking, "leave-out"), (holder, "add"))]


def check_counts(manifest: Manifest) -> list[str]:
    """Where a region's number of records is not what the global bundle's and its own policies make it.

    Exactly, where no region adds anything; within what was added and left out, otherwise. An engine whose last section goes takes its
    canary along, and one whose first section comes brings it.
    """
    problems = []
    adds = any(entry.action == "add" for facts in manifest.regions.values() for entry in facts.policy)
    whole = manifest.whole.records
    for name, facts in manifest.regions.items():
        less = sum(entry.records for entry in facts.policy if entry.action == "leave-out")
        more = sum(entry.records for entry in facts.policy if entry.action == "add")
        least, most = whole - less - CANARIES, whole + more + (CANARIES if adds else -less)
        if not least <= facts.facts.records <= most:
            problems.append(
                f"region {name} has {facts.facts.records:,} records, the global bundle {whole:,}, and the declared policies "
                f"leave out {less:,} and add {more:,}"
            )
    return problems
