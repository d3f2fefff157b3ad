"""The information limit of the synthetic database: what is computed is what the model really emits."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("numpy", reason="numpy comes with make bench")

from benchmarks.grown import change_of, make
from benchmarks.history import Contents
from benchmarks.synthetic import COMMON, FAMILIES, Model, best_packed, log2_choices, log2_factorial, removal_bytes
from coldchain.bundle.hash_lines import LINE


def test_factorials_and_choices() -> None:
    for count in (0, 1, 5, 30):
        assert math.isclose(log2_factorial(count), math.log2(math.factorial(count)), abs_tol=1e-9)
    assert math.isclose(log2_choices(20, 6), math.log2(math.comb(20, 6)))
    assert math.isclose(removal_bytes(20, 6), math.log2(math.comb(20, 6)) / 8)


@pytest.mark.parametrize("width", [16, 32])
def test_the_same_seed_gives_the_same_lines(width: int) -> None:
    first, second = Model(width), Model(width)
    lines = first.lines(first.records(300))
    assert lines == second.lines(second.records(300))
    assert all(LINE.match(line) for line in lines)
    assert len(set(lines)) == 300
    assert not set(lines) & set(first.lines(first.records(300))), "the counter goes on"


def test_code_lengths_are_those_of_a_distribution() -> None:
    """By their mean: of samples from a distribution p, the mean of 1/p over what occurs is the number of outcomes that do."""
    model = Model(16)
    records = model.records(4000)
    exact = model.limit(records, compressors=False).exact * 8 / len(records)
    rest = exact - 128
    gap = -(0.7 * math.log2(0.7) + sum(0.3 * 0.5**k * math.log2(0.3 * 0.5**k) for k in range(1, 60)))
    revision = -(0.05 * math.log2(0.05) + 0.95 * math.log2(0.95))
    weights = [i**-1.15 for i in range(1, FAMILIES + 1)]
    family = -sum(w / sum(weights) * math.log2(w / sum(weights)) for w in weights)
    # A size takes at least what a common one takes, and less than a number of 30 bits.
    assert gap + revision + family + math.log2(COMMON) / 2 < rest < gap + revision + family + 30


def test_no_compressor_goes_below_the_model() -> None:
    model = Model(16)
    limit = model.limit(model.records(3000))
    assert limit.compressors is not None
    assert limit.exact < limit.compressors < 2 * limit.exact


def test_more_records_weigh_more() -> None:
    model = Model(32)
    small, large = (model.limit(model.records(count)) for count in (100, 200))
    assert small.exact < large.exact
    assert best_packed(b"abc" * 1000) < 100


def test_a_grown_database(tmp_path_factory: pytest.TempPathFactory) -> None:
    contents = Contents(tmp_path_factory.mktemp("contents"))
    assert change_of(500_000) == (2000, 20)
    assert change_of(5_000_000) == (5000, 50)
    old, new, limit, full = make(32, 1000, *change_of(1000), contents)
    assert (old.total_records, new.total_records) == (1000, 1009)
    before, after = (set(contents(b.sections[0].sha256).read_bytes().splitlines()) for b in (old, new))
    assert (len(before - after), len(after - before)) == (1, 10)
    assert 320 < limit.exact < 420
    assert 32_000 < full.exact < 40_000
