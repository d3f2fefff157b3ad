"""The library: the same checks as ``coldchain verify``, for programs that want to make them themselves. ``docs/library.md`` shows it.

::

    from coldchain.api import verify_directory

    found = verify_directory("/var/lib/coldchain")
    found.ok                       True
    found.release                  42
    [one.name for one in found.checks]
                                   ["pinned root", "targets", "region us", "release 42", "bundle.json", …]
    found.require()                raises what was wrong (coldchain.errors), and does nothing when all is in order

Each function says what it looked at, in order, and never raises for what it finds, only for arguments that cannot be meant
(UsageError: a time without a time zone, a file that is not there). Nothing
here writes anything or asks a network. For the single steps (a role's signatures, a region's facts, a decision) see
:mod:`coldchain.verify`, :mod:`coldchain.evidence`, :mod:`coldchain.tlog.offline` and :mod:`coldchain.own_decision`: pure functions of
bytes and a time.

What stands in ``__all__`` here is kept as it is from one version to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path

from coldchain.agent.pack_source import open_pack_file
from coldchain.bundle.manifest import Manifest
from coldchain.bundle.pack import read_pack
from coldchain.errors import ColdchainError, UsageError
from coldchain.evidence import check_evidence, effective_policy
from coldchain.install import trusted
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory, read_file
from coldchain.limits import LIMITS, Limits
from coldchain.pack_audit import audit_pack
from coldchain.rebuilders import check_rebuilders
from coldchain.receipt import check_receipt
from coldchain.tuf.trusted_set import pinned_root
from coldchain.verify import MANIFEST, PROOF, Check, RegionRelease, region_release, verify_chain

__all__ = [
    "Check",
    "Manifest",
    "RegionRelease",
    "Verification",
    "verify_directory",
    "verify_evidence",
    "verify_pack",
    "verify_receipt",
]


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found.

    Attributes:
        release: the release's number; None when that is not known.
        checks: every check that was made, in order; without an error all of them are ok.
        notes: what is worth knowing and no failure, such as freshness.
        error: what was wrong (its class and ``exit_code`` say of which kind); None when all is in order.
        signed: what the region's role signs of the release, where that was verified here.
        manifest: the public statement about it, where that was verified here.
    """

    release: int | None
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    error: ColdchainError | None = None
    signed: RegionRelease | None = None
    manifest: Manifest | None = None

    @property
    def ok(self) -> bool:
        """Whether all is in order."""
        return self.error is None

    def require(self) -> None:
        """Does nothing when all is in order.

        Raises:
            ColdchainError: what was wrong.
        """
        if self.error is not None:
            raise self.error


def verify_directory(
    path: str | PathLike[str], *, now: datetime | None = None, limits: Limits = LIMITS
) -> Verification:
    """Checks every byte that an endpoint runs against what was signed, from its pinned root on.

    Args:
        path: the endpoint's directory, as ``coldchain init`` made it.
        now: the present time, with a time zone; None for the clock.
        limits: bounds on foreign bytes.
    """
    now = _now(now)
    try:
        found = audit(ClientDirectory(Path(path)), now, limits)
    except ColdchainError as error:
        return Verification(None, (), error=error)
    return Verification(found.release, tuple(found.checks), tuple(found.notes), found.error)


def verify_pack(
    path: str | PathLike[str],
    *,
    root: bytes,
    region: str | None = None,
    channel: str | None = None,
    policy: bytes | None = None,
    now: datetime | None = None,
    limits: Limits = LIMITS,
) -> Verification:
    """Checks a pack, as it travels where no network goes.

    Args:
        path: the pack.
        root: the root.json to trust; a pack proves nothing without it.
        region: the region it must be for; None takes the one that it names.
        channel: the channel it must be for; None takes the one that it names.
        policy: your own log policy (C2SP tlog-policy); None for the one that the root carries.
        now: the present time, with a time zone; None for the clock. A pack whose time is over is not ok.
        limits: bounds on foreign bytes.
    """
    now = _now(now)
    try:
        with open_pack_file(Path(path)) as (file, size):
            pack = read_pack(file, size, limits)
            found = audit_pack(pack, file, root, now, region=region, channel=channel, policy=policy, limits=limits)
    except ColdchainError as error:
        return Verification(None, (), error=error)
    return Verification(found.release, tuple(found.checks), tuple(found.notes), found.error)


