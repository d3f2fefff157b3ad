"""One update in a thread and an event loop of its own, so that the agent's own loop stays free.

Building a bundle computes for seconds. Meanwhile the agent hears signals, and its watchdog asks here whether the update lives:
processor time of this process's other threads, or bytes that came, are signs of that.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from coldchain.agent.outcome import Outcome
from coldchain.agent.update import Settings, update
from coldchain.errors import ColdchainError, InternalError
from coldchain.install.directory import ClientDirectory


class UpdateThread:
    """One update in a thread and an event loop of its own.

    Args:
        path: the endpoint's directory; the thread opens it for itself.
        settings: of the update.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = replace(settings, progress=self._progress(settings))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Outcome] | None = None
        self._ours = asyncio.get_running_loop()
        self.done: asyncio.Future[Outcome | ColdchainError] = self._ours.create_future()
        """What the update ends with."""
        self._sign, self._cpu = time.monotonic(), _others_cpu()
        # a daemon: the end of the process must not wait for it
        self._thread = threading.Thread(target=self._run, name="update", daemon=True)
        self._thread.start()

    def _progress(self, settings: Settings) -> Callable[[int, int], None]:
        def progress(there: int, length: int) -> None:
            self._sign = time.monotonic()
            settings.progress(there, length)

        return progress

    def _run(self) -> None:
        result: Outcome | ColdchainError
        try:
            result = asyncio.run(self._update())
        except ColdchainError as error:
            result = error
        except asyncio.CancelledError:
            result = InternalError("the update was given up")
        except Exception as error:  # noqa: BLE001  a defect of ours must not end the protection's renewal
            result = InternalError(f"{type(error).__name__}: {error}", todo="report this defect")
        try:
            self._ours.call_soon_threadsafe(self._tell, result)
        except RuntimeError:
            return  # the loop has ended meanwhile, and nobody waits

    async def _update(self) -> Outcome:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        return await update(ClientDirectory(self._path), self._settings)

    def _tell(self, result: Outcome | ColdchainError) -> None:
        if not self.done.done():
            self.done.set_result(result)

    @property
    def running(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    async def give_up(self, seconds: float) -> None:
        """Asks the update to end where it is, and waits a moment for that."""
        if self._loop is not None and self._task is not None and self.running:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                return  # it ended by itself
        await asyncio.wait({self.done}, timeout=seconds)
        if self.done.done():
            await asyncio.to_thread(self._thread.join, seconds)

    def lives(self, wedged: float) -> bool:
        """Whether the update showed a sign of life in the last ``wedged`` seconds: bytes that came, or CPU time."""
        cpu = _others_cpu()
        if cpu - self._cpu > 0.001:
            self._cpu, self._sign = cpu, time.monotonic()
        return time.monotonic() - self._sign <= wedged


def _others_cpu() -> float:
    """CPU seconds of this process's other threads."""
    return time.process_time() - time.thread_time()
