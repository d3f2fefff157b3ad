"""Running the gate: the served files are taken apart, tried in every installed engine, and judged check by check.

::

    outcome = run_gate(home, Order(...), settings)
    outcome.checks          the lines of the manifest's gate
    outcome.require(...)    raises GateError when a check failed, or was not run and nobody said why that may be

A failed check stops the release whatever anybody says. One that was not run (an engine is not installed) needs a reason, which becomes
a line of the manifest itself: the manifest is logged before anything is signed, so the reason has to be there when it is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from coldchain.bundle.description import FILE_NAME
from coldchain.bundle.manifest import WITHOUT_GATE, GateCheck, Manifest, RegionFacts
from coldchain.errors import GateError
from coldchain.monitor.taken_apart import DecodedBundle
from coldchain_server.feeds.formats.yara_source import rule_spans
from coldchain_server.gate.canary import check_canary
from coldchain_server.gate.clean import check_clean
from coldchain_server.gate.corpora import Sample, eicar, operators_files, system_sample
from coldchain_server.gate.lint import check_lint
from coldchain_server.gate.load import check_load
from coldchain_server.gate.must_detect import check_must_detect
from coldchain_server.gate.new_detections import Detections, check_new_detections, detections
from coldchain_server.gate.own_files import check_own_files, own_files
from coldchain_server.gate.result import CHECKS, SHOWN, Result
from coldchain_server.gate.served import CANARIES, for_engine, take_served
from coldchain_server.gate.settings import ENGINES, GateSettings
from coldchain_server.gate.trial import Files, Say, Trials, present, run_trials
from coldchain_server.home import Home
from coldchain_server.storage.durable import disk, make_directory, remove

Answer = TypeVar("Answer")
_NOTHING = "the releases published before; nothing was logged or signed"


@dataclass(frozen=True, slots=True)
class Order:
    """What is tried.

    Attributes:
        product: of the release.
        regions: what the manifest says of each region's bundle, and its declared policies.
        files: region -> the full bundle's file, as it will be served.
        served: region -> every file that will be served there, deltas among them.
        feeds: what the lint said of the feeds.
        before: what the release before found; None where there is none.
        cache: remembers sections that the lint found in order; None: everything is looked at anew.
    """

    product: str
    regions: Mapping[str, RegionFacts]
    files: Mapping[str, Path]
    served: Mapping[str, Sequence[Path]]
    feeds: str
    before: Detections | None = None
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Every check's result, what was found in the samples, and where signatures that would have to go stand."""

    results: tuple[Result, ...]
    found: Detections
    holders: Mapping[str, str] = field(default_factory=dict)

    @property
    def checks(self) -> tuple[GateCheck, ...]:
        """The lines of the manifest."""
        return tuple(result.check for result in self.results)

    @property
    def failures(self) -> list[Result]:
        """What stops the release."""
        return [result for result in self.results if result.failed]

    def require(self, what: str, without: str) -> tuple[GateCheck, ...]:
        """The lines of the manifest, with the reason where one is needed.

        Args:
            what: the release, for messages.
            without: why it goes out although a check was not run; empty for no reason.

        Raises:
            GateError: a check failed, or one was not run and there is no reason.
        """
        if self.failures:
            raise self.refusal(what, _NOTHING)
        left = [check for check in self.checks if check.result == "not-run"]
        if not left:
            return self.checks
        if not without:
            lines = "".join(f"\n  not run: {check.check}: {check.detail}" for check in left)
            raise GateError(
                f"{what}: not every check was run{lines}",
                kept=_NOTHING,
                todo='install what is missing, or say in public why it goes out without: --without-gate "REASON"',
                checks=_as_json(self.checks),
            )
        return (*self.checks, GateCheck(WITHOUT_GATE, "not-run", without))

    def refusal(self, what: str, kept: str) -> GateError:
        """The error that says which checks failed, and by what."""
        lines, blamed = [], set[str]()
        for result in self.failures:
            lines.append(f"  {result.check.check}: {result.check.detail}")
            lines += [f"    {line}" for line in result.findings[:SHOWN]]
            if len(result.findings) > SHOWN:
                lines.append(f"    and {len(result.findings) - SHOWN:,} more")
            blamed |= result.blamed
        todo = "; ".join(filter(None, (result.todo for result in self.failures)))
        if blamed:
            names = [
                f"{name} ({self.holders.get(name, 'in no section by that name')})" for name in sorted(blamed)[:SHOWN]
            ]
            todo = f"{todo}; " * bool(todo) + (
                f"take out {', '.join(names)}: mend the feed, or leave the signature out in every region with a policy of "
                "regions.toml; then build again"
            )
        return GateError(
            "\n".join([f"{what} did not pass", *lines]),
            kept=kept,
            todo=todo or "mend what is named at its source, and build again",
            checks=_as_json(self.checks),
        )


def _as_json(checks: Iterable[GateCheck]) -> list[dict[str, str]]:
    return [{"check": check.check, "result": check.result, "detail": check.detail} for check in checks]


def require_gate(manifest: Manifest) -> None:
    """Refuses a manifest whose gate is not whole: nothing is logged, signed or published that was not tried.

    Raises:
        GateError: a check is missing or failed, or one was not run and no reason stands beside it.
    """
    what = f"release {manifest.release} of {manifest.channel}"
    found = {check.check: check.result for check in manifest.gate}
    bad = [name for name in CHECKS if found.get(name, "missing") in ("missing", "failed")]
    bad += [] if WITHOUT_GATE in found else [name for name in CHECKS if found.get(name) == "not-run"]
    if bad:
        raise GateError(
            f"{what}: its manifest has no good word of the gate about {', '.join(bad)}",
            kept=_NOTHING,
            todo=f"coldchain-server release discard {manifest.release}, and build again",
        )


