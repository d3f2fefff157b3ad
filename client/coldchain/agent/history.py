"""The first release that had a signature, from the published releases: ``coldchain explain --history``.

From the manifest of what runs, whose place in the public log is known here, back along ``previous``::

    manifests/<sha256>.json        each is the one that the next names, by its digest
    targets/us/stable/<sha256>.full.ccd      the region's whole bundle, to the digests in the manifest

until a release does not have the name, or there is none before. A publisher keeps old bundles as long as he likes; where they end
the answer is the earliest that could be had, and says so. A name that went and came back counts from where it came back.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Final

from coldchain.agent.network import read_network
from coldchain.agent.transport import Source, Traffic, open_sources
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import ColdchainError, DamagedError, EvidenceError, NotPublishedError, ResponseError
from coldchain.explain import Since, search
from coldchain.install import trusted
from coldchain.install.directory import ClientDirectory
from coldchain.install.versions import Version
from coldchain.limits import LIMITS, Limits
from coldchain.monitor.decoded import fetch_bundle
from coldchain.monitor.taken_apart import WorkDirectory
from coldchain.verify import MANIFEST

MOST: Final = 64


async def first_release(directory: ClientDirectory, version: Version, name: str, limits: Limits = LIMITS) -> Since:
    """The first release that had a name which the running version has.

    Args:
        directory: the endpoint's; nothing in it is changed.
        version: what runs.
        name: without what an engine adds to it.
        limits: bounds.

    Raises:
        DamagedError: the running version is kept without its manifest.
        StorageError: the disk refused.
    """
    config, network = directory.config(), read_network(directory)
    data = trusted.read_evidence(directory, version.name, limits).get(MANIFEST)
    if data is None:
        raise DamagedError(
            f"release {version.release} is kept without its manifest", todo="run `coldchain update DIR --repair`"
        )
    manifest = parse_manifest(data, limits)
    with tempfile.TemporaryDirectory(prefix="coldchain-history-") as folder:
        async with open_sources(network.urls(config.urls), Traffic(), limits, network) as sources:
            for _ in range(MOST):
                if manifest.previous is None:
                    return Since(manifest.release, exact=True, reason="there is no release before it")
                work = WorkDirectory(Path(folder))
                work.make()
                try:
                    before = await _manifest(sources, manifest.previous, limits)
                    there = await _has(sources, work, before, config.region, name, limits)
                except ColdchainError as error:
                    why = f"what was before it cannot be had: {error.what}"
                    return Since(manifest.release, exact=False, reason=why)
                if not there:
                    return Since(manifest.release, exact=True, reason=f"release {before.release} does not have it")
                manifest = before
    return Since(manifest.release, exact=False, reason=f"no more than {MOST} releases are looked at")


async def _manifest(sources: list[Source], sha256: str, limits: Limits) -> Manifest:
    for source in sources:
        data = (await source.get(f"manifests/{sha256}.json", limits.log_entry_bytes)).data
        if data is not None and hashlib.sha256(data).hexdigest() == sha256:
            return parse_manifest(data, limits)
    raise EvidenceError(f"the manifest {sha256[:16]}… is not there")


async def _has(
    sources: list[Source], work: WorkDirectory, manifest: Manifest, region: str, name: str, limits: Limits
) -> bool:
    if region not in manifest.regions:
        raise NotPublishedError(f"release {manifest.release} was not made for region {region!r}")
    refused: ColdchainError = ResponseError("there is no source")
    for source in sources:
        try:
            bundle = await fetch_bundle(source, work, manifest, region, lambda _there, _length: None, limits)
        except ColdchainError as error:
            refused = error
        else:
            return any(True for _ in search(bundle, name, limits))
    raise refused
