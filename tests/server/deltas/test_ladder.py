"""The ladder: the last K releases and powers of two further back, nothing that is not at hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.deltas.ladder import RECENT, ladder


def test_the_worked_example() -> None:
    assert ladder(100) == [36, 68, *range(84, 100)]
    assert ladder(1) == []
    assert ladder(2) == [1]


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 40))
def test_sources(release: int, first: int, recent: int) -> None:
    sources = ladder(release, first, recent)
    assert sources == sorted(set(sources))
    assert all(first <= source < release for source in sources)
    near = [source for source in sources if release - source <= recent]
    assert near == list(range(max(first, release - recent), release))
    for source in sources:
        distance = release - source
        assert distance <= recent or distance & (distance - 1) == 0
    wanted = [release - 2**n for n in range(20) if 2**n > recent and release - 2**n >= first]
    assert set(wanted) <= set(sources)
    assert len(ladder(release, first)) <= RECENT + 14
