"""Evidence: a release's manifest, and the proof that the public log holds it, by a policy of whom to believe.

A signature proves who signed. That everybody was offered the same, the evidence proves::

    manifest    the entry: one statement about one release for all regions (bundle/manifest.py)
    proof       where it stands in the log, and who vouches for the log (tlog/proof.py)

Both travel in one file, ``<sha256>.evidence.zst`` (bundle/evidence_file.py). These are the checks, none of which needs a network:

    manifest     canonical, and it speaks of the release, the region, the bundle and its file that the region's role signs
    proof        the entry is under the root of a checkpoint that the log signed and a quorum of witnesses cosigned
    chain        each release's manifest names the one before it, back to the one that is installed here
    growth       the checkpoint continues the one that this endpoint saw last (checkpoint.check_extends)

The policy is the customer's own file, or the one that the root metadata carries, which the offline root keys sign::

    "coldchain":{"format":"coldchain-root-1","log_policy":["log log.example/x+…","witness …","quorum …"]}

What is wrong with evidence is always :class:`~coldchain.errors.EvidenceError`, whatever part of it is bad: to the caller it means
that the release is not in the public log as it must be.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from coldchain.bundle.evidence_file import read_evidence_file
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.canonical import Fields
from coldchain.errors import EvidenceError, MalformedError, NewerFormatError, VerificationError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.offline import Verified, verify_proof
from coldchain.tlog.policy import Policy, parse_policy
from coldchain.tuf.metadata import Metadata
from coldchain.verify import RegionRelease

ROOT_FORMAT: Final = "coldchain-root-1"
DO_NOT: Final = "do not go on; keep the files and ask the publisher in public why this is not in the log"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Good evidence: what was stated, and where the log holds it."""

    manifest: Manifest
    verified: Verified

    def words(self) -> str:
        """One line for a person."""
        head = self.verified.head
        vouched = [
            f"{name} ({datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC)"
            for name, time in sorted(head.verdict.counted.items())
        ]
        who = f"cosigned by {', '.join(vouched)}" if vouched else "the policy asks for no witness"
        log = head.checkpoint
        return f"entry {self.verified.index} of {log.origin}, under its root at {log.size:,} entries; {who}"


def root_policy(root: Metadata) -> bytes | None:
    """The log policy that a root carries, as the bytes of a policy file; None when it carries none.

    Raises:
        MalformedError: the root's member does not follow its format.
        NewerFormatError: it is of a later one.
    """
    if "coldchain" not in root.signed:
        return None
    what = "root.json: coldchain"
    facts = Fields(Fields(root.signed, "root.json").object("coldchain"), what)
    found = facts.text("format", 64)
    if found != ROOT_FORMAT:
        if found.startswith("coldchain-root-"):
            raise NewerFormatError(f"{what} has format {found!r}", todo="install a newer client")
        raise MalformedError(f"{what}: format {found!r} is not {ROOT_FORMAT!r}")
    lines = facts.items("log_policy", LIMITS.log_policy_lines)
    facts.done()
    if not all(isinstance(line, str) and "\n" not in line for line in lines):
        raise MalformedError(f"{what}: 'log_policy' is not a list of lines")
    return "".join(f"{line}\n" for line in lines).encode()


def effective_policy(root: Metadata, own: bytes | None, limits: Limits = LIMITS) -> Policy:
    """The policy in force: the customer's own file, or else the root's.

    Args:
        root: the newest accepted root.
        own: the customer's file; None to take the root's.
        limits: bounds.

    Raises:
        EvidenceError: neither is there, or it is not a policy.
    """
    with refused("the log policy is not in order"):
        data = own if own is not None else root_policy(root)
        if data is None:
            raise EvidenceError(
                f"root.json version {root.version} names no public log",
                todo="ask the publisher, or give a policy file of your own: `coldchain init DIR … --policy FILE`",
            )
        return parse_policy(data, limits)


@contextlib.contextmanager
def refused(what: str) -> Iterator[None]:
    """Whatever is refused inside is a matter of evidence."""
    try:
        yield
    except EvidenceError as error:
        error.todo = error.todo or DO_NOT
        raise
    except VerificationError as error:
        raise EvidenceError(f"{what}: {error.what}", todo=error.todo or DO_NOT) from error


