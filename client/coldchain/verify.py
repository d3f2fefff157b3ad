"""From verified metadata to a decision: what a region's role says may run, what the rollout says about when.

Bytes and a time go in, values come out; no file, no connection, no clock.

A region's role is TUF targets metadata with one more signed member. Worked example (line breaks for the reader)::

    "coldchain":{"format":"coldchain-region-1","product":"coldchain","region":"us",
       "channels":{"stable":{"release":42,"bundle":"<sha256 of bundle.json>","bytes":4863111,"records":98234,
                             "manifest":"<sha256 of the release manifest>"}}}
    "targets":{"us/stable/full.ccd":{…},"us/stable/from-41.ccd":{…},"us/stable/evidence.zst":{…}}

and so is the rollout role, which lists no targets::

    "coldchain":{"format":"coldchain-rollout-1","regions":{"us":{"stable":{"release":42,"share":25,"held":false}}}}

After a withdrawal an entry names the releases that nobody should run any longer, as in ``"withdrawn":[40,41]``: an endpoint that runs
one of them does not wait for its share. That member may hasten, and like the whole role it introduces nothing.

The region's name stands inside what is signed, since the same people may sign for several regions: one region's role
shown in the place of another's is refused by name, not by key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

from coldchain.bundle.description import check_token
from coldchain.canonical import JSON, Fields
from coldchain.errors import (
    ColdchainError,
    InternalError,
    MalformedError,
    NewerFormatError,
    NotPublishedError,
    RollbackError,
    SignatureError,
)
from coldchain.limits import LIMITS, Limits
from coldchain.tuf.metadata import Metadata, good_keys
from coldchain.tuf.trusted_set import accept, next_root, pinned_root

REGION_FORMAT = "coldchain-region-1"
ROLLOUT_FORMAT = "coldchain-rollout-1"
ROLLOUT_ROLE = "rollout"
BUCKETS: Final = 10_000
MOST_WITHDRAWN: Final = 64
EVIDENCE: Final = "evidence.zst"
MANIFEST: Final = "manifest.json"
PROOF: Final = "manifest.tlog-proof"

_COMPONENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")
_DELTA = re.compile(r"from-([1-9][0-9]{0,14})\.ccd\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """A published file: its TUF ``path``, ``length`` in bytes and ``sha256`` in lower-case hexadecimal."""

    path: str
    length: int
    sha256: str

    @property
    def url_path(self) -> str:
        """Where it is published: ``us/stable/full.ccd`` becomes ``targets/us/stable/<sha256>.full.ccd``."""
        folder, slash, name = self.path.rpartition("/")
        return f"targets/{folder}{slash}{self.sha256}.{name}"


@dataclass(frozen=True, slots=True)
class RegionRelease:
    """What may run in a region: the newest release of a channel, as its role signed it.

    Attributes:
        product: the product's name.
        region: the region's name.
        channel: the channel's name.
        release: the release's number; it only grows.
        bundle: SHA-256 of ``bundle.json``, the bundle digest.
        bytes: the sections' lengths together.
        records: the sections' records together.
        manifest: SHA-256 of the release manifest.
        evidence: the manifest, and its proof of the public log (:mod:`coldchain.bundle.evidence_file`).
        full: the bundle as the delta from nothing.
        deltas: by the release they start from.
        role_version: version of the region's metadata.
    """

    product: str
    region: str
    channel: str
    release: int
    bundle: str
    bytes: int
    records: int
    manifest: str
    evidence: Target
    full: Target
    deltas: Mapping[int, Target]
    role_version: int

    def best(self, installed: int | None) -> Target:
        """The file to fetch: the delta from the installed release (None: nothing) if there is one, else all of it."""
        return self.deltas.get(installed or 0, self.full)


@dataclass(frozen=True, slots=True)
class RolloutState:
    """When: ``release`` goes to ``share`` percent of the endpoints (0 to 100), and to those on ``withdrawn`` ones, unless ``held``."""

    release: int
    share: int
    held: bool
    withdrawn: tuple[int, ...] = ()


Action = Literal["apply", "current", "held", "wait"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What an endpoint does now, and why, in words for a person."""

    action: Action
    release: int
    reason: str


