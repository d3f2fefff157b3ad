"""Real origins in a directory: ceremony, feeds, releases through the server's own functions; and a reader with the client's code.

Making one takes a while, so tests share templates (``conftest.py``) and work on copies.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from coldchain import canonical
from coldchain.bundle.delta import apply_delta
from coldchain.bundle.manifest import Manifest
from coldchain.bundle.pack import HEAD_BYTES, frame_length, parse_head
from coldchain.evidence import check_manifest, open_evidence
from coldchain.tuf.refresh import refresh
from coldchain.verify import RegionRelease, Target, region_release, rollout_state
from coldchain_server.catalogue.interface import Feed
from coldchain_server.feeds.pull import pull
from coldchain_server.founding import Founding, found
from coldchain_server.home import Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.release.approve import approve
from coldchain_server.release.build import Built, build
from coldchain_server.release.bundle_files import load_description
from coldchain_server.release.log import Logged, log_release
from coldchain_server.release.publish import publish
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import utc_text
from tests.client.agent.publisher import hashes
from tests.client.bundle.bundles import New, Old, Store
from tests.client.tuf.repository import NOW
from tests.client.tuf.repository import Client as TufClient

PASSPHRASE = "a passphrase"
REGIONS = """
[regions.us]
jurisdiction = "United States"

[regions.jp]
jurisdiction = "Japan"

[[regions.jp.policy]]
action = "leave-out"
kind = "signature"
name = "Win.Trojan.Agent-3-0"
reason = "matches a printer driver sold only there"
"""
NO_ENGINES = """
[gate]
engines = []
without = "a test that is about something else"
"""
SETTINGS = f"keep_generations = 2\n{NO_ENGINES}"
FIRST: dict[str, bytes] = {"daily.hsb": hashes(*range(60)), "main.hsb": hashes(*range(1000, 1060))}
SECOND = FIRST | {"daily.hsb": hashes(*range(2, 64))}
THIRD = FIRST | {"daily.hsb": hashes(*range(3, 66))}


def keyring(home: Home, passphrase: str = PASSPHRASE) -> Keyring:
    return Keyring(home.keys, lambda: passphrase)


def write_feed(home: Home, files: Mapping[str, bytes]) -> Path:
    """The feed ``acme`` beside the origin's directory holds these files and no others."""
    folder = home.directory.parent / f"{home.directory.name}-feed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


async def make(directory: Path, *, regions: str = REGIONS, settings: str = SETTINGS, now: datetime = NOW) -> Home:
    """An origin after its ceremony."""
    return await found(directory, Founding(settings, regions, lambda: PASSPHRASE, DEMO), now=now)


def without_engines(directory: Path) -> None:
    """What :data:`SETTINGS` say of the gate, for an origin that ``init`` made."""
    with (directory / "settings.toml").open("a", encoding="utf-8") as file:
        file.write(NO_ENGINES)


async def build_release(
    home: Home, files: Mapping[str, bytes] | None, channel: str = "stable", now: datetime = NOW
) -> Built:
    """Pulls the feed with new content (None: as it is), builds and logs."""
    built = await only_build(home, files, channel, now)
    await log_built(home, built.number, channel, now)
    return built


async def only_build(
    home: Home, files: Mapping[str, bytes] | None, channel: str = "stable", now: datetime = NOW
) -> Built:
    """As :func:`build_release`, and does not log."""
    async with home.catalogue() as catalogue:
        if files is not None:
            feed = Feed("acme", "clamav", str(write_feed(home, files)), False)
            await pull(home, catalogue, feed, taken=utc_text(now))
        return await build(home, catalogue, channel=channel, now=now, pull_feeds=False)


async def log_built(home: Home, number: int, channel: str = "stable", now: datetime = NOW) -> Logged:
    async with home.catalogue() as catalogue:
        return await log_release(home, catalogue, keyring(home), HttpWitnesses(), channel, number, now=now)


async def approve_release(
    home: Home, number: int, channel: str = "stable", key: str = "", now: datetime = NOW, cache: Path | None = None
) -> tuple[str, bool]:
    async with home.catalogue() as catalogue:
        return await approve(home, catalogue, keyring(home), channel, number, now=now, key=key, cache=cache)


async def publish_release(
    home: Home,
    number: int,
    channel: str = "stable",
    share: int | None = None,
    now: datetime = NOW,
    emergency: bool = False,
) -> Manifest:
    async with home.catalogue() as catalogue:
        ring = keyring(home)
        return await publish(home, catalogue, ring, channel, number, now=now, share=share, emergency=emergency)


async def release(home: Home, files: Mapping[str, bytes] | None, channel: str = "stable", now: datetime = NOW) -> int:
    """The whole path: build, approve, publish."""
    number = (await build_release(home, files, channel, now)).number
    await approve_release(home, number, channel, now=now)
    await publish_release(home, number, channel, now=now)
    return number


