"""The agent: polls when it is due, one endpoint's directory, for as long as the machine runs.

::

    hold agent.lock; read policy.toml and agent.json; READY
    wait until a poll is due (:mod:`coldchain.agent.schedule`), a signal comes, or the end; listen for news meanwhile, if that is wished
    write agent.json as if the poll had failed
    update() in a thread of its own, with what servers asked for so far
    write agent.json, metrics; one line of log; wait again

An update computes for seconds when it builds a bundle, so it has a thread and an event loop to itself, and this loop stays free for
signals and the watchdog. The watchdog is pinged only while that makes sense: this loop runs, and an update that runs too shows
signs of life (CPU time, or bytes that come) within half an hour; a wedged one gets the agent restarted.

Whatever an update ends with, the agent goes on: what was installed runs, and staleness is told in every way there is (log at level
error, ``coldchain status``, STATUS, metrics). SIGTERM ends it at once; an update in progress is given up, which it survives
by design.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from coldchain.agent import schedule
from coldchain.agent.agent_metrics import agent_metrics
from coldchain.agent.http_session import require_library
from coldchain.agent.listening import SPREAD_SECONDS, Listening
from coldchain.agent.log_lines import Level, LogLines
from coldchain.agent.network import NetworkSettings, read_network
from coldchain.agent.news import NewsSettings
from coldchain.agent.notify import Notify
from coldchain.agent.outcome import Outcome
from coldchain.agent.reporting import LATER_SECONDS, LaterReports, send_waiting
from coldchain.agent.schedule import Ending
from coldchain.agent.told import Told, boot_seconds
from coldchain.agent.update import Settings
from coldchain.agent.update_thread import UpdateThread
from coldchain.errors import (
    AllowanceError,
    ColdchainError,
    EngineError,
    HeldError,
    LockedError,
    OwnPolicyError,
    ResponseError,
    StaleError,
    ThrottledError,
    TransportError,
)
from coldchain.install import trusted, versions
from coldchain.install.agent_state import AgentState, Instant, boot_id, moment, read_agent_state, write_agent_state
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.source_health import random_draw
from coldchain.prometheus import write_metrics

LOOK_SECONDS: Final = 60.0
"""The longest sleep in one piece: the clocks are looked at again, since a suspended machine's timers stand still."""

WEDGED_SECONDS: Final = 1800.0
STOP_SECONDS: Final = 2.0


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


@dataclass
class AgentSettings:
    """How an agent runs; tests change what they need.

    Attributes:
        log: where its lines go.
        notify: the service manager.
        metrics: a file for Prometheus' textfile collector; None for none.
        boot: seconds since the start of the machine, sleep included.
        now: the time.
        draw: a number from 0 to below 1, at random.
        update: of every poll; network and told are set anew for each.
        look: the longest sleep in one piece, in seconds.
        wedged: seconds without a sign of life after which an update is given up for wedged.
        reports_within: outcome reports, where there are any, are sent at a random moment within so many seconds after a poll.
    """

    log: LogLines
    notify: Notify = field(default_factory=Notify)
    metrics: Path | None = None
    boot: Callable[[], float] = boot_seconds
    now: Callable[[], datetime] = utc_now
    draw: Callable[[], float] = random_draw
    update: Settings = field(default_factory=Settings)
    look: float = LOOK_SECONDS
    wedged: float = WEDGED_SECONDS
    reports_within: float = LATER_SECONDS


@dataclass(frozen=True, slots=True)
class Health:
    """How the endpoint is: the release that runs (None for none), and until when its metadata holds."""

    release: int | None
    good_until: datetime | None
    stale: bool