def run_gate(home: Home, order: Order, settings: GateSettings, say: Say = lambda _: None) -> Outcome:
    """Tries a release.

    Args:
        home: the origin; ``HOME/gate/work`` is used and removed again.
        order: what is tried.
        settings: how.
        say: told what happens, a line at a time.

    Raises:
        GateError: a served file is not what the manifest says, or an installed engine could not be asked.
        UsageError: a corpus of the settings is not there.
        StorageError: the disk refused.
    """

    def judged(bundles: Mapping[str, DecodedBundle], work: Path) -> Outcome:
        files = _files(home, order, bundles, settings, work)
        trials = run_trials(bundles, order.product, files, settings, work / "trials", say)
        return _judge(order, bundles, trials, files, settings)

    return _apart(home, order, judged)


def detections_of(home: Home, order: Order, settings: GateSettings) -> Detections:
    """What an earlier release finds in the samples of today: for when what it found is not known any more.

    Raises:
        GateError: its files are not there as they were served.
    """

    def found(bundles: Mapping[str, DecodedBundle], work: Path) -> Detections:
        files = Files(samples=_samples(settings, work))
        return detections(run_trials(bundles, order.product, files, settings, work / "trials"), files)

    return _apart(home, order, found)


def _apart(home: Home, order: Order, then: Callable[[Mapping[str, DecodedBundle], Path], Answer]) -> Answer:
    """Calls ``then`` with the bundles taken apart and a directory that is gone afterwards."""
    work = (home.gate / "work").resolve()
    remove(work)
    make_directory(work / "trials")
    try:
        return then(take_served(order.files, order.regions, work / "apart"), work)
    finally:
        remove(work)


def _judge(
    order: Order, bundles: Mapping[str, DecodedBundle], trials: Trials, files: Files, settings: GateSettings
) -> Outcome:
    now = detections(trials, files)
    results = [check_lint(bundles, order.feeds, order.cache)]
    results += [check_load(kind, trials, settings) for kind in ENGINES]
    results += [
        check_canary(trials),
        check_clean(trials, files),
        check_own_files(trials, files),
        check_must_detect(trials, files, order.regions, settings.eicar),
        check_new_detections(trials, order.before, now),
    ]
    blamed = frozenset[str]().union(*(result.blamed for result in results))
    return Outcome(tuple(results), now, _holders(bundles, blamed))


def _files(home: Home, order: Order, bundles: Mapping[str, DecodedBundle], settings: GateSettings, work: Path) -> Files:
    """What is scanned; nothing where no engine will ask."""
    asked = [kind for kind in settings.engines if not present(kind)]
    if not any(for_engine(bundle.description, kind) for bundle in bundles.values() for kind in asked):
        return Files()
    sections: dict[Path, frozenset[str]] = {}
    descriptions = []
    for region, bundle in bundles.items():
        description = work / f"{region}-{FILE_NAME}"
        with disk(description):
            description.write_bytes(bundle.description.encode())
        descriptions.append(description)
        for section in bundle.description.sections:
            path = bundle.path(section)
            rules = frozenset[str]()
            if section.engine == "yara" and path not in sections:
                rules = frozenset(span.name for span in rule_spans(path.read_bytes()))
            sections.setdefault(path, rules)
    served = [path.resolve() for region in _different(bundles) for path in order.served.get(region, ())]
    own = [*own_files(home), *descriptions, *sections, *served]
    clean = operators_files(settings.clean, "clean")
    return Files(
        system=system_sample(settings.system, settings.system_mebibytes << 20) if settings.system else Sample(),
        clean=clean,
        own=tuple(own),
        rules={path: rules for path, rules in sections.items() if rules},
        samples=_samples(settings, work),
    )


def _different(bundles: Mapping[str, DecodedBundle]) -> list[str]:
    """One region of each kind: files of regions that are the same but for the canaries differ in their first bytes alone."""
    found: dict[tuple[tuple[str, str], ...], str] = {}
    for region, bundle in bundles.items():
        sections = bundle.description.sections
        found.setdefault(tuple((one.name, one.sha256) for one in sections if one.name not in CANARIES.values()), region)
    return list(found.values())


def _samples(settings: GateSettings, work: Path) -> tuple[Path, ...]:
    samples = operators_files(settings.must_detect, "must_detect")
    if not settings.eicar:
        return samples
    path = work / "eicar.com"
    with disk(path):
        path.write_bytes(eicar())
    return (path, *samples)


def _holders(bundles: Mapping[str, DecodedBundle], names: Iterable[str]) -> dict[str, str]:
    """Where signatures stand: name -> the sections that spell it."""
    wanted = {name: os.fsencode(name) for name in names}
    found: dict[str, set[str]] = {name: set() for name in wanted}
    if wanted:
        sections = {(one.name, bundle.path(one)) for bundle in bundles.values() for one in bundle.description.sections}
        for section, path in sections:
            data = path.read_bytes()
            for name, spelt in wanted.items():
                if spelt in data:
                    found[name].add(section)
    return {name: ", ".join(sorted(where)) for name, where in found.items() if where}