def target(role: Metadata, path: str) -> Target:
    """What an accepted role signs of a target.

    Args:
        role: targets metadata that :mod:`coldchain.tuf` accepted (as itself, or by a delegation).
        path: a TUF target path, e.g. ``us/stable/full.ccd``.

    Raises:
        SignatureError: the role's delegation does not cover the path, or it was never accepted.
        NotPublishedError: the role does not list it.
        MalformedError: the path is not made of plain names, or no sha256 is given.
    """
    if not all(_COMPONENT.match(part) for part in path.split("/")):
        raise MalformedError(f"target path {path[:80]!r} is not made of plain names")
    # Specification 4.5: a target must be in the trusted paths of its delegation, whatever the role itself lists.
    if role.delegation is None or not role.delegation.matches(path):
        raise SignatureError(f"{role.name}.json may not speak for {path!r}")
    info = role.targets.get(path)
    if info is None:
        raise NotPublishedError(f"{role.name}.json lists no {path!r}")
    if info.length is None or "sha256" not in info.hashes:
        raise MalformedError(f"{role.name}.json: {path!r} has no length or no sha256")
    return Target(path, info.length, info.hashes["sha256"])


def _facts(role: Metadata, expected: str) -> Fields:
    """The role's ``coldchain`` member, once its format is known to be ``expected``."""
    what = f"{role.name}.json"
    facts = Fields(Fields(role.signed, what).object("coldchain"), f"{what}: coldchain")
    found, family = facts.text("format", most=64), expected.rpartition("-")[0] + "-"
    if found == expected:
        return facts
    if found.startswith(family):
        raise NewerFormatError(f"{what} has format {found!r}", todo="install a newer client")
    raise MalformedError(f"{what}: format {found!r} is not {expected!r}")


def says_who_it_is(role: Metadata, product: str | None = None) -> None:
    """Refuses a well-signed role under another role's name: the check of :class:`coldchain.tuf.trusted_set.TrustedSet`.

    Args:
        role: a region's role or the rollout role, as its name claims.
        product: the product this client belongs to; None leaves that open.

    Raises:
        MalformedError: it speaks for another region or product, or is of another kind.
        NewerFormatError: facts of a later format.
    """
    if role.name == ROLLOUT_ROLE:
        _facts(role, ROLLOUT_FORMAT)
        return
    facts = _facts(role, REGION_FORMAT)
    if product is not None:
        facts.constant("product", product)
    facts.constant("region", role.name)


def region_release(
    role: Metadata, region: str, channel: str, *, product: str = "coldchain", limits: Limits = LIMITS
) -> RegionRelease:
    """The release a region's role states for a channel.

    Args:
        role: the accepted metadata of the region's role.
        region: the region this client belongs to.
        channel: ``stable`` or ``early``.
        product: the product this client belongs to.
        limits: bounds on foreign bytes.

    Raises:
        MalformedError: the facts do not follow their format, or name another region or product.
        NewerFormatError: facts of a later format.
        NotPublishedError: no release on this channel.
        SignatureError: the role's delegation does not cover the region's files.
    """
    what = f"{role.name}.json"
    facts = _facts(role, REGION_FORMAT)
    if role.name != region:
        raise MalformedError(f"{what} is not the role of region {region!r}")
    facts.constant("product", product)
    facts.constant("region", region)
    channels = facts.object("channels", 16)
    facts.done()
    if channel not in channels:
        raise NotPublishedError(f"region {region!r} publishes no release on channel {channel!r}")
    state = Fields(channels[channel], f"{what}: channel {channel!r}")
    release = state.integer("release", least=1)
    folder = f"{region}/{channel}/"
    deltas: dict[int, Target] = {}
    for path in role.targets:
        found = _DELTA.match(path.removeprefix(folder)) if path.startswith(folder) else None
        if found is None:
            continue
        source = int(found[1])
        if source >= release:
            raise MalformedError(f"{what}: a delta from release {source} does not lead up to {release}")
        deltas[source] = _bounded(target(role, path), limits)
    out = RegionRelease(
        product=check_token(product, "product"),
        region=check_token(region, "region"),
        channel=check_token(channel, "channel"),
        release=release,
        bundle=state.sha256("bundle"),
        bytes=state.integer("bytes", most=limits.bundle_bytes),
        records=state.integer("records", most=limits.records),
        manifest=state.sha256("manifest"),
        evidence=_bounded(target(role, f"{folder}{EVIDENCE}"), limits, limits.manifest_bytes + limits.proof_bytes),
        full=_bounded(target(role, f"{folder}full.ccd"), limits),
        deltas=MappingProxyType(deltas),
        role_version=role.version,
    )
    state.done()
    return out


