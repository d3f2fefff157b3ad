"""From publishing to running: how long it takes until each of many endpoints that listen has applied a release, and a withdrawal.

::

    python -m benchmarks.publish_to_applied                200 agents at an edge, three releases and a withdrawal
    python -m benchmarks.publish_to_applied --at origin    without an edge between

Everything is real and on this machine: the origin, the edge and the operator's commands are processes, the agents are as ``coldchain
agent`` runs them, fifty in a process, each with a directory of its own and ``wait = true`` in its policy. A release is published when
``timestamp.json`` is renamed into place, and applied when the endpoint's link points to it: both are times of the file system, so that
looking costs nobody anything. Two hundred updates on the few cores of one machine are most of what is measured; the processor time of
one stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from benchmarks.edge_cost import CHANGED, files, serving, share, until
from benchmarks.origin_tree import PROGRAMS, OriginTree
from coldchain.agent.log_lines import LogLines
from coldchain.agent.loop import Agent, AgentSettings
from coldchain.install.directory import ClientDirectory

AGENTS: Final = 200
IN_A_PROCESS: Final = 50
TURNS: Final = 3
POLICY: Final = "[network]\nwait = true\n"


async def _agents(folders: list[Path]) -> None:
    """The agents of one process, until SIGTERM."""
    agents = [Agent(ClientDirectory(folder), AgentSettings(LogLines(io.StringIO()))) for folder in folders]

    def stop() -> None:
        for one in agents:
            one.stop()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await asyncio.gather(*(agent.run() for agent in agents))


def _at(folder: Path) -> tuple[str, float]:
    """What an endpoint runs, and since when."""
    link = folder / "current"
    return str(link.readlink()), link.lstat().st_ctime


@contextlib.asynccontextmanager
async def _fleet(folders: list[Path]) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    groups = [folders[at : at + IN_A_PROCESS] for at in range(0, len(folders), IN_A_PROCESS)]
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.publish_to_applied", "--run", *map(str, one)
        )
        for one in groups
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
            await process.wait()


async def _applied(folders: list[Path], before: dict[Path, str]) -> list[float]:
    """When each endpoint had left what it ran before."""
    while True:
        found = [_at(folder) for folder in folders]
        if all(name != before[folder] for folder, (name, _) in zip(folders, found, strict=True)):
            return [when for _, when in found]
        await asyncio.sleep(0.2)


async def measure(folder: Path, count: int, turns: int, at: str) -> dict[str, Any]:
    """All of it."""
    out: dict[str, Any] = {}
    tree = OriginTree(folder)
    tree.publish(files(0))
    stamp = tree.public / "metadata" / "timestamp.json"
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(serving("serve", str(tree.home), "--no-sign"))
        urls = [f"http://127.0.0.1:{origin.port}"]
        if at == "edge":
            words = ["--region", "us", "--upstream", urls[0], "--root", str(tree.root)]
            edge = await stack.enter_async_context(serving("edge", str(folder / "edge"), *words))
            await until(lambda: edge.said("mirrored") > 0)
            urls.insert(0, f"http://127.0.0.1:{edge.port}")
        first = tree.endpoint(folder / "endpoint-0", urls[0])
        words = ["init", str(first), "--root", str(tree.root), "--region", "us"]
        command = [str(PROGRAMS / "coldchain"), *words, *(word for url in urls for word in ("--url", url))]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        (first / "policy.toml").write_text(POLICY, encoding="utf-8")
        await asyncio.to_thread(
            subprocess.run, [str(PROGRAMS / "coldchain"), "update", str(first)], check=True, capture_output=True
        )
        folders = [first, *(folder / f"endpoint-{n}" for n in range(1, count))]
        for other in folders[1:]:
            shutil.copytree(first, other, symlinks=True)
        async with _fleet(folders) as processes:
            await asyncio.sleep(5 + count / 50)  # until all of them listen
            for turn in range(1, turns + 1):
                out |= await _turn(f"release {turn}", folders, stamp, tree, turn)
            used = sum(_cpu(process.pid) for process in processes)
            out["withdrawal"] = await _withdrawal(folders, stamp, tree)
            out["cpu_ms_each_update"] = round(1000 * used / (count * turns))
    return out


async def _turn(name: str, folders: list[Path], stamp: Path, tree: OriginTree, turn: int) -> dict[str, Any]:
    before = {folder: _at(folder)[0] for folder in folders}
    await asyncio.to_thread(tree.publish, files(turn * CHANGED))
    published = stamp.stat().st_ctime
    times = [when - published for when in await _applied(folders, before)]
    await asyncio.sleep(3)
    return {name: {"p50": share(times, 0.5), "p99": share(times, 0.99), "most": share(times, 1.0)}}


async def _withdrawal(folders: list[Path], stamp: Path, tree: OriginTree) -> dict[str, Any]:
    before = {folder: _at(folder)[0] for folder in folders}
    begun = time.time()
    words = ["withdraw", str(tree.release), "--reason", "a measurement", "--publish", "--home", str(tree.home)]
    await asyncio.to_thread(
        subprocess.run,
        [str(PROGRAMS / "coldchain-server"), *words],
        check=True,
        capture_output=True,
        env=os.environ | {"COLDCHAIN_PASSPHRASE": "a passphrase for measurements"},
    )
    published = stamp.stat().st_ctime
    times = [when - published for when in await _applied(folders, before)]
    return {
        "command to published": round(1000 * (published - begun)),
        "p50": share(times, 0.5),
        "p99": share(times, 0.99),
        "most": share(times, 1.0),
    }


def _cpu(pid: int) -> float:
    """Processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--agents", type=int, default=AGENTS)
    parser.add_argument("--turns", type=int, default=TURNS, help="releases to measure")
    parser.add_argument("--at", choices=("edge", "origin"), default="edge", help="where the agents listen")
    parser.add_argument("--run", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        asyncio.run(_agents(options.run))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    folder = Path(tempfile.mkdtemp(prefix="coldchain-applied-"))
    try:
        found = asyncio.run(measure(folder / "work", options.agents, options.turns, options.at))
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.agents} agents listening at the {options.at}; milliseconds from the timestamp to applied")
    for name, value in found.items():
        words = ", ".join(f"{key} {n:,}" for key, n in value.items()) if isinstance(value, dict) else f"{value:,}"
        print(f"{name:20} {words}")


if __name__ == "__main__":
    main()
