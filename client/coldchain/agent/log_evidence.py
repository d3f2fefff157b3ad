"""Getting what the evidence of a release still needs from the sources, and judging it before anything is applied.

::

    evidence.zst           a target of the region's role, small: manifest and proof; checked against the policy in force
    log/consistency/…      only when the log has grown by more than this release, and only in a pack: the proof of it, ready made
    log/tile/…             when that was not there: a few tiles, each checked against the root
    manifests/<sha256>     only when releases were skipped: the links between the new release and the installed one
    attestations/…         only when the policy asks for rebuilders: their signed word, one small file each

A new checkpoint is kept as soon as it is known to continue the old one, whatever becomes of the release. Tiles prove themselves, so
they may come from any source, and a source that lies about them is no more than useless.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from coldchain.agent.transport import Source
from coldchain.attestation import file_name, published_path
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.bundle.pack import consistency_path
from coldchain.errors import EvidenceError, NewerFormatError, TransportError, VerificationError
from coldchain.evidence import DO_NOT, Evidence, check_chain, check_evidence, check_manifest, refused
from coldchain.install import public_log, trusted
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.versions import Version
from coldchain.keys import PublicKey
from coldchain.limits import Limits
from coldchain.rebuilders import check_attestation, check_rebuilders
from coldchain.tlog.checkpoint import Checkpoint, OpenedCheckpoint, check_extends
from coldchain.tlog.merkle import HASH_BYTES, consistency_ranges, growth_by_last, prove_consistency
from coldchain.tlog.note import SignedNote
from coldchain.tlog.proof import parse_proof
from coldchain.tlog.tiles import Tile, TileReader, tiles_needed
from coldchain.tuf.metadata import Metadata
from coldchain.verify import MANIFEST, PROOF, RegionRelease

NOT_ANY_MORE = (
    "if the policy was changed since (new witnesses, a stolen key), the next release settles it;"
    " otherwise ask the publisher in public"
)


class FirstGood(Protocol):
    """Asks the sources in their order until one has a good answer."""

    async def __call__(self, ask: Callable[[Source], Awaitable[bytes]]) -> bytes:
        """The answer, or the most telling refusal."""


class IfPacked(Protocol):
    """Asks the pack that came with the news."""

    async def __call__(self, ask: Callable[[Source], Awaitable[bytes]]) -> bytes | None:
        """Its good answer; None when it has none."""


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """One run's check of the evidence.

    Attributes:
        directory: the endpoint's, its lock held.
        config: of the endpoint.
        first_good: asks the sources.
        now: the time of the run.
        limits: bounds.
        packed: asks a pack, where there may be one.
    """

    directory: ClientDirectory
    config: Config
    first_good: FirstGood
    now: datetime
    limits: Limits
    packed: IfPacked | None = None

    async def check(
        self, root: Metadata, release: RegionRelease, manifest: bytes, proof: bytes | None, old: Version | None
    ) -> Evidence | None:
        """Whether the release may be applied, as far as the public log has a say in it.

        Args:
            root: the newest accepted root.
            release: what the region's role signs.
            manifest: its manifest, as signed.
            proof: its offline proof; None when there is none.
            old: the installed version; None when there is none.

        Returns:
            The evidence; None when the configuration asks for none.

        Raises:
            EvidenceError: the release is not in the log as it must be, or the log is not the one known here.
            TransportError: what is needed could not be had.
        """
        policy = public_log.policy_in_force(self.directory, self.config, root, self.limits)
        if policy is None:
            return None
        found = check_evidence(manifest, proof, release, policy, self.now, self.limits)
        head = found.verified.head
        seen = public_log.seen_checkpoint(self.directory, policy, head.checkpoint.origin, self.limits)
        held = self._held(seen, found, proof)
        await self.check_growth(seen, head.checkpoint, head.note, held)
        if old is not None and old.release < release.release:
            await self._check_chain(manifest, release, old)
        return found

    async def rebuilt(self, root: Metadata, release: RegionRelease, manifest: bytes) -> dict[str, bytes]:
        """The attestations of the rebuilders that the policy asks for, by file name; none when it asks for none.

        Args:
            root: the newest accepted root.
            release: what the region's role signs.
            manifest: its manifest, as signed and checked.

        Raises:
            EvidenceError: too few have rebuilt the release.
            TransportError: too few could be had.
        """
        policy = public_log.policy_in_force(self.directory, self.config, root, self.limits)
        if policy is None or not policy.rebuilds_asked:
            return {}
        stated = parse_manifest(manifest, self.limits)
        files: dict[str, bytes] = {}
        unreachable: TransportError | None = None
        for key in {key.raw: key for names, _ in policy.rebuilds_asked for key in names.values()}.values():
            try:
                data = await self._attestation(stated, release, key)
            except TransportError as error:
                unreachable = error
            else:
                files |= {file_name(key): data} if data is not None else {}
        try:
            found = check_rebuilders(policy, stated, release.region, files, self.limits)
        except EvidenceError:
            if unreachable is not None:
                raise unreachable from None
            raise
        return {name: files[name] for name in (file_name(one.key) for one in found.counted.values())}

    def still_rebuilt(self, root: Metadata, release: RegionRelease, kept: Mapping[str, bytes]) -> bool:
        """Whether the attestations kept with the installed release are what the policy asks for now."""
        policy = public_log.policy_in_force(self.directory, self.config, root, self.limits)
        if policy is None or not policy.rebuilds_asked:
            return True
        try:
            manifest = parse_manifest(kept.get(MANIFEST, b""), self.limits)
            check_rebuilders(policy, manifest, release.region, kept, self.limits)
        except (EvidenceError, VerificationError):
            return False
        return True

    async def _attestation(self, manifest: Manifest, release: RegionRelease, key: PublicKey) -> bytes | None:
        """A rebuilder's attestation: a good one if any source has it, else a bad one, else None."""
        path, bad = published_path(release.manifest, key), b""

        async def ask(source: Source) -> bytes:
            nonlocal bad
            data = (await source.get(path, self.limits.attestation_bytes)).data
            if data is None:
                raise EvidenceError(f"{path} is not there")
            bad = data
            check_attestation(data, key, manifest, release.region, self.limits)
            return data

        try:
            return await self.first_good(ask)
        except (EvidenceError, VerificationError, NewerFormatError):
            return bad or None

    def check_kept(self, root: Metadata, release: RegionRelease, kept: Mapping[str, bytes]) -> None:
        """Whether what is kept with the installed version is still good evidence of it, by the policy in force now.

        Args:
            root: the newest accepted root.
            release: what a role signs of the installed release.
            kept: manifest and proof, by file name.

        Raises:
            EvidenceError: it is not.
        """
        manifest = kept.get(MANIFEST, b"")
        check_manifest(manifest, release, self.limits)
        policy = public_log.policy_in_force(self.directory, self.config, root, self.limits)
        if policy is None:
            return
        try:
            found = check_evidence(manifest, kept.get(PROOF), release, policy, self.now, self.limits)
            if policy.rebuilds_asked:
                check_rebuilders(policy, found.manifest, release.region, kept, self.limits)
        except EvidenceError as error:
            raise EvidenceError(
                f"release {release.release} is installed, and the log policy in force does not accept its evidence: {error.what}",
                todo=error.todo if error.todo != DO_NOT else NOT_ANY_MORE,
            ) from error

    def _held(self, seen: OpenedCheckpoint | None, found: Evidence, proof: bytes | None) -> list[bytes] | None:
        """The proof of the log's growth that the evidence holds: where nothing but the release has come to the log seen before."""
        index = found.verified.index
        if seen is None or not 0 < seen.checkpoint.size == index == found.verified.checkpoint.size - 1:
            return None
        return growth_by_last(index, parse_proof(proof or b"", self.limits).hashes, found.verified.leaf)

    async def check_growth(
        self, seen: OpenedCheckpoint | None, new: Checkpoint, note: SignedNote, held: list[bytes] | None = None
    ) -> None:
        """Whether a checkpoint and the one seen before are of one history; the larger one is kept.

        Args:
            seen: the largest one that was believed here; None when there is none.
            new: the one that came, its log's signature checked.
            note: the same with its signatures.
            held: the proof that it continues the one seen before, of hashes that hang under its root; None when there is none yet.

        Raises:
            EvidenceError: neither continues the other; the proof of that is kept.
            TransportError: the tiles that tell could not be had.
        """
        if seen is None:
            public_log.keep_checkpoint(self.directory, note, self.limits)
            return
        known = seen.checkpoint
        if new.size == known.size:
            if new.root != known.root:
                raise self._fork(seen, note, f"two roots for {new.size:,} entries")
            return
        older, newer = sorted((known, new), key=lambda one: one.size)
        proof = held if held is not None else await self._consistency(older, newer)
        try:
            check_extends(older, newer, proof)
        except EvidenceError as error:
            # the proof was made from hashes that hang under the newer root: it is the log that contradicts itself
            raise self._fork(seen, note, error.what) from error
        if newer is new:
            public_log.keep_checkpoint(self.directory, note, self.limits)

    def _fork(self, seen: OpenedCheckpoint, note: SignedNote, why: str) -> EvidenceError:
        return public_log.fork_found(self.directory, seen.note, note, why)

    async def _consistency(self, older: Checkpoint, newer: Checkpoint) -> list[bytes]:
        """The proof between two checkpoints, from tiles that were checked against the newer one's root."""
        nodes = [node for nodes in consistency_ranges(older.size, newer.size) for node in nodes]
        if not nodes:
            return []
        proof = await self._packed_proof(older, newer)
        if proof:
            return proof
        needed = tiles_needed(nodes, newer.size)

        async def ask(source: Source) -> bytes:
            tiles = {tile: await self._tile(source, tile) for tile in needed}
            found = {one.path: data for one, data in tiles.values()}
            reader = TileReader(newer.size, newer.root, lambda tile: found.get(tile.path), self.limits)
            with refused("the log's tiles"):
                proof[:] = prove_consistency(older.size, newer.size, reader)
            return b""

        await self.first_good(ask)
        return proof

    async def _packed_proof(self, older: Checkpoint, newer: Checkpoint) -> list[bytes]:
        """The same from the pack, checked; nothing when it holds none, or no good one."""
        proof: list[bytes] = []

        async def ask(pack: Source) -> bytes:
            most = HASH_BYTES * self.limits.proof_hashes
            data = (await pack.get(consistency_path(older.size, newer.size), most)).data or b""
            hashes = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
            check_extends(older, newer, hashes)
            proof[:] = hashes
            return b""

        if self.packed is not None:
            await self.packed(ask)
        return proof

    async def _tile(self, source: Source, tile: Tile) -> tuple[Tile, bytes]:
        for one in dict.fromkeys((tile, tile.full)):
            data = (await source.get(f"log/{one.path}", 32 * one.width)).data
            if data is not None:
                return one, data
        raise EvidenceError(f"the log's {tile.path} is not there", todo="the server is half published; try again later")

    async def _check_chain(self, manifest: bytes, release: RegionRelease, old: Version) -> None:
        """Back along ``previous`` to the installed release. Over very many releases it is not walked: the log holds them all."""
        installed = trusted.read_evidence(self.directory, old.name, self.limits).get(MANIFEST)
        if installed is None or release.release - old.release > self.limits.chain_walk:
            return
        newer = [manifest]
        for _ in range(release.release - old.release - 1):
            with refused("the chain of manifests"):
                previous = parse_manifest(newer[-1], self.limits).previous
            if previous is None:
                break
            newer.append(await self._manifest(previous))
        check_chain(newer, installed, self.limits)

    async def _manifest(self, sha256: str) -> bytes:
        async def ask(source: Source) -> bytes:
            # no more than an entry of a log can have: up to chain_walk of them are in memory at once
            data = (await source.get(f"manifests/{sha256}.json", self.limits.log_entry_bytes)).data
            if data is None or hashlib.sha256(data).hexdigest() != sha256:
                raise EvidenceError(f"the manifest {sha256[:16]}… of an earlier release is not there", todo=DO_NOT)
            return data

        return await self.first_good(ask)
