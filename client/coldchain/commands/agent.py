"""``coldchain agent``: keeps an endpoint current for as long as the machine runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from coldchain.commands.command import Add, Found, endpoint_argument
from coldchain.install.directory import ClientDirectory


def add(command: Add) -> None:
    """Adds the command."""
    one = command(
        "agent",
        _agent,
        "keep an endpoint current: poll when it is due, politely, until told to end (docs/agent.md)",
        "coldchain agent /var/lib/coldchain --metrics /var/lib/node_exporter/coldchain.prom",
    )
    endpoint_argument(one)
    one.add_argument("--metrics", metavar="FILE", help="write metrics for Prometheus' textfile collector")


def _agent(options: argparse.Namespace) -> Found:
    # here and not above: an agent is the one command that needs them
    from coldchain.agent.log_lines import LogLines, is_journal
    from coldchain.agent.loop import Agent, AgentSettings

    log = LogLines(sys.stderr, as_json=options.json, journal=is_journal(sys.stderr, os.environ))
    metrics = Path(options.metrics) if options.metrics else None
    agent = Agent(ClientDirectory(Path(options.directory)), AgentSettings(log, metrics=metrics))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number, heard in (
            (signal.SIGTERM, agent.stop),
            (signal.SIGINT, agent.stop),
            (signal.SIGHUP, agent.reload),
            (signal.SIGUSR1, agent.poll_now),
        ):
            loop.add_signal_handler(number, heard)
        await agent.run()

    asyncio.run(run())
    if agent.abandoned:
        # An update is in the middle of something that does not give way, such as a look-up of a name. It is made to be killed.
        sys.stdout.flush()
        os._exit(0)
    return {"polls": agent.polls}, f"ended after {agent.polls} polls; what was installed stays in use", None
