"""One run of a mirror: fetch what is new, verify it with an endpoint's own code, and publish it in the order readers need.

::

    lock, remove left-overs and what is no longer named since longer than the grace
    metadata     the full TUF workflow, from what was seen last on, so that no source goes backwards
    evidence     of every release of every region: in the public log, by the policy in force, as an endpoint asks for it
    files        targets to their signed length and digest; the chain of manifests; rebuilders' words; the log's tiles; the checkpoint
    packs        for endpoints that poll, of these files (:mod:`coldchain.mirror.published`)
    publish      one link: the new metadata names only what is there
    afterwards   what is no longer named is noted with the time; packs for the air gap, if they are asked for

Whatever fails, and wherever the process is killed, what is served is the old generation or the new one, whole. One region that
cannot be verified holds back all of them, since they share one snapshot: an endpoint is told of the lack by its metadata's age.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from coldchain.agent.log_evidence import LogEvidence
from coldchain.agent.sources import Sources
from coldchain.agent.transport import Source, Traffic, computed_etag, open_sources
from coldchain.agent.workflow import drive
from coldchain.attestation import file_name, published_path
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import (
    ColdchainError,
    EvidenceError,
    MalformedError,
    NewerFormatError,
    StorageError,
    VerificationError,
)
from coldchain.evidence import check_manifest, open_evidence, refused
from coldchain.install import durable, public_log, trusted
from coldchain.install.part import SUFFIX
from coldchain.mirror import generation
from coldchain.mirror.directory import METADATA, MirrorConfig, MirrorDirectory
from coldchain.mirror.log_copy import LogCopy, of_one_log
from coldchain.mirror.packs import make_packs
from coldchain.mirror.published import drop_old_packs, place_packs
from coldchain.mirror.pulled import Pulled, PullSettings
from coldchain.mirror.state import MOST_BYTES, MirrorState, parse_mirror_state
from coldchain.mirror.tree import Tree, free_bytes
from coldchain.rebuilders import check_attestation, check_rebuilders
from coldchain.tlog.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint
from coldchain.tlog.note import parse_note
from coldchain.tlog.policy import Policy
from coldchain.tuf.metadata import Metadata
from coldchain.tuf.refresh import Fetch, refresh
from coldchain.tuf.trusted_set import TrustedSet, next_root, pinned_root
from coldchain.verify import ROLLOUT_ROLE, RegionRelease, Target, channels, listed_targets, region_release

_DIGEST: Final = re.compile(r"(?:targets|manifests)/(?:[^/]+/)*([0-9a-f]{64})\.[^/]+\Z")
CHECKPOINT: Final = "log/checkpoint"


async def pull(directory: MirrorDirectory, config: MirrorConfig, settings: PullSettings | None = None) -> Pulled:
    """Brings the mirror to what its sources publish now. The lock must be held.

    Raises:
        ColdchainError: one kind per cause; what is served stays as it is.
    """
    settings = settings or PullSettings()
    try:
        with durable.disk(directory.path):
            return await _Pull(directory, config, settings).run()
    except ColdchainError as error:
        error.kept = error.kept or "what the mirror serves stays as it is"
        raise


class _Pull:
    def __init__(self, directory: MirrorDirectory, config: MirrorConfig, settings: PullSettings) -> None:
        self.directory, self.config, self.settings, self.limits = directory, config, settings, settings.limits
        self.now = settings.now()
        self.traffic = Traffic()
        self.tree = Tree(directory)
        self.named: set[str] = set()
        self.heads: list[Checkpoint] = []
        self.state = MirrorState()
        self.before: dict[str, bytes] = {}
        self.out = Pulled()

    async def run(self) -> Pulled:
        self.directory.complete()
        self.directory.sweep()
        generation.tidy(self.directory)
        self.directory.own.clean_staging(lambda name: name.endswith(SUFFIX))
        self.state = self._read_state()
        fresh = not generation.served(self.directory)
        self._drop_expired()
        async with open_sources(self.config.urls, self.traffic, self.limits, told=self.settings.told) as opened:
            self.sources = Sources(opened, self.directory.own, self.settings.progress, self.settings.conduct)
            changed = await self._bring()
        self.out.action = "mirrored" if fresh else "updated" if changed or self.out.files else "current"
        self.directory.own.clean_staging(lambda _: False)
        await self._packs()
        self._note_unnamed()
        self.out.requests, self.out.bytes_down = self.traffic.requests, self.traffic.bytes
        return self.out

    async def _bring(self) -> bool:
        found, source = await self.sources.first_good(self._refresh, blame=True)
        self.sources.prefer(source)
        policy = public_log.policy_in_force(
            self.directory.own, self.config.of(self.config.regions[0]), found.root, self.limits
        )
        assert policy is not None  # a mirror's configuration always names one
        releases = self._releases(found)
        targets = {one.url_path: one for region in self.config.regions for one in listed_targets(found.role(region))}
        self._check_room(targets)
        manifests: dict[str, Manifest] = {}
        for release in releases:
            manifests[release.manifest] = await self._statement(found, release)
        for manifest in manifests.values():
            await self._chain(manifest)
        await self._attestations(policy, releases, manifests)
        for target in targets.values():
            if target.url_path not in self.named:
                await self._target(target)
        await self._log(policy)
        self.out.releases = [(one.region, one.channel, one.release) for one in releases]
        self.named |= place_packs(self.tree, self.config, found, again=self.settings.check)
        changed = await self._publish(found)
        drop_old_packs(self.tree, found.snapshot.version)
        return changed

    # -- metadata ----------------------------------------------------------------------------------------------------

    async def _refresh(self, source: Source) -> TrustedSet:
        own, limits = self.directory.own, self.limits
        views = [self.config.of(region) for region in self.config.regions]
        stored = {name: data for view in views for name, data in trusted.stored(own, view, limits).items()}
        roles = [*self.config.regions, ROLLOUT_ROLE]
        steps = refresh(stored, self.now, roles, limits, trusted.role_check(views[0]))

        async def get(step: Fetch) -> bytes | None:
            return (await source.get(step.path, step.max_bytes)).data

        return await drive(steps, get, partial(trusted.keep, own))

    def _releases(self, found: TrustedSet) -> list[RegionRelease]:
        """What the regions' roles state, for every channel.

        Raises:
            MalformedError: files have the same name in every version, so that a mirror cannot hold two.
        """
        if not found.root.consistent_snapshot:
            raise MalformedError(
                "root.json publishes without consistent snapshots", todo="such a tree cannot be mirrored safely"
            )
        return [
            region_release(found.role(region), region, channel, product=self.config.product, limits=self.limits)
            for region in self.config.regions
            for channel in channels(found.role(region))
        ]

    async def _roots(self) -> dict[str, bytes]:
        """Every root that a client may have pinned: those before ours too, as far as they lead up to it."""
        own = self.directory.own
        kept = {number: trusted.root_file(own, number, self.limits) for number in trusted.root_numbers(own)}
        out = {f"{number}.root.json": data for number, data in kept.items() if data is not None}
        first = min(kept)
        earlier = [f"{number}.root.json" for number in range(1, first)]
        if all(name in self.before for name in earlier):
            return out | {name: self.before[name] for name in earlier}
        return out | await self._earlier_roots(earlier, out[f"{first}.root.json"])

    async def _earlier_roots(self, names: Sequence[str], pinned: bytes) -> dict[str, bytes]:
        """The roots before ours, if the sources have them all and each is followed by the next; else none."""

        async def ask(source: Source) -> dict[str, bytes]:
            out: dict[str, bytes] = {}
            root: Metadata | None = None
            for name in names:
                data = (await source.get(f"{METADATA}/{name}", self.limits.root_bytes)).data
                if data is None:
                    raise EvidenceError(f"{name} is not there")
                root = pinned_root(data, self.limits) if root is None else next_root(root, data, self.limits)
                out[name] = data
            if root is not None:
                next_root(root, pinned, self.limits)
            return out

        try:
            return (await self.sources.first_good(ask))[0]
        except ColdchainError:
            return {}  # clients that pinned one of them need another source, once

    # -- what a release's evidence needs -----------------------------------------------------------------------------

    async def _statement(self, found: TrustedSet, release: RegionRelease) -> Manifest:
        """Brings the evidence of a release and judges them as an endpoint of its region does."""
        data, proof = open_evidence(await self._small(release.evidence), release, self.limits)
        manifest = check_manifest(data, release, self.limits)
        evidence = await self._evidence(release.region).check(found.root, release, data, proof, None)
        assert evidence is not None  # a mirror's configuration always names a policy
        self.heads.append(evidence.verified.checkpoint)
        self._put(f"manifests/{release.manifest}.json", data)
        return manifest

    async def _chain(self, newest: Manifest) -> None:
        """The manifests before a release, as far back as an endpoint walks, or as the sources have them."""
        new = newest
        for _ in range(self.limits.chain_walk):
            if new.previous is None:
                return
            path = f"manifests/{new.previous}.json"
            data = self.tree.read(path, self.limits.log_entry_bytes)
            if data is None or hashlib.sha256(data).hexdigest() != new.previous:
                data = await self._manifest(path, new.previous)
            if data is None:
                return  # endpoints that are so far behind will say so
            with refused("the chain of manifests"):
                old = parse_manifest(data, self.limits)
            if (old.product, old.channel) != (new.product, new.channel) or old.release >= new.release:
                raise EvidenceError(f"release {new.release} names release {old.release} as the one before it")
            self._put(path, data)
            new = old

    async def _manifest(self, path: str, sha256: str) -> bytes | None:
        async def ask(source: Source) -> bytes:
            data = (await source.get(path, self.limits.log_entry_bytes)).data
            if data is None or hashlib.sha256(data).hexdigest() != sha256:
                raise EvidenceError(f"{path} is not there")
            return data

        try:
            return await self.sources.answer(ask)
        except EvidenceError:
            return None

    async def _attestations(
        self, policy: Policy, releases: Sequence[RegionRelease], manifests: dict[str, Manifest]
    ) -> None:
        """The words of the rebuilders that the policy names.

        Raises:
            EvidenceError: fewer than the policy asks for have rebuilt a release.
        """
        for release in releases:
            manifest = manifests[release.manifest]
            files: dict[str, bytes] = {}
            for key in policy.rebuilders.values():
                path = published_path(release.manifest, key)
                old = self.tree.read(path, self.limits.attestation_bytes)

                async def ask(source: Source, path: str = path, old: bytes | None = old) -> bytes:
                    tag = computed_etag(hashlib.sha256(old).hexdigest()) if old is not None else None
                    answer = await source.get(path, self.limits.attestation_bytes, etag=tag)
                    data = answer.data if answer.missing or answer.data is not None else old
                    if data is None:
                        raise EvidenceError(f"{path} is not there")
                    check_attestation(data, key, manifest, release.region, self.limits)  # noqa: B023  called at once
                    return data

                try:
                    data = await self.sources.answer(ask)
                except (EvidenceError, VerificationError, NewerFormatError):
                    continue
                files[file_name(key)] = data
                self._put(path, data)
            if policy.rebuilds:
                check_rebuilders(policy, manifest, release.region, files, self.limits)

    async def _log(self, policy: Policy) -> None:
        """The checkpoint that is published and the tiles under it, and those under the checkpoints of the evidence."""
        checkpoint = await self._checkpoint(policy)
        heads = sorted(self.heads, key=lambda one: one.size)
        heads += [checkpoint.checkpoint] if checkpoint else []
        copy = LogCopy(self.tree, self.limits)
        for head in of_one_log(heads):

            async def ask(source: Source, head: Checkpoint = head) -> None:
                await copy.copy(source, head, check=self.settings.check)

            await self.sources.first_good(ask)
        self.named |= copy.named
        self.out.files += copy.files
        self.out.bytes += copy.written
        if checkpoint is not None:
            self._put(CHECKPOINT, checkpoint.note.encode())

    async def _checkpoint(self, policy: Policy) -> OpenedCheckpoint | None:
        """The log's published checkpoint, or the one that is served here if the sources are behind it; None where there is none.

        Raises:
            EvidenceError: it and what was seen of the log before are two stories.
        """

        def opened(data: bytes | None) -> OpenedCheckpoint | None:
            if data is None:
                return None
            with refused("the log's checkpoint"):
                return open_checkpoint(parse_note(data, self.limits), policy.log_keys, policy.witness_keys)

        async def ask(source: Source) -> OpenedCheckpoint | None:
            return opened((await source.get(CHECKPOINT, self.limits.note_bytes)).data)

        found, _ = await self.sources.first_good(ask)
        try:
            old = opened(self.tree.read(CHECKPOINT, self.limits.note_bytes))
        except EvidenceError:
            old = None  # of another log, or damaged
        if found is None or old is None:
            newest = found or old
        else:
            behind = found.checkpoint.origin == old.checkpoint.origin and found.checkpoint.size < old.checkpoint.size
            newest = old if behind else found
        if newest is not None:
            seen = public_log.seen_checkpoint(self.directory.own, policy, newest.checkpoint.origin, self.limits)
            await self._evidence(self.config.regions[0]).check_growth(seen, newest.checkpoint, newest.note)
        return newest

    def _evidence(self, region: str) -> LogEvidence:
        return LogEvidence(self.directory.own, self.config.of(region), self.sources.answer, self.now, self.limits)

    # -- files -------------------------------------------------------------------------------------------------------

    def _put(self, path: str, data: bytes) -> None:
        written = self.tree.put(path, data)
        self.out.files += bool(written)
        self.out.bytes += written
        self.named.add(path)

    def _good(self, path: str, target: Target) -> bool:
        """Whether the file is there; with ``check`` its bytes are looked at too."""
        if self.tree.length(path) != target.length:
            return False
        return not self.settings.check or self.tree.digest(path) == target.sha256

    async def _target(self, target: Target) -> None:
        """Brings a target to its place, unless it is there."""
        if not self._good(target.url_path, target):
            await self._fetch(target)
        self.named.add(target.url_path)

    async def _small(self, target: Target) -> bytes:
        """A small target's bytes, from the tree if they are there as signed."""
        data = self.tree.read(target.url_path, target.length)
        if data is None or hashlib.sha256(data).hexdigest() != target.sha256:
            await self._fetch(target)
            data = self.tree.read(target.url_path, target.length)
        if data is None:
            raise StorageError(f"{target.url_path} is gone", todo="run it again")
        self.named.add(target.url_path)
        return data

    async def _fetch(self, target: Target) -> None:
        self.tree.move_in(target.url_path, await self.sources.download(target))
        self.out.files += 1
        self.out.bytes += target.length

    def _check_room(self, targets: dict[str, Target]) -> None:
        """Refuses before the first byte what would not fit.

        Raises:
            StorageError: the disk has too little room.
        """
        missing = {path: one for path, one in targets.items() if self.tree.length(path) != one.length}
        with self.directory.own.folder("staging") as staging:
            there = sum(found.st_size for name in staging.names() if (found := staging.look(name)) is not None)
        needed, free = sum(one.length for one in missing.values()) - there, free_bytes(self.directory.path)
        if needed > free:
            raise StorageError(
                f"{self.directory.path}: {needed:,} bytes are to come, and the disk has room for {free:,}",
                todo="make room, or give fewer regions with --region; a shorter --grace removes old files sooner",
            )

    # -- publishing --------------------------------------------------------------------------------------------------

    async def _publish(self, found: TrustedSet) -> bool:
        self.before = generation.whole(self.directory)
        named = await self._roots()
        top = [("snapshot", found.snapshot), *((name, found.role(name)) for name in ("targets", ROLLOUT_ROLE))]
        for name, role in [*top, *((region, found.role(region)) for region in self.config.regions)]:
            named[f"{role.version}.{name}.json"] = role.raw
        named[generation.TIMESTAMP] = found.timestamp.raw
        kept = {
            name: data
            for name, data in self.before.items()
            if name not in named and not self._expired(f"{METADATA}/{name}")
        }
        self.out.files += len(named.keys() - self.before.keys())
        self.out.bytes += sum(len(data) for name, data in named.items() if self.before.get(name) != data)
        self.named |= {f"{METADATA}/{name}" for name in named}
        self.out.good_until = min(
            one.expires
            for one in (found.root, found.timestamp, *(role for _, role in top), *map(found.role, self.config.regions))
        )
        return generation.publish(self.directory, named, kept)

    async def _packs(self) -> None:
        """Makes the packs, if they are asked for; those of another generation are made again."""
        made: dict[str, str] = {}
        if self.config.packs:
            known = {} if self.settings.check else self.state.packs
            made = await make_packs(self.directory, self.config, self.tree, known, self.now, self.limits)
            self.named |= set(made)
            self.out.packs = sorted(made)
        self.state = MirrorState(self.state.unnamed, made)

    # -- what is no longer named -------------------------------------------------------------------------------------

    def _expired(self, path: str) -> bool:
        since = self.state.unnamed.get(path)
        return since is not None and self.now - since > timedelta(hours=self.config.grace)

    def _drop_expired(self) -> None:
        """Before anything is fetched, so that its room is there."""
        for path in self.state.unnamed:
            if self._expired(path) and not path.startswith(f"{METADATA}/"):
                length = self.tree.remove(path)
                self.out.removed += bool(length)
                self.out.removed_bytes += length

    def _note_unnamed(self) -> None:
        """Since when files are not named; a clock that went back starts their grace anew.

        With ``check`` those go at once that are not what their name says, or have no digest in it.
        """
        there = self.tree.files()
        for path in sorted(there.keys() - self.named) if self.settings.check else ():
            if (digest := _DIGEST.search(path)) is None or self.tree.digest(path) != digest[1]:
                self.out.removed += 1
                self.out.removed_bytes += self.tree.remove(path)
                del there[path]
        there |= {f"{METADATA}/{name}": length for name, length in generation.served(self.directory).items()}
        moment = self.now.replace(microsecond=0)
        unnamed = {path: min(self.state.unnamed.get(path, moment), moment) for path in there if path not in self.named}
        self.out.waiting = len(unnamed)
        self.out.served, self.out.served_bytes = len(there), sum(there.values())
        data = MirrorState(unnamed, self.state.packs).encode()
        with self.directory.own.folder() as here:
            if here.read("state.json", MOST_BYTES) != data:
                here.write("state.json", data)

    def _read_state(self) -> MirrorState:
        with self.directory.own.folder() as here:
            return parse_mirror_state(here.read("state.json", MOST_BYTES))
