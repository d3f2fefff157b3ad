"""What the customer's own policy says to a release that is verified and meant for this endpoint. Values in, a decision out.

The publisher's side decides first (:func:`coldchain.verify.decide`: the rollout); only what it would apply comes here. The first of
these that keeps the release back is the answer::

    hold          nothing new is applied
    pin           nothing above release 42 is applied; what runs stays, even if it is above
    minimum age   the release has been in public for less than "2d"
    approval      the customer's own security team has not approved it

A repair of what runs is no new release: none of this keeps it back.

**The age of a release** is counted from the *latest* of two kinds of times: the manifest's ``created``, and the times that witnesses
signed into the checkpoint that proves the release's entry, of all those that count by the log policy in force. The reasons::

    created alone             is the publisher's word: an older date is written in a moment
    the earliest witness      one dishonest witness could make a release old
    the latest of a quorum    a release looks older than it is only if every witness whose word is shown lies, and the log policy
                              says how many that are; who can do that can show a log of his own as well
    created as well           a date after the witnesses' can only make it younger; and then the publisher said so himself

So neither a publisher with all his keys nor a mirror can shorten the wait. The publisher can lengthen it, by having a new checkpoint
cosigned and signing it to the same release again; he could as well publish nothing. A log policy that asks for no witness leaves
nobody whose word counts: then a minimum age keeps everything back, and says so.

The wait is for every release alike. A withdrawal is a release too (a higher one with older content), and nothing that is signed
tells it from another one without trusting whoever says so; so it waits as long. Who must not wait sets ``minimum_age`` to "0s" and
updates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from coldchain.customer_policy import CustomerPolicy, age_words

OwnAction = Literal["apply", "hold", "pin", "minimum-age", "approval"]
APPLY: Final = "apply"


@dataclass(frozen=True, slots=True)
class OwnDecision:
    """What is done, and why, in words for a person. Every action but ``apply`` keeps the release back."""

    action: OwnAction
    reason: str

    @property
    def applies(self) -> bool:
        """Whether the release may be applied."""
        return self.action == APPLY


@dataclass(frozen=True, slots=True)
class Offered:
    """What is known of the release that would be applied.

    Attributes:
        release: its number.
        created: the manifest's own date.
        vouched: the latest time among the witnesses that count; None when none does.
        unapproved: why there is no good approval; empty when there is one. Not looked at when none is asked for.
    """

    release: int
    created: datetime
    vouched: datetime | None
    unapproved: str = ""


def public_since(offered: Offered) -> datetime | None:
    """Since when the release has been in public, by more than the publisher's word; None when nobody else says so."""
    return None if offered.vouched is None else max(offered.created, offered.vouched)


def decide_number(policy: CustomerPolicy, release: int) -> OwnDecision:
    """The part of the decision that needs the release's number alone, so that nothing is fetched for a release that waits."""
    if policy.release.hold:
        return OwnDecision(
            "hold", f"release {release} is published, and your own policy holds: no new release is applied"
        )
    if policy.release.pin is not None and release > policy.release.pin:
        return OwnDecision(
            "pin", f"release {release} is published, and your own policy pins release {policy.release.pin}"
        )
    return OwnDecision(APPLY, f"release {release} is one that your own policy lets through")


def decide_release(policy: CustomerPolicy, offered: Offered, now: datetime) -> OwnDecision:
    """The whole decision.

    Args:
        policy: the customer's.
        offered: the release, verified.
        now: the present time, with a time zone.
    """
    by_number = decide_number(policy, offered.release)
    if not by_number.applies:
        return by_number
    age = policy.release.minimum_age
    if age:
        since = public_since(offered)
        asked = f"your own policy asks for {age_words(age)}"
        if since is None:
            return OwnDecision(
                "minimum-age", f"no witness vouches for the age of release {offered.release}, and {asked} in public"
            )
        if now - since < age:
            until = _minute(since + age)
            return OwnDecision(
                "minimum-age",
                f"release {offered.release} is in public since {_minute(since)}, and {asked}: not before {until}",
            )
    if policy.approval is not None and offered.unapproved:
        who = policy.approval.key.name
        return OwnDecision("approval", f"release {offered.release} is not approved by {who}: {offered.unapproved}")
    return by_number


def _minute(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
