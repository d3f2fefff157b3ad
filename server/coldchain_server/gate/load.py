"""The checks *load-clamav* and *load-yara*: each engine loads every bundle, and counts as many signatures as it should.

An engine that drops a signature says nothing and ends well, so the number that must come out is worked out before
(:mod:`coldchain.engines.clamscan`). A child that dies, or goes beyond its limits of time and memory, has not loaded the bundle.
"""

from __future__ import annotations

from coldchain.engines.interface import EngineKind
from coldchain_server.gate.result import Result, failed, not_run, passed
from coldchain_server.gate.settings import GateSettings
from coldchain_server.gate.trial import NAMES, Trial, Trials


def check_load(kind: EngineKind, trials: Trials, settings: GateSettings) -> Result:
    """What one engine made of the bundles."""
    check = f"load-{kind}"
    if kind in trials.absent:
        return not_run(check, f"{NAMES[kind]}: {trials.absent[kind]}")
    done = trials.of(kind)
    if not done:
        return passed(check, f"no bundle has a section for {NAMES[kind]}")
    words = f"{done[0].report.version}: " + "; ".join(_words(trial) for trial in done)
    limits = f"within {settings.seconds:,} s and {settings.mebibytes:,} MiB each"
    bad = [trial for trial in done if trial.trouble]
    if not bad:
        return passed(check, f"{words}; {limits}")
    findings = []
    for trial in bad:
        findings.append(f"{', '.join(trial.group.regions)}: {trial.trouble}")
        findings += [f"by itself: {section}" for section in trial.alone]
    return failed(check, words, findings)


def _words(trial: Trial) -> str:
    regions, report = trial.group.regions, trial.report
    counts = f"{report.loaded:,} of {report.expected:,} signatures loaded"
    if len(regions) == 1:
        return f"{counts} of {regions[0]}"
    return f"{counts} of {' '.join(regions)}, which are the same but for the canary, all canaries beside each other"
