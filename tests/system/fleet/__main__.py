"""``python -m tests.system.fleet``: the whole story once, its figures, and the data and the picture of it in ``docs/``."""

from __future__ import annotations

import asyncio
import json

from docs import make_fleet_picture
from tests.server.memory import memory_folder
from tests.system.fleet.sizes import PLACES, WHOLE
from tests.system.fleet.story import Fleet


async def _tell() -> Fleet:
    with memory_folder() as folder:
        fleet = Fleet(folder, WHOLE, PLACES)
        async with fleet.running():
            await fleet.tell()
    return fleet


def main() -> None:
    fleet = asyncio.run(_tell())
    for name, value in fleet.figures.items():
        print(f"{name}: {value}")
    make_fleet_picture.DATA.write_text(fleet.data(), encoding="utf-8")
    make_fleet_picture.main()
    print(json.dumps(fleet.watch.events))


if __name__ == "__main__":
    main()
