"""Some real agents in one process: ``fleet_child.py HURRY DIR...``. They end when the parent closes stdin.

Their randomness is multiplied by HURRY (1 leaves it alone), so that a short test need not wait for a whole minute.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from coldchain.agent.log_lines import LogLines
from coldchain.agent.loop import Agent, AgentSettings, random_draw
from coldchain.agent.notify import Notify
from coldchain.install.directory import ClientDirectory


async def main(hurry: float, paths: list[str]) -> None:
    agents = [
        Agent(
            ClientDirectory(Path(path)), AgentSettings(LogLines(None), Notify({}), draw=lambda: hurry * random_draw())
        )
        for path in paths
    ]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    print("started", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for agent in agents:
        agent.stop()
    await asyncio.gather(*tasks)


asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
