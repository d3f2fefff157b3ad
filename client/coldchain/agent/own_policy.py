"""One run's look at the customer's own policy: is the release that is offered one that this endpoint may apply now?

::

    hold, pin        from the number alone, before anything is fetched
    minimum age      from the manifest and the cosignatures of the log, which were checked before
    approval         DIR/approvals/us-stable-42.approval, then the same name at the customer's own URL; the first good one counts

The publisher's servers are not asked for approvals: they would learn who waits for one. What an approval says is kept with the
release's evidence, so that ``coldchain verify`` finds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from coldchain.agent.network import NetworkSettings
from coldchain.agent.transport import Traffic, open_sources
from coldchain.approval import check_approval, file_name
from coldchain.bundle.manifest import parse_manifest
from coldchain.customer_policy import CustomerPolicy
from coldchain.errors import ColdchainError, OwnPolicyError, TransportError
from coldchain.evidence import Evidence
from coldchain.install.decided import MOST_REASON, Decided, write_decided
from coldchain.install.directory import ClientDirectory
from coldchain.install.trusted import APPROVAL, APPROVALS, approval_problem
from coldchain.limits import Limits
from coldchain.own_decision import Offered, OwnDecision, decide_number, decide_release
from coldchain.verify import RegionRelease

NEXT: Final = {
    "hold": "take `hold` out of policy.toml when it may go on",
    "pin": "raise `pin` in policy.toml when it may go on",
    "minimum-age": "nothing; a later update brings it. Who must not wait lowers `minimum_age` in policy.toml and updates",
    "approval": "have it approved: `coldchain approve`; the approval belongs into DIR/approvals, or at approval.url",
}


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """One run's policy.

    Attributes:
        directory: the endpoint's, its lock held.
        policy: as it was when the run began.
        network: how servers are asked.
        traffic: counts what is asked for.
        now: the time of the run.
        limits: bounds.
    """

    directory: ClientDirectory
    policy: CustomerPolicy
    network: NetworkSettings
    traffic: Traffic
    now: datetime
    limits: Limits

    def record(self, release: int, action: str, reason: str) -> None:
        """Keeps what was decided, for ``coldchain status``."""
        now = self.now.astimezone(UTC).replace(microsecond=0)
        reason = "".join(c if c.isprintable() else "?" for c in reason)[
            :MOST_REASON
        ]  # paths and others' words are in it
        write_decided(self.directory, Decided(release, action, reason, now, self.policy.digest))

    def require(self, decision: OwnDecision) -> None:
        """Ends the run for a release that is kept back.

        Raises:
            OwnPolicyError: it is.
        """
        if not decision.applies:
            raise OwnPolicyError(decision.reason, todo=NEXT[decision.action])

    def may_apply(self, release: int) -> bool:
        """Whether a release of this number could be applied, as far as its number tells."""
        return decide_number(self.policy, release).applies

    def check_number(self, release: int) -> None:
        """What can be said before anything is fetched.

        Raises:
            OwnPolicyError: the release is kept back.
        """
        decision = decide_number(self.policy, release)
        if not decision.applies:
            self.record(release, decision.action, decision.reason)
        self.require(decision)

    async def check(self, release: RegionRelease, manifest: bytes, evidence: Evidence | None) -> dict[str, bytes]:
        """The whole decision about a release that is new here.

        Args:
            release: what the region's role signs.
            manifest: its manifest, checked.
            evidence: what the public log holds of it, checked; None when this endpoint asks for none.

        Returns:
            The approval, by its name in the evidence; empty when none is asked for.

        Raises:
            OwnPolicyError: the release is kept back.
        """
        newest = evidence.verified.newest if evidence is not None else None
        stated = parse_manifest(manifest, self.limits)
        offered = Offered(
            release=release.release,
            created=stated.created_at,
            vouched=datetime.fromtimestamp(newest, UTC) if newest is not None else None,
        )
        found: dict[str, bytes] = {}
        decision = decide_release(self.policy, offered, self.now)
        if decision.applies:  # else nobody needs to be asked for an approval yet
            found, why = await self.approval(release, {})
            decision = decide_release(self.policy, replace(offered, unapproved=why), self.now)
        if not decision.applies:
            self.record(release.release, decision.action, decision.reason)
        self.require(decision)
        return found

    async def installed(self, release: RegionRelease, kept: Mapping[str, bytes]) -> tuple[dict[str, bytes], str]:
        """The approval of what runs: the one that is kept, or a new one if that is not what the policy asks for now.

        Returns:
            What is to be kept, by its name in the evidence, and why it is not good; empty when it is, or none is asked for.
        """
        return await self.approval(release, {APPROVAL: kept[APPROVAL]} if APPROVAL in kept else {})

    async def approval(self, release: RegionRelease, kept: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
        """The first good approval, and why there is none: kept, in the directory, at the customer's URL."""
        asked = self.policy.approval
        if asked is None or not (why := approval_problem(self.policy, release, kept, self.limits)):
            return kept, ""
        name, problems = file_name(release.region, release.channel, release.release), [why] if kept else []
        with self.directory.folder() as here:
            there = here.look(APPROVALS) is not None
        sources = [str(self.directory.path / APPROVALS) if there else None, asked.url]
        for url in filter(None, sources):
            try:
                async with open_sources([url], self.traffic, self.limits, self.network) as (source,):
                    data = (await source.get(name, self.limits.approval_bytes)).data
                if data is None:
                    continue
                check_approval(data, asked.key, release, self.limits)
            except TransportError as error:
                problems.append(error.what)
            except ColdchainError as error:
                problems.append(f"{url}/{name}: {error.what}")
            else:
                return {APPROVAL: data}, ""
        nowhere = f"there is no {name} in {self.directory.path / APPROVALS}" + (
            f" or at {asked.url}" if asked.url else ""
        )
        return kept, "; ".join(problems) or nowhere
