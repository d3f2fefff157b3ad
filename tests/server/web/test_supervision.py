"""Jobs beside the server: retried with growing pauses, told about while they fail, ended with the server."""

from __future__ import annotations

import asyncio

from coldchain_server.web.supervision import Supervisor
from tests.server.web.published import until


async def test_a_job_that_fails_is_started_again_and_told_about_meanwhile() -> None:
    runs = 0
    well = asyncio.Event()

    async def sign() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise ValueError("a secret of the key")
        well.set()
        await asyncio.Event().wait()

    supervisor = Supervisor([sign], first_pause=0.001, longest_pause=0.05)
    supervisor.start()
    seen: set[str] = set()

    def come_well() -> bool:
        seen.update(supervisor.problems())
        return well.is_set()

    await until(come_well)
    assert "sign is failing: ValueError, 3 times in a row" in seen | set(supervisor.problems())
    assert not any("secret" in line for line in seen)
    await until(lambda: not supervisor.problems())  # a while after it runs again
    await supervisor.stop()
    assert runs == 4


async def test_one_that_fails_does_not_end_the_others_and_one_that_returns_is_done() -> None:
    done: list[str] = []

    async def bad() -> None:
        raise RuntimeError

    async def good() -> None:
        done.append("good")

    supervisor = Supervisor([bad, good], first_pause=60)
    supervisor.start()
    await until(lambda: bool(done and supervisor.problems()))
    assert done == ["good"]
    assert [line.split()[0] for line in supervisor.problems()] == ["bad"]
    await supervisor.stop()


async def test_a_stop_cancels_jobs_and_waits_for_what_they_clean_up() -> None:
    cleaned = False

    async def slow() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    supervisor = Supervisor([slow])
    supervisor.start()
    await asyncio.sleep(0)
    await supervisor.stop()
    assert cleaned
