"""Trying the served bundles in every installed engine: one child process for each group of regions and each engine.

A trial loads a group's view and scans everything that any check asks about: the canaries of all its regions, the system's and the
operator's clean files, the files that no signature may match, the must-detect samples. The checks then read what was found; so a
release costs one load for each engine and group, whatever the number of checks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from coldchain.bundle.description import Section
from coldchain.engines import clamscan
from coldchain.engines.clamav import ClamAV
from coldchain.engines.corpora import always_clean
from coldchain.engines.interface import Canary, Corpora, Engine, EngineKind, LoadReport, LoadTest, canary_of
from coldchain.engines.settings import OneEngine
from coldchain.engines.yara import Yara
from coldchain.errors import ColdchainError, EngineDownError, GateError
from coldchain.monitor.taken_apart import DecodedBundle
from coldchain_server.gate.corpora import Sample
from coldchain_server.gate.served import Group, groups
from coldchain_server.gate.settings import ENGINES, GateSettings
from coldchain_server.gate.within import is_within
from coldchain_server.storage.durable import make_directory, remove

NAMES = {"clamav": "ClamAV", "yara": "YARA"}
MOST_ALONE = 64
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Files:
    """What is scanned besides the canaries.

    Attributes:
        system: this machine's own files; nothing may be found.
        clean: the operator's; nothing may be found.
        own: files that no signature may match.
        rules: of those, YARA sources by path, with the names of their rules: a rule may match the source that holds it.
        samples: must-detect files.
    """

    system: Sample = field(default_factory=Sample)
    clean: tuple[Path, ...] = ()
    own: tuple[Path, ...] = ()
    rules: Mapping[Path, frozenset[str]] = field(default_factory=dict)
    samples: tuple[Path, ...] = ()

    def every(self) -> tuple[Path, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys([*self.system.files, *self.clean, *self.own, *self.samples]))


@dataclass(slots=True)
class Trial:
    """One load.

    Attributes:
        group: what was loaded.
        report: what the engine did.
        canaries: region -> the file that holds its canary, and the canary.
        within: a region whose bundle holds all of this one's signatures and more, so that its trial stands for the clean files and our
            own; empty: they were scanned.
        trouble: why the engine did not load the set as it is.
        alone: sections that do not load alone either.
    """

    group: Group
    report: LoadReport
    canaries: Mapping[str, tuple[Path, Canary]]
    within: str = ""
    trouble: str = ""
    alone: list[str] = field(default_factory=list)

    def found(self, path: Path) -> tuple[str, ...]:
        """What was found in a file."""
        return self.report.found.get(str(path), ())

    def lost_canaries(self) -> list[str]:
        """Regions whose canary was not found under its own name."""
        return [region for region, (path, canary) in self.canaries.items() if canary.name not in self.found(path)]


@dataclass(slots=True)
class Trials:
    """All loads, and the engines that could not be asked: kind -> why."""

    done: list[Trial] = field(default_factory=list)
    absent: dict[EngineKind, str] = field(default_factory=dict)
    loaded: bool = True
    """Whether every set was loaded as it is; if not, what was found in files says nothing."""

    @property
    def spared(self) -> str:
        """In words, whose clean files need no scan of their own."""
        return "".join(
            f"; {' '.join(trial.group.regions)} has {NAMES[trial.group.kind]} signatures of {trial.within} and no others"
            for trial in self.done
            if trial.within
        )

    def of(self, kind: EngineKind) -> list[Trial]:
        """The loads in one engine."""
        return [trial for trial in self.done if trial.group.kind == kind]

    @property
    def versions(self) -> str:
        """``ClamAV 1.4.6 and yara-x 1.23.0``."""
        return " and ".join(dict.fromkeys(trial.report.version for trial in self.done))

    def missing(self) -> str:
        """Why an engine that a bundle is meant for says nothing; empty when all were asked."""
        return "; ".join(f"{NAMES[kind]}: {why}" for kind, why in self.absent.items())


def present(kind: EngineKind) -> str:
    """Why an engine cannot be asked on this machine; empty when it can."""
    if kind == "yara":
        return "" if find_spec("yara_x") is not None else "yara-x is not installed"
    try:
        clamscan.find_program(None)
    except EngineDownError as error:
        return error.what
    return ""


def run_trials(
    bundles: Mapping[str, DecodedBundle],
    product: str,
    files: Files,
    settings: GateSettings,
    work: Path,
    say: Say = lambda _: None,
) -> Trials:
    """Loads every group in every engine.

    Args:
        bundles: region -> the bundle, taken apart.
        product: whose canaries they have.
        files: what is scanned.
        settings: which engines, and their limits.
        work: an empty directory on the file system of the sections.
        say: told what happens, a line at a time.

    Raises:
        GateError: an engine that is installed could not be asked.
        StorageError: the disk refused.
    """
    trials = Trials()
    for kind in ENGINES:
        found = groups(bundles, kind)
        if not found:
            continue
        why = present(kind) if kind in settings.engines else "settings.toml leaves it out"
        if why:
            trials.absent[kind] = why
            continue
        for number, group in enumerate(found):
            folder = work / f"{kind}-{number}"
            within = next(
                (one.group for one in trials.of(kind) if not one.within and is_within(group, one.group)), None
            )
            asked = files if within is None else Files(samples=files.samples)
            trial = _try(group, bundles, product, asked, settings, folder)
            trial.within = within.regions[0] if within is not None else ""
            trials.done.append(trial)
            trials.loaded = trials.loaded and not trial.trouble
            report = trial.report
            say(
                f"gate: {report.version}: {', '.join(group.regions)}: {report.loaded:,} of {report.expected:,} signatures, "
                f"{len(report.found):,} of {report.scanned:,} files found, {report.seconds:.1f} s, {report.peak_bytes >> 20:,} MiB"
            )
    return trials


def _try(
    group: Group,
    bundles: Mapping[str, DecodedBundle],
    product: str,
    files: Files,
    settings: GateSettings,
    work: Path,
) -> Trial:
    view, scratch = work / "view", work / "scratch"
    for folder in (view, scratch):
        make_directory(folder)
    try:
        held = group.view(bundles, view)
        canaries = {}
        for region in group.regions:
            about = bundles[region].description
            canary = canary_of(group.kind, product, region, about.channel, about.release)
            path = work / f"canary-{region}"
            path.write_bytes(canary.data)
            canaries[region] = (path, canary)
        first = canaries[group.regions[0]][1]
        watched = (*(path for path, _ in canaries.values()), *files.every())
        report = _load(group.kind, view, held, first, watched, settings, scratch)
        trouble = _trouble(report, first, view, held) or _unscanned(group.kind, report, watched)
        trial = Trial(group, report, canaries, trouble=trouble)
        if trial.trouble:
            trial.alone = _alone(group, settings, work)
        return trial
    finally:
        remove(work)


def _load(
    kind: EngineKind,
    view: Path,
    sections: Sequence[Section],
    canary: Canary | None,
    watched: tuple[Path, ...],
    settings: GateSettings,
    scratch: Path,
) -> LoadReport:
    one = OneEngine(kind, kind, load_seconds=settings.seconds, load_bytes=settings.mebibytes << 20)
    engine: Engine = ClamAV(one) if kind == "clamav" else Yara(one)
    try:
        return engine.load_test(LoadTest(view, sections, canary, Corpora(), scratch, watched))
    except EngineDownError as error:
        raise GateError(
            f"{NAMES[kind]} is installed and could not try the release: {error.what}",
            kept="the releases published before; nothing was logged or signed",
            todo="see why it cannot run here, and build again",
        ) from error


def _trouble(report: LoadReport, canary: Canary | None, view: Path, held: Sequence[Section]) -> str:
    """Why the set was not loaded as it is; what is found in files is for the checks to judge."""
    judged = replace(report, problem="", clean_hits=0, missed=0)
    judged.judge(LoadTest(view, held, canary, Corpora(), view))
    if judged.problem:
        return report.problem or judged.problem
    full = replace(report, problem="")
    full.judge(LoadTest(view, held, canary, Corpora(), view))
    return "" if report.problem == full.problem else report.problem


def _unscanned(kind: EngineKind, report: LoadReport, watched: Sequence[Path]) -> str:
    """An engine passes over what it cannot read, without a word; a file that was not scanned must not count as clean."""
    programs = [clamscan.find_program(None)] if kind == "clamav" else []
    there = {path for path in watched if path.stat().st_size}
    asked = 1 + len(always_clean(*programs)) + len(there)
    return f"only {report.scanned:,} of {asked:,} files were scanned" if report.scanned < asked else ""


def _alone(group: Group, settings: GateSettings, work: Path) -> list[str]:
    """Sections that do not load as they should even alone: where to look first."""
    bad: list[str] = []
    if len(group.sections) > MOST_ALONE:
        return bad
    for number, section in enumerate(group.sections):
        view, scratch = work / f"alone-{number}", work / f"alone-{number}-scratch"
        for folder in (view, scratch):
            make_directory(folder)
        shutil.copyfile(group.bundle.path(section), view / section.name)
        try:
            report = _load(group.kind, view, [section], None, (), settings, scratch)
            trouble = _trouble(report, None, view, [section])
        except ColdchainError as error:
            trouble = error.what
        if trouble:
            bad.append(f"{section.name}: {trouble}")
    return bad
