"""The signed roles: what each says, how long it lives, and publishing a new state of them in reader-safe order.

Every state is one *timestamp*: it names a snapshot, which names a version of every other role. New files go out first, the
timestamp last, so a reader sees the old state or the new one, and a crash in between leaves files that nothing names (the next
publish writes over them; a version that no timestamp named was never published). Before anything goes out, the client's own code
walks the new state from the pinned root: what the client would refuse is never published.

Lives::

    root, targets  1 year, offline        region roles  180 days        rollout, snapshot  14 days        timestamp  36 hours

Files are canonical JSON. A region role's facts stand in an extra member of its signed part::

    "coldchain":{"channels":{"stable":{"bundle":"…","bytes":1,"manifest":"…","records":1,"release":42}},
                 "format":"coldchain-region-1","product":"coldchain","region":"us"}

The rollout role also carries where each channel's schedule stands, in a member of its own which clients pass over: what an origin must
know to go on after a crash is signed and published with the shares it led to, in one step, and kept nowhere else::

    "coldchain-schedules":{"stable":{"emergency":false,"release":42,"since":"2026-11-24T02:00:00Z"}}

and, where a rollout halted itself, ``"halted":{"at":"2026-11-24T03:10:00Z","region":"us","why":"…"}`` in it.

Source: The Update Framework specification 1.0.34; Coldchain's formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from coldchain import canonical
from coldchain.errors import ResponseError, StateError, StorageError, VerificationError
from coldchain.tuf.refresh import Fetch, refresh
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import says_who_it_is
from coldchain_server.signing.nacl_signer import register
from coldchain_server.storage.interface import Storage

REGION_FORMAT: Final = "coldchain-region-1"
ROLLOUT_FORMAT: Final = "coldchain-rollout-1"
ROLLOUT: Final = "rollout"
SCHEDULES: Final = "coldchain-schedules"
LIVES: Final = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "region": timedelta(days=180),
    ROLLOUT: timedelta(days=14),
    "snapshot": timedelta(days=14),
    "timestamp": timedelta(hours=36),
}
_MOST_ROOTS: Final = 4096

register()


def now_utc() -> datetime:
    """The time of this machine, in UTC, to the second: what metadata can hold."""
    return datetime.now(UTC).replace(microsecond=0)


def utc_text(moment: datetime) -> str:
    """``2026-11-24T02:00:00Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def encode(metadata: Metadata[Any]) -> bytes:
    """The file: canonical JSON of the whole envelope."""
    return canonical.encode(metadata.to_dict())


def sign(metadata: Metadata[Any], signers: Iterable[Signer]) -> None:
    """Replaces all signatures by those of ``signers``."""
    metadata.signatures.clear()
    for signer in signers:
        add_signature(metadata, signer)


def add_signature(metadata: Metadata[Any], signer: Signer) -> None:
    """Adds one signature, keeping the others."""
    metadata.sign(signer, append=True)


def decode(data: bytes, what: str) -> Metadata[Any]:
    """Our own metadata file. Raises StorageError when it is not one."""
    try:
        return Metadata.from_bytes(data)
    except (DeserializationError, ValueError) as error:
        raise StorageError(f"{what} is damaged: {error}", todo="restore the published tree from a backup") from error


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """What a region role says about one channel: the release, and each file's path, length and SHA-256."""

    release: int
    bundle: str
    bytes: int
    records: int
    manifest: str
    targets: Mapping[str, tuple[int, str]]
    """Path of TUF -> (length in bytes, SHA-256), e.g. ``us/stable/full.ccd``."""

    def as_json(self) -> canonical.Object:
        """The channel's member of the role's facts."""
        return {
            "release": self.release,
            "bundle": self.bundle,
            "bytes": self.bytes,
            "records": self.records,
            "manifest": self.manifest,
        }


def empty_region_role(product: str, region: str, now: datetime) -> Metadata[Targets]:
    """Version 1 of a region role: no channel has a release yet."""
    facts: canonical.Object = {"format": REGION_FORMAT, "product": product, "region": region, "channels": {}}
    return Metadata(Targets(1, None, now + LIVES["region"], {}, None, {"coldchain": facts}))


