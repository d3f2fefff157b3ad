"""The customer's decision: every combination of hold, pin, age and approval, and that a stricter policy never lets more through."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from coldchain.customer_policy import ApprovalRules, CustomerPolicy, ReleaseRules
from coldchain.own_decision import Offered, decide_number, decide_release, public_since
from tests.client.tlog.memory_log import Signing

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TEAM = ApprovalRules(Signing.make("security.example.com/fleet").public)
HOURS = timedelta(hours=1)


def test_every_combination_says_what_it_must() -> None:
    seen = set()
    for hold, pin, age, asked, release, created, vouched, why in itertools.product(
        (False, True),
        (None, 41, 42, 43),
        (0, 1, 6),
        (None, TEAM),
        (42,),
        (0, 1, 5, 6, 7, -2),
        (None, 0, 1, 5, 6, 7, -1),
        ("", "there is none"),
    ):
        policy = CustomerPolicy(ReleaseRules(age * HOURS, pin, hold), approval=asked)
        offered = Offered(release, NOW - created * HOURS, None if vouched is None else NOW - vouched * HOURS, why)
        found = decide_release(policy, offered, NOW)
        if hold:
            action = "hold"
        elif pin is not None and pin < release:
            action = "pin"
        elif age and (vouched is None or min(created, vouched) < age):
            action = "minimum-age"
        elif asked and why:
            action = "approval"
        else:
            action = "apply"
        assert found.action == action, (policy, offered)
        assert found.applies is (action == "apply")
        assert str(release) in found.reason
        if action in ("hold", "pin"):
            assert decide_number(policy, release) == found
        else:
            assert decide_number(policy, release).applies
        seen.add(action)
    assert seen == {"hold", "pin", "minimum-age", "approval", "apply"}


POLICIES = st.builds(
    CustomerPolicy,
    st.builds(
        ReleaseRules,
        st.integers(0, 100).map(lambda hours: hours * HOURS),
        st.none() | st.integers(1, 60),
        st.booleans(),
    ),
    approval=st.none() | st.just(TEAM),
)
OFFERED = st.builds(
    Offered,
    st.integers(1, 60),
    st.integers(-50, 150).map(lambda hours: NOW - hours * HOURS),
    st.none() | st.integers(-50, 150).map(lambda hours: NOW - hours * HOURS),
    st.sampled_from(["", "there is none"]),
)


@given(POLICIES, POLICIES, OFFERED)
def test_a_stricter_policy_never_lets_more_through(
    one: CustomerPolicy, other: CustomerPolicy, offered: Offered
) -> None:
    a, b = one.release, other.release
    pins = [rules.pin for rules in (a, b) if rules.pin is not None]
    both = replace(
        one,
        release=ReleaseRules(max(a.minimum_age, b.minimum_age), min(pins, default=None), a.hold or b.hold),
        approval=one.approval or other.approval,
    )
    if decide_release(both, offered, NOW).applies:
        assert decide_release(one, offered, NOW).applies
        assert decide_release(other, offered, NOW).applies
    assert decide_release(CustomerPolicy(), offered, NOW).applies


@given(OFFERED, st.integers(0, 400))
def test_the_publisher_cannot_make_a_release_older_than_the_witnesses_say(offered: Offered, earlier: int) -> None:
    """Whatever date he writes into the manifest, it is no help; a later one only makes the wait longer."""
    backdated = replace(offered, created=offered.created - earlier * HOURS)
    for hours in (1, 24, 100):
        policy = CustomerPolicy(ReleaseRules(hours * HOURS))
        applies = decide_release(policy, backdated, NOW).applies
        assert not (applies and (offered.vouched is None or NOW - offered.vouched < hours * HOURS))
        if not applies and offered.vouched is not None and NOW - offered.vouched >= hours * HOURS:
            assert NOW - backdated.created < hours * HOURS
    since = public_since(backdated)
    assert since is None or since >= (offered.vouched or since)


@given(OFFERED, POLICIES, st.integers(0, 1000))
def test_what_is_let_through_stays_let_through_as_time_goes_on(
    offered: Offered, policy: CustomerPolicy, later: int
) -> None:
    if decide_release(policy, offered, NOW).applies:
        assert decide_release(policy, offered, NOW + later * HOURS).applies
