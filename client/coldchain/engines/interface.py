"""What every engine can do: try a set in a child process, load it, and say what it detects.

::

    engine.load_test(...)    a child process loads the set, within limits of time and memory: how many signatures were loaded, is the
                             canary found, is nothing of the clean files found, is all of the must-detect files found
    engine.reload()          whatever runs is told to load its view again; the answer means *begun*, not *done*
    engine.detects(...)      what the running engine reports for some bytes, and so which release's canary it knows

Only the last one proves anything about what runs. A load test that the set does not pass is no error here: its report says why in
``problem``, and what to do about that is for the caller to decide (an endpoint keeps its set, a publisher publishes nothing).
EngineDownError says that nothing was found out: no program, no daemon, no time to end by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from coldchain.bundle.canary import canary_name, canary_string
from coldchain.bundle.description import Section
from coldchain.canonical import Object

EngineKind = Literal["clamav", "yara"]

SHOWN = 20
"""File names that a report holds of each sort; the counts are of all."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A release's canary: ``name`` is what an engine reports for ``data``."""

    name: str
    data: bytes


def canary_of(kind: EngineKind, product: str, region: str, channel: str, release: int) -> Canary:
    """The canary as an engine of that kind reports it (see :mod:`coldchain.bundle.canary`)."""
    name = canary_name(region, channel, release)
    if kind == "yara":
        name = name.replace(".", "_").replace("-", "_")
    return Canary(name, canary_string(product, region, channel, release))


@dataclass(frozen=True, slots=True)
class Corpora:
    """The customer's (or operator's) own files: in ``clean`` nothing may be found, in ``must_detect`` every file must be."""

    clean: tuple[Path, ...] = ()
    must_detect: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadTest:
    """What is to be tried.

    Attributes:
        folder: holds the engine's sections of the bundle, as they would be loaded, and nothing else.
        sections: what ``bundle.json`` says of them; the sum of their records is what must be loaded.
        canary: must be found; None leaves that out.
        corpora: the customer's files.
        work: an empty directory for temporary files; what is left in it is for the caller to remove.
        watched: more files that are scanned; the report tells what is found in each, and the caller judges.
    """

    folder: Path
    sections: Sequence[Section]
    canary: Canary | None
    corpora: Corpora
    work: Path
    watched: tuple[Path, ...] = ()


@dataclass(slots=True)
class LoadReport:
    """How a load test went. ``problem`` is empty when the set may be loaded, else why not, in words for a person.

    Attributes:
        engine: the engine's kind.
        version: the engine's own words about its version, e.g. ``ClamAV 1.4.6``.
        expected: signatures that must be loaded.
        loaded: signatures that were.
        canary: whether the canary was found under its own name.
        clean_files: clean files that were scanned.
        clean_hits: how many of them something was found in.
        clean_names: the first of those, each ``path: signature``.
        must_detect: files that had to be detected.
        missed: how many of them were not.
        missed_names: the first of those.
        scanned: all files that were scanned.
        found: of the watched files those in which something was found, by path, with the names that the engine reports.
        seconds: wall time of the test.
        cpu_seconds: processor time of the test.
        peak_bytes: most memory that the child held at one time.
        problem: why the set is not to be loaded; empty when it may be.
    """

    engine: EngineKind
    version: str = ""
    expected: int = 0
    loaded: int = 0
    canary: bool = False
    clean_files: int = 0
    clean_hits: int = 0
    clean_names: list[str] = field(default_factory=list)
    must_detect: int = 0
    missed: int = 0
    missed_names: list[str] = field(default_factory=list)
    scanned: int = 0
    found: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    problem: str = ""

    def judge(self, test: LoadTest) -> None:
        """Fills ``problem`` from the counts, unless the engine said something worse already."""
        if self.problem:
            return
        if self.loaded != self.expected:
            self.problem = f"{self.loaded:,} of {self.expected:,} signatures were loaded"
        elif test.canary is not None and not self.canary:
            self.problem = f"the canary {test.canary.name} was not found"
        elif self.clean_hits:
            files = "1 clean file was" if self.clean_hits == 1 else f"{self.clean_hits:,} clean files were"
            self.problem = f"{files} detected: {'; '.join(self.clean_names[:3])}"
        elif self.missed:
            self.problem = (
                f"{self.missed:,} of {self.must_detect:,} files that must be detected were not: "
                f"{'; '.join(self.missed_names[:3])}"
            )

    def as_json(self) -> Object:
        """For ``--json`` and for a manifest; times in milliseconds, since canonical JSON knows no fractions."""
        return {
            "engine": self.engine,
            "version": self.version,
            "expected": self.expected,
            "loaded": self.loaded,
            "canary": self.canary,
            "clean_files": self.clean_files,
            "clean_hits": self.clean_hits,
            "clean_names": list(self.clean_names),
            "must_detect": self.must_detect,
            "missed": self.missed,
            "missed_names": list(self.missed_names),
            "milliseconds": round(self.seconds * 1000),
            "cpu_milliseconds": round(self.cpu_seconds * 1000),
            "peak_bytes": self.peak_bytes,
            "problem": self.problem,
        }


def never() -> bool:
    """For engines that nobody stops halfway."""
    return False


class Engine(Protocol):
    """One engine of an endpoint, as its ``[[engine]]`` describes it."""

    @property
    def kind(self) -> EngineKind:
        """Which sections of a bundle are meant for it."""

    @property
    def stays(self) -> bool:
        """Whether something keeps running that must be told about a new set; False when each scan loads the set itself."""

    def load_test(self, test: LoadTest) -> LoadReport:
        """Loads and tries a set in a child process.

        Raises:
            EngineDownError: the program is not installed, was stopped by somebody else, or could not read the corpora.
        """

    def reload(self) -> None:
        """Tells what runs to load its view again; nothing to do where nothing :attr:`stays`.

        Raises:
            EngineDownError: it does not answer, or takes no such order.
        """

    def detects(self, samples: Sequence[bytes], view: Path, work: Path) -> list[frozenset[str]]:
        """The names that the engine that runs reports for each of the samples.

        Args:
            samples: small pieces of bytes.
            view: the directory it loads; asked of what runs, this is not looked at.
            work: an empty directory for temporary files.

        Raises:
            EngineDownError: it does not answer.
        """
