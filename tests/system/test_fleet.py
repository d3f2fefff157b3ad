"""A fleet of real processes: an origin, three edges in three regions, two approvers, two witnesses, endpoints with the real client.

:mod:`tests.system.fleet.story` tells what happens; :mod:`tests.system.fleet.watch` sees to it that nothing happens that may not.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.server.memory import memory_folder
from tests.system.fleet.publishing import Place
from tests.system.fleet.story import Fleet, Size

US = Place("us", "United States", 1)
JP = Place("jp", "Japan", 1, leaves_out="Win.Trojan.Agent-10003-0")
ROW = Place("row", "rest of the world", 2)
STAGES = """\
[stable]
emergency = { seconds = 3 }
stages = [
    { wave = 1, share = 20, seconds = 10 },
    { wave = 1, share = 100, seconds = 20 },
    { wave = 2, share = 50, seconds = 8 },
    { wave = 2, share = 100 },
]
"""
WHOLE = Size({"us": 80, "jp": 70, "row": 50}, 2, {"us": 4}, 5, 1, STAGES, kills=True)


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_two_hundred_endpoints() -> None:
    with memory_folder() as folder:
        fleet = Fleet(folder, WHOLE, [US, JP, ROW])
        async with fleet.running():
            await fleet.tell()
        print(json.dumps(fleet.figures, indent=1))
        Path("/tmp/fleet/fleet.json").write_text(json.dumps(fleet.watch.as_json()))
