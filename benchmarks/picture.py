"""A bar chart as SVG, written by hand: one bar a series, its median ratio to the best peer, with the goal as a mark.

Worked example: ``[Bar("threatfox", 0.43, 0.60)]`` draws one bar of 0.43 of the width between 0 and 1, and a line at 0.60.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_LEFT, _WIDTH, _ROW, _TOP = 190, 430, 26, 58
_MOST = 1.2


@dataclass(frozen=True, slots=True)
class Bar:
    """A series' ratio and the largest that meets its goal."""

    name: str
    ratio: float
    goal: float


def _x(ratio: float) -> float:
    return _LEFT + _WIDTH * min(ratio, _MOST) / _MOST


def _text(x: float, y: float, anchor: str, words: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(words)}</text>'


def chart(bars: Sequence[Bar], title: str) -> str:
    """The whole SVG document."""
    height = _TOP + _ROW * len(bars) + 34
    bottom = height - 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 70} {height}"'
        ' font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{_LEFT + _WIDTH + 70}" height="{height}" fill="#fff"/>',
        f'<g font-size="14" font-weight="bold">{_text(12, 24, "start", title)}</g>',
    ]
    for step in range(0, 13, 2):
        x = _x(step / 10)
        parts.append(f'<path d="M{x:.1f} {_TOP - 6}V{bottom}" stroke="{"#888" if step == 10 else "#ddd"}"/>')
        parts.append(_text(x, bottom + 16, "middle", f"{step / 10:.1f}"))
    for index, bar in enumerate(bars):
        y = _TOP + _ROW * index
        colour = "#2a7f62" if bar.ratio <= bar.goal else "#c0603a"
        parts.append(_text(_LEFT - 8, y + 13, "end", bar.name))
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{_x(bar.ratio) - _LEFT:.1f}" height="{_ROW - 8}" fill="{colour}"/>'
        )
        parts.append(f'<path d="M{_x(bar.goal):.1f} {y - 3}v{_ROW - 2}" stroke="#000" stroke-width="2"/>')
        parts.append(_text(_x(max(bar.ratio, bar.goal)) + 6, y + 13, "start", f"{bar.ratio:.2f}"))
    parts.append(_text(_LEFT, _TOP - 14, "start", "bytes of a delta to the best peer's patch (median; black: goal)"))
    return "\n".join([*parts, "</svg>", ""])