class Agent:
    """One endpoint's agent.

    Args:
        directory: of the endpoint.
        settings: see there.
    """

    def __init__(self, directory: ClientDirectory, settings: AgentSettings) -> None:
        self._directory, self._settings = directory, settings
        self._log, self._notify = settings.log, settings.notify
        self._told = Told(settings.boot)
        self._state = AgentState()
        self._network = NetworkSettings()
        self._config: Config | None = None
        self._due = self._earliest = 0.0
        self._wake = asyncio.Event()
        self._listening = Listening(directory, self._wake.set)
        self._stop = asyncio.Event()
        self._now_asked = self._reload_asked = False
        self._work: UpdateThread | None = None
        self._health = Health(None, None, True)
        self._reports = LaterReports(directory, self._send_reports, settings.reports_within, settings.draw)
        self.polls = 0

    # -- what signals do ---------------------------------------------------------------------------------------------

    def poll_now(self) -> None:
        """SIGUSR1: the next poll is due now, or as soon as the servers may be asked again."""
        self._now_asked = True
        self._wake.set()

    def reload(self) -> None:
        """SIGHUP: policy.toml is read anew."""
        self._reload_asked = True
        self._wake.set()

    def stop(self) -> None:
        """SIGTERM: the end."""
        self._stop.set()
        self._wake.set()

    @property
    def abandoned(self) -> bool:
        """Whether the end left an update behind that did not give way in time: the process should not wait for it."""
        return self._work is not None and self._work.running

    # -- its life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Polls until :meth:`stop`.

        Raises:
            LockedError: another agent has the directory.
            NotInstalledError, DamagedError: there is nothing to follow in it.
            UsageError: ``policy.toml`` is wrong.
        """
        with self._directory.agent_locked():
            self._config = self._directory.config()
            self._network = read_network(self._directory)
            _check(self._network, self._urls())  # what is wrong shows now, not in an hour
            self._remember(read_agent_state(self._directory))
            self._look()
            pinging = asyncio.create_task(self._ping())
            try:
                self._log.line(
                    "info",
                    "started",
                    f"{self._directory.path}; {self._words()}",
                    directory=str(self._directory.path),
                    release=self._health.release,
                    stale=self._health.stale,
                    next_seconds=round(self._left()),
                )
                self._notify.ready(self._words())
                self._tell_metrics()
                while not self._stop.is_set():
                    await self._turn()
            finally:
                self._notify.stopping()
                pinging.cancel()
                self._reports.stop()
                await self._listening.end()
                if self._work is not None:
                    await self._work.give_up(STOP_SECONDS)
                self._log.line("info", "stopped", "what was installed stays in use", polls=self.polls)

    async def _turn(self) -> None:
        """Waits for what comes first, and does it."""
        if self._reload_asked:
            self._reload_asked = False
            self._read_policy()
        if self._now_asked:
            self._now_asked = False
            left = schedule.poll_now(self._blocked())
            self._due = min(self._due, self._settings.boot() + left)
            words = f"in {left:.0f} s, when a server may be asked again" if left else "now"
            self._log.line("info", "a poll was asked for", words, next_seconds=round(left))
        if self._listening.heard():
            self._due = min(self._due, self._settings.boot() + SPREAD_SECONDS * self._settings.draw())
            self._log.line("info", "news", "a server has something new; polling", next_seconds=round(self._left()))
        if self._left() <= 0:
            await self._poll()
            return
        self._wake.clear()
        self._listen()
        if self._stop.is_set():
            return
        try:
            async with asyncio.timeout(min(self._left(), self._settings.look)):
                await self._wake.wait()
        except TimeoutError:
            was = self._health.stale
            self._check_stale()
            if self._health.stale != was:
                self._say_stale()
                self._tell_metrics()

    def _listen(self) -> None:
        if self._network.wait and not self._state.failures and not self._blocked():
            settings = NewsSettings(self._urls(), self._network, self._told, self._settings.draw)
            with contextlib.suppress(ColdchainError):  # what is wrong in the directory the next poll says
                self._listening.begin(self._left(), settings)

    def _left(self) -> float:
        return self._due - self._settings.boot()

    def _blocked(self) -> float:
        """Seconds before which the servers do not want to be asked."""
        assert self._config is not None
        return self._told.least_wait(self._urls())

    def _urls(self) -> tuple[str, ...]:
        assert self._config is not None
        return tuple(self._settings.update.urls or self._network.urls(self._config.urls))

    def _remember(self, state: AgentState) -> None:
        """Takes up what an earlier agent left."""
        instant = self._instant()
        for server, until in state.told.items():
            self._told.busy(server, until.left(instant, state.boot))
        left = state.earliest.left(instant, state.boot) if state.earliest else 0.0
        self._state = state
        self._earliest = instant.boot + left
        self._due = instant.boot + schedule.first_wait(max(left, self._blocked()), self._settings.draw)

    def _read_policy(self) -> None:
        """Reads ``policy.toml`` anew; what is wrong with it leaves the old one in force."""
        self._notify.reloading()
        try:
            config, network = self._directory.config(), read_network(self._directory)
            _check(network, network.urls(config.urls))
        except ColdchainError as error:
            self._log.line(
                "error", "policy.toml refused", f"{error.what}; the one in force stays", **_error_fields(error)
            )
        else:
            changed = (config, network) != (self._config, self._network)
            self._config, self._network = config, network
            self._log.line("info", "policy.toml read", "it is new" if changed else "nothing in [network] is new")
            if changed and self._work is None:  # it may be what was wrong before
                left = schedule.first_wait(self._blocked(), self._settings.draw)
                self._due = min(self._due, self._settings.boot() + left)
        self._notify.ready(self._words())

    # -- a poll ------------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        blocked = self._blocked()
        if blocked > 0:
            self._due = self._settings.boot() + schedule.first_wait(blocked, self._settings.draw)
            return
        before, due, earliest = self._state, self._due, self._earliest
        error = await self._listening.end()
        if error is not None:
            self._log.line("warning", "not listened", error.what, **_error_fields(error))
        self._begin()
        self.polls += 1
        self._told.poll_seconds = None
        settings = replace(self._settings.update, network=self._network, told=self._told, reports_later=True)
        self._work = UpdateThread(self._directory.path, settings)
        self._notify.status(f"polling; {self._words()}")
        result = await self._result(self._work)
        if result is None:  # told to end in the middle, which is no failure
            left = [max(one - self._settings.boot(), 0.0) for one in (due, earliest)]
            self._set(schedule.Next(left[0], left[1], before.failures), before.error)
            return
        self._work = None
        if isinstance(result, Outcome):
            self._ended("good", result, result.error)
        else:
            self._ended(ending_of(result), None, result)
        self._reports.soon()
        _give_memory_back()

    async def _send_reports(self) -> int:
        one = self._settings
        return await send_waiting(
            self._directory,
            one.now,
            urls=one.update.urls,
            network=self._network,
            told=self._told,
            limits=one.update.limits,
        )

    async def _result(self, work: UpdateThread) -> Outcome | ColdchainError | None:
        """What an update ended with; None when the agent is told to end first. A signal to reload is heard meanwhile."""
        while not self._stop.is_set():
            if self._reload_asked:
                self._reload_asked = False
                self._read_policy()
            self._wake.clear()
            woken = asyncio.create_task(self._wake.wait())
            both: list[asyncio.Future[Any]] = [work.done, woken]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
            if work.done.done():
                return work.done.result()
        return None

    def _begin(self) -> None:
        """Writes down that a poll is made, as if it had failed already."""
        after = schedule.after("failed", self._state.failures, 0.0, None, self._network.rules(), self._settings.draw)
        self._set(after, self._state.error)

    def _ended(self, ending: Ending, outcome: Outcome | None, error: ColdchainError | None) -> None:
        failures = max(self._state.failures - 1, 0)  # without the one that _begin supposed
        after = schedule.after(
            ending,
            failures,
            self._blocked(),
            self._told.poll_seconds,
            self._network.rules(),
            self._settings.draw,
        )
        if outcome is not None:
            self._health = Health(outcome.release, outcome.good_until, False)
            self._check_stale()
            behind = (error.exit_code, error.what) if error else None  # an engine that does not run the release
            self._set(after, behind, self._settings.now(), outcome)
        elif isinstance(error, LockedError):
            self._set(after, self._state.error)
        else:
            self._look()
            failure = (
                (error.exit_code, error.what) if error and not isinstance(error, HeldError | OwnPolicyError) else None
            )
            self._set(after, failure, self._settings.now())
        self._report(after.wait, outcome, error)
        self._tell_metrics()
        self._notify.status(self._words())

    def _set(
        self,
        after: schedule.Next,
        error: tuple[int, str] | None,
        ended: datetime | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """Takes over what follows from a poll, and writes it down; a disk that refuses is told, and does not stop anything."""
        instant = self._instant()
        self._due, self._earliest = instant.boot + after.wait, instant.boot + after.earliest
        state = self._state
        self._state = dataclasses.replace(
            state,
            boot=instant.boot_id,
            failures=after.failures,
            earliest=moment(instant, after.earliest),
            next=moment(instant, after.wait),
            told={server: moment(instant, until - instant.boot) for server, until in self._told.until().items()},
            last_poll=ended or state.last_poll,
            last_good=ended if ended and (error is None or outcome is not None) else state.last_good,
            error=error,
            received=state.received + (outcome.bytes_down if outcome else 0),
        )
        try:
            write_agent_state(self._directory, self._state)
        except ColdchainError as refused:
            self._log.line("error", "agent.json cannot be written", refused.what, **_error_fields(refused))

    def _instant(self) -> Instant:
        return Instant(self._settings.boot(), self._settings.now(), boot_id())

    # -- what it says ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """How the endpoint is now, from its directory."""
        release, until = self._health.release, self._health.good_until
        try:
            assert self._config is not None
            version = versions.linked(self._directory, self._directory.current)
            release = version.release if version else None
            until = trusted.known_good_until(self._directory, self._config, self._settings.update.limits)
        except ColdchainError as error:
            self._log.line("error", "the directory cannot be read", error.what, **_error_fields(error))
        self._health = Health(release, until, until is None or until <= self._settings.now())

    def _check_stale(self) -> None:
        until = self._health.good_until
        self._health = replace(self._health, stale=until is None or until <= self._settings.now())

    def _words(self) -> str:
        """One line for ``systemctl status``."""
        health, state = self._health, self._state
        parts = [f"release {health.release}" if health.release else "nothing is installed yet"]
        if health.stale:
            since = f" since {health.good_until:%Y-%m-%d %H:%M} UTC" if health.good_until else " yet"
            parts.append(f"STALE: no fresh metadata{since}")
        if state.error and state.failures:
            parts.append(f"last poll failed ({state.failures} in a row): {state.error[1]}")
        elif state.error:
            parts.append(state.error[1])
        next_poll = self._settings.now() + timedelta(seconds=max(self._left(), 0.0))
        parts.append(f"next poll {next_poll:%Y-%m-%d %H:%M:%S} UTC")
        return "; ".join(parts)

    def _report(self, wait: float, outcome: Outcome | None, error: ColdchainError | None) -> None:
        if outcome is not None:
            size = f"{outcome.bytes_down:,} bytes, {outcome.requests} requests; next poll in {wait:.0f} s"
            words = f"release {outcome.release}, {outcome.check} check, {size}"
            self._log.line("info", outcome.action, words, next_seconds=round(wait), **outcome.as_json())
        if error is not None:
            waits = isinstance(
                error, HeldError | OwnPolicyError
            )  # the publisher's rollout, or the customer's own policy
            quiet = waits or isinstance(error, LockedError)
            level: Level = "info" if quiet else "error" if _alarming(error) else "warning"
            fields = _error_fields(error) | {"failures": self._state.failures, "next_seconds": round(wait)}
            words = f"{error.word}: {error.what}; {error.kept or 'what was installed stays in use'}; next poll in {wait:.0f} s"
            event = "held" if waits else "poll failed" if outcome is None else "engine"
            self._log.line(level, event, words, **fields)
        self._say_stale()

    def _say_stale(self) -> None:
        if not self._health.stale:
            return
        until = self._health.good_until
        since = f"since {until:%Y-%m-%d %H:%M} UTC" if until else "yet"
        kept = f"release {self._health.release} goes on protecting" if self._health.release else "nothing is installed"
        self._log.line(
            "error",
            "stale",
            f"no fresh metadata {since}; {kept}",
            release=self._health.release,
            good_until=f"{until:%Y-%m-%dT%H:%M:%SZ}" if until else None,
        )

    def _tell_metrics(self) -> None:
        if self._settings.metrics is None:
            return
        health, due = self._health, self._settings.now().timestamp() + max(self._left(), 0.0)
        data = agent_metrics(self._state, health.release, health.good_until, stale=health.stale, next_poll=due)
        try:
            write_metrics(self._settings.metrics, data)
        except ColdchainError as error:
            self._log.line("error", "metrics cannot be written", error.what, **_error_fields(error))

    # -- the watchdog ------------------------------------------------------------------------------------------------

    async def _ping(self) -> None:
        """Pings as long as that is the truth. Runs on the same loop as all the rest, so a loop that stands pings nobody."""
        if self._notify.watchdog_seconds is None:
            return
        while True:
            if self._work is None or self._work.lives(self._settings.wedged):
                self._notify.alive()
            await asyncio.sleep(self._notify.watchdog_seconds / 2)


def _check(network: NetworkSettings, urls: Sequence[str]) -> None:
    """Raises UsageError for what every poll would fail with."""
    for url in urls:
        if "://" in url:
            require_library()
            network.proxy_for(url)
    network.context()


def ending_of(error: ColdchainError) -> Ending:
    """What an update's error means for the schedule."""
    cause = error.__cause__ if isinstance(error, StaleError) else error
    if isinstance(error, HeldError | OwnPolicyError | EngineError | AllowanceError):
        return "good"  # the servers did their part
    if isinstance(error, LockedError):
        return "locked"
    if isinstance(cause, TransportError) and not isinstance(cause, ThrottledError | ResponseError):
        return "unreachable"
    return "failed"


def _alarming(error: ColdchainError) -> bool:
    """Whether somebody should look: anything but a network that does not work for now."""
    return not isinstance(error, TransportError) or isinstance(error, AllowanceError)


def _error_fields(error: ColdchainError) -> dict[str, str | int]:
    return {"error": type(error).__name__, "exit_code": error.exit_code, "what": error.what, "next": error.todo}


def _give_memory_back() -> None:
    """Returns what an update needed to the system; an agent idles for most of its life."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library