def channels(role: Metadata) -> list[str]:
    """The channels that a region's role states a release for, in the order of their names.

    Raises:
        MalformedError: the facts do not follow their format.
        NewerFormatError: facts of a later format.
    """
    return sorted(_facts(role, REGION_FORMAT).object("channels", 16))


def listed_targets(role: Metadata, limits: Limits = LIMITS) -> list[Target]:
    """Every file that a region's role signs, in the order of their paths.

    Raises:
        SignatureError: its delegation does not cover one.
        MalformedError: one is not named, or is longer, as a target may be.
    """
    return [_bounded(target(role, path), limits) for path in sorted(role.targets)]


def _bounded(found: Target, limits: Limits, most: int | None = None) -> Target:
    if found.length > (limits.delta_bytes if most is None else most):
        raise MalformedError(f"{found.path!r} is longer than allowed")
    return found


def rollout_state(role: Metadata, region: str, channel: str) -> RolloutState | None:
    """What the rollout role says of a region's channel; None when it says nothing, so that nobody applies anything.

    Raises:
        MalformedError: the facts do not follow their format.
        NewerFormatError: facts of a later format.
    """
    if role.name != ROLLOUT_ROLE:
        raise MalformedError(f"{role.name}.json is not the rollout role")
    facts = _facts(role, ROLLOUT_FORMAT)
    regions = facts.object("regions", 256)
    facts.done()
    channels: JSON = regions.get(region, {})
    what = f"{role.name}.json: region {region!r}"
    if not isinstance(channels, dict):
        raise MalformedError(f"{what} is not an object")
    if channel not in channels:
        return None
    fields = Fields(channels[channel], f"{what}, channel {channel!r}")
    withdrawn = fields.integers("withdrawn", MOST_WITHDRAWN, least=1) if fields.has("withdrawn") else ()
    state = RolloutState(
        fields.integer("release", least=1), fields.integer("share", most=100), fields.boolean("held"), withdrawn
    )
    fields.done()
    return state


