"""Full bundles that a manifest names, fetched, hashed and taken apart (:mod:`coldchain.monitor.taken_apart`)."""

from __future__ import annotations

from coldchain.agent.transport import Progress, Source
from coldchain.bundle.manifest import Manifest
from coldchain.errors import DigestError, MalformedError
from coldchain.install.part import Part
from coldchain.limits import LIMITS, Limits
from coldchain.monitor.taken_apart import DecodedBundle, WorkDirectory, take_apart


def full_path(manifest: Manifest, region: str) -> str:
    """Where the full bundle that the manifest names is published.

    Raises:
        MalformedError: it names none.
    """
    full = manifest.regions[region].full
    if full is None:
        raise MalformedError(f"the manifest of release {manifest.release} names no file for region {region}")
    return f"targets/{region}/{manifest.channel}/{full.sha256}.full.ccd"


async def fetch_bundle(
    source: Source, work: WorkDirectory, manifest: Manifest, region: str, progress: Progress, limits: Limits = LIMITS
) -> DecodedBundle:
    """Fetches the full bundle of a region that a manifest names, and takes it apart.

    Raises:
        TransportError: it could not be had.
        DigestError, MalformedError, NewerFormatError: it is not what the manifest names.
        StorageError: the disk refused.
    """
    path, facts = full_path(manifest, region), manifest.regions[region]
    assert facts.full is not None
    if facts.full.bytes > limits.delta_bytes or facts.facts.bytes > limits.bundle_bytes:
        raise MalformedError(f"{path}: longer than allowed")
    work.check_space(facts.full.bytes + facts.facts.bytes)
    part = Part(work, facts.full.bytes, facts.full.sha256)
    try:
        try:
            await source.download(path, part, progress)
        except DigestError as error:
            raise DigestError(f"{path}: {error.what}", todo=error.todo) from error
        with part.open() as file:
            return take_apart(file, work, facts.facts.bundle, facts.facts.bytes, limits)
    finally:
        part.remove()
