"""Published packs: what an endpoint needs once its poll brought news, in one file whose name it knows without asking.

::

    packs/us/stable/107.from-41.pack       for who has release 41 and has polled a timestamp that names snapshot 107

A poll is one conditional request, and an update one more. A pack holds what an endpoint that was current at its release would fetch
now, in the format of :mod:`coldchain.bundle.pack`::

    roots        that were signed after the manifest of release 41 was written; an older one the endpoint has
    targets      the same
    snapshot, region role, rollout, evidence
    proof        from the tree that ends with the manifest of release 41, which is the one that endpoint has seen, to the newest;
                 left out where nothing was logged between the two releases: the evidence itself holds it then
    manifests    of the releases between, from the newest down
    content      the delta from release 41

For the newest release itself there is a pack too, of the signed roles alone: a step of a rollout is news for everybody. The timestamp
is in no pack: it is what the endpoint has just got, and whoever signs it anew leaves snapshot and packs as they are. Nor are
attestations, which come when they come. When a root or targets file was signed is told by its expiry: it lives for a year
(:data:`LIFE`), and where that is wrong, an endpoint asks for one file more, or gets one that it has.

Nothing depends on a pack. What cannot be made is left out, what is no longer there was only for :data:`KEPT` snapshots, and an endpoint
that finds none fetches the files one by one. Pure: the caller reads the published files, which were all verified before, and puts the
packs in their places before the timestamp that makes endpoints ask for them. The same files give the same packs, on the origin, on a
mirror and on an edge.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias, TypeVar

from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.bundle.pack import consistency_path, encode_head
from coldchain.errors import ColdchainError
from coldchain.evidence import check_manifest, open_evidence
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import parse_checkpoint
from coldchain.tlog.leaves import LogTiles
from coldchain.tlog.merkle import leaf_hash
from coldchain.tlog.proof import parse_proof
from coldchain.tlog.tiles import Tile
from coldchain.tuf.metadata import Metadata, parse_metadata
from coldchain.tuf.refresh import Fetch
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import ROLLOUT_ROLE, RegionRelease, channels, region_release

FOLDER: Final = "packs/"
KEPT: Final = 3
"""Of so many snapshots, the newest one included, packs are kept."""
LIFE: Final = timedelta(days=365)
SEARCHED: Final = 16
"""Tiles of the log that are looked through for the manifests of earlier releases: 4,096 entries."""
_PATH: Final = re.compile(r"packs/[^/]+/[^/]+/([1-9][0-9]{0,14})\.from-[1-9][0-9]{0,14}\.pack\Z")

T = TypeVar("T")
Steps: TypeAlias = Generator[Fetch, bytes | None, T]
Parts: TypeAlias = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class PublishedPack:
    """A pack that is to be placed: ``head``, and after it the bytes of the published file ``content``, if there is one.

    Attributes:
        path: where it belongs.
        head: its beginning.
        content: the path of the published file that follows; empty for none.
        length: of the whole pack, in bytes.
    """

    path: str
    head: bytes
    content: str
    length: int


@dataclass
class Packs:
    """What was made, and why what was left out could not be."""

    made: list[PublishedPack] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def pack_path(region: str, channel: str, snapshot: int, installed: int) -> str:
    """Where the pack is published for who has this release and has polled a timestamp that names this snapshot."""
    return f"{FOLDER}{region}/{channel}/{snapshot}.from-{installed}.pack"


def snapshot_of(path: str) -> int:
    """Which snapshot a published pack is of, by its path; 0 for a path of anything else."""
    match = _PATH.match(path)
    return int(match[1]) if match is not None else 0


def is_stale(path: str, snapshot: int) -> bool:
    """Whether a path is that of a pack which has no place beside those of this snapshot: too old, or of one that never came."""
    return 0 < snapshot_of(path) <= snapshot - KEPT or snapshot_of(path) > snapshot


def published_packs(found: TrustedSet, regions: Sequence[str], product: str, limits: Limits = LIMITS) -> Steps[Packs]:
    """The packs of every channel of these regions.

    Args:
        found: the state that is to be published, verified; these regions' roles and the rollout are loaded.
        regions: whose packs are made.
        product: the product's name.
        limits: bounds.

    Returns:
        The packs, as the generator's value. Each step asks for a file of the published tree, and is sent its bytes, or None.
    """
    maker = _Maker(found, product, limits)
    for region in regions:
        role = found.role(region)
        try:
            names = channels(role)
        except ColdchainError as error:
            maker.out.left_out.append(f"{region}: {error.what}")
            continue
        for channel in names:
            try:
                yield from maker.channel(region, channel)
            except ColdchainError as error:
                maker.out.left_out.append(f"{region} {channel}: {error.what}")
    return maker.out


@dataclass
class _Maker:
    found: TrustedSet
    product: str
    limits: Limits
    out: Packs = field(default_factory=Packs)
    files: dict[str, bytes | None] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    logs: dict[bytes, tuple[LogTiles, dict[bytes, int]]] = field(default_factory=dict)

    def channel(self, region: str, channel: str) -> Steps[None]:
        found = self.found
        release = region_release(found.role(region), region, channel, product=self.product, limits=self.limits)
        evidence = yield Fetch(release.evidence.url_path, release.evidence.length)
        manifest, proof = open_evidence(evidence or b"", release, self.limits)
        newest = check_manifest(manifest, release, self.limits)
        chain = yield from self._chain(newest, release)
        proofs: dict[int, Parts] = {}
        try:
            proofs = (yield from self._proofs(proof, chain)) if proof is not None else {}
        except ColdchainError as error:  # endpoints fetch the tiles, or are told the same
            self.out.left_out.append(f"{region} {channel}: proofs: {error.what}")
        rollout = [(f"metadata/{found.role(ROLLOUT_ROLE).version}.{ROLLOUT_ROLE}.json", found.role(ROLLOUT_ROLE).raw)]
        yield from self._put(region, channel, newest, rollout, None)
        for number, data in chain.items():
            if number not in release.deltas:
                continue
            parts = [*rollout, (release.evidence.url_path, evidence or b""), *proofs.get(number, [])]
            parts += [
                (f"manifests/{hashlib.sha256(one).hexdigest()}.json", one)
                for between, one in chain.items()
                if between > number
            ]
            yield from self._put(region, channel, self._manifest(data), parts, release)

    def _put(
        self, region: str, channel: str, source: Manifest, parts: Parts, release: RegionRelease | None
    ) -> Steps[None]:
        """Adds the pack for those who have the release of this manifest, with the delta that leads from it to ``release``."""
        found, since = self.found, source.created_at
        first = yield from self._roots(since)
        first.append((f"metadata/{found.snapshot.version}.snapshot.json", found.snapshot.raw))
        targets, role = found.role("targets"), found.role(region)
        if _signed(targets) > since:
            first.append((f"metadata/{targets.version}.targets.json", targets.raw))
        first.append((f"metadata/{role.version}.{region}.json", role.raw))
        content = release.deltas[source.release] if release is not None else None
        path, length = (content.url_path, content.length) if content is not None else ("", 0)
        head = encode_head([*first, *parts], path, length, self.limits, whole=False)
        name = pack_path(region, channel, found.snapshot.version, source.release)
        self.out.made.append(PublishedPack(name, head, path, len(head) + length))

    def _roots(self, since: datetime) -> Steps[Parts]:
        """The roots that were signed after that moment, ascending; the first root of all nobody asks for."""
        out: Parts = []
        root: Metadata | None = self.found.root
        while root is not None and root.version > 1 and _signed(root) > since:
            out.insert(0, (f"metadata/{root.version}.root.json", root.raw))
            data = yield from self._read(f"metadata/{root.version - 1}.root.json", self.limits.root_bytes)
            root = parse_metadata(data, "root", self.limits) if data is not None else None
        return out

    def _chain(self, newest: Manifest, release: RegionRelease) -> Steps[dict[int, bytes]]:
        """The manifests before the newest by their releases, from it down to the first that a delta starts from."""
        starts = [one for one in release.deltas if release.release - one <= self.limits.chain_walk]
        out: dict[int, bytes] = {}
        new = newest
        while starts and new.previous is not None and new.release > min(starts):
            data = yield from self._read(f"manifests/{new.previous}.json", self.limits.log_entry_bytes)
            if data is None or hashlib.sha256(data).hexdigest() != new.previous:
                break
            old = self._manifest(data)
            if (old.product, old.channel, old.release) != (new.product, new.channel, new.release - 1):
                break
            out[old.release] = data
            new = old
        return out

    def _proofs(self, proof: bytes, chain: dict[int, bytes]) -> Steps[dict[int, Parts]]:
        """By release: the proof from the tree that ends with its manifest, where the evidence does not hold that already."""
        offline = parse_proof(proof, self.limits)
        head, out = parse_checkpoint(offline.checkpoint.text), dict[int, Parts]()
        if head.root not in self.logs:
            log = LogTiles(head, self.limits)
            leaves = [leaf_hash(data) for data in chain.values()]
            self.logs[head.root] = log, (yield from _from_tree(log.find(leaves, SEARCHED)))
        log, places = self.logs[head.root]
        for number, data in chain.items():
            old = places.get(leaf_hash(data), head.size) + 1
            if old < head.size and not old == offline.index == head.size - 1:
                hashes = yield from _from_tree(log.consistency(old))
                out[number] = [(consistency_path(old, head.size), b"".join(hashes))]
        return out

    def _manifest(self, data: bytes) -> Manifest:
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self.manifests:
            self.manifests[sha256] = parse_manifest(data, self.limits)
        return self.manifests[sha256]

    def _read(self, path: str, most: int) -> Steps[bytes | None]:
        """A file that several packs hold."""
        if path not in self.files:
            self.files[path] = yield Fetch(path, most)
        return self.files[path]


def _from_tree(steps: Generator[Tile, bytes | None, T]) -> Steps[T]:
    """Tiles by their paths in the published tree."""
    data: bytes | None = None
    while True:
        try:
            tile = steps.send(data)
        except StopIteration as done:
            found: T = done.value
            return found
        data = yield Fetch(f"log/{tile.path}", 32 * tile.width)


def _signed(role: Metadata) -> datetime:
    return role.expires - LIFE
