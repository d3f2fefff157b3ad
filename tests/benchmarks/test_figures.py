"""Statistics of a run: medians, ratios to the best peer, one-line changes."""

from __future__ import annotations

import pytest

from benchmarks.figures import Step, alternate, megabytes, seconds, size, summarise, table, times


def step(ours: int, peers: dict[str, int], records: int = 9) -> Step:
    return Step("v", 1, records, ours, 0.5, peers)


def test_the_best_peer_is_the_smallest() -> None:
    assert step(5, {"b": 10, "a": 10, "c": 11}).best == ("a", 10)
    assert step(5, {"b": 10}).ratio == 0.5
    assert step(5, {}).best is None
    assert step(5, {}).ratio is None


def test_a_summary() -> None:
    steps = [
        step(50, {"a": 100, "b": 120}),
        step(90, {"a": 100, "b": 80}, records=2),
        step(30, {"b": 40}, records=1),
    ]
    found = summarise(steps, 0.6)
    assert found["median"] == {"ours": 50, "a": 100, "b": 80}
    assert found["total"] == {"ours": 170, "b": 240}, "a peer without a size somewhere has no total"
    assert found["best total"] == 100 + 80 + 40
    assert found["best is"] == {"b": 2, "a": 1}
    assert found["ratio"] == 0.75
    assert found["worst ratio"] == 90 / 80
    assert found["total ratio"] == 170 / 220
    assert (found["above best"], found["above goal"]) == (1, 2)
    assert (found["one-line"], found["one-line worst"]) == (2, 10)


def test_without_any_peer_there_is_no_ratio() -> None:
    found = summarise([step(50, {}), step(60, {})], 1)
    assert found["median"] == {"ours": 55}
    for key in ("ratio", "total ratio", "worst ratio", "best total", "one-line worst"):
        assert found[key] is None


def test_turns() -> None:
    assert alternate([1, 2, 9], [2, 2, 3]) == (2, 2, 1)
    with pytest.raises(ValueError):
        alternate([1], [1, 2])


def test_how_figures_are_written() -> None:
    assert (size(71704), size(None), times(0.844), megabytes(2_500_000)) == ("71,704", "–", "0.84x", "2.5 MB")
    assert (seconds(0.0123), seconds(1.5), seconds(None)) == ("12 ms", "1.50 s", "–")
    assert table(["a", "b"], [["long", "1"]]) == "| a    |  b |\n| ---- | -: |\n| long |  1 |"
