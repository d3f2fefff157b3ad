"""Some endpoints in one process, each the real agent with a directory of its own: ``worker.py HURRY SPEC``; ends when it is told to.

SPEC is a JSON file, a list of directories. What an agent draws at random (when it polls first, when it sends a report) is multiplied
by HURRY, so that nobody waits five minutes for a report; nothing else is another than in ``coldchain agent``. Killed and started again
it finds what the killed process left.
"""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from pathlib import Path

from coldchain.agent.log_lines import LogLines
from coldchain.agent.loop import Agent, AgentSettings
from coldchain.agent.notify import Notify
from coldchain.install.directory import ClientDirectory
from coldchain.install.source_health import random_draw


class Named(io.StringIO):
    """Standard output, with an endpoint's name before each line."""

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        sys.stdout.write(f"{self._name} {text}")
        sys.stdout.flush()
        return len(text)


async def main(hurry: float, paths: list[Path]) -> None:
    agents = [
        Agent(
            ClientDirectory(path),
            AgentSettings(LogLines(Named(path.name)), Notify({}), draw=lambda: hurry * random_draw()),
        )
        for path in paths
    ]

    def stop() -> None:
        for agent in agents:
            agent.stop()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    print("started", flush=True)
    await asyncio.gather(*(agent.run() for agent in agents))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), [Path(one) for one in json.loads(Path(sys.argv[2]).read_text())]))
