"""Whether enough rebuilders that a customer names have assembled a release again, by their signed word.

The policy names them and says how many it takes (:mod:`coldchain.tlog.policy`)::

    # coldchain: rebuilder alice 8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394
    # coldchain: rebuilder bob ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1
    # coldchain: rebuilders 1

An attestation counts when the rebuilder's key signed it, it is about exactly the manifest that the public log holds, and the
region's own bundle is among those that were rebuilt. One that does not count takes nothing away from the others. A customer who asks
for more than the policy (:class:`coldchain.tlog.policy.Demands`) gets both: enough of the policy's, and enough of the customer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coldchain.attestation import Rebuild, file_name, open_rebuild
from coldchain.bundle.manifest import Manifest
from coldchain.errors import ColdchainError, DigestError, EvidenceError
from coldchain.keys import PublicKey
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.policy import Policy


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What counts: rebuilder -> what it states; and how many are asked for, the most where two ask."""

    counted: Mapping[str, Rebuild]
    needed: int

    def words(self) -> str:
        """One line for a person."""
        who = [f"{name} (version {one.assembler}, {one.rebuilt})" for name, one in sorted(self.counted.items())]
        return f"bit for bit by {', '.join(who)}; {self.needed} needed"


def check_attestation(data: bytes, key: PublicKey, manifest: Manifest, region: str, limits: Limits = LIMITS) -> Rebuild:
    """One attestation, of one rebuilder, for one region.

    Raises:
        VerificationError: it does not count.
        NewerFormatError: it is of a later version.
    """
    found = open_rebuild(data, key, limits)
    found.check(manifest)
    if region not in found.bundles:
        raise DigestError(f"the bundle of region {region} was not rebuilt")
    return found


def check_rebuilders(
    policy: Policy, manifest: Manifest, region: str, files: Mapping[str, bytes], limits: Limits = LIMITS
) -> Rebuilt:
    """The attestations that count, if they are enough.

    Args:
        policy: names the rebuilders and says how many it takes.
        manifest: of the release, as the public log holds it.
        region: whose bundle is to be applied.
        files: attestations by file name (:func:`coldchain.attestation.file_name`); others in it are not looked at.
        limits: bounds.

    Raises:
        EvidenceError: too few; the message names who is missing, and why.
    """
    every: dict[str, Rebuild] = {}
    for names, least in policy.rebuilds_asked:
        counted: dict[str, Rebuild] = {}
        missing: list[str] = []
        for name, key in names.items():
            data = files.get(file_name(key))
            if data is None:
                missing.append(f"{name}: no attestation")
                continue
            try:
                counted[name] = check_attestation(data, key, manifest, region, limits)
            except ColdchainError as error:
                missing.append(f"{name}: {error.what}")
        if len(counted) < least:
            raise EvidenceError(
                f"release {manifest.release} was rebuilt by {len(counted)} of {least} needed rebuilders "
                f"({'; '.join(missing)[: limits.reason_characters]})",
                todo="wait for their attestations, or ask them and the publisher in public why there are none",
            )
        for name, one in counted.items():
            same = every.get(name, one).key == one.key  # the customer's alice need not be the policy's
            every[name if same else f"{name} (own policy)"] = one
    return Rebuilt(every, max((least for _, least in policy.rebuilds_asked), default=0))
