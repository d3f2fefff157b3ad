"""What will be served, as a client would have it: every region's full bundle file, hashed and taken apart with the client's code.

Nothing that the assembler holds in its store is looked at here: a mistake in encoding, or a disk that changed a byte, is tried with
the rest. Regions whose sections for an engine are the same, byte for byte, but for the canary, are one *group*: they are loaded once.

Worked example: ``jp`` leaves out one ClamAV signature, ``us`` and ``eu`` nothing. ClamAV has two groups, (us, eu) and (jp); YARA has
one, (us, eu, jp). The first group's view holds what ``us`` gets and, beside it, the canary of ``eu`` as ``_canary-eu.ndb``, so that
one load proves both canaries, also against a line of the set that would switch one of them off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from coldchain.bundle.canary import CLAMAV_SECTION, YARA_SECTION
from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.manifest import RegionFacts
from coldchain.engines.interface import EngineKind
from coldchain.errors import GateError, InternalError, VerificationError
from coldchain.monitor.taken_apart import DecodedBundle, WorkDirectory, take_apart
from coldchain_server.release.drafts import measure
from coldchain_server.storage.durable import disk

CANARIES = {"clamav": CLAMAV_SECTION, "yara": YARA_SECTION}


@dataclass(frozen=True, slots=True)
class Group:
    """Regions that give an engine the same; ``regions[0]``'s bundle stands for all."""

    kind: EngineKind
    regions: tuple[str, ...]
    bundle: DecodedBundle
    sections: tuple[Section, ...]

    def view(self, bundles: Mapping[str, DecodedBundle], folder: Path) -> tuple[Section, ...]:
        """Fills the empty ``folder`` with what is loaded, and returns what it holds."""
        held = []
        with disk(folder):
            for section in self.sections:
                os.link(self.bundle.path(section), folder / section.name)
                held.append(section)
            for region in self.regions[1:]:
                canary = bundles[region].description.section(CANARIES[self.kind])
                if canary is None:
                    raise InternalError(f"region {region} has no canary")
                # No feed's section can have this name: feeds begin with a letter.
                renamed = replace(canary, name=f"_canary-{region}.{canary.name.rpartition('.')[2]}")
                os.link(bundles[region].path(canary), folder / renamed.name)
                held.append(renamed)
        return tuple(held)


def take_served(files: Mapping[str, Path], regions: Mapping[str, RegionFacts], work: Path) -> dict[str, DecodedBundle]:
    """Takes every region's file apart below ``work``.

    Args:
        files: region -> the file that is served.
        regions: what the manifest says of them.
        work: an empty directory.

    Raises:
        GateError: a file is not what the manifest says.
        StorageError: the disk refused.
    """
    apart = WorkDirectory(work)
    apart.make()
    bundles = {}
    for region, path in files.items():
        facts = regions[region]
        with disk(path):
            found = measure(path)
        if facts.full is None or found != (facts.full.bytes, facts.full.sha256):
            raise GateError(f"region {region}: the full bundle's file is not the one that the manifest names")
        try:
            with disk(path), path.open("rb") as file:
                bundles[region] = take_apart(file, apart, facts.facts.bundle, facts.facts.bytes)
        except VerificationError as error:
            raise GateError(f"region {region}: what would be served cannot be taken apart: {error.what}") from error
    return bundles


def for_engine(description: BundleDescription, kind: EngineKind) -> tuple[Section, ...]:
    """The sections that an engine of this kind loads."""
    return tuple(section for section in description.sections if section.engine == kind)


def groups(bundles: Mapping[str, DecodedBundle], kind: EngineKind) -> list[Group]:
    """Regions by what they give the engine, in the order of the regions; those that give it nothing are in none."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for region, bundle in bundles.items():
        sections = for_engine(bundle.description, kind)
        if sections:
            same = tuple((one.name, one.sha256) for one in sections if one.name != CANARIES[kind])
            found.setdefault(same, []).append(region)
    return [
        Group(kind, tuple(names), bundles[names[0]], for_engine(bundles[names[0]].description, kind))
        for names in found.values()
    ]
