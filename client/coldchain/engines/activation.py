"""One engine from the set it runs to the next one: tried, switched, proved; or back to the set it was last seen to run.

::

    settle     before the network: a switch that a killed run left unproved is proved now, or taken back; what runs is asked for its
               canary
    follow     when the newest verified version is another one than the engine runs:
                 build     its sections into the view, hashed
                 try       the load test, in a child process
                 switch    one rename
                 reload    and ask until release N's canary is found and the one from before is not
                 remember  the set as proved; others are removed
               on failure: switch back, reload, prove the old set again, remember the release as refused

The set that was last proved stays on the disk until another one is. So at any moment ``current`` names a whole set that passed a load
test, and a run that is killed leaves at worst an unproved one, which :meth:`Activation.settle` sees by comparing the link with what is
remembered.

What is remembered as refused is a judgement about a release: the load test said no, or the engine could not be brought to run it and
*could* be brought back to the old set. That is not tried again until a higher release comes (or ``--repair`` asks for it). An engine
that does not answer, a corpus that is not there, a full disk judge nothing: they are a problem, told, and tried again by the next run.
Nothing is switched under an engine that does not answer, with one exception: an engine without any set gets its first one, since it
could not start without.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from coldchain.canonical import Object
from coldchain.engines.interface import Canary, Engine, LoadReport, LoadTest, canary_of, never
from coldchain.engines.settings import OneEngine
from coldchain.engines.view import View
from coldchain.errors import ColdchainError, EngineDownError, EngineError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.engine_memory import EngineMemory
from coldchain.install.versions import Version
from coldchain.limits import LIMITS, Limits

WORK = "engine"
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_RELOAD_AGAIN = 15.0
"""Seconds: a reload that ran into another one may have read the old set, so it is asked for again, each time after twice as long."""


@dataclass(frozen=True, slots=True)
class EngineOutcome:
    """How an engine stands after a run.

    Attributes:
        name: as the settings call it.
        action: activated, current (nothing to do), or kept (something is in the way: ``error`` says what).
        release: the release that it was seen to run; None when it was never seen to run any.
        report: of the load test, when there was one.
        proof_seconds: from the order to reload to the proof, when there was one.
        error: why it does not run the newest verified release; None when it does.
    """

    name: str
    action: str
    release: int | None
    report: LoadReport | None = None
    proof_seconds: float | None = None
    error: ColdchainError | None = None

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "name": self.name,
            "action": self.action,
            "release": self.release,
            "load_test": self.report.as_json() if self.report else None,
            "proof_milliseconds": None if self.proof_seconds is None else round(self.proof_seconds * 1000),
            "problem": self.error.what if self.error else "",
        }


class Activation:
    """The steps for one engine. The lock of the directory is held.

    Args:
        engine: what is driven.
        settings: its ``[[engine]]``.
        directory: the client's; the view is in it, or where the settings say.
        config: names region and channel, and so the canaries.
        memory: what is remembered of the engine.
        remember: makes what is to be remembered durable.
        now: the clock.
        limits: bounds.
        stopped: whether to give up at the next chance, since the process is to end.
    """

    def __init__(
        self,
        engine: Engine,
        settings: OneEngine,
        directory: ClientDirectory,
        config: Config,
        memory: EngineMemory,
        remember: Callable[[EngineMemory], None],
        now: Callable[[], datetime],
        limits: Limits = LIMITS,
        stopped: Callable[[], bool] = never,
    ) -> None:
        self.engine, self.settings, self.directory, self.config, self.limits = (
            engine,
            settings,
            directory,
            config,
            limits,
        )
        self.path = directory.path.absolute()  # child processes work elsewhere
        self.view = View(settings.view or self.path / "engines" / settings.name)
        self.memory, self._remember, self._now, self.stopped = memory, remember, now, stopped
        self._took_order = False
        self.report: LoadReport | None = None
        self.proof_seconds: float | None = None

    # -- the two steps -----------------------------------------------------------------------------------------------

    def settle(self) -> EngineOutcome:
        """Brings what an earlier run left to an end, and asks the engine what it runs."""
        return self._told(self._settle)

    def follow(self, version: Version) -> EngineOutcome:
        """Brings the engine to an installed version, if it does not run it yet and has not refused it."""
        return self._told(lambda: self._follow(version))

    def forgive(self) -> None:
        """Forgets what was refused, so that it is tried again."""
        self._note(replace(self.memory, refused=()))

    def _told(self, step: Callable[[], str]) -> EngineOutcome:
        error: ColdchainError | None = None
        try:
            with durable.disk(self.path):
                action = step()
        except ColdchainError as problem:
            action, error = "kept", problem
            error.kept = error.kept or self._kept()
        self._note(self.memory.trouble(error.what if error else ""))
        name, release = self.settings.name, self.memory.release
        return EngineOutcome(name, action, release, self.report, self.proof_seconds, error)

    def _kept(self) -> str:
        if self.memory.release is None:
            return f"engine {self.settings.name} was not seen to run any release yet"
        return f"engine {self.settings.name} keeps release {self.memory.release}"

    # -- settle ------------------------------------------------------------------------------------------------------

    def _settle(self) -> str:
        self.view.make()
        linked = self.view.linked()
        if linked is None:
            return "current"
        if linked.name != self.memory.proved:
            self._finish(linked)
            return "current"
        if not self.engine.stays:
            self.view.tidy({linked.name})
            return "current"
        if not self._runs(linked, None):
            self._prove_or_say(linked)
        self._proved(linked)
        return "current"

    def _finish(self, linked: Version) -> None:
        """A killed run switched to ``linked`` and did not prove it."""
        good = self._last_good(linked)
        if good is None:
            self._prove_first(linked)
            return
        problem = self._prove(linked, good)
        if not problem:
            self._proved(linked)
            return
        self._back(good, linked, problem)

    def _last_good(self, but: Version) -> Version | None:
        """The set to go back to: the proved one, or what else there is when that is not remembered."""
        others = [one for one in self.view.sets() if one.name != but.name and self.memory.refusal(one.name) is None]
        older = [one for one in others if one.release < but.release]  # a newer one may have been built and not tried
        return next((one for one in others if one.name == self.memory.proved), older[0] if older else None)

    # -- follow ------------------------------------------------------------------------------------------------------

    def _follow(self, version: Version) -> str:
        self.view.make()
        linked = self.view.linked()
        if linked is not None and (linked.name == version.name or linked.release > version.release):
            return "current"
        refusal = self.memory.refusal(version.name)
        if refusal is not None:
            raise EngineError(
                f"engine {self.settings.name} refused release {version.release} before: {refusal.why}",
                todo="ask the publisher about this release; a higher one is tried as soon as it comes",
            )
        if linked is not None and self.engine.stays and not self._runs(linked, None):
            raise EngineDownError(f"engine {self.settings.name} no longer runs release {linked.release}")
        built = self._tried(version)
        self.view.switch(built)
        if linked is None:
            self._prove_first(built)
            return "activated"
        problem = self._prove(built, linked)
        if problem:
            self._back(linked, built, problem)
        self._proved(built)
        return "activated"

    def _tried(self, version: Version) -> Version:
        """The set, built and load-tested.

        Raises:
            EngineError: it does not pass, and is remembered as refused.
        """
        sections = [one for one in version.describe(self.limits).sections if one.engine == self.engine.kind]
        if not sections:
            self._refuse(version, f"it holds nothing for {self.engine.kind}")
        built = self.view.build(self.directory, version, sections)
        with self._work() as work:
            canary = self._canary(version)
            test = LoadTest(built.path, sections, canary, self.settings.corpora, work)
            self.report = self.engine.load_test(test)
        if self.report.problem:
            linked = self.view.linked()
            self.view.tidy({linked.name} if linked else ())
            self._refuse(version, self.report.problem)
        return built

    def _refuse(self, version: Version, why: str) -> None:
        self._note(self.memory.refuse(version.name, why))
        raise EngineError(
            f"engine {self.settings.name} refuses release {version.release}: {why}",
            todo="ask the publisher about this release; a higher one is tried as soon as it comes",
        )

    # -- proofs ------------------------------------------------------------------------------------------------------

    def _prove_first(self, first: Version) -> None:
        """There is nothing to go back to: the set stays for the engine to start with, and nothing is held against it."""
        if self.engine.stays:
            try:
                self._runs(first, None)
            except EngineDownError as down:
                what = f"{down.what}; release {first.release} stands in {self.view.current} for it to start with"
                raise EngineDownError(what, todo=down.todo) from down
        self._prove_or_say(first)
        self._proved(first)

    def _prove_or_say(self, set_: Version) -> None:
        """Raises EngineDownError when the engine cannot be seen to run the set."""
        problem = self._prove(set_, None)
        if problem:
            raise EngineDownError(
                f"engine {self.settings.name} does not run release {set_.release}: {problem}",
                todo=f"see that it loads {self.view.current} (clamd.conf: DatabaseDirectory) and may read it",
            )

    def _prove(self, set_: Version, before: Version | None, *, anew: bool = False) -> str:
        """Reloads and asks until the engine runs ``set_`` and not ``before``; returns why it does not, or nothing.

        What it runs already needs no order to reload, but ``anew`` gives one all the same. A repaired set has the canary of the
        damaged one it replaces: there, the order is all that can be known.
        """
        started = time.monotonic()
        until = started + self.settings.proof_seconds
        self._took_order = not self.engine.stays
        again, wait, pause = started, _RELOAD_AGAIN, _FIRST_PAUSE
        anew = self.engine.stays and (anew or (before is not None and before.release == set_.release))
        problem = "it was not told to reload" if anew else self._ask(set_, before)
        while problem and self.engine.stays and time.monotonic() < until:
            if self.stopped():
                raise EngineDownError(
                    f"interrupted while engine {self.settings.name} was to load release {set_.release}"
                )
            try:
                if time.monotonic() >= again:
                    self.engine.reload()
                    self._took_order = True
                    again, wait = time.monotonic() + wait, 2 * wait
                problem = self._ask(set_, before)
            except EngineDownError as down:
                problem = down.what  # one that restarts answers again in a moment
            if problem:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        if not problem:
            self.proof_seconds = time.monotonic() - started
        return problem

    def _ask(self, set_: Version, before: Version | None) -> str:
        try:
            return "" if self._runs(set_, before) else f"its canary {self._canary(set_).name} is not what is found"
        except EngineDownError as down:
            self._took_order = self._took_order and self.engine.stays  # without a daemon, nothing was tried at all
            return down.what

    def _runs(self, set_: Version, before: Version | None) -> bool:
        """Whether the engine finds the set's canary, and the one from before no more. Raises EngineDownError."""
        wanted = self._canary(set_)
        gone = self._canary(before) if before and before.release != set_.release else None
        samples = [wanted.data, *([gone.data] if gone else [])]
        if self.engine.stays:
            found = self.engine.detects(samples, self.view.current, self.path)
        else:
            with self._work() as work:
                found = self.engine.detects(samples, self.view.current, work)
        return wanted.name in found[0] and not (gone and gone.name in found[1])

    def _back(self, good: Version, bad: Version, problem: str) -> None:
        """Returns to the last good set. Always raises."""
        took_order = self._took_order
        self.view.switch(good)
        what = f"engine {self.settings.name} does not run release {bad.release}: {problem}"
        # A reload that is slow, and not refused, would still come to its end, with the bad set: another order follows it.
        unproved = self._prove(good, bad, anew=took_order)
        if unproved:
            # It is the engine that fails, with either set: nothing is held against the release.
            raise EngineDownError(
                f"{what}; nor could release {good.release} be proved again, which stands in its place: {unproved}",
                kept=f"release {good.release} stands in {self.view.current}",
                todo="look at the engine and its log; the next `coldchain update DIR` goes on",
            )
        if not took_order:
            self._proved(good)
            raise EngineDownError(f"{what}; release {good.release} runs on, as its canary shows")
        self.memory = self.memory.refuse(bad.name, problem)
        self._proved(good)
        raise EngineError(
            f"{what}; release {good.release} runs again, as its canary shows",
            todo="look into the engine's log, and ask the publisher about this release; a higher one is tried when it comes",
        )

    def _proved(self, set_: Version) -> None:
        self._note(replace(self.memory, proved=set_.name, proved_at=self._now()))
        self.view.tidy({set_.name})

    # -- small things ------------------------------------------------------------------------------------------------

    def _canary(self, set_: Version) -> Canary:
        config = self.config
        return canary_of(self.engine.kind, config.product, config.region, config.channel, set_.release)

    def _note(self, memory: EngineMemory) -> None:
        self.memory = memory
        self._remember(memory)

    def _work(self) -> _Work:
        return _Work(self.directory)


class _Work:
    """An empty directory in staging, gone afterwards."""

    def __init__(self, directory: ClientDirectory) -> None:
        self._directory = directory

    def __enter__(self) -> Path:
        with self._directory.folder("staging") as staging:
            staging.remove(WORK)
            staging.make(WORK)
        return self._directory.staging.absolute() / WORK

    def __exit__(self, *_: object) -> None:
        with self._directory.folder("staging") as staging, durable.disk(self._directory.staging):
            staging.remove(WORK)