def check_manifest(data: bytes, release: RegionRelease, limits: Limits = LIMITS) -> Manifest:
    """The manifest, which must speak of what the region's role signs.

    Raises:
        EvidenceError: it does not, or it is no manifest.
        NewerFormatError: a later version of the format.
    """
    with refused(f"the manifest of release {release.release}"):
        if hashlib.sha256(data).hexdigest() != release.manifest:
            raise EvidenceError(f"the manifest is missing, or not the signed one of release {release.release}")
        manifest = parse_manifest(data, limits)
        region = manifest.regions.get(release.region)
        about = (manifest.product, manifest.channel, manifest.release)
        if about != (release.product, release.channel, release.release) or region is None:
            raise EvidenceError(f"the manifest is not about release {release.release} of region {release.region}")
        if region.facts.bundle != release.bundle:
            raise EvidenceError(
                f"the manifest names bundle {region.facts.bundle[:16]}…, the role signs {release.bundle[:16]}…",
                todo="do not go on; the region is offered something else than what was made public",
            )
        full = region.full
        if full is not None and (full.bytes, full.sha256) != (release.full.length, release.full.sha256):
            raise EvidenceError(
                f"the manifest names the full bundle's file {full.sha256[:16]}…, the role signs {release.full.sha256[:16]}…",
                todo="do not go on; the region is offered another file than the one that was made public",
            )
    return manifest


def open_evidence(data: bytes, release: RegionRelease, limits: Limits = LIMITS) -> tuple[bytes, bytes | None]:
    """Manifest and proof of a release, from its evidence file.

    Args:
        data: the file; it is not unpacked unless it is the one that the region's role signs.
        release: what that role signs.
        limits: bounds.

    Returns:
        The bytes of the manifest, not yet looked into, and those of the proof; None when there is none.

    Raises:
        EvidenceError: it is not that file, or not made as it must be.
        NewerFormatError: a later version of the format.
    """
    with refused(f"the evidence of release {release.release}"):
        if (len(data), hashlib.sha256(data).hexdigest()) != (release.evidence.length, release.evidence.sha256):
            raise EvidenceError(f"the evidence is missing, or not the signed one of release {release.release}")
        return read_evidence_file(data, limits)


def check_evidence(
    data: bytes, proof: bytes | None, release: RegionRelease, policy: Policy, now: datetime, limits: Limits = LIMITS
) -> Evidence:
    """Manifest and proof of a release against a policy.

    Args:
        data: the manifest's bytes.
        proof: the bytes of its offline proof; None when there is none.
        release: what the region's role signs.
        policy: whom to believe.
        now: the present time, with a time zone; cosignatures from the future do not count.
        limits: bounds.

    Raises:
        EvidenceError: the release is not in the log as it must be.
        NewerFormatError: a manifest of a later format.
    """
    manifest = check_manifest(data, release, limits)
    if proof is None:
        raise EvidenceError(
            f"release {release.release} comes without a proof that the public log holds it", todo=DO_NOT
        )
    with refused(f"the log proof of release {release.release}"):
        return Evidence(manifest, verify_proof(data, proof, policy, now, limits))


def check_chain(newer: Sequence[bytes], installed: bytes, limits: Limits = LIMITS) -> None:
    """Whether each release's manifest names the one before it, down to the installed one.

    Args:
        newer: manifests from the newest down to the one right after the installed release.
        installed: the manifest of the installed release.
        limits: bounds.

    Raises:
        EvidenceError: a link is missing, or the releases are not consecutive ones of one channel.
        NewerFormatError: a manifest of a later format.
    """
    with refused("the chain of manifests"):
        for data, before in itertools.pairwise([*newer, installed]):
            new, old = parse_manifest(data, limits), parse_manifest(before, limits)
            if (new.product, new.channel, new.release) != (old.product, old.channel, old.release + 1):
                raise EvidenceError(
                    f"release {new.release} of {new.channel} does not come after release {old.release} of {old.channel}"
                )
            if new.previous != hashlib.sha256(before).hexdigest():
                raise EvidenceError(
                    f"release {new.release} names another release {old.release} before it than the one known here"
                )