def verify_receipt(
    receipt: bytes | str | PathLike[str],
    *,
    root: bytes | None = None,
    now: datetime | None = None,
    limits: Limits = LIMITS,
) -> Verification:
    """Checks a receipt of an endpoint.

    Args:
        receipt: the file's bytes, or where it is.
        root: the root.json it must hang on; None takes the one it names, whose fingerprint a person compares.
        now: the present time, with a time zone; None for the clock.
        limits: bounds on foreign bytes.

    Raises:
        UsageError: there is no such file.
    """
    data = receipt if isinstance(receipt, bytes) else read_file(Path(receipt), limits.receipt_bytes)
    if data is None:
        raise UsageError(f"{receipt!r} is not a readable file")
    found = check_receipt(data, _now(now), pinned=root, limits=limits)
    stated = found.receipt.get("release")
    number = stated.get("number") if isinstance(stated, dict) else None
    return Verification(number if isinstance(number, int) else None, tuple(found.checks), error=found.error)


def verify_evidence(
    files: Mapping[str, bytes],
    *,
    root: bytes,
    region: str,
    channel: str = "stable",
    product: str = "coldchain",
    policy: bytes | None = None,
    now: datetime | None = None,
    limits: Limits = LIMITS,
) -> Verification:
    """Checks what is kept with a release: its roles, its manifest, and its place in the public log. Bytes in, nothing else.

    Args:
        files: by their names in ``signed/``: ``2.root.json`` …, ``targets.json``, ``us.json``, ``manifest.json``,
            ``manifest.tlog-proof``, attestations; others are not looked at.
        root: the root.json to trust.
        region: whose role it is.
        channel: the release's channel.
        product: the product's name.
        policy: your own log policy (C2SP tlog-policy); None for the one that the root carries.
        now: the present time, with a time zone; None for the clock. Cosignatures from after it do not count; expiry is left out, since
            what was signed stays genuine.
        limits: bounds on foreign bytes.
    """
    checks: list[Check] = []
    signed: RegionRelease | None = None
    manifest: Manifest | None = None
    error: ColdchainError | None = None
    step, now = "pinned root", _now(now)
    try:
        first = pinned_root(root, limits).version
        chain = verify_chain(
            root,
            trusted.later_roots(files, first),
            files.get("targets.json", b""),
            files.get(f"{region}.json", b""),
            region=region,
            limits=limits,
        )
        checks += [check for check in chain.checks if check.ok]
        step = chain.checks[-1].name
        role = chain.require()
        step = "release"
        signed = region_release(role, region, channel, product=product, limits=limits)
        checks.append(Check(f"release {signed.release}", f"channel {channel}, bundle {signed.bundle}", ok=True))
        step = "public log"
        assert chain.root is not None  # the chain is good
        asked = effective_policy(chain.root, policy, limits)
        good = check_evidence(files.get(MANIFEST, b""), files.get(PROOF), signed, asked, now, limits)
        manifest = good.manifest
        digest = hashlib.sha256(files[MANIFEST]).hexdigest()
        checks.append(Check("manifest", f"SHA-256 {digest}, of {manifest.created}", ok=True))
        checks.append(Check(step, good.words(), ok=True))
        if asked.rebuilds_asked:
            step = "rebuilt"
            checks.append(Check(step, check_rebuilders(asked, manifest, region, files, limits).words(), ok=True))
    except ColdchainError as refused:
        error = refused
        checks.append(Check(step, refused.what, ok=False))
    return Verification(signed.release if signed else None, tuple(checks), (), error, signed, manifest)


def _now(given: datetime | None) -> datetime:
    if given is not None and given.tzinfo is None:
        raise UsageError("a time without a time zone", todo="give datetime.now(UTC)")
    return given or datetime.now(UTC)
