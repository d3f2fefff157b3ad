"""From which releases a delta is published: the last K, and powers of two further back.

An endpoint that polls hourly or daily is within the last K releases; one that was off for a month is not far from a power of two, and
takes at most one full bundle in its life otherwise. Example, release 100, K = 16: 84 … 99, then 68 (32 back) and 36 (64 back).
"""

from __future__ import annotations

RECENT = 16


def ladder(release: int, first: int = 1, recent: int = RECENT) -> list[int]:
    """Source releases of ``release``'s deltas, ascending; none below ``first``, the oldest release that still is at hand."""
    sources = set(range(max(first, release - recent), release))
    distance = 1
    while distance <= recent:
        distance *= 2
    while release - distance >= first:
        sources.add(release - distance)
        distance *= 2
    return sorted(sources)
