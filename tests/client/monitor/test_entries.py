"""Chains of entries: every order of a few manifests, judged; the last numbers are remembered, and no more."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from coldchain import canonical
from coldchain.bundle.manifest import BundleFacts, Manifest, RegionFacts
from coldchain.monitor.entries import REMEMBERED, Chains
from coldchain.residency import Move, Place

FACTS = BundleFacts("0" * 64, 1, 1)


def manifest(
    release: int, previous: str | None, created: str = "2026-06-01T09:00:00Z", channel: str = "stable"
) -> Manifest:
    return Manifest("coldchain", channel, release, previous, created, FACTS, {"us": RegionFacts(FACTS)}, (), "0.1.0")


def chain(count: int, channel: str = "stable") -> list[Manifest]:
    out: list[Manifest] = []
    for number in range(1, count + 1):
        out.append(manifest(number, out[-1].digest if out else None, channel=channel))
    return out


def judge(manifests: list[Manifest]) -> list[list[str]]:
    chains = Chains("coldchain")
    return [[one.kind for one in chains.take(index, each.encode()).alerts] for index, each in enumerate(manifests)]


def test_an_unbroken_chain_raises_nothing_in_each_channel() -> None:
    early = chain(5, "early")
    mixed = [one for pair in zip(chain(5), early, strict=True) for one in pair]
    assert judge(mixed) == [[]] * 10


def test_of_all_orders_only_the_right_one_is_silent() -> None:
    four = chain(4)
    for order in itertools.permutations(four):
        silent = not any(judge(list(order)))
        assert silent == (list(order) == four)


def test_whatever_is_left_out_is_a_gap() -> None:
    five = chain(5)
    for at in range(4):
        found = judge([*five[:at], *five[at + 1 :]])
        assert found[at] == ["gap"]
        assert sum(map(len, found)) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_second_manifest_of_a_number_is_named_whenever_it_comes(number: int) -> None:
    three = chain(3)
    second = replace(three[number - 1], created="2026-01-01T00:00:00Z")
    for at in range(number, 4):
        found = judge([*three[:at], second, *three[at:]])
        assert found[at] == ["duplicate"]
        assert sum(map(len, found)) == 1


def test_the_next_release_may_follow_either_of_two_and_nothing_else() -> None:
    two = chain(2)
    second = replace(two[1], created="2026-01-01T00:00:00Z")
    for before, expected in ((two[1].digest, []), (second.digest, []), ("0" * 64, ["chain"]), (None, ["chain"])):
        assert judge([*two, second, manifest(3, before)])[-1] == expected


def test_a_first_release_names_nothing_before_it() -> None:
    assert judge([manifest(1, "0" * 64)]) == [["chain"]]


def test_the_same_bytes_again_are_a_note_wherever_they_stand() -> None:
    three = chain(3)
    for one in three:
        chains = Chains("coldchain")
        for index, each in enumerate(three):
            chains.take(index, each.encode())
        found = chains.take(3, one.encode())
        assert (found.alerts, len(found.notes), found.manifest) == ([], 1, one)


def test_only_the_last_numbers_are_remembered_and_older_ones_are_still_refused() -> None:
    many = chain(REMEMBERED + 20)
    chains = Chains("coldchain")
    for index, each in enumerate(many):
        assert chains.take(index, each.encode()).alerts == []
    channel = chains.channels["stable"]
    assert len(channel.entries) == REMEMBERED
    for number in (1, 20, 21, REMEMBERED + 20):
        found = chains.take(999, replace(many[number - 1], created="2026-01-01T00:00:00Z").encode())
        assert "duplicate" in [one.kind for one in found.alerts]


# Moves of reports among the manifests

US, CH = Place("us", "United States"), Place("ch", "Switzerland")
MOVE = Move("coldchain", "us", US, CH, 5, 2, "0" * 64, datetime(2026, 6, 1, tzinfo=UTC))


def test_a_move_is_a_note_and_breaks_no_chain_wherever_it_stands() -> None:
    three = [one.encode() for one in chain(3)]
    for at in range(4):
        chains = Chains("coldchain")
        found = [chains.take(index, data) for index, data in enumerate([*three[:at], MOVE.encode(), *three[at:]])]
        assert not any(one.alerts for one in found)
        assert (found[at].manifest, found[at].notes) == (None, [f"entry {at}: {MOVE}"])


def test_a_move_that_is_wrong_is_named() -> None:
    back = replace(MOVE, source=CH, target=US)
    document = canonical.read_canonical(MOVE.encode(), "")
    for second, kinds, notes in (
        (back.encode(), [], 1),
        (MOVE.encode(), [], 1),  # the same bytes twice
        (replace(MOVE, reports=6).encode(), ["residency"], 1),  # from where it is not any more
        (replace(back, product="other").encode(), ["residency"], 0),
        (canonical.encode({**document, "rows": 6}), ["residency"], 0),
        (canonical.encode({**document, "format": "coldchain-residency-2"}), ["newer-entry"], 0),
        (canonical.encode({"format": "coldchain-manifest-2"}), ["newer-entry"], 0),
        (canonical.encode({"format": "coldchain-moved-1"}), ["not-a-manifest"], 0),
        (MOVE.encode() + b"\n", ["not-a-manifest"], 0),
    ):
        chains = Chains("coldchain")
        assert chains.take(0, MOVE.encode()).alerts == []
        found = chains.take(1, second)
        assert ([one.kind for one in found.alerts], len(found.notes)) == (kinds, notes), second
        assert found.manifest is None