async def states(home: Home, channel: str = "stable") -> dict[int, str]:
    """Release -> state, as the catalogue has it."""
    async with home.catalogue() as catalogue:
        return {one.number: one.state for one in await catalogue.releases(channel)}


def copy(home: Home, directory: Path) -> Home:
    """An origin as it stands, in another directory, in place of what is there."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(home.directory, directory)
    return Home(directory)


@dataclass(frozen=True)
class Read:
    """What a client sees of one region."""

    release: RegionRelease
    share: int
    held: bool
    manifest: Manifest
    sections: Mapping[str, bytes]


def read(home: Home, region: str, channel: str = "stable", now: datetime = NOW) -> Read:
    """Walks the published tree from the pinned root with the client's code, and applies every file that the role names."""

    def fetch(path: str) -> bytes | None:
        file = home.public / path
        return file.read_bytes() if file.is_file() else None

    def target(one: Target) -> bytes:
        data = (home.public / one.url_path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one.length, one.sha256), f"torn: {one.path}"
        return data

    client = TufClient({"root.json": home.pinned_root()})
    trusted = client.drive(refresh(dict(client.stored), now, [region, "rollout"]), fetch)
    found = region_release(trusted.role(region), region, channel)
    rollout = rollout_state(trusted.role("rollout"), region, channel)
    assert rollout is not None
    assert rollout.release == found.release
    data, proof = open_evidence(target(found.evidence), found)
    manifest = check_manifest(data, found)
    assert proof is not None, "published without a proof"
    assert (home.public / f"manifests/{found.manifest}.json").read_bytes() == data
    assert manifest.regions[region].facts.bundle == found.bundle
    full = _sections(home, target(found.full), None, found.bundle)
    for number, delta in found.deltas.items():
        old = _description(home, region, channel, number)
        assert _sections(home, target(delta), old, found.bundle) == full, f"torn: from {number}"
    for feed in manifest.feeds:
        assert hashlib.sha256((home.public / "snapshots" / feed.snapshot).read_bytes()).hexdigest() == feed.snapshot
    return Read(found, rollout.share, rollout.held, manifest, full)


def _description(home: Home, region: str, channel: str, number: int) -> str:
    """The bundle of an earlier release, from the newest version of the region's role that stated it."""
    for version in range(1, 1000):
        file = home.public / "metadata" / f"{version}.{region}.json"
        data = file.read_bytes()
        for digest in _bundles(data, channel, number):
            return digest
    raise AssertionError(f"release {number} was never published")


def _bundles(role: bytes, channel: str, number: int) -> list[str]:
    document: Any = canonical.read_canonical(role, "role")
    channels = document["signed"]["coldchain"]["channels"]
    return [one["bundle"] for name, one in channels.items() if name == channel and one["release"] == number]


def _sections(home: Home, data: bytes, old: str | None, expected: str) -> dict[str, bytes]:
    start: Old | None = None
    if old is not None:
        store = Store()
        description = load_description(home.content, old)
        for section in description.sections:
            store.put(home.content.get(section.sha256))
        start = Old(description, store)
    new = New(start)
    description = apply_delta(BytesIO(data), start, new, expected=expected)
    found = dict(new.sections)
    for section in new.kept:
        found[section.name] = home.content.get(section.sha256)
    assert sorted(found) == [section.name for section in description.sections]
    return found


def proof(home: Home, region: str, channel: str = "stable", now: datetime = NOW) -> bytes:
    """The proof that is published for the region's newest release."""
    release = read(home, region, channel, now).release
    found = open_evidence((home.public / release.evidence.url_path).read_bytes(), release)[1]
    assert found is not None
    return found


def read_all(home: Home, regions: Sequence[str] = ("us", "jp"), channel: str = "stable", now: datetime = NOW) -> int:
    """The release that every region shows, whole; regions that differ are an error."""
    numbers = {read(home, region, channel, now).release.release for region in regions}
    assert len(numbers) == 1, f"torn: regions show releases {sorted(numbers)}"
    check_packs(home)
    return numbers.pop()


def check_packs(home: Home) -> None:
    """Every pack that the timestamp in force leads to is of the files in force, whole."""
    timestamp: Any = canonical.read_canonical((home.public / "metadata/timestamp.json").read_bytes(), "timestamp")
    snapshot = timestamp["signed"]["meta"]["snapshot.json"]["version"]
    for file in (home.public / "packs").rglob(f"{snapshot}.*.pack"):
        data = file.read_bytes()
        pack = parse_head(data[:HEAD_BYTES], data[HEAD_BYTES:][: frame_length(data[:HEAD_BYTES])], whole=False)
        assert len(data) == pack.start + pack.length, f"torn: {file.name}"
        for path, part in [*pack.parts.items(), *([(pack.content, data[pack.start :])] if pack.content else [])]:
            if not path.startswith("log/consistency/"):
                assert (home.public / path).read_bytes() == part, f"torn: {path} in {file.name}"
