"""The golden releases of ``fixtures/golden``, loaded into a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coldchain.bundle.description import FILE_NAME, BundleDescription, parse_description
from tests.client.bundle.bundles import Store

GOLDEN = Path(__file__).parents[3] / "fixtures" / "golden"


@dataclass(frozen=True, slots=True)
class Vector:
    """A delta file, the bundle it starts from (None: nothing) and the one it must make."""

    data: bytes
    old: BundleDescription | None
    new: BundleDescription


@dataclass(frozen=True, slots=True)
class Golden:
    """The store that holds every section, and the deltas by file name."""

    store: Store
    vectors: dict[str, Vector]


def sections_of(kind: str, whole: BundleDescription) -> BundleDescription:
    """The bundle of the sections of this kind alone."""
    sections = tuple(section for section in whole.sections if section.kind == kind)
    return BundleDescription(whole.product, whole.region, whole.channel, whole.release, sections)


def golden() -> Golden:
    """Everything, from the disk."""
    store = Store()
    releases = {}
    for release in (41, 42):
        folder = GOLDEN / "releases" / str(release)
        releases[release] = parse_description((folder / FILE_NAME).read_bytes())
        for section in releases[release].sections:
            assert store.put((folder / section.name).read_bytes()) == section.sha256
    old, new = releases[41], releases[42]
    ends: dict[str, tuple[BundleDescription | None, BundleDescription]] = {
        "41.full.ccd": (None, old),
        "42.full.ccd": (None, new),
        "42.from-41.ccd": (old, new),
        "42.sets.ccd": (sections_of("set", old), sections_of("set", new)),
        "42.files.ccd": (sections_of("file", old), sections_of("file", new)),
    }
    return Golden(store, {name: Vector((GOLDEN / name).read_bytes(), *pair) for name, pair in ends.items()})
