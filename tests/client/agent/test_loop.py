"""The agent's life: polls, signals, restarts, damage and the end, with the real update against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from coldchain.agent.log_lines import LogLines
from coldchain.agent.loop import Agent, AgentSettings, ending_of
from coldchain.agent.notify import Notify
from coldchain.agent.update import Settings
from coldchain.agent.update_thread import UpdateThread
from coldchain.engines.settings import EngineSettings, OneEngine
from coldchain.errors import (
    AllowanceError,
    ColdchainError,
    EngineError,
    EvidenceError,
    HeldError,
    LockedError,
    NotInstalledError,
    OwnPolicyError,
    ResponseError,
    StaleError,
    StorageError,
    ThrottledError,
    TransportError,
    UsageError,
)
from coldchain.install.agent_state import AgentState, read_agent_state
from coldchain.install.directory import ClientDirectory
from coldchain.install.status import status
from tests.client.agent.publisher import Edge, installed, run, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server
from tests.client.agent.world import World


class Clock:
    """Both clocks of an agent, which stand until somebody moves them."""

    def __init__(self, start: datetime) -> None:
        self.boot, self.time = 10_000.0, start

    def on(self, seconds: float) -> None:
        self.boot += seconds
        self.time += timedelta(seconds=seconds)


@dataclass
class Running:
    """An agent on this loop, its log, and its clock."""

    agent: Agent
    task: asyncio.Task[None]
    log: io.StringIO
    clock: Clock
    directory: ClientDirectory

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if event is None or line["event"] == event]

    async def until(self, met: Callable[[], object]) -> None:
        for _ in range(6000):
            if met() or self.task.done():
                break
            await asyncio.sleep(0.01)
        assert met(), self.log.getvalue()

    async def polled(self, count: int) -> dict[str, Any]:
        """Waits for the end of that many polls; the last one's line."""
        events = ("installed", "updated", "repaired", "current", "held", "poll failed")
        await self.until(lambda: len([one for one in self.lines() if one["event"] in events]) >= count)
        assert self.agent.polls == count
        return [one for one in self.lines() if one["event"] in events][-1]

    @property
    def state(self) -> AgentState:
        return read_agent_state(self.directory)


@contextlib.asynccontextmanager
async def running(
    directory: ClientDirectory, *urls: str, clock: Clock | None = None, draw: float = 0.5, **settings: Any
) -> AsyncIterator[Running]:
    clock = clock or Clock(datetime.now(UTC))
    log = io.StringIO()
    options = AgentSettings(
        LogLines(log, as_json=True),
        Notify({}),
        boot=lambda: clock.boot,
        now=lambda: clock.time,
        draw=lambda: draw,
        update=Settings(urls=urls or None, now=lambda: clock.time),
        look=0.01,
    )
    agent = Agent(directory, replace(options, **settings))
    one = Running(agent, asyncio.create_task(agent.run()), log, clock, directory)
    try:
        yield one
    finally:
        agent.stop()
        with contextlib.suppress(ColdchainError):
            await one.task
        assert not agent.abandoned


async def busy(server: RawServer, _asked: Asked, writer: Writer) -> None:
    server.write(writer, answer(b"", "503 Busy", "Retry-After: 120"))


# -- polls and waits -------------------------------------------------------------------------------------------------


async def test_first_poll_then_the_interval_then_news(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.fresh, tmp_path / "endpoint")
    edge = Edge(world.one)
    async with serving(edge) as url, running(directory, url) as one:
        await one.until(lambda: one.lines("started"))
        assert one.agent.polls == 0  # not before its minute's draw
        assert one.lines("started")[0]["next_seconds"] == 30
        one.clock.on(30)
        done = await one.polled(1)
        assert (done["event"], done["release"], done["next_seconds"]) == ("installed", 1, round(3600 * 1.125))
        before = len(edge.log)
        one.clock.on(4049)
        await asyncio.sleep(0.1)
        assert len(edge.log) == before
        edge.files = world.two
        one.clock.on(2)
        assert (await one.polled(2))["event"] == "updated"
        state = one.state
        assert (state.failures, state.error) == (0, None)
        assert state.last_good == state.last_poll
        assert state.received > 1000
        one.clock.on(4051)
        done = await one.polled(3)
        assert (done["event"], done["check"], done["requests"]) == ("current", "quick", 1)
    assert "daily.hsb" in installed(directory)
    assert one.lines("stopped")[0]["polls"] == 3


