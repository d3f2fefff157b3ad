"""A coroutine in a thread and an event loop of its own: a pull computes and writes for seconds, and serving must not wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

PATIENCE_SECONDS: Final = 2.0


async def in_own_thread(work: Callable[[], Coroutine[Any, Any, None]], patience: float = PATIENCE_SECONDS) -> None:
    """Runs a coroutine to its end, or until this one is cancelled.

    Args:
        work: makes the coroutine, in the thread.
        patience: seconds that a cancelled one has to end. After that it is left behind; the thread does not keep the
            process alive, and what it was about survives that as it survives a kill.

    Raises:
        Exception: whatever the coroutine raised.
    """
    outer = asyncio.get_running_loop()
    done: asyncio.Future[None] = outer.create_future()
    inner: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    def tell(error: BaseException | None) -> None:
        if done.done():
            return
        if isinstance(error, Exception):
            done.set_exception(error)
        else:
            done.set_result(None)

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        inner.append((asyncio.get_running_loop(), task))
        await work()

    def body() -> None:
        ended: BaseException | None = None
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001  the other loop is told, whatever it is
            ended = error
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits
            outer.call_soon_threadsafe(tell, ended)

    threading.Thread(target=body, name="pull", daemon=True).start()
    try:
        await asyncio.shield(done)
    except asyncio.CancelledError:
        for loop, task in inner:
            with contextlib.suppress(RuntimeError):  # it ended by itself
                loop.call_soon_threadsafe(task.cancel)
        await asyncio.wait({done}, timeout=patience)
        if done.done():
            done.exception()  # nobody else asks for it
        raise
