"""A fleet of real processes: an origin, three edges in three regions, two approvers, two witnesses, endpoints with the real client.

:mod:`tests.system.fleet.story` tells what happens; :mod:`tests.system.fleet.watch` sees to it that nothing happens that may not.
"""

from __future__ import annotations

import json

import pytest

from tests.server.memory import memory_folder
from tests.system.fleet.sizes import PLACES, WHOLE
from tests.system.fleet.story import Fleet


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_two_hundred_endpoints_through_a_bad_release_and_the_recovery() -> None:
    with memory_folder() as folder:
        fleet = Fleet(folder, WHOLE, PLACES)
        async with fleet.running():
            await fleet.tell()
    print()
    for name, value in fleet.figures.items():
        print(f"{name}: {value}")
    data = json.loads(fleet.data())
    assert sum(data["samples"][-1][1][0].values()) == WHOLE.counts["us"]