def next_region_role(current: Metadata[Targets], channel: str, facts: ChannelFacts, now: datetime) -> Metadata[Targets]:
    """The region role's next version, unsigned, with one channel replaced and the others as they are."""
    old = current.signed
    extra = dict(old.unrecognized_fields["coldchain"])
    region = extra["region"]
    extra["channels"] = {**extra["channels"], channel: facts.as_json()}
    prefix = f"{region}/{channel}/"
    targets = {path: file for path, file in old.targets.items() if not path.startswith(prefix)}
    targets |= {path: TargetFile(length, {"sha256": digest}, path) for path, (length, digest) in facts.targets.items()}
    return Metadata(Targets(old.version + 1, None, now + LIVES["region"], targets, None, {"coldchain": extra}))


def rollout_role(
    version: int, regions: canonical.Object, now: datetime, schedules: canonical.Object | None = None
) -> Metadata[Targets]:
    """A version of the rollout role, unsigned.

    Args:
        version: its version.
        regions: region -> channel -> {release, share, held}, and ``withdrawn`` where some are.
        now: when its life begins.
        schedules: channel -> {release, since, emergency}, and ``halted`` where it halted itself.
    """
    facts: canonical.Object = {"format": ROLLOUT_FORMAT, "regions": regions}
    extra: dict[str, Any] = {"coldchain": facts} | ({SCHEDULES: schedules} if schedules else {})
    return Metadata(Targets(version, None, now + LIVES[ROLLOUT], {}, None, extra))


@dataclass(slots=True)
class RoleState:
    """All roles of one published state; ``delegated`` holds the region roles and the rollout by name."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]
    delegated: dict[str, Metadata[Targets]] = field(default_factory=dict)

    def keyids(self, role: str) -> tuple[list[str], int]:
        """Key ids and threshold of any role."""
        if role in self.root.signed.roles:
            top = self.root.signed.roles[role]
            return list(top.keyids), top.threshold
        delegations = self.targets.signed.delegations
        if delegations is None or delegations.roles is None or role not in delegations.roles:
            raise StateError(
                f"there is no role {role!r}",
                todo="after adding a region to regions.toml: coldchain-server keys regions",
            )
        one = delegations.roles[role]
        return list(one.keyids), one.threshold

    def rollout(self) -> canonical.Object:
        """The rollout's facts: region -> channel -> {release, share, held}."""
        facts: canonical.Object = self.delegated[ROLLOUT].signed.unrecognized_fields["coldchain"]["regions"]
        return facts

    def schedules(self) -> canonical.Object:
        """Where each channel's schedule stands: channel -> {release, since, emergency}, and ``halted``."""
        return dict(self.delegated[ROLLOUT].signed.unrecognized_fields.get(SCHEDULES, {}))

    def next_rollout(
        self, now: datetime, regions: canonical.Object | None = None, schedules: canonical.Object | None = None
    ) -> Metadata[Targets]:
        """The rollout role's next version, unsigned; what is not given stays as it is."""
        return rollout_role(
            self.delegated[ROLLOUT].signed.version + 1,
            self.rollout() if regions is None else regions,
            now,
            self.schedules() if schedules is None else schedules,
        )

    def channel(self, region: str, channel: str) -> Mapping[str, Any] | None:
        """A region role's facts about a channel, or None before its first release."""
        facts: Mapping[str, Any] | None = (
            self.delegated[region].signed.unrecognized_fields["coldchain"]["channels"].get(channel)
        )
        return facts


async def load_state(storage: Storage) -> RoleState:
    """The published state.

    Raises:
        StateError: nothing is published here yet.
        StorageError: a file that the timestamp leads to is missing or damaged.
    """
    if await storage.stat("metadata/timestamp.json") is None:
        raise StateError("there are no keys and roles here yet", todo="coldchain-server init DIR")

    async def get(name: str) -> Metadata[Any]:
        return decode(await storage.get(f"metadata/{name}.json"), name)

    timestamp = await get("timestamp")
    snapshot = await get(f"{timestamp.signed.snapshot_meta.version}.snapshot")
    meta: dict[str, MetaFile] = snapshot.signed.meta
    targets = await get(f"{meta['targets.json'].version}.targets")
    names = [name.removesuffix(".json") for name in meta if name != "targets.json"]
    delegated = {name: await get(f"{meta[f'{name}.json'].version}.{name}") for name in names}
    return RoleState(await _newest_root(storage), targets, snapshot, timestamp, delegated)


