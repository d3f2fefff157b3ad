"""What a rebuild starts from, fetched from a published tree: the manifest that the public log holds, and the snapshots it names.

::

    log/checkpoint, log/tile/…     the checkpoint, judged by a log policy; entries, each proved to be under its root
    snapshots/<sha256>             of each feed the manifest names, then the files that the snapshot names

Everything is bounded before it is fetched and named by a digest that was proved: the entry by the log's root, a snapshot by the
entry, a file (length too) by the snapshot. Entries that are no manifest (attestations, other products) are passed over here; a
monitor is who judges them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from coldchain.agent.transport import Progress, Source
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import (
    ColdchainError,
    DamagedError,
    DigestError,
    EvidenceError,
    MalformedError,
    NotPublishedError,
    UsageError,
)
from coldchain.evidence import effective_policy, refused
from coldchain.install.directory import ClientDirectory
from coldchain.install.part import Part
from coldchain.limits import LIMITS, Limits
from coldchain.monitor.log_view import LogView
from coldchain.tlog.note import parse_note
from coldchain.tlog.offline import VerifiedCheckpoint, verify_checkpoint
from coldchain.tlog.policy import Policy, parse_policy
from coldchain.tlog.tiles import WIDTH
from coldchain.tuf.trusted_set import next_root, pinned_root
from coldchain_server.feeds.archives import FEED_LIMITS, FeedLimits
from coldchain_server.feeds.snapshots import FeedSnapshot, parse_snapshot
from coldchain_server.storage.content import ContentStore

SNAPSHOT_BYTES: Final = 64 << 20
"""The most a snapshot's own JSON may have; the files it names have bounds of their own."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Logged:
    """A manifest, where the log holds it, and the checkpoint that it is under."""

    manifest: Manifest
    index: int
    head: VerifiedCheckpoint

    def words(self) -> str:
        """One line for a person."""
        who = ", ".join(sorted(self.head.verdict.counted)) or "nobody, which the policy allows"
        size = self.head.checkpoint.size
        return f"entry {self.index} of {self.head.checkpoint.origin}, under its root at {size:,} entries; cosigned by {who}"


async def policy_for(source: Source, root: bytes | None, own: bytes | None, limits: Limits = LIMITS) -> Policy:
    """The log policy to judge by.

    Args:
        source: has the roots after the given one, or all of them.
        root: the publisher's root.json; None takes the server's word for it.
        own: a policy file; it counts in place of the root's.
        limits: bounds.

    Raises:
        UsageError: a file that was given is not one.
        EvidenceError: the root carries no policy.
        TransportError: the roots could not be had.
        VerificationError: a root is not signed by the one before it.
    """
    if own is not None:
        try:
            return parse_policy(own, limits)
        except MalformedError as error:
            raise UsageError(error.what, todo="give a C2SP log policy") from error
    first = root if root is not None else (await source.get("metadata/1.root.json", limits.root_bytes)).data
    try:
        found = pinned_root(first or b"", limits)
    except DamagedError as error:
        whose = "the root that was given" if root is not None else f"{source.url}/metadata/1.root.json"
        raise UsageError(
            f"{whose} is not a good root: {error.what}", todo="give a publisher's URL, or its root.json"
        ) from error
    for _ in range(limits.root_rotations):
        data = (await source.get(f"metadata/{found.version + 1}.root.json", limits.root_bytes)).data
        if data is None:
            break
        found = next_root(found, data, limits)
    return effective_policy(found, None, limits)


async def find_manifest(
    source: Source, policy: Policy, product: str, channel: str, number: int, now: datetime, limits: Limits = LIMITS
) -> Logged:
    """The manifest of a release as the public log holds it, from its newest entries back.

    Raises:
        EvidenceError: the log is not one by the policy, or it holds two manifests of that number.
        NotPublishedError: the log holds none.
        TransportError: files could not be had.
    """
    note = (await source.get("log/checkpoint", limits.note_bytes)).data
    if note is None:
        raise EvidenceError(f"{source.url} has no public log", todo="give the URL of a publisher")
    with refused("the public log"):
        head = verify_checkpoint(parse_note(note, limits), policy, now, limits)

        async def get(path: str, most: int) -> bytes | None:
            return (await source.get(path, most)).data

        found: Logged | None = None
        view = LogView(get, head.checkpoint, limits)
        for bundle in range((head.checkpoint.size - 1) // WIDTH, -1, -1):
            entries = await view.entries(bundle)
            for offset in range(len(entries) - 1, -1, -1):
                manifest = _manifest(entries[offset], limits)
                if manifest is None or (manifest.product, manifest.channel) != (product, channel):
                    continue
                if manifest.release < number:
                    return _found(found, product, channel, number)
                if manifest.release == number:
                    if found is not None and found.manifest != manifest:
                        raise EvidenceError(
                            f"the log holds two manifests of release {number} of {channel}: "
                            f"entries {bundle * WIDTH + offset} and {found.index}"
                        )
                    found = Logged(manifest, bundle * WIDTH + offset, head)
        return _found(found, product, channel, number)


def _found(logged: Logged | None, product: str, channel: str, number: int) -> Logged:
    if logged is None:
        raise NotPublishedError(
            f"the public log holds no release {number} of {product} {channel}", todo="compare the number and --channel"
        )
    return logged


def _manifest(entry: bytes, limits: Limits) -> Manifest | None:
    try:
        return parse_manifest(entry, limits)
    except ColdchainError:
        return None  # not ours to judge, see the module


async def fetch_snapshots(
    source: Source,
    manifest: Manifest,
    work: ClientDirectory,
    content: ContentStore,
    *,
    say: Say,
    progress: Progress,
    bounds: FeedLimits = FEED_LIMITS,
) -> None:
    """Brings every snapshot that the manifest names, and its files, into ``content``.

    Raises:
        DigestError: a file is not the named one.
        EvidenceError: a snapshot or file that the manifest names is not published.
        MalformedError: a snapshot does not follow its format, or names more than the bounds allow.
        TransportError: a file could not be had.
    """
    for feed in manifest.feeds:
        data = (await source.get(f"snapshots/{feed.snapshot}", SNAPSHOT_BYTES)).data
        if data is None:
            raise EvidenceError(
                f"the snapshot of feed {feed.name} is not there: snapshots/{feed.snapshot}",
                todo="ask the publisher in public; without its sources nobody can rebuild the release",
            )
        if hashlib.sha256(data).hexdigest() != feed.snapshot:
            raise DigestError(f"snapshots/{feed.snapshot}: it is not the one that the manifest names")
        snapshot = parse_snapshot(data, bounds)
        total = sum(file.bytes for file in snapshot.files)
        if total > bounds.total_bytes:
            raise MalformedError(f"feed {feed.name}: {total:,} bytes of files, more than allowed")
        content.put(data)
        say(f"feed {feed.name}: {len(snapshot.files)} files, {total:,} bytes")
        await _files(source, snapshot, work, content, progress)


async def _files(
    source: Source, snapshot: FeedSnapshot, work: ClientDirectory, content: ContentStore, progress: Progress
) -> None:
    for file in snapshot.files:
        if file.sha256 in content:
            continue
        part = Part(work, file.bytes, file.sha256)
        try:
            await source.download(f"snapshots/{file.sha256}", part, progress)
        except DigestError as error:
            raise DigestError(f"feed {snapshot.feed}: {file.path}: {error.what}") from error
        with part.open() as opened:
            content.put(opened.read())
        part.remove()
