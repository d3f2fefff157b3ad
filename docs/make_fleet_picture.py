"""Writes ``docs/fleet.svg`` from ``docs/fleet.json``: ``python docs/make_fleet_picture.py`` (a test compares the two).

The data are what the system test of a fleet saw from outside, ``python -m tests.system.fleet`` writes them::

    {"title": "200 endpoints, three regions, two waves",
     "regions": [{"name": "us", "wave": 1, "endpoints": 80}, …],
     "releases": {"3": {"words": "bad: its rule finds a customer's own file", "bad": true}, …},
     "seconds": 238.7,
     "events": [[87.3, "publish", "publish 3"], …],         seconds, kind, words
     "samples": [[12.4, [{"0": 71, "1": 9}, …]], …]}        seconds, and by region how many endpoints had which release

A band for each region, as high as it has endpoints: the colours say which release they have installed, from one moment at which
something changed to the next. Lines across all bands are what people and the origin did, dots below them what was killed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

DATA: Final = Path(__file__).with_name("fleet.json")
PICTURE: Final = Path(__file__).with_name("fleet.svg")

_LEFT, _WIDTH, _RIGHT = 118, 900, 18
_TOP, _PIXELS_AN_ENDPOINT, _GAP = 112, 1.5, 16
_LETTER = 6.3
"""About how wide a letter of a label is."""
_SHAPES: Final = {"refuse": "halt", "halt": "halt", "withdraw": "withdraw"}
_STYLE: Final = """
    .paper{fill:#fff} text{fill:#1d2733} .soft{fill:#52606d} .axis{stroke:#9aa5b1} .frame{fill:none;stroke:#9aa5b1}
    .r0{fill:#e4e7eb} .r1{fill:#9fb3c8} .r2{fill:#5aa0d8} .bad{fill:#d64545} .r4{fill:#3ebd93} .r5{fill:#8d6cc8} .r6{fill:#e0a82e}
    .publish{stroke:#1d2733} .halt{stroke:#7d1414} .withdraw{stroke:#0b4f39} .kill{fill:#1d2733}
    text.halt{fill:#b02a2a;stroke:none;font-weight:600}
    text.withdraw{fill:#0f6b4d;stroke:none;font-weight:600} text.publish{stroke:none} text.kill{font-size:11px}
    @media (prefers-color-scheme: dark){
      .paper{fill:#0f161e} text,.kill{fill:#e4e7eb} .soft{fill:#9aa5b1} .axis,.frame{stroke:#52606d}
      .r0{fill:#27323f} .r1{fill:#627d98} .r2{fill:#4a90c9} .bad{fill:#e35d5d} .r4{fill:#27ab83} .r5{fill:#9446ed} .r6{fill:#cb9b27}
      .publish{stroke:#e4e7eb} .halt{stroke:#ffc9c9} .withdraw{stroke:#4fd1a5} text.halt{fill:#ff8f8f} text.withdraw{fill:#65d6ad}
    }
"""


def picture(data: dict[str, Any]) -> str:
    """The whole SVG document."""
    whole = data["seconds"]
    tops, bottom = _bands(data["regions"])
    height = bottom + 92
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + _RIGHT} {height:.0f}"'
        ' font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif" font-size="12" role="img" aria-labelledby="t d">',
        f'<title id="t">{escape(data["title"])}</title>',
        f'<desc id="d">{escape(_told(data))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_LEFT + _WIDTH + _RIGHT}" height="{height:.0f}"/>',
        f'<text x="12" y="24" font-size="15" font-weight="600">{escape(data["title"])}</text>',
    ]
    for number, region in enumerate(data["regions"]):
        parts += _band(data, number, region, tops[number])
    parts += _axis(whole, bottom)
    parts += _events(data, bottom)
    parts += _legend(data["releases"], bottom + 74)
    return "\n".join([*parts, "</svg>", ""])


def _x(second: float, whole: float) -> float:
    return _LEFT + _WIDTH * second / whole


def _bands(regions: Sequence[dict[str, Any]]) -> tuple[list[float], float]:
    """The upper edge of each band, and the lower one of the last."""
    tops, y = [], float(_TOP)
    for region in regions:
        tops.append(y)
        y += region["endpoints"] * _PIXELS_AN_ENDPOINT + _GAP
    return tops, y - _GAP


def _band(data: dict[str, Any], number: int, region: dict[str, Any], top: float) -> list[str]:
    """The releases of one region, each an area on those before it: older ones below."""
    whole, high = data["seconds"], region["endpoints"] * _PIXELS_AN_ENDPOINT
    begins = [at for at, _ in data["samples"]]
    steps = list(zip(begins, [*begins[1:], whole], (found[number] for _, found in data["samples"]), strict=True))
    parts = [f'<rect class="r0" x="{_LEFT}" y="{top:.1f}" width="{_WIDTH}" height="{high:.1f}"/>']
    for release in data["releases"]:
        path = ""
        for begin, end, counts in steps:
            mine = counts.get(release, 0)
            if mine:
                below = sum(count for other, count in counts.items() if int(other) < int(release))
                y = top + high - (below + mine) * _PIXELS_AN_ENDPOINT
                left, right, lower = _x(begin, whole), _x(end, whole), y + mine * _PIXELS_AN_ENDPOINT
                path += f"M{left:.1f} {y:.1f}H{right:.1f}V{lower:.1f}H{left:.1f}z"
        if path:
            parts.append(f'<path class="{_class(data["releases"], release)}" shape-rendering="crispEdges" d="{path}"/>')
    parts.append(f'<rect class="frame" x="{_LEFT}" y="{top:.1f}" width="{_WIDTH}" height="{high:.1f}"/>')
    middle = top + high / 2
    parts.append(
        f'<text x="{_LEFT - 10}" y="{middle - 2:.1f}" text-anchor="end" font-weight="600">{escape(region["name"])}</text>'
    )
    words = f"{region['endpoints']} endpoints"
    parts.append(f'<text class="soft" x="{_LEFT - 10}" y="{middle + 13:.1f}" text-anchor="end">{words}</text>')
    parts.append(
        f'<text class="soft" x="{_LEFT - 10}" y="{middle + 28:.1f}" text-anchor="end">wave {region["wave"]}</text>'
    )
    return parts


def _axis(whole: float, bottom: float) -> list[str]:
    parts = []
    step = 30 if whole > 150 else 10
    for second in range(0, int(whole - step / 3), step):
        x = _x(second, whole)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom:.1f}v5"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{second} s</text>')
    return parts


def _events(data: dict[str, Any], bottom: float) -> list[str]:
    """Lines with their words above; kills as dots below."""
    parts, whole, end = [], data["seconds"], _LEFT + _WIDTH + _RIGHT
    done = [(at, kind, words) for at, kind, words in data["events"] if kind != "kill"]
    later: list[tuple[float, int]] = []
    for at, kind, words in reversed(done):
        x, wide = _x(at, whole), _LETTER * len(words) + 10
        leftwards = x + wide > end
        # above the lines that it would cross: a line ends at its own words
        row = 0 if leftwards else max((row + 1 for other, row in later if other < x + wide), default=0)
        later.append((x, row))
        y = _TOP - 10 - 16 * row
        shape, shift, anchor = _SHAPES.get(kind, "publish"), *((-4, "end") if leftwards else (4, "start"))
        parts.append(f'<path class="{shape}" stroke-width="1.2" d="M{x:.1f} {y - 8}V{bottom:.1f}"/>')
        parts.append(f'<text class="{shape}" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>')
    free = 0.0
    for at, words in ((at, words) for at, kind, words in data["events"] if kind == "kill"):
        x = _x(at, whole)
        below = bottom + (33 if x - 6 > free else 47)
        free = x + 12 + _LETTER * len(words)
        parts.append(f'<circle class="kill" cx="{x:.1f}" cy="{below:.1f}" r="3"/>')
        parts.append(f'<text class="kill" x="{x + 6:.1f}" y="{below + 4:.1f}">{escape(words)}</text>')
    return parts


def _legend(releases: dict[str, dict[str, Any]], y: float) -> list[str]:
    parts, x = [], float(_LEFT)
    for release, said in releases.items():
        words = f"{release} {said['words']}"
        if x + 18 + _LETTER * len(words) > _LEFT + _WIDTH:
            x, y = float(_LEFT), y + 20
        parts.append(f'<rect class="{_class(releases, release)}" x="{x:.1f}" y="{y - 10:.1f}" width="12" height="12"/>')
        parts.append(f'<text x="{x + 17:.1f}" y="{y:.1f}">{escape(words)}</text>')
        x += 34 + _LETTER * len(words)
    return parts


def _class(releases: dict[str, dict[str, Any]], release: str) -> str:
    return "bad" if releases[release].get("bad") else f"r{release}"


def _told(data: dict[str, Any]) -> str:
    """The same in words, for those who do not see the picture."""
    return "; ".join(f"after {at:.0f} s: {words}" for at, _, words in data["events"])


def main() -> None:
    """Writes the picture."""
    PICTURE.write_text(picture(json.loads(DATA.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