def decide(release: RegionRelease, rollout: RolloutState | None, installed: int | None, bucket: int) -> Decision:
    """Whether this endpoint applies the release now.

    Args:
        release: what may run.
        rollout: when; None when the rollout role says nothing.
        installed: the release that runs here; None when nothing is installed.
        bucket: this endpoint's number for this release, 0 to 9999, drawn at random and kept to itself.

    Raises:
        RollbackError: the signed release is lower than the installed one. Withdrawing is a *higher* release with
            older content, so this is never in order.
    """
    if not 0 <= bucket < BUCKETS:
        raise InternalError(f"bucket {bucket} is not from 0 to {BUCKETS - 1}")
    number = release.release
    if installed is not None and number < installed:
        raise RollbackError(
            f"region {release.region!r} offers release {number}, but {installed} is installed",
            kept=f"release {installed} stays installed",
            todo="nothing here; the publisher withdraws a release by a higher one",
        )
    if number == installed:
        return Decision("current", number, f"release {number} is installed and the newest")
    if rollout is None:
        return Decision("wait", number, f"release {number} is published, but its rollout has not begun")
    if rollout.release != number:
        return Decision("wait", number, f"the rollout is about release {rollout.release}, not about {number}")
    if rollout.held:
        return Decision("held", number, f"the rollout of release {number} is held at {rollout.share} %")
    if installed is None:
        # A share spares those who are protected already; this one has nothing that a bad release could break.
        return Decision("apply", number, f"nothing is installed here, so release {number} is not waited for")
    if installed in rollout.withdrawn:
        return Decision(
            "apply", number, f"release {installed}, which is installed, was withdrawn; {number} replaces it"
        )
    if bucket < rollout.share * (BUCKETS // 100):
        return Decision("apply", number, f"release {number} goes to {rollout.share} % of endpoints, this one included")
    return Decision("wait", number, f"release {number} goes to {rollout.share} % of endpoints, this one comes later")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``name`` and ``detail`` are words for a person."""

    name: str
    detail: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """What an offline verification found. ``role`` is the region's metadata, None unless everything is in order.

    Attributes:
        checks: in the order they were made; the last one is the failed one, if any failed.
        root: the newest root of the chain, as far as it was good.
        targets: the top-level targets, if good.
        role: the region's role, if good.
        error: the refusal, or None.
    """

    checks: tuple[Check, ...]
    root: Metadata | None = None
    targets: Metadata | None = None
    role: Metadata | None = None
    error: ColdchainError | None = None

    @property
    def ok(self) -> bool:
        """Whether every check is in order."""
        return self.error is None

    def require(self) -> Metadata:
        """The region's role. Raises the refusal if there was one."""
        if self.error is not None:
            raise self.error
        if self.role is None:
            raise InternalError("a chain without a role and without an error")
        return self.role


def verify_chain(
    pinned: bytes,
    later_roots: Sequence[bytes],
    targets: bytes,
    region_role: bytes,
    *,
    region: str,
    now: datetime | None = None,
    limits: Limits = LIMITS,
) -> Chain:
    """Checks the kept evidence of a release again, from the pinned root on and without the server.

    Which version of a role is the newest cannot be told offline; that is what a refresh is for.

    Args:
        pinned: the root.json the customer pinned.
        later_roots: the roots after it, one version each, in order.
        targets: the top-level targets.json kept with the release.
        region_role: the region's metadata kept with the release.
        region: the region's name, which is its role's.
        now: UTC; expiry is checked against it. None leaves expiry out, since what is installed stays genuine.
        limits: bounds on foreign bytes.

    Returns:
        Every check made, in plain words; the first failed one is the last.
    """
    checks: list[Check] = []
    root: Metadata | None = None
    top: Metadata | None = None
    role: Metadata | None = None
    step = "pinned root"
    try:
        root = pinned_root(pinned, limits)
        fingerprint = hashlib.sha256(pinned).hexdigest()
        checks.append(Check(step, f"{_signed(root, root)}, fingerprint {fingerprint}", ok=True))
        for data in later_roots:
            step = f"root {root.version + 1}"
            new = next_root(root, data, limits)
            checks.append(Check(step, f"{_signed(root, new)}; {_signed(new, new)}", ok=True))
            root = new
        step = "targets"
        top = accept(root, "targets", targets, "targets", limits)
        checks.append(Check(step, _signed(root, top), ok=True))
        step = f"region {region}"
        role = accept(top, region, region_role, "targets", limits)
        checks.append(Check(step, f"{_signed(top, role)}, for {', '.join(top.roles[region].paths)}", ok=True))
        for metadata in (root, top, role) if now else ():
            step = f"expiry of {metadata.name}"
            assert now is not None
            metadata.check_time(now)
            checks.append(Check(step, f"not before {metadata.expires:%Y-%m-%d %H:%M:%S} UTC", ok=True))
    except ColdchainError as error:
        checks.append(Check(step, error.what, ok=False))
        return Chain(tuple(checks), root, top, None, error)
    return Chain(tuple(checks), root, top, role)


def _signed(delegator: Metadata, metadata: Metadata) -> str:
    """E.g. ``version 3, 2 good signatures of 2 needed by root version 1 (keys 9a0e12cd, 77b1f0aa)``."""
    role = delegator.roles[metadata.name]
    keys = good_keys(delegator, role, metadata)
    names = ", ".join(key.keyid[:8] for key in keys)
    by = f"{delegator.name} version {delegator.version}"
    return f"version {metadata.version}, {len(keys)} good signatures of {role.threshold} needed by {by} (keys {names})"
