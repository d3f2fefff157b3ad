"""Bundles as the assembler makes them, in memory, with the manifest that says so: what the client's comparison is held against."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO

from coldchain.bundle.canary import canary_section
from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.manifest import BundleFacts, FeedFacts, Manifest, Policy, RegionFacts
from coldchain_server.assembly.assemble import AssembledBundle, assemble
from coldchain_server.assembly.regions import GLOBAL, PolicyEntry, Region, Regions
from coldchain_server.assembly.sections import PreparedSection
from tests.client.agent.publisher import kind_of
from tests.client.tuf.repository import digest

Policies = Mapping[str, tuple[PolicyEntry, ...]]
Files = Mapping[str, Mapping[str, bytes]]
"""Feed -> section name without the feed's part -> content."""


def records_of(name: str, data: bytes) -> int:
    return data.count(b"rule ") if name.endswith(".yar") else data.count(b"\n")


@dataclass
class MemoryBundle:
    """A bundle whose sections lie in a dictionary."""

    description: BundleDescription
    contents: dict[str, bytes]

    def open(self, name: str) -> BinaryIO:
        return BytesIO(self.contents[name])

    def altered(self, name: str, data: bytes | None, *, records: int | None = None) -> MemoryBundle:
        """The same with one section changed, added, or (None) gone; everything that is derived follows."""
        contents = {one: old for one, old in self.contents.items() if one != name}
        sections = [one for one in self.description.sections if one.name != name]
        if data is not None:
            old = self.description.section(name)
            kind, engine = (old.kind, old.engine) if old else kind_of(name)
            count = records_of(name, data) if records is None else records
            contents[name] = data
            sections.append(Section(name, kind, engine, count, len(data), digest(data)))
        return MemoryBundle(replace(self.description, sections=tuple(sorted(sections))), contents)


@dataclass
class World:
    """Every region's bundle of one release."""

    bundles: dict[str, MemoryBundle]
    manifest: Manifest

    def with_bundle(self, region: str, bundle: MemoryBundle) -> World:
        """A region gets another bundle, and the manifest says so: what whoever holds all keys can do."""
        facts = self.manifest.regions[region]
        changed = replace(facts, facts=_facts(bundle.description))
        manifest = replace(self.manifest, regions={**self.manifest.regions, region: changed})
        return World({**self.bundles, region: bundle}, manifest)


def _facts(one: BundleDescription) -> BundleFacts:
    return BundleFacts(one.digest, one.total_bytes, one.total_records)


def entry(action: str, kind: str, name: str) -> PolicyEntry:
    return PolicyEntry(action, kind, name, f"why {name}")  # type: ignore[arg-type]


def make(feeds: Files, policies: Policies, release: int = 7) -> World:
    contents: dict[str, bytes] = {}

    def store(data: bytes) -> str:
        key = hashlib.sha256(data).hexdigest()
        contents[key] = data
        return key

    sections = []
    for feed, files in feeds.items():
        for name, data in files.items():
            kind, engine = kind_of(name)
            if name.endswith(".pwdb"):
                kind = "file"
            sections.append(
                PreparedSection(f"{feed}-{name}", feed, kind, engine, records_of(name, data), len(data), store(data))
            )
    regions = Regions("ch", {name: Region(name, name, policy=policy) for name, policy in policies.items()})

    def bundle(region: str) -> AssembledBundle:
        return assemble(
            sections,
            regions,
            region,
            product="coldchain",
            channel="stable",
            release=release,
            content=contents.__getitem__,
            store=store,
        )

    made = {region: bundle(region) for region in (GLOBAL, *policies)}
    facts = {
        region: RegionFacts(
            _facts(one.description),
            tuple(Policy(a.entry.action, a.entry.kind, a.entry.name, a.entry.reason, a.records) for a in one.applied),
        )
        for region, one in made.items()
        if region != GLOBAL
    }
    manifest = Manifest(
        product="coldchain",
        channel="stable",
        release=release,
        previous=None,
        created="2026-06-01T09:00:00Z",
        whole=_facts(made[GLOBAL].description),
        regions=facts,
        feeds=tuple(
            FeedFacts(feed, digest(feed.encode()), len(files), sum(records_of(n, d) for n, d in files.items()))
            for feed, files in feeds.items()
        ),
        assembler="0.1.0",
    )
    return World(
        {
            region: MemoryBundle(
                made[region].description,
                {one.name: contents[one.sha256] for one in made[region].description.sections},
            )
            for region in policies
        },
        manifest,
    )


def canary(region: str, release: int) -> tuple[str, bytes]:
    made = canary_section("clamav", "coldchain", region, "stable", release)
    assert made is not None
    return made
