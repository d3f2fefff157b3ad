"""suppressed.toml: read strictly, written so that it is read again, in force in every region over a region's own word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import UsageError
from coldchain_server.assembly.regions import PolicyEntry, Region, Regions
from coldchain_server.assembly.suppressions import (
    MOST_SUPPRESSED,
    Suppression,
    encode_suppressed,
    load_suppressed,
    with_suppressed,
)

SINCE = "2026-11-24T02:00:00Z"
lines = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and bool(text.strip()))


@given(st.lists(st.builds(Suppression, lines, lines, st.just(SINCE)), max_size=4, unique_by=lambda one: one.name))
def test_what_is_written_is_read(suppressed: list[Suppression]) -> None:
    assert load_suppressed(encode_suppressed(suppressed)) == tuple(suppressed)


def row(**changed: object) -> str:
    fields = {"name": '"A-7"', "reason": '"why"', "since": f'"{SINCE}"'} | changed
    return "[[suppressed]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)


@pytest.mark.parametrize(
    "text",
    [
        "[[suppressed]",
        "more = 1",
        "suppressed = 1",
        "suppressed = [1]",
        row(more=1),
        *(row(**{key: value}) for key in ("name", "reason", "since") for value in (None, 1, '""', '"a\\nb"')),
        row(name=f'"{"n" * 501}"'),
        row(since='"2026-11-24"'),
        row() * 2,
        "".join(row(name=f'"A-{number}"') for number in range(MOST_SUPPRESSED + 1)),
    ],
)
def test_what_is_not_in_order_is_refused(text: str) -> None:
    assert load_suppressed(row())
    with pytest.raises(UsageError, match=r"suppressed\.toml"):
        load_suppressed(text)


def test_every_region_leaves_it_out_whatever_its_own_policy_says() -> None:
    own = PolicyEntry("leave-out", "feed", "A-7", "own")
    regions = Regions(
        "ch",
        {
            "us": Region("us", "x"),
            "jp": Region("jp", "x", policy=(PolicyEntry("leave-out", "signature", "A-7", "own"), own)),
            "kr": Region("kr", "x", policy=(PolicyEntry("add", "signature", "A-7", "own"),)),
        },
    )
    assert with_suppressed(regions, ()) is regions
    found = with_suppressed(regions, [Suppression("A-7", "why", SINCE)])
    said = PolicyEntry("leave-out", "signature", "A-7", "why")
    assert {name: region.policy for name, region in found.regions.items()} == {
        "us": (said,),
        "jp": (own, said),
        "kr": (said,),
    }
