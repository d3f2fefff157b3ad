"""ClamAV: clamd over its unix socket where one runs; where none does, each scan is a ``clamscan`` that loads the set itself.

clamd is pointed at the engine's view once (``DatabaseDirectory VIEW/current``); from then on an activation is one switch of that
link, ``RELOAD``, and asking clamd itself for the canary. ``docs/engines.md`` sets it up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from coldchain.engines import clamscan
from coldchain.engines.clamd import Clamd
from coldchain.engines.interface import EngineKind, LoadReport, LoadTest, never
from coldchain.engines.settings import OneEngine
from coldchain.errors import EngineDownError


class ClamAV:
    """One ClamAV (:class:`coldchain.engines.interface.Engine`)."""

    kind: Final[EngineKind] = "clamav"

    def __init__(self, settings: OneEngine, stopped: Callable[[], bool] = never) -> None:
        self._settings, self._stopped = settings, stopped
        # With ConcurrentDatabaseReload switched off, an answer waits until the new set is there.
        self._clamd = Clamd(settings.socket, settings.proof_seconds) if settings.socket else None

    @property
    def stays(self) -> bool:
        """Whether a daemon runs."""
        return self._clamd is not None

    def load_test(self, test: LoadTest) -> LoadReport:
        """A set in a clamscan of its own."""
        program = clamscan.find_program(self._settings.program)
        settings = self._settings
        return clamscan.load_test(program, test, settings.load_seconds, settings.load_bytes, self._stopped)

    def reload(self) -> None:
        """``RELOAD``; without a daemon there is nothing to be told."""
        if self._clamd is not None:
            self._clamd.reload()

    def detects(self, samples: Sequence[bytes], view: Path, work: Path) -> list[frozenset[str]]:
        """What clamd says; without a daemon, what a scan with the view says."""
        if self._clamd is not None:
            return [_names(self._clamd.scan(data)) for data in samples]
        files = [work / f"sample-{number}" for number in range(len(samples))]
        for file, data in zip(files, samples, strict=True):
            file.write_bytes(data)
        answer = clamscan.Answer({os.fsencode(file) for file in files})
        settings = self._settings
        _, problem = clamscan.scan(
            clamscan.find_program(settings.program),
            view,
            files,
            answer,
            seconds=settings.load_seconds,
            memory=settings.load_bytes,
            work=work,
            stopped=self._stopped,
        )
        if problem:
            raise EngineDownError(problem)
        return [_names(answer.found.get(os.fsencode(file))) for file in files]


def _names(name: str | None) -> frozenset[str]:
    return frozenset(() if name is None else (name,))
