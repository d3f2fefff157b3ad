"""The programs of the fleet: the commands an operator types, and servers that are killed and started again.

Whatever a program said is kept, so that a test that waited in vain can show what every process was doing (:meth:`Site.words`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coldchain.errors import LockedError
from coldchain_server.commands.options import PASSPHRASE

BIN = Path(sys.executable).parent
"""Where ``coldchain`` and ``coldchain-server`` of this environment are."""

_LINES_KEPT = 400


class CommandError(AssertionError):
    """A command that did not end as it should."""


class Server:
    """A program that goes on until it is told to end, and may be killed and started again with the same words.

    Args:
        name: as the diagnostics call it.
        command: its command line.
        environment: of the process.
    """

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        self.name, self._command, self._environment = name, command, environment
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self.events: list[dict[str, Any]] = []
        """Every line that was JSON, of all its lives."""

    async def start(self) -> None:
        """Starts it (again)."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=self._environment, stdin=-1, stdout=-1, stderr=-2
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            text = line.decode("utf-8", "backslashreplace").rstrip()
            self.lines.append(text)
            with contextlib.suppress(ValueError):
                found = json.loads(text)
                if isinstance(found, dict):
                    self.events.append(found)
        self.lines.append(f"(ended with {await process.wait()})")

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None
        return self._process.pid

    def said(self, message: str) -> list[dict[str, Any]]:
        """The lines of its log with this message, of all its lives."""
        return [one for one in self.events if message in (one.get("message"), one.get("event"))]

    async def until_said(self, message: str, times: int = 1) -> dict[str, Any]:
        """Waits for the line; the caller bounds the wait."""
        while len(self.said(message)) < times:
            if not self.running:
                raise CommandError(f"{self.name} ended before it said {message!r}:\n" + "\n".join(self.lines))
            await asyncio.sleep(0.05)
        return self.said(message)[times - 1]

    async def kill(self) -> None:
        """As a power cut or the OOM killer would: ``kill -9``."""
        await self._end(signal.SIGKILL)

    async def end(self) -> None:
        """Asks it to end, and waits until it has."""
        await self._end(signal.SIGTERM)

    def tell(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None or self._reading is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(60):
                await asyncio.shield(self._reading)
        except TimeoutError:
            self.lines.append("(did not end when it was told to)")
            self._process.kill()
            await self._reading


class Site:
    """The machine on which everything runs: a folder, the servers, and what all commands said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[Server] = []
        self.commands: deque[str] = deque(maxlen=60)
        self.began = time.time()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("COLDCHAIN_")}
        self.environment |= {PASSPHRASE: "a passphrase of the fleet", "NO_COLOR": "1"}
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))

    def server(self, name: str, *words: str | Path) -> Server:
        """A server that is not started yet; the site ends it at the end."""
        program = [str(BIN / words[0])] if words[0] in ("coldchain", "coldchain-server") else [str(words[0])]
        found = Server(name, [*program, *map(str, words[1:])], self.environment)
        self.servers.append(found)
        return found

    async def run(self, *words: str | Path, expect: int = 0) -> dict[str, Any]:
        """A command with ``--json``, in a process of its own; returns what it printed. While others hold the lock it is tried again.

        Raises:
            CommandError: it ended with another exit code than expected.
        """
        line = [*map(str, words), "--json"]
        while True:
            process = await asyncio.create_subprocess_exec(
                BIN / line[0], *line[1:], env=self.environment, stdin=-3, stdout=-1, stderr=-1
            )
            out, err = await process.communicate()
            self.commands.append(f"{time.time() - self.began:7.1f} {' '.join(line)} -> {process.returncode}")
            if process.returncode == expect:
                found: dict[str, Any] = json.loads(out) if out.strip() else {}
                return found
            if process.returncode != LockedError.exit_code:
                raise CommandError(
                    f"{' '.join(line)}: {process.returncode}, not {expect}\n{out.decode()}{err.decode()}"
                )
            await asyncio.sleep(0.2)

    async def end(self) -> None:
        """Ends every server; those that others depend on last."""
        for server in reversed(self.servers):
            await server.end()

    def words(self, lines: int = 25) -> str:
        """What all of them said last, for whoever waited in vain."""
        parts = ["commands:", *self.commands]
        for server in self.servers:
            state = "runs" if server.running else "has ended"
            parts += [f"-- {server.name} ({state}):", *list(server.lines)[-lines:]]
        return "\n".join(parts)
