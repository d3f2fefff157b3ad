"""YARA: yara-x, from the extra ``[yara]``. Scanners load the rules from the engine's view; nothing stays that must be told of new ones.

Whoever scans with YARA starts with the rules of ``VIEW/current``, so the proof is a scan with exactly that directory: a child
process compiles what stands there and must find the canary.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from coldchain.engines import child, yara_child
from coldchain.engines.corpora import always_clean, files_below, must_detect
from coldchain.engines.interface import SHOWN, EngineKind, LoadReport, LoadTest, never
from coldchain.engines.settings import OneEngine
from coldchain.errors import EngineDownError

_SCAN_SECONDS: Final = 60
"""For one file: more than any good rule set needs, and a rule that takes longer would hold up endpoints."""

Found = Callable[[str, list[str]], None]


class Yara:
    """One YARA engine (:class:`coldchain.engines.interface.Engine`)."""

    kind: Final[EngineKind] = "yara"
    stays: Final = False

    def __init__(self, settings: OneEngine, stopped: Callable[[], bool] = never) -> None:
        self._settings, self._stopped = settings, stopped

    def load_test(self, test: LoadTest) -> LoadReport:
        """Compiles the rules and scans the corpora, in one child process."""
        report = LoadReport("yara", expected=sum(section.records for section in test.sections))
        must = must_detect(test.corpora.must_detect)
        watched = set(map(str, test.watched))
        detected: set[str] = set()
        canary = test.work / "canary"
        canary.write_bytes(test.canary.data if test.canary else b"")

        def found(path: str, rules: list[str]) -> None:
            if path == str(canary):
                report.canary = test.canary is not None and test.canary.name in rules
            elif os.fsencode(path) in must:
                detected.add(path)
            elif path in watched:
                report.found[path] = tuple(rules)
            else:
                report.clean_hits += 1
                if len(report.clean_names) < SHOWN:
                    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
                    report.clean_names.append(f"{shown}: {', '.join(rules)}")

        clean = [path for path in files_below(test.corpora.clean) if os.fsencode(path) not in must]
        targets = [canary, *always_clean(), *clean, *must.values(), *test.watched]
        run = self._run(test.folder, targets, test.work, found)
        ending, report.problem, report.version, report.loaded, scanned = run
        report.seconds, report.cpu_seconds, report.peak_bytes = ending.seconds, ending.cpu_seconds, ending.peak_bytes
        missed = [str(path) for path in must.values() if str(path) not in detected]
        report.must_detect, report.missed, report.missed_names = len(must), len(missed), missed[:SHOWN]
        report.scanned = scanned
        report.clean_files = max(0, scanned - 1 - len(must) - len(watched))
        report.judge(test)
        return report

    def reload(self) -> None:
        """Nothing stays that could be told."""

    def detects(self, samples: Sequence[bytes], view: Path, work: Path) -> list[frozenset[str]]:
        """The rules that match each sample when the view is loaded."""
        files = [work / f"sample-{number}" for number in range(len(samples))]
        for file, data in zip(files, samples, strict=True):
            file.write_bytes(data)
        seen: dict[str, list[str]] = {}
        _, problem, *_ = self._run(view, files, work, lambda path, rules: seen.update({path: rules}))
        if problem:
            raise EngineDownError(problem)
        return [frozenset(seen.get(str(file), ())) for file in files]

    def _run(
        self, folder: Path, targets: Sequence[Path], work: Path, found: Found
    ) -> tuple[child.Ending, str, str, int, int]:
        """One child. Returns how it ended, why the rules are not to be loaded, yara-x's version, rules compiled, files scanned."""
        if find_spec("yara_x") is None:
            todo = 'install the extra: pip install "coldchain[yara]"'
            raise EngineDownError("yara-x is not installed", todo=todo)
        (work / yara_child.TARGETS).write_bytes(b"\0".join(map(os.fsencode, targets)))
        numbers = {"compiled": 0, "scanned": 0}
        version = ""

        def line(data: bytes) -> None:
            nonlocal version
            try:
                what, *words = json.loads(data)
            except ValueError:
                return  # a child that was ended in the middle of a line; how it ended says the rest
            if what == "found":
                found(*words)
            elif what == "version":
                version = f"yara-x {words[0]}"
            else:
                numbers[what] = words[0]

        settings = self._settings
        command = [sys.executable, "-P", "-m", yara_child.__name__, str(folder), str(_SCAN_SECONDS)]
        ending = child.run(
            command,
            line,
            seconds=settings.load_seconds,
            memory=settings.load_bytes,
            work=work,
            stopped=self._stopped,
        )
        problem = ending.verdict("yara-x", settings.load_seconds)
        if not problem and ending.code == yara_child.ABSENT:
            raise EngineDownError(f"yara-x cannot be loaded: {ending.complaint()}")
        if not problem and ending.code != 0:
            problem = f"yara-x does not load the set: {ending.complaint() or f'exit code {ending.code}'}"
        return ending, problem, version, numbers["compiled"], numbers["scanned"]
