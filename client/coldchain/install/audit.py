"""``coldchain verify``: what is installed against what is signed, from the pinned root to every byte, without a network.

The checks in their order, each one line for a person::

    ok   pinned root: version 1, 2 good signatures of 2 needed by root version 1 (keys …), fingerprint 3f0c…
    ok   root 2: …                                one line for every root since
    ok   targets: version 4, 2 good signatures of 2 needed by root version 2 (keys …)
    ok   region us: version 42, 2 good signatures of 2 needed by targets version 4 (keys …), for us/*/*
    ok   release 42: channel stable, bundle 5c1f…
    ok   bundle.json: 3 sections, 98,234 records, 4,863,111 bytes; it is the signed bundle
    ok   section daily.hsb: 98,000 records, 4,800,000 bytes, SHA-256 as listed
    ok   nothing else: the version holds no other files
    ok   manifest: the public statement about release 42 of 2026-06-01T09:00:00Z names this bundle
    ok   public log: entry 41 of coldchain.example/log, under its root at 42 entries; cosigned by one (2026-06-01 09:00 UTC)
    ok   rebuilt: bit for bit by alice (version 0.1.0, 2026-06-01T10:00:00Z); 1 needed
    ok   approval: by security.example.com/fleet, 2026-06-02 09:00 UTC
    note fresh: the metadata in force is good until 2026-06-02 09:00 UTC

The lines about rebuilders and an approval are there when a policy asks for them. Expiry is a note: what was installed stays genuine,
and
``coldchain status`` says when it has become stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coldchain.approval import parse_approval
from coldchain.bundle.description import FILE_NAME
from coldchain.customer_policy import CustomerPolicy
from coldchain.errors import (
    ColdchainError,
    DamagedError,
    EvidenceError,
    NewerFormatError,
    NotInstalledError,
    OwnPolicyError,
    UsageError,
)
from coldchain.evidence import check_evidence, check_manifest
from coldchain.install import durable, trusted, versions
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.policy_file import read_customer_policy
from coldchain.install.public_log import policy_in_force
from coldchain.install.versions import Version
from coldchain.limits import LIMITS, Limits
from coldchain.rebuilders import check_rebuilders
from coldchain.tlog.policy import Policy
from coldchain.verify import MANIFEST, PROOF, Check, RegionRelease, region_release, verify_chain

_NEXT = "run `coldchain update DIR --repair`: it fetches the full bundle and installs it anew"


@dataclass(slots=True)
class Audit:
    """What was found: every check made, notes beside them, and the error to end with (None when all is in order).

    ``refusals`` are those of the bad checks that are no damage, by name: every byte is as signed, and a policy does not accept it.
    """

    release: int
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: ColdchainError | None = None
    refusals: dict[str, ColdchainError] = field(default_factory=dict)

    def add(self, name: str, detail: str, *, ok: bool = True) -> None:
        """One more check."""
        self.checks.append(Check(name, detail, ok))


def audit(directory: ClientDirectory, now: datetime, limits: Limits = LIMITS) -> Audit:
    """Checks the running version.

    Args:
        directory: the client's directory; nothing in it is changed.
        now: for the note about freshness.
        limits: bounds.

    Raises:
        NotInstalledError: nothing is installed.
        DamagedError: configuration, pinned root or links are damaged, so that there is nothing to check against.
        StorageError: the disk refused something other than a section.
    """
    with durable.disk(directory.path):
        return _audit(directory, now, limits)


def _audit(directory: ClientDirectory, now: datetime, limits: Limits) -> Audit:
    config = directory.config()
    number, pinned = trusted.pinned(directory, config, limits)
    version = running(directory)
    found = Audit(version.release)
    evidence = trusted.read_evidence(directory, version.name, limits)
    chain = verify_chain(
        pinned,
        trusted.later_roots(evidence, number),
        evidence.get("targets.json", b""),
        evidence.get(f"{config.region}.json", b""),
        region=config.region,
        limits=limits,
    )
    found.checks.extend(chain.checks)
    try:
        role = chain.require()
        release = region_release(role, config.region, config.channel, product=config.product, limits=limits)
        _check_release(found, version, release, limits)
        _check_manifest(found, release, evidence.get(MANIFEST, b""), limits)
        assert chain.root is not None  # the chain is good
        own = read_customer_policy(directory, limits)
        _check_log(found, policy_in_force(directory, config, chain.root, limits), release, evidence, now, limits)
        if all(one.ok for one in found.checks) and not trusted.is_as_signed(evidence, release, limits):
            found.add("evidence", "manifest and proof are good, and the file they came in is not as signed", ok=False)
        _check_approval(found, own, release, evidence, limits)
    except NewerFormatError as error:
        found.error = error
        return found
    except UsageError as error:
        found.add("own policy", error.what, ok=False)
        found.refusals["own policy"] = error
    except ColdchainError as error:
        if all(check.ok for check in found.checks):
            found.add("evidence", error.what, ok=False)
    bad = [check for check in found.checks if not check.ok]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        found.error = DamagedError(
            f"release {version.release} is not as signed: {bad[0].name}: {bad[0].detail}{more}",
            kept="nothing was changed",
            todo=_NEXT,
        )
        refused = [found.refusals[check.name] for check in bad if check.name in found.refusals]
        if len(refused) == len(bad):
            found.error = refused[0]
    found.notes.append(_freshness(directory, config, now, limits))
    return found


def running(directory: ClientDirectory) -> Version:
    """The version that ``current`` names. Raises NotInstalledError without one."""
    version = versions.linked(directory, directory.current)
    if version is None:
        raise NotInstalledError("nothing is installed yet", todo=f"run `coldchain update {directory.path}`")
    return version


def _check_release(found: Audit, version: Version, release: RegionRelease, limits: Limits) -> None:
    signed = f"channel {release.channel}, bundle {release.bundle}"
    same = version.release == release.release and version.prefix == release.bundle[:16]
    found.add(f"release {release.release}", signed if same else f"{signed}; {version.name} is another one", ok=same)
    if not same:
        return
    try:
        description = version.describe(limits)
    except ColdchainError as error:
        found.add(FILE_NAME, error.what, ok=False)
        return
    good = description.digest == release.bundle
    size = (
        f"{len(description.sections)} sections, {description.total_records:,} records, "
        f"{description.total_bytes:,} bytes; it is {'' if good else 'not '}the signed bundle"
    )
    found.add(FILE_NAME, size, ok=good)
    with durable.open_folder(version.path) as folder:
        for section in description.sections:
            problem = versions.check_section(folder, section)
            detail = f"{section.records:,} records, {section.bytes:,} bytes, SHA-256 as listed"
            found.add(f"section {section.name}", problem or detail, ok=problem is None)
        there = set(folder.names())
    others = sorted(there - {section.name for section in description.sections} - {FILE_NAME})
    detail = f"{others[0]!r} is not part of the bundle" if others else "the version holds no other files"
    found.add("nothing else", detail, ok=not others)


def _check_manifest(found: Audit, release: RegionRelease, data: bytes, limits: Limits) -> None:
    try:
        manifest = check_manifest(data, release, limits)
    except EvidenceError as error:
        found.add("manifest", error.what, ok=False)
        return
    statement = f"the public statement about release {manifest.release} of {manifest.created}"
    found.add("manifest", f"{statement} names this bundle")
    found.notes.append(manifest.gate_words())
    found.notes += manifest.gate_exceptions()
    for entry in manifest.regions[release.region].policy:
        found.notes.append(
            f"policy of region {release.region}: {entry.action} {entry.kind} {entry.name}: {entry.reason}"
        )


def _check_log(
    found: Audit,
    policy: Policy | None,
    release: RegionRelease,
    evidence: Mapping[str, bytes],
    now: datetime,
    limits: Limits,
) -> None:
    if policy is None:
        found.notes.append("public log: this endpoint was set up to ask for no evidence")
        return
    try:
        good = check_evidence(evidence.get(MANIFEST, b""), evidence.get(PROOF), release, policy, now, limits)
    except EvidenceError as error:
        found.add("public log", error.what, ok=False)
        if trusted.is_as_signed(evidence, release, limits):  # then it is not damage that makes it bad
            error.kept = "nothing was changed; every byte is as signed"
            found.refusals["public log"] = error
        return
    found.add("public log", good.words())
    if not policy.rebuilds_asked:
        return
    try:
        rebuilt = check_rebuilders(policy, good.manifest, release.region, evidence, limits)
    except EvidenceError as error:
        found.add("rebuilt", error.what, ok=False)
        return
    found.add("rebuilt", rebuilt.words())


def _check_approval(
    found: Audit, policy: CustomerPolicy, release: RegionRelease, evidence: Mapping[str, bytes], limits: Limits
) -> None:
    if policy.approval is None:
        return
    name = policy.approval.key.name
    problem = trusted.approval_problem(policy, release, evidence, limits)
    if not problem:
        approved = parse_approval(evidence[trusted.APPROVAL], policy.approval.key, limits).approved
        found.add("approval", f"by {name}, {approved:%Y-%m-%d %H:%M} UTC")
        return
    found.add("approval", f"not by {name}: {problem}", ok=False)
    found.refusals["approval"] = OwnPolicyError(
        f"release {release.release} is installed, and your own policy asks for an approval of it: {problem}",
        kept="nothing was changed; every byte is as signed",
        todo="have it approved with `coldchain approve`, and run `coldchain update DIR`",
    )


def _freshness(directory: ClientDirectory, config: Config, now: datetime, limits: Limits) -> str:
    until = trusted.known_good_until(directory, config, limits)
    if until is None:
        return "fresh: unknown, there is no metadata; run `coldchain update`"
    if until > now:
        return f"fresh: the metadata in force is good until {until:%Y-%m-%d %H:%M} UTC"
    return f"STALE: the metadata in force expired at {until:%Y-%m-%d %H:%M} UTC; run `coldchain update`"