async def test_a_busy_server_is_asked_when_it_said_even_by_a_signal_and_by_a_new_agent(
    world: World, tmp_path: Path
) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    clock = Clock(datetime.now(UTC))
    async with raw_server(busy) as server:
        async with running(directory, server.url, clock=clock, draw=0.0) as one:
            failed = await one.polled(1)
            assert (failed["error"], failed["exit_code"], failed["level"]) == ("ThrottledError", 21, "warning")
            assert failed["next_seconds"] == 120
            for seconds in (0, 60, 59):
                clock.on(seconds)
                one.agent.poll_now()
                await one.until(lambda: not one.agent._now_asked)
                await asyncio.sleep(0.05)
                assert len(server.asked) == 1
            assert one.lines("a poll was asked for")[-1]["next_seconds"] == 1
        # a new agent on the same machine, whose clock somebody has set on by a year, is not earlier either
        clock.time += timedelta(days=365)
        async with running(directory, server.url, clock=clock, draw=0.0) as one:
            await one.until(lambda: one.lines("started"))
            one.agent.poll_now()
            await asyncio.sleep(0.1)
            assert len(server.asked) == 1
            clock.on(1.5)
            await one.polled(1)
        assert len(server.asked) == 2


async def test_one_busy_server_does_not_stand_in_the_way_of_another(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.fresh, tmp_path / "endpoint")
    edge = Edge(world.one)
    async with raw_server(busy) as bad, serving(edge) as good:
        async with running(directory, bad.url, good, draw=0.0) as one:
            assert (await one.polled(1))["event"] == "installed"
            one.agent.poll_now()
            assert (await one.polled(2))["event"] == "current"
            assert len(bad.asked) == 1
            one.clock.on(121)
            one.agent.poll_now()
            await one.polled(3)
        # the good one is first by now, or the busy one may be asked again: no more than once
        assert len(bad.asked) <= 2


