"""``coldchain verify FILE.pack``: a pack against a pinned root, on a machine without a network, an endpoint or a server.

The checks in their order, each one line for a person; the first that fails is the last::

    ok   pinned root: version 1, fingerprint 3f0c…
    ok   root 2: version 2, good until 2027-06-01 09:00 UTC
    ok   timestamp: version 31, good until 2026-06-02 09:00 UTC
    ok   snapshot: …   ok   targets: …   ok   region us: …   ok   rollout: …
    ok   release 42: channel stable, bundle 5c1f…
    ok   manifest: the public statement about release 42 of 2026-06-01T09:00:00Z names this bundle
    ok   public log: entry 41 of coldchain.example/log, under its root at 42 entries; cosigned by one (2026-06-01 09:00 UTC)
    ok   tiles: 1 of the log, each under that root
    ok   chain: 0 manifests of the releases between
    ok   content: the delta from release 41, 120,333 bytes, SHA-256 as signed
    note age: the newest cosignature is 2 hours old; the role files are good for 21 hours more (until …)

Only freshness needs the clock, and it comes last: a pack whose time is over is as genuine as ever, no update takes it any more, and
the answer says both. What the delta makes of an endpoint's files is checked where it is applied.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final

from coldchain.bundle.manifest import parse_manifest
from coldchain.bundle.pack import Pack
from coldchain.errors import (
    ColdchainError,
    DigestError,
    EvidenceError,
    ExpiredError,
    NewerFormatError,
    VerificationError,
)
from coldchain.evidence import check_evidence, effective_policy, open_evidence, refused
from coldchain.limits import LIMITS, Limits
from coldchain.rebuilders import check_rebuilders
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import Node
from coldchain.tlog.tiles import TileReader
from coldchain.tuf.metadata import Metadata
from coldchain.tuf.refresh import Fetch, Steps, refresh
from coldchain.tuf.trusted_set import TrustedSet, pinned_root
from coldchain.verify import ROLLOUT_ROLE, Check, RegionRelease, region_release, says_who_it_is

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)  # before every expiry: freshness is judged at the end
_BLOCK: Final = 1 << 20
_AGAIN: Final = "do not use this pack; have it made again, and compare the root's fingerprint"


@dataclass(slots=True)
class PackAudit:
    """What was found: the checks, notes beside them, and the error to end with (None when a client may take the pack).

    Attributes:
        release: which release it brings; None when that is not known.
        source: the release its delta starts from; None for a full bundle.
        newest_cosignature: when a witness that counts last signed; None when none did.
        good_until: when the first of its role files expires.
        genuine: whether all checks but freshness are good.
    """

    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: ColdchainError | None = None
    release: int | None = None
    source: int | None = None
    newest_cosignature: datetime | None = None
    good_until: datetime | None = None
    genuine: bool = False

    def add(self, name: str, detail: str, *, ok: bool = True) -> None:
        """One more check."""
        self.checks.append(Check(name, detail, ok))


def audit_pack(
    pack: Pack,
    file: BinaryIO,
    pinned: bytes,
    now: datetime,
    *,
    region: str | None = None,
    channel: str | None = None,
    product: str = "coldchain",
    policy: bytes | None = None,
    limits: Limits = LIMITS,
) -> PackAudit:
    """Checks a pack.

    Args:
        pack: its head.
        file: the whole file, seekable.
        pinned: the root.json to trust.
        now: for freshness, and against cosignatures from the future.
        region: the region it must be for; None takes the one it names.
        channel: the channel it must be for; None takes the one it names.
        product: the product it must be of.
        policy: the customer's own log policy; None for the root's.
        limits: bounds.
    """
    found = PackAudit(source=pack.source)
    run = _Run(found, pack, product, region or pack.region, channel or pack.channel, now, limits)
    try:
        run.about()
        trusted = run.roles(pinned)
        release = run.release(trusted)
        run.log(trusted, release, policy)
        run.content(release, file)
    except ColdchainError as error:
        found.add(run.step, error.what, ok=False)
        if not isinstance(error, NewerFormatError):
            error.todo = _AGAIN
        found.error = error
        return found
    found.genuine = True
    run.freshness(trusted)
    return found


@dataclass(slots=True)
class _Run:
    found: PackAudit
    pack: Pack
    product: str
    region: str
    channel: str
    now: datetime
    limits: Limits
    step: str = ""

    def about(self) -> None:
        """What the pack names itself is believed where it names something else than was asked for."""
        self.step = "pack"
        named, wanted = (self.pack.region, self.pack.channel), (self.region, self.channel)
        if named != wanted:
            raise VerificationError(f"it is for {' '.join(named)}, not for {' '.join(wanted)}")

    def roles(self, pinned: bytes) -> TrustedSet:
        """The client's own workflow over the parts."""
        self.step = "pinned root"
        root = pinned_root(pinned, self.limits)
        self.found.add(self.step, f"version {root.version}, fingerprint {hashlib.sha256(pinned).hexdigest()}")
        # A pack may begin with roots that whoever pinned a later one has already.
        roles = [self.region, ROLLOUT_ROLE]
        steps = refresh(
            {"root.json": pinned}, _BEGINNING, roles, self.limits, lambda role: says_who_it_is(role, self.product)
        )
        trusted = self._drive(steps)
        used = {f"metadata/{number}.root.json" for number in range(1, trusted.root.version + 1)}
        if unused := [path for path in self.pack.roots if path not in used]:
            self.step = "roots"
            raise DigestError(f"{unused[0]} does not follow the roots before it")
        return trusted

    def _drive(self, steps: Steps) -> TrustedSet:
        data: bytes | None = None
        while True:
            try:
                step = steps.send(data)
            except StopIteration as done:
                trusted: TrustedSet = done.value
                return trusted
            data = None
            if isinstance(step, Fetch):
                self.step = _role_words(step.path, self.region)
                data = self.pack.parts.get(step.path)
                if data is None and not step.path.endswith(".root.json"):
                    raise VerificationError(f"{step.path} is not in the pack")
                if data is not None and len(data) > step.max_bytes:
                    raise DigestError(f"{step.path}: {len(data)} bytes came, at most {step.max_bytes} were signed")
            elif step.name != "root.json":
                self.found.add(self.step, f"{len(step.data):,} bytes, signed as it must be")

    def release(self, trusted: TrustedSet) -> RegionRelease:
        self.step = "release"
        role = trusted.role(self.region)
        release = region_release(role, self.region, self.channel, product=self.product, limits=self.limits)
        self.found.release = release.release
        self.found.add(f"release {release.release}", f"channel {release.channel}, bundle {release.bundle}")
        return release

    def log(self, trusted: TrustedSet, release: RegionRelease, own: bytes | None) -> None:
        self.step = "public log"
        policy = effective_policy(trusted.root, own, self.limits)
        data = self.pack.parts.get(release.evidence.url_path, b"")
        manifest, proof = open_evidence(data, release, self.limits)
        good = check_evidence(manifest, proof, release, policy, self.now, self.limits)
        statement = f"the public statement about release {good.manifest.release} of {good.manifest.created}"
        self.found.add("manifest", f"{statement} names this bundle")
        self.found.add("public log", good.words())
        if good.verified.newest is not None:
            self.found.newest_cosignature = datetime.fromtimestamp(good.verified.newest, UTC)
        if policy.rebuilds:
            self.step = "rebuilt"
            self.found.add(
                "rebuilt",
                check_rebuilders(policy, good.manifest, self.region, self.pack.attestations, self.limits).words(),
            )
        self.step = "tiles"
        self._tiles(good.verified.checkpoint)
        self.step = "chain"
        self._chain(manifest)

    def _tiles(self, head: Checkpoint) -> None:
        tiles = self.pack.tiles
        reader = TileReader(head.size, head.root, tiles.get, self.limits)
        with refused("the log's tiles"):
            for tile in tiles:
                # Another width than this tree has, or hashes beyond it: then the reader finds no such tile.
                reader([Node(8 * tile.level, tile.index * 256 + i) for i in range(tile.width)])
        self.found.add("tiles", f"{len(tiles)} of the log, each under that root")

    def _chain(self, manifest: bytes) -> None:
        newest = manifest
        with refused("the chain of manifests"):
            for data in self.pack.chain:
                new, old = parse_manifest(newest, self.limits), parse_manifest(data, self.limits)
                if new.previous != hashlib.sha256(data).hexdigest() or old.release >= new.release:
                    raise EvidenceError(f"release {new.release} does not come after the one that stands behind it")
                newest = data
        count = len(self.pack.chain)
        self.found.add(
            "chain", f"{count} manifest{'' if count == 1 else 's'} of the releases before, each named by the next"
        )

    def content(self, release: RegionRelease, file: BinaryIO) -> None:
        self.step = "content"
        source = self.pack.source
        target = release.full if source is None else release.deltas.get(source)
        if target is None or target.url_path != self.pack.content:
            raise DigestError(f"{self.pack.content[:120]} is not what the region's role signs")
        digest = hashlib.sha256()
        left = self.pack.length
        file.seek(self.pack.start)
        while left and (data := file.read(min(_BLOCK, left))):
            digest.update(data)
            left -= len(data)
        if self.pack.length != target.length or digest.hexdigest() != target.sha256:
            raise DigestError(f"{target.path}: its bytes are not the signed ones")
        what = "the full bundle" if source is None else f"the delta from release {source}"
        self.found.add("content", f"{what}, {target.length:,} bytes, SHA-256 as signed")

    def freshness(self, trusted: TrustedSet) -> None:
        """How old the evidence is by this machine's clock."""
        files: list[Metadata] = [trusted.root, trusted.timestamp, trusted.snapshot]
        files += [trusted.role(name) for name in ("targets", self.region, ROLLOUT_ROLE)]
        first = min(files, key=lambda one: one.expires)
        self.found.good_until = first.expires
        signed = self.found.newest_cosignature
        if signed is None:
            self.found.notes.append("age: the policy asks for no witness, so nobody vouches for a time")
        else:
            self.found.notes.append(f"age: the newest cosignature is {span(self.now - signed)} old ({_stamp(signed)})")
        timestamp = trusted.timestamp
        self.found.notes.append(f"timestamp: version {timestamp.version}, {_until(timestamp.expires, self.now)}")
        if first.expires <= self.now:
            if first is not timestamp:
                self.found.notes.append(f"{first.name}: version {first.version}, {_until(first.expires, self.now)}")
            self.found.error = ExpiredError(
                f"the pack is genuine and too old: its {first.name} expired {span(self.now - first.expires)} ago "
                f"({_stamp(first.expires)})",
                kept="nothing was changed",
                todo="no update takes it; have a new one made, or compare this machine's clock with another one",
            )


def _role_words(path: str, region: str) -> str:
    name = path.rpartition("/")[2].removesuffix(".json")
    number, dot, role = name.partition(".")
    if role == "root":
        return f"root {number}"
    return (f"region {region}" if role == region else role) if dot else name


def _until(expires: datetime, now: datetime) -> str:
    if expires <= now:
        return f"EXPIRED {span(now - expires)} ago ({_stamp(expires)})"
    return f"good for {span(expires - now)} more (until {_stamp(expires)})"


def _stamp(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def span(time: timedelta) -> str:
    """A length of time for a person, in its largest whole unit."""
    seconds = max(int(time.total_seconds()), 0)
    for name, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}s"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