async def _newest_root(storage: Storage) -> Metadata[Root]:
    version = 1
    while version < _MOST_ROOTS and await storage.stat(f"metadata/{version + 1}.root.json") is not None:
        version += 1
    return decode(await storage.get(f"metadata/{version}.root.json"), f"{version}.root")


def next_snapshot(state: RoleState, changed: Mapping[str, Metadata[Targets]], now: datetime) -> Metadata[Snapshot]:
    """The snapshot's next version, unsigned, naming the changed roles' versions."""
    old = state.snapshot.signed
    meta = dict(old.meta)
    meta |= {f"{name}.json": MetaFile(role.signed.version) for name, role in changed.items()}
    return Metadata(Snapshot(old.version + 1, None, now + LIVES["snapshot"], meta))


def next_timestamp(state: RoleState, snapshot: Metadata[Snapshot], now: datetime) -> Metadata[Timestamp]:
    """The timestamp's next version, unsigned."""
    version = state.timestamp.signed.version + 1
    return Metadata(Timestamp(version, None, now + LIVES["timestamp"], MetaFile(snapshot.signed.version)))


def files_of(roles: Mapping[str, Metadata[Any]]) -> dict[str, bytes]:
    """Path in the published tree -> bytes, in the order they go out; ``timestamp`` must be last."""
    return {
        f"metadata/{name if name == 'timestamp' else f'{role.signed.version}.{name}'}.json": encode(role)
        for name, role in roles.items()
    }


async def check_as_client(
    storage: Storage, files: Mapping[str, bytes], roles: Iterable[str], now: datetime
) -> TrustedSet:
    """Walks a new state from root version 1 with the client's own code; ``files`` stand before what is published.

    Args:
        storage: the published tree.
        files: path -> bytes of what is about to go out.
        roles: the delegated roles to walk.
        now: the client's clock.

    Raises:
        VerificationError: the client would refuse it. Nothing has been published then.
    """

    async def get(path: str) -> bytes | None:
        if path in files:
            return files[path]
        return await storage.get(path) if await storage.stat(path) is not None else None

    pinned = await get("metadata/1.root.json")
    steps = refresh({"root.json": pinned or b""}, now, list(roles), check=says_who_it_is)
    answer: bytes | None = None
    while True:
        try:
            step = steps.send(answer)
        except ResponseError as error:
            raise VerificationError(f"the signed roles name a file that is not there: {error.what}") from error
        except StopIteration as done:
            trusted: TrustedSet = done.value
            return trusted
        answer = await get(step.path) if isinstance(step, Fetch) else None


def in_time(state: RoleState, changed: Iterable[str], now: datetime) -> list[str]:
    """The delegated roles whose time is not over, and those that get a new life now.

    A region without releases, or one that left regions.toml, must not stop the others when its role expires: only its own
    endpoints refuse it.
    """
    new = set(changed)
    return sorted({*new, *(name for name, role in state.delegated.items() if role.signed.expires > now)} - {"targets"})


def mending_moment(state: RoleState, changed: Iterable[str], now: datetime) -> datetime:
    """The latest moment up to now in which nothing had expired but what is signed anew.

    Whoever mends one expired role must not be stopped by another that waits for its turn: root and targets, made in one
    ceremony, expire in one second.
    """
    top: dict[str, Metadata[Any]] = {
        "root": state.root,
        "targets": state.targets,
        "snapshot": state.snapshot,
        "timestamp": state.timestamp,
    }
    new = set(changed)
    ends: list[datetime] = [role.signed.expires for name, role in top.items() if name not in new]
    return min([now, *(end - timedelta(seconds=1) for end in ends)])


async def put_state(storage: Storage, files: Mapping[str, bytes]) -> None:
    """Writes role files in the given order. A version nothing named before may be a crash's leftover: it is replaced."""
    for path, data in files.items():
        await storage.put(path, data, replace=True)