async def test_a_new_policy_does_not_lead_to_a_busy_server_earlier(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    policy = directory.path / "policy.toml"
    async with raw_server(busy) as server:
        policy.write_text(f'[network]\nmirrors = ["{server.url}", "{tmp_path / "nothing"}"]\nonly_mirrors = true\n')
        async with running(directory, draw=0.0) as one:
            assert (await one.polled(1))["next_seconds"] == 30  # for the sake of the other one
            policy.write_text(f'[network]\nmirrors = ["{server.url}"]\nonly_mirrors = true\n')
            one.agent.reload()
            await one.until(lambda: one.lines("policy.toml read"))
            one.clock.on(31)
            await asyncio.sleep(0.1)
            assert (one.agent.polls, len(server.asked)) == (1, 1)
            one.clock.on(90)
            await one.polled(2)
            assert len(server.asked) == 2


async def test_what_the_customers_own_policy_keeps_back_is_no_failure(world: World, tmp_path: Path) -> None:
    """Else an endpoint on hold would poll once a day, and hear of nothing else."""
    directory = world.copy(world.first, tmp_path / "endpoint")
    (directory.path / "policy.toml").write_text("[release]\nhold = true\n")
    async with serving(Edge(world.two)) as url, running(directory, url, draw=0.0) as one:
        for count in (1, 2, 3):
            said = await one.polled(count)
            assert (said["event"], said["level"], said["exit_code"], said["failures"]) == ("held", "info", 15, 0)
            assert one.state.error is None
            one.clock.on(5000)
        (directory.path / "policy.toml").write_text("[release]\nhold = false\n")
        one.clock.on(5000)
        await one.until(lambda: one.lines("updated"))


async def test_failures_are_told_grow_apart_and_end(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    edge = Edge({})
    async with serving(edge) as url, running(directory, url, draw=0.0) as one:
        waits = []
        for count in range(1, 6):
            failed = await one.polled(count)
            assert failed["event"] == "poll failed"
            assert failed["failures"] == count == one.state.failures
            waits.append(failed["next_seconds"])
            one.clock.on(failed["next_seconds"] + 1)
        await one.until(lambda: one.agent.polls == 6)
        assert waits == [30, 60, 120, 240, 480]
        await one.polled(6)
        edge.files = world.two
        one.agent.poll_now()
        assert (await one.polled(7))["event"] == "updated"
        assert one.state.failures == 0
    assert one.lines("stale") == []


async def test_an_engine_that_does_not_take_the_release_is_loud_and_polls_go_on_as_ever(
    world: World, tmp_path: Path
) -> None:
    """The rules of this world find something in every file."""
    directory = world.copy(world.fresh, tmp_path / "endpoint")
    async with serving(Edge(world.one)) as url:
        clock = Clock(datetime.now(UTC))
        engines = EngineSettings((OneEngine("yara", "yara"),))
        update = Settings(urls=(url,), now=lambda: clock.time, engines=engines)
        async with running(directory, url, clock=clock, update=update) as one:
            await one.until(lambda: one.lines("started"))
            for count, event in enumerate(("installed", "current"), 1):
                clock.on(5000)
                assert (await one.polled(count))["event"] == event
                await one.until(partial(lambda count: len(one.lines("engine")) == count, count))
                line = one.lines("engine")[-1]
                assert (line["level"], line["exit_code"], line["failures"]) == ("error", 30, 0)
                assert "engine yara" in line["what"]
                assert one.state.error == (30, line["what"])
                assert one.state.last_good == one.state.last_poll
                assert "failed" not in one.agent._words()
                assert line["what"] in one.agent._words()
        assert "failed" not in status(directory, clock.time).agent.line(clock.time)


async def test_stale_is_loud_and_what_is_installed_stays(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    metrics = tmp_path / "coldchain.prom"
    before = installed(directory)
    async with raw_server(busy) as server, running(directory, server.url, metrics=metrics, draw=0.0) as one:
        await one.polled(1)
        assert one.lines("stale") == []
        assert "coldchain_agent_stale 0\n" in metrics.read_text()
        one.clock.time += timedelta(days=3)  # by the clock alone, without a poll
        await one.until(lambda: one.lines("stale"))
        await one.until(lambda: "coldchain_agent_stale 1\n" in metrics.read_text())
        (stale,) = one.lines("stale")
        assert (stale["level"], stale["release"]) == ("error", 1)
        one.clock.boot += 200
        failed = await one.polled(2)
        assert (failed["error"], failed["exit_code"], failed["level"]) == ("StaleError", 10, "error")
        told = status(directory, one.clock.time)
        assert told.stale
        assert told.agent.error is not None
        assert told.agent.error[0] == 10
        assert f"failed ({told.agent.failures} in a row): no fresh metadata since" in told.agent.line(one.clock.time)
        await one.until(lambda: "coldchain_agent_exit_code 10\n" in metrics.read_text())
        assert len(one.lines("stale")) == 2
        assert "STALE: no fresh metadata since" in one.agent._words()
        assert failed["next_seconds"] == 120  # what the server asked for is heard all the same
    assert installed(directory) == before


@pytest.mark.parametrize("error", [EngineError("e"), StorageError("s"), EvidenceError("v"), RuntimeError("a defect")])
async def test_whatever_an_update_ends_with_the_agent_goes_on(
    world: World, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    asked = 0

    async def broken(_directory: ClientDirectory, _settings: Settings) -> None:
        nonlocal asked
        asked += 1
        raise error

    with monkeypatch.context() as changed:
        changed.setattr("coldchain.agent.update_thread.update", broken)
        async with running(directory, str(tmp_path), draw=0.0) as one:
            failed = await one.polled(1)
            assert failed["level"] == "error"
            assert failed["exit_code"] == getattr(error, "exit_code", 3)
            assert failed["next_seconds"] == (3600 if isinstance(error, EngineError) else 30)
            assert one.state.error is not None
            one.agent.poll_now()
            await one.polled(2)
            assert asked == 2


def test_what_an_error_means_for_the_schedule() -> None:
    for error, ending in (
        (HeldError("x"), "good"),
        (OwnPolicyError("x"), "good"),
        (EngineError("x"), "good"),
        (AllowanceError("x"), "good"),
        (LockedError("x"), "locked"),
        (TransportError("x"), "unreachable"),
        (ThrottledError("x"), "failed"),
        (ResponseError("x"), "failed"),
        (EvidenceError("x"), "failed"),
        (StorageError("x"), "failed"),
    ):
        assert ending_of(error) == ending
    for cause, ending in ((TransportError("x"), "unreachable"), (ThrottledError("x"), "failed")):
        stale = StaleError("x")
        stale.__cause__ = cause
        assert ending_of(stale) == ending


async def test_an_update_by_hand_is_waited_for(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    async with serving(Edge(world.two)) as url:
        with ClientDirectory(directory.path).locked():
            async with running(directory, url, draw=0.0) as one:
                failed = await one.polled(1)
                assert (failed["error"], failed["level"], failed["next_seconds"]) == ("LockedError", "info", 30)
                assert (one.state.failures, one.state.error) == (0, None)
        async with running(directory, url, draw=0.0) as one:
            await one.polled(1)
            assert (await run(ClientDirectory(directory.path), url)).action == "current"  # while the agent idles


# -- signals, files and the end --------------------------------------------------------------------------------------


async def test_one_agent_for_a_directory(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    async with running(directory, str(tmp_path), draw=0.9) as one:
        await one.until(lambda: one.lines("started"))
        second = Agent(ClientDirectory(directory.path), AgentSettings(LogLines(None), Notify({})))
        with pytest.raises(LockedError, match="another agent is running on"):
            await second.run()
    async with running(directory, str(tmp_path), draw=0.9) as one:
        await one.until(lambda: one.lines("started"))


async def test_what_is_wrong_shows_at_the_start(world: World, tmp_path: Path) -> None:
    with pytest.raises(ColdchainError):
        await Agent(ClientDirectory(tmp_path / "none"), AgentSettings(LogLines(None), Notify({}))).run()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotInstalledError):
        await Agent(ClientDirectory(tmp_path / "empty"), AgentSettings(LogLines(None), Notify({}))).run()
    directory = world.copy(world.first, tmp_path / "endpoint")
    for text in ("[network]\nprox = 1\n", '[network]\nca = "/nowhere.pem"\n'):
        (directory.path / "policy.toml").write_text(text)
        with pytest.raises(UsageError):
            await Agent(directory, AgentSettings(LogLines(None), Notify({}))).run()


async def test_the_policy_is_read_anew_and_a_bad_one_leaves_the_old(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    policy = directory.path / "policy.toml"
    async with serving(Edge(world.two)) as url, running(directory, draw=0.0) as one:
        failed = await one.polled(1)  # whom it follows is nobody
        assert failed["error"] == "TransportError"
        for text, event in (("[network]\nmirrors = 1", "policy.toml refused"), ("[network]", "policy.toml read")):
            policy.write_text(text)
            one.agent.reload()
            await one.until(partial(one.lines, event))
        assert one.agent.polls == 1
        policy.write_text(f'[network]\nmirrors = ["{url}"]\npoll_seconds = 600\n')
        one.agent.reload()
        done = await one.polled(2)  # it may be what was wrong, so it is tried within a minute
        assert (done["event"], done["next_seconds"]) == ("updated", 600)


async def test_a_poll_that_kills_its_agent_is_not_made_again_at_once(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    clock = Clock(datetime.now(UTC))
    edge = Edge(world.two)
    asked = asyncio.Event()

    async def stall(server: RawServer, _asked: Asked, _writer: Writer) -> None:
        asked.set()
        await asyncio.sleep(3600)

    async with raw_server(stall) as server:
        async with running(directory, server.url, clock=clock, draw=0.0) as one:
            await asked.wait()
            killed = (directory.path / "agent.json").read_bytes()  # what a kill -9 would leave
        assert one.state.failures == 0  # the ordinary end is no failure
        (directory.path / "agent.json").write_bytes(killed)
        assert one.state.failures == 1
    async with serving(edge) as url, running(directory, url, clock=clock, draw=0.0) as one:
        await one.until(lambda: one.lines("started"))
        assert one.lines("started")[0]["next_seconds"] == 30
        await asyncio.sleep(0.1)
        assert edge.log == []
        clock.on(31)
        assert (await one.polled(1))["event"] == "updated"
        assert one.state.failures == 0


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 100, None])
async def test_a_damaged_memory_is_as_if_absent(world: World, tmp_path: Path, damage: bytes | None) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    file = directory.path / "agent.json"
    if damage is None:
        file.symlink_to("/dev/zero")
    else:
        file.write_bytes(damage)
    async with serving(Edge(world.two)) as url, running(directory, url, draw=0.0) as one:
        assert (await one.polled(1))["event"] == "updated"
        assert file.is_file()
        assert not file.is_symlink()


async def test_a_disk_that_refuses_its_memory_does_not_stop_it(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    (directory.path / "agent.json").mkdir()
    (directory.path / "agent.json" / "x").touch()
    async with (
        serving(Edge(world.two)) as url,
        running(directory, url, draw=0.0, metrics=tmp_path / "none" / "x.prom") as one,
    ):
        assert (await one.polled(1))["event"] == "updated"
        assert one.lines("agent.json cannot be written")
        await one.until(lambda: one.lines("metrics cannot be written"))


async def test_the_end_comes_at_once_in_the_middle_of_an_update(world: World, tmp_path: Path) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    before, asked = installed(directory), asyncio.Event()

    async def stall(server: RawServer, asked_: Asked, writer: Writer) -> None:
        data = world.two.get(asked_.path)
        if data is None or not asked_.path.startswith("targets"):
            server.write(writer, answer(data or b"", "200 OK" if data else "404 Not Found"))
            return
        server.write(writer, answer(data)[:-5])
        await writer.drain()
        asked.set()
        await asyncio.sleep(3600)

    async with raw_server(stall) as server, running(directory, server.url, draw=0.0) as one:
        await asked.wait()
        one.agent.reload()  # is heard in the middle of an update
        await one.until(lambda: one.lines("policy.toml read"))
        one.agent.stop()
        await one.task
        assert not one.agent.abandoned
    assert installed(directory) == before
    assert [thread.name for thread in threading.enumerate() if thread.name == "update"] == []
    async with serving(Edge(world.two)) as url:
        assert (await run(directory, url)).action == "updated"


async def test_an_update_that_does_not_give_way_is_left_behind(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    begun, end = threading.Event(), threading.Event()

    async def deaf(_directory: ClientDirectory, _settings: Settings) -> None:
        begun.set()
        end.wait()
        raise StorageError("at last")

    monkeypatch.setattr("coldchain.agent.update_thread.update", deaf)
    monkeypatch.setattr("coldchain.agent.loop.STOP_SECONDS", 0.1)
    agent = Agent(directory, AgentSettings(LogLines(None), Notify({}), draw=lambda: 0.0))
    task = asyncio.create_task(agent.run())
    await asyncio.to_thread(begun.wait)
    agent.stop()
    await task
    assert agent.abandoned  # the command then ends the process itself
    end.set()
    while agent.abandoned:  # noqa: ASYNC110  a thread ends
        await asyncio.sleep(0.01)


# -- the watchdog ----------------------------------------------------------------------------------------------------


class Manager(Notify):
    """Counts what would be sent."""

    def __init__(self) -> None:
        super().__init__({})
        self.watchdog_seconds = 0.02
        self.pings = 0
        self.said: list[str] = []

    def _send(self, *lines: str) -> None:
        self.said += lines
        self.pings += lines == ("WATCHDOG=1",)


async def test_pings_stop_when_an_update_is_wedged(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = world.copy(world.first, tmp_path / "endpoint")
    manager, wedge, wedge_seen = Manager(), threading.Event(), threading.Event()

    async def wedged(_directory: ClientDirectory, _settings: Settings) -> None:
        wedge.wait()
        raise StorageError("at last")

    with monkeypatch.context() as changed:
        changed.setattr("coldchain.agent.update_thread.update", wedged)
        changed.setattr(UpdateThread, "lives", lambda self, _seconds: not wedge_seen.is_set())
        async with running(directory, "/nowhere", draw=0.0, notify=manager) as one:
            await one.until(lambda: manager.pings > 2)
            wedge_seen.set()
            await asyncio.sleep(0.1)
            count = manager.pings
            await asyncio.sleep(0.2)
            assert manager.pings == count
            wedge.set()
            await one.polled(1)
            await one.until(lambda: manager.pings > count)  # idle again, and alive
    assert "STOPPING=1" in manager.said
    assert manager.said.index("READY=1") < manager.said.index("WATCHDOG=1") + 10
    assert any(line.startswith("STATUS=polling; release 1") for line in manager.said)


async def test_signs_of_life(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU time and bytes that come are such signs; a thread that waits for nothing is none."""
    clock, cpu = [0.0], [0.0]
    monkeypatch.setattr("coldchain.agent.update_thread._others_cpu", lambda: cpu[0])
    monkeypatch.setattr("coldchain.agent.update_thread.time.monotonic", lambda: clock[0])
    release, begun = threading.Event(), threading.Event()
    told: list[Settings] = []

    async def waits(_directory: ClientDirectory, settings: Settings) -> None:
        told.append(settings)
        begun.set()
        await asyncio.to_thread(release.wait)
        raise StorageError("done")

    monkeypatch.setattr("coldchain.agent.update_thread.update", waits)
    work = UpdateThread(tmp_path, Settings())
    try:
        await asyncio.to_thread(begun.wait)
        assert work.lives(100)
        clock[0] = 99.0
        assert work.lives(100)
        clock[0] = 101.0
        assert not work.lives(100)
        cpu[0] += 1.0
        assert work.lives(100)
        clock[0] = 250.0
        assert not work.lives(100)
        told[0].progress(1, 2)
        assert work.lives(100)
        clock[0] = 400.0
        assert not work.lives(100)
    finally:
        release.set()
        assert isinstance(await work.done, StorageError)
