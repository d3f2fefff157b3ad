"""Making a pack from any source, by being a client of it: everything is verified with the same code before it is written down.

The maker keeps what came under the path it came from, in the order of :mod:`coldchain.bundle.pack`. Two things it must find out that a
client knows: which manifests lead back to the release the pack starts from, and which tiles connect the checkpoint of that release with
the new one. It walks ``previous`` back to that release's manifest, looks for its leaf among the log's hashes from the newest down (each
tile checked against the root), and takes the tree that ends with that leaf as the one the endpoint has seen::

    release 42 from 41, entries 40 and 41 of the log    manifest of 41 is leaf 40: the endpoint saw 41 entries
    tiles                                               those for the consistency proof from 41 to 42 entries

A full bundle may meet an endpoint that has nothing, or any release. It takes along what endpoints need that are up to
``Limits.chain_walk`` releases behind; that is little beside a full bundle.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from coldchain.agent.sources import Sources
from coldchain.agent.transport import Progress, Source, Traffic, open_sources
from coldchain.agent.workflow import drive
from coldchain.attestation import file_name, published_path
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.bundle.pack import encode_head
from coldchain.canonical import Object
from coldchain.errors import EvidenceError, NotPublishedError, UsageError
from coldchain.evidence import check_evidence, effective_policy, open_evidence, refused
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory
from coldchain.limits import LIMITS, Limits
from coldchain.rebuilders import check_rebuilders
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.leaves import LogTiles
from coldchain.tlog.merkle import leaf_hash
from coldchain.tlog.policy import Policy
from coldchain.tlog.tiles import Tile
from coldchain.tuf.metadata import Metadata
from coldchain.tuf.refresh import Fetch, refresh
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import ROLLOUT_ROLE, RegionRelease, Target, region_release, says_who_it_is

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pack is to hold.

    Attributes:
        region: whose.
        channel: stable or early.
        start: the release of the endpoints it is for; None for any.
        product: the product's name.
        policy: the customer's own log policy; None for the root's.
    """

    region: str
    channel: str = "stable"
    start: int | None = None
    product: str = "coldchain"
    policy: bytes | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A pack that was made.

    Attributes:
        release: which release it brings.
        start: the release that its delta starts from; None with the full bundle.
        content: bytes of the delta or full bundle.
        overhead: bytes of all the rest, of which
        tiles: bytes are tiles of the log, which do not compress.
        parts: number of small parts.
        good_until: when the first of the role files in it expires.
    """

    release: int
    start: int | None
    content: int
    overhead: int
    tiles: int
    parts: int
    good_until: datetime

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "release": self.release,
            "from": self.start,
            "content_bytes": self.content,
            "overhead_bytes": self.overhead,
            "tile_bytes": self.tiles,
            "parts": self.parts,
            "good_until": f"{self.good_until:%Y-%m-%dT%H:%M:%SZ}",
        }


async def make_pack(
    url: str,
    pinned: bytes,
    output: Path,
    wanted: Wanted,
    now: datetime,
    *,
    progress: Progress = lambda _there, _length: None,
    limits: Limits = LIMITS,
) -> Made:
    """Fetches, verifies and writes a pack; ``output`` appears when it is whole, and not before.

    Args:
        url: a server or a directory, as :func:`coldchain.install.directory.normal_url` writes it.
        pinned: the root.json to verify by.
        output: the file to write.
        wanted: what it is to hold.
        now: the time.
        progress: told how the download of the content comes on.
        limits: bounds.

    Raises:
        UsageError: nothing can be written there.
        ColdchainError: as an update raises it.
    """
    with _workplace(output) as place:
        directory = ClientDirectory(place / "client")
        directory.make()
        async with open_sources([url], Traffic(), limits) as opened:
            maker = _Maker(opened[0], Sources(opened, directory, progress), wanted, now, limits)
            return await maker.make(pinned, place / "pack", output)


@contextlib.contextmanager
def _workplace(output: Path) -> Iterator[Path]:
    """A directory beside the output, for work in progress."""
    try:
        place = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent))
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}", todo="give another file with -o") from error
    try:
        yield place
    finally:
        shutil.rmtree(place)


@dataclass
class _Maker:
    source: Source
    sources: Sources
    wanted: Wanted
    now: datetime
    limits: Limits
    parts: list[tuple[str, bytes]] = field(default_factory=list)

    async def make(self, pinned: bytes, work: Path, output: Path) -> Made:
        wanted = self.wanted
        found = await self._metadata(pinned)
        role = found.role(wanted.region)
        release = region_release(role, wanted.region, wanted.channel, product=wanted.product, limits=self.limits)
        if wanted.start is not None and wanted.start >= release.release:
            raise UsageError(
                f"release {release.release} is the newest, nothing leads to it from {wanted.start}",
                todo="give the release that the endpoint has with --from, or leave it away for the full bundle",
            )
        manifest, proof = open_evidence(await self._target(release.evidence), release, self.limits)
        policy = effective_policy(found.root, wanted.policy, self.limits)
        evidence = check_evidence(manifest, proof, release, policy, self.now, self.limits)
        chain = await self._chain(evidence.manifest)
        tiles = await self._tiles(evidence.verified.checkpoint, [leaf_hash(data) for data in chain])
        self.parts += [(f"log/{tile.path}", data) for tile, data in sorted(tiles.items())]
        between = chain if wanted.start is None else chain[:-1]
        if wanted.start is None or release.release - wanted.start <= self.limits.chain_walk:
            self.parts += [(f"manifests/{hashlib.sha256(data).hexdigest()}.json", data) for data in between]
        self.parts += await self._attestations(policy, evidence.manifest, release)
        content = release.best(wanted.start)
        head = encode_head(self.parts, content.url_path, content.length, self.limits)
        part = await self.sources.download(content)
        with durable.disk(output):
            with part.open() as file, work.open("xb") as out:
                out.write(head)
                shutil.copyfileobj(file, out, 1 << 20)
                out.flush()
                os.fsync(out.fileno())
            work.replace(output)
            with durable.open_folder(output.parent) as folder:
                folder.sync()
        return Made(
            release=release.release,
            start=None if content is release.full else wanted.start,
            content=content.length,
            overhead=len(head),
            tiles=sum(map(len, tiles.values())),
            parts=len(self.parts),
            good_until=min(one.expires for one in self._in_force(found)),
        )

    def _in_force(self, found: TrustedSet) -> list[Metadata]:
        roles = [found.role(name) for name in ("targets", self.wanted.region, ROLLOUT_ROLE)]
        return [found.root, found.timestamp, found.snapshot, *roles]

    async def _metadata(self, pinned: bytes) -> TrustedSet:
        """The full client workflow from the pinned root on; what came is kept."""
        roles = [self.wanted.region, ROLLOUT_ROLE]
        steps = refresh(
            {"root.json": pinned}, self.now, roles, self.limits, lambda role: says_who_it_is(role, self.wanted.product)
        )

        async def get(step: Fetch) -> bytes | None:
            data = (await self.source.get(step.path, step.max_bytes)).data
            if data is not None:
                self.parts.append((step.path, data))
            return data

        return await drive(steps, get, lambda _name, _data: None)  # this client ends with its pack

    async def _target(self, target: Target) -> bytes:
        part = await self.sources.download(target)
        with part.open() as file:
            data = file.read()
        self.parts.append((target.url_path, data))
        return data

    async def _chain(self, newest: Manifest) -> list[bytes]:
        """The manifests before the newest: down to the starting release, or as far as an endpoint walks.

        Raises:
            NotPublishedError: the source does not hold the way back to the starting release.
        """
        start = self.wanted.start
        out: list[bytes] = []
        new, room = newest, self.limits.pack_parts_bytes // 2
        while new.previous is not None and (start is not None or len(out) < self.limits.chain_walk):
            sha256 = new.previous
            data = (await self.source.get(f"manifests/{sha256}.json", self.limits.manifest_bytes)).data
            if data is None and start is None:
                break  # endpoints that are so far behind will say so
            if data is None or hashlib.sha256(data).hexdigest() != sha256:
                raise NotPublishedError(f"the manifest of the release before {new.release} is not there")
            with refused("the chain of manifests"):
                old = parse_manifest(data, self.limits)
            if (old.product, old.channel) != (new.product, new.channel) or old.release >= new.release:
                raise EvidenceError(f"release {new.release} names release {old.release} as the one before it")
            room -= len(data)
            if room < 0 and start is None:
                break
            out.append(data)
            new = old
            if start is not None and new.release <= start:
                break
        if start is not None and new.release != start:
            raise NotPublishedError(
                f"no chain of manifests leads back to release {start}",
                todo="give the release that the endpoint has with --from, or leave it away for the full bundle",
            )
        return out

    async def _attestations(
        self, policy: Policy, manifest: Manifest, release: RegionRelease
    ) -> list[tuple[str, bytes]]:
        """Of the rebuilders that the policy asks for.

        Raises:
            EvidenceError: too few have rebuilt the release.
        """
        if not policy.rebuilds:
            return []
        found: dict[str, bytes] = {}
        for key in policy.rebuilders.values():
            path = published_path(release.manifest, key)
            data = (await self.source.get(path, self.limits.attestation_bytes)).data
            if data is not None:
                found[path] = data
        files = {path.rpartition("/")[2]: data for path, data in found.items()}
        counted = check_rebuilders(policy, manifest, self.wanted.region, files, self.limits).counted.values()
        good = {file_name(one.key) for one in counted}
        return [(path, data) for path, data in sorted(found.items()) if path.rpartition("/")[2] in good]

    async def _tiles(self, head: Checkpoint, leaves: list[bytes]) -> dict[Tile, bytes]:
        """The tiles that connect the trees which end with these leaves with the newest one.

        Raises:
            EvidenceError: the log does not hold a leaf, or a tile is not under the root.
        """
        log = LogTiles(head, self.limits)
        with refused("the log's tiles"):
            found = await self._from_log(log.find(leaves))
            if missing := set(leaves) - found.keys():
                raise EvidenceError(f"the log does not hold the manifests of {len(missing)} earlier releases")
            grown = [index + 1 for index in sorted(found.values(), reverse=True) if index + 1 < head.size]
            wanted = dict.fromkeys(tile for size in grown for tile in log.path(size))
            await self._from_log(log.need(wanted))
        return {tile: log.files[tile] for tile in wanted}

    async def _from_log(self, steps: Generator[Tile, bytes | None, T]) -> T:
        data: bytes | None = None
        while True:
            try:
                tile = steps.send(data)
            except StopIteration as done:
                found: T = done.value
                return found
            data = (await self.source.get(f"log/{tile.path}", 32 * tile.width)).data
