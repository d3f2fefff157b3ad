"""Some endpoints in one process, each the real agent with a directory of its own: ``worker.py SPEC``; ends when stdin is closed.

SPEC is a JSON file, a list of :class:`~tests.system.fleet.endpoints.Endpoint` as dictionaries. An endpoint that has no directory yet is
made by ``coldchain init``. Killed and started again it finds what the killed process left.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from coldchain.agent.news import wait_for_news
from coldchain.agent.update import update
from coldchain.errors import ColdchainError
from coldchain.install.directory import ClientDirectory

PAUSE = 1.0


def tell(**words: Any) -> None:
    print(json.dumps(words), flush=True)


async def follow(path: Path) -> None:
    """Updates, waits until a server has news, updates again."""
    directory = ClientDirectory(path)
    while True:
        try:
            done = await update(directory)
            if done.action != "current" or done.error:
                tell(endpoint=path.name, event=done.action, release=done.release, error=done.error and done.error.what)
        except ColdchainError as error:
            tell(endpoint=path.name, event="refused", error=error.what, code=error.exit_code)
            if error.exit_code not in (11, 30):
                await asyncio.sleep(PAUSE)
        await wait_for_news(directory, 60)


async def main(spec: Path) -> None:
    tasks = [asyncio.create_task(follow(Path(one))) for one in json.loads(spec.read_text())]
    tell(event="started")
    ending = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    done, _ = await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done - {ending}:
        task.result()  # a defect shows
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
