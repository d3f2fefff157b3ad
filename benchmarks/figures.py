"""Statistics of measurements: medians, ratios, and what a series of steps says against the goals. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

ONE_LINE = 2
"""A step with at most so many records added and removed together is a *one-line change* (a line edited is one of each)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One release after another. Sizes are in bytes; ``peers`` holds only patches that were applied and compared.

    ``records`` counts records added and removed, and for a file that changed its lines added and removed.
    """

    version: str
    sections: int
    records: int
    ours: int
    encode_cpu: float
    peers: Mapping[str, int]

    @property
    def best(self) -> tuple[str, int] | None:
        """The peer with the smallest patch, and its bytes."""
        if not self.peers:
            return None
        name = min(self.peers, key=lambda name: (self.peers[name], name))
        return name, self.peers[name]

    @property
    def ratio(self) -> float | None:
        """Ours to the best peer."""
        return self.ours / self.best[1] if self.best else None


def summarise(steps: Sequence[Step], goal: float) -> dict[str, Any]:
    """What a table says of a series.

    Args:
        steps: at least one.
        goal: the largest ratio to the best peer that meets the goal.

    Returns:
        Medians and totals of ours and each peer; ``ratio``: the median of the steps' ratios; ``total ratio``: our bytes of all steps
        to the best peer's of each; steps above the best peer and above the goal; one-line changes, how many bytes the worst of
        them is over the best peer; how often each peer was the best.
    """
    measured = [step for step in steps if step.best]
    best = [step.best for step in measured if step.best]
    wins: dict[str, int] = {}
    for name, _ in best:
        wins[name] = wins.get(name, 0) + 1
    small = [step for step in measured if step.records <= ONE_LINE]
    names = sorted({name for step in steps for name in step.peers})
    ratios = [step.ratio for step in measured if step.ratio is not None]
    return {
        "steps": len(steps),
        "median": {"ours": median(step.ours for step in steps)}
        | {name: median(sizes) for name in names if (sizes := [s.peers[name] for s in steps if name in s.peers])},
        "total": {"ours": sum(step.ours for step in steps)}
        | {
            name: sum(sizes)
            for name in names
            if len(sizes := [s.peers[name] for s in steps if name in s.peers]) == len(steps)
        },
        "best median": median(size for _, size in best) if best else None,
        "best total": sum(size for _, size in best) if best else None,
        "best is": dict(sorted(wins.items(), key=lambda item: (-item[1], item[0]))),
        "ratio": median(ratios) if ratios else None,
        "worst ratio": max(ratios) if ratios else None,
        "total ratio": sum(step.ours for step in measured) / sum(size for _, size in best) if best else None,
        "above best": sum(1 for ratio in ratios if ratio > 1),
        "goal": goal,
        "above goal": sum(1 for ratio in ratios if ratio > goal),
        "one-line": len(small),
        "one-line worst": max(
            (step.ours - size for step in small if step.best for size in [step.best[1]]), default=None
        ),
        "encode cpu": median(step.encode_cpu for step in steps),
    }


def alternate(first: Iterable[float], second: Iterable[float]) -> tuple[float, float, float]:
    """(median of first, median of second, median of the pairs' ratios) of two measurements made in turns."""
    pairs = list(zip(first, second, strict=True))
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(a / b for a, b in pairs if b)


def size(number: float | None) -> str:
    """Bytes for a table: ``71,704``."""
    return "–" if number is None else f"{number:,.0f}"


def times(number: float | None) -> str:
    """A ratio for a table: ``0.84x``."""
    return "–" if number is None else f"{number:.2f}x"


def megabytes(number: float | None) -> str:
    """Memory for a table, in MB of 10**6 bytes."""
    return "–" if number is None else f"{number / 1e6:.1f} MB"


def seconds(number: float | None) -> str:
    """CPU time for a table."""
    if number is None:
        return "–"
    return f"{number:.2f} s" if number >= 1 else f"{number * 1000:.0f} ms"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned so that it reads well as text too."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(2, *(len(line[i]) for line in lines)) for i in range(len(header))]

    def text(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return (
            "| "
            + " | ".join([first, *[cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]])
            + " |"
        )

    rule = "| " + " | ".join(["-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]]]) + " |"
    return "\n".join([text(lines[0]), rule, *[text(line) for line in lines[1:]]])
