"""The check *canary*: every region's canary is found, under its own name, by every engine that the region's bundle is meant for.

It is what endpoints will ask their engines for: a canary that another signature hides, or a line switches off, would have every
endpoint refuse the release.
"""

from __future__ import annotations

from coldchain_server.gate.result import Result, failed, not_run, passed
from coldchain_server.gate.trial import NAMES, Trials


def check_canary(trials: Trials) -> Result:
    """Whether all were found."""
    if not trials.done:
        return not_run("canary", f"no engine ran; {trials.missing()}") if trials.absent else _nothing()
    lost, found = [], 0
    for trial in trials.done:
        for region in trial.lost_canaries():
            path, canary = trial.canaries[region]
            instead = f"{', '.join(trial.found(path))} was found" if trial.found(path) else "nothing was found"
            lost.append(f"{NAMES[trial.group.kind]}: {region}: instead of {canary.name} {instead}")
        found += len(trial.canaries)
    if lost:
        return failed("canary", f"{len(lost)} of {found} were not found by {trials.versions}", lost)
    return passed("canary", f"all {found} were found by {trials.versions}")


def _nothing() -> Result:
    return passed("canary", "no bundle has a section for an engine")
