"""What the release before found in the must-detect corpus: kept in ``HOME/gate``, or found out again from its served files."""

from __future__ import annotations

import contextlib
from pathlib import Path

from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import GateError, MalformedError, StorageError
from coldchain_server.catalogue.interface import Release
from coldchain_server.gate.gate import Order, detections_of
from coldchain_server.gate.new_detections import Detections, parse_detections
from coldchain_server.gate.settings import GateSettings
from coldchain_server.home import Home
from coldchain_server.storage.durable import make_directory, write_file


def found_before(home: Home, release: Release, settings: GateSettings) -> Detections:
    """What a published release finds; nothing where its files are not there any more, so that nothing can be compared."""
    with contextlib.suppress(OSError, MalformedError):
        return parse_detections(home.detections(release.channel, release.number).read_bytes())
    manifest = parse_manifest(home.content.get(release.manifest))
    files = published_files(home, manifest)
    regions = {region: manifest.regions[region] for region in files}
    try:
        return detections_of(home, Order(manifest.product, regions, files, {}, ""), settings)
    except (GateError, StorageError):
        return Detections()


def published_files(home: Home, manifest: Manifest) -> dict[str, Path]:
    """Region -> the full bundle's file in the published tree, there or not."""
    return {
        region: home.public / "targets" / region / manifest.channel / f"{facts.full.sha256}.full.ccd"
        for region, facts in manifest.regions.items()
        if facts.full is not None
    }


def keep_found(home: Home, channel: str, number: int, found: Detections) -> None:
    """Keeps what a release finds for the one after it."""
    path = home.detections(channel, number)
    make_directory(path.parent)
    write_file(path, found.encode())
