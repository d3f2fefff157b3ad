"""The picture of the fleet is what the program makes of the data beside it, and the data tell the story that docs/rollout.md tells."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from docs.make_fleet_picture import DATA, PICTURE, picture

PAGE = (Path(__file__).parents[2] / "docs" / "rollout.md").read_text(encoding="utf-8")
FOUND: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))


def test_the_picture_is_that_of_the_data() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(FOUND)
    assert "(fleet.svg)" in PAGE


def test_everything_is_inside_the_picture() -> None:
    root = ET.fromstring(PICTURE.read_text(encoding="utf-8"))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    texts = [one for one in root.iter() if one.tag.endswith("text")]
    assert len(texts) > 20
    for one in texts:
        x, long = float(one.attrib["x"]), 7.0 * len(one.text or "")
        left = x - {"end": long, "middle": long / 2}.get(one.attrib.get("text-anchor", ""), 0.0)
        assert (left >= 0, left + long <= width + 12, 0 < float(one.attrib["y"]) < height) == (True,) * 3, one.text


def test_the_data_are_of_the_whole_story() -> None:
    regions = FOUND["regions"]
    assert sum(region["endpoints"] for region in regions) == 200
    for _, counts in FOUND["samples"]:
        assert [sum(found.values()) for found in counts] == [region["endpoints"] for region in regions]
    last = list(FOUND["releases"])[-1]
    assert FOUND["samples"][-1][1] == [{last: region["endpoints"]} for region in regions]
    (bad,) = (release for release, said in FOUND["releases"].items() if said.get("bad"))
    had = [any(bad in counts[number] for _, counts in FOUND["samples"]) for number in range(len(regions))]
    assert had == [region["wave"] == 1 for region in regions]
    kinds = [kind for _, kind, _ in sorted(FOUND["events"]) if kind in ("refuse", "halt", "withdraw", "recovery")]
    assert kinds == ["refuse", "halt", "withdraw", "recovery"]
