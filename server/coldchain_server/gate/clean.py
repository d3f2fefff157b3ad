"""The check *clean*: nothing is found in this machine's own files, nor in any of the operator's clean corpus."""

from __future__ import annotations

from coldchain_server.gate.result import Result, failed, not_run, passed, some
from coldchain_server.gate.trial import NAMES, Files, Trials


def check_clean(trials: Trials, files: Files) -> Result:
    """Whether all of them are clean by every engine."""
    system = files.system
    words = (
        f"{len(files.clean):,} files of the operator's and {len(system.files):,} of {system.of:,} of the machine's own "
        f"({system.bytes / (1 << 20):,.1f} MiB)"
    )
    if not trials.done:
        if not trials.absent:
            return passed("clean", "no bundle has a section for an engine")
        return not_run("clean", f"no engine ran; {trials.missing()}")
    if not trials.loaded:
        return not_run("clean", "a set was not loaded as it is, so that what it finds says nothing")
    if not files.clean and not system.files:
        return not_run("clean", "there is no clean file to try the release on")
    findings, blamed, hit = [], set[str](), set[str]()
    for trial in trials.done:
        for path in (*files.clean, *system.files):
            if names := trial.found(path):
                findings.append(f"{NAMES[trial.group.kind]}: {', '.join(names)} in {path} ({trial.group.regions[0]})")
                blamed.update(names)
                hit.add(str(path))
    if findings:
        return failed("clean", f"{len(hit):,} files of {words} were found by {some(blamed)}", findings, blamed)
    return passed("clean", f"nothing found in {words} by {trials.versions}{trials.spared}")
