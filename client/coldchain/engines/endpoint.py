"""All engines of an endpoint, one after the other: what fails with one of them changes nothing for the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from coldchain.engines.activation import Activation, EngineOutcome
from coldchain.engines.interface import never
from coldchain.engines.kinds import open_engine
from coldchain.engines.settings import EngineSettings
from coldchain.errors import ColdchainError, EngineError
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.engine_memory import EngineMemory
from coldchain.install.versions import Version
from coldchain.limits import LIMITS, Limits


class EndpointEngines:
    """The engines that the settings name. The lock of the directory is held.

    Args:
        directory: the client's.
        config: what it follows.
        settings: the engines.
        memories: what is remembered, by the engines' names; that of others is given up.
        remember: makes the memories durable.
        now: the clock.
        limits: bounds.
        stopped: whether to give up at the next chance.
    """

    def __init__(
        self,
        directory: ClientDirectory,
        config: Config,
        settings: EngineSettings,
        memories: Mapping[str, EngineMemory],
        remember: Callable[[Mapping[str, EngineMemory]], None],
        now: Callable[[], datetime],
        limits: Limits = LIMITS,
        stopped: Callable[[], bool] = never,
    ) -> None:
        self._remember = remember
        self._memories = {one.name: memories.get(one.name, EngineMemory()) for one in settings.engines}
        if self._memories.keys() != dict(memories).keys():
            remember(dict(self._memories))
        self._activations = [
            Activation(
                open_engine(one, stopped),
                one,
                directory,
                config,
                self._memories[one.name],
                self._noting(one.name),
                now,
                limits,
                stopped,
            )
            for one in settings.engines
        ]
        self._settled: dict[str, EngineOutcome] = {}

    def __bool__(self) -> bool:
        return bool(self._activations)

    def _noting(self, name: str) -> Callable[[EngineMemory], None]:
        def note(memory: EngineMemory) -> None:
            self._memories[name] = memory
            self._remember(dict(self._memories))

        return note

    def settle(self, *, forgive: bool = False) -> None:
        """Ends what a killed run left, and asks each engine what it runs. ``forgive``: refused releases are tried again."""
        for one in self._activations:
            if forgive:
                one.forgive()
            self._settled[one.settings.name] = one.settle()

    def follow(self, version: Version) -> tuple[EngineOutcome, ...]:
        """Brings every engine that was settled to the version; what stands in the way of the others is told again."""
        return tuple(self._follow(one, version) for one in self._activations)

    def _follow(self, one: Activation, version: Version) -> EngineOutcome:
        settled = self._settled.get(one.settings.name)
        if settled is not None and settled.error is not None and type(settled.error) is not EngineError:
            return settled  # it does not answer, or its view is not to be used
        return one.follow(version)


def first_error(outcomes: Sequence[EngineOutcome]) -> ColdchainError | None:
    """The error to end with; a refusal before an engine that is down, since it needs a person."""
    errors = [one.error for one in outcomes if one.error is not None]
    return next((one for one in errors if type(one) is EngineError), errors[0] if errors else None)
