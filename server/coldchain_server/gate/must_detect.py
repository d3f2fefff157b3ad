"""The check *must-detect*: in every file of the must-detect corpus, and in EICAR, something is found.

A file must be found by at least one engine: a sample that only YARA has a rule for is none of ClamAV's business. A region whose
declared policies leave signatures out may miss what another region finds; how many files that are is part of the result.
"""

from __future__ import annotations

from collections.abc import Mapping

from coldchain.bundle.manifest import RegionFacts
from coldchain_server.gate.result import Result, failed, not_run, passed
from coldchain_server.gate.trial import Files, Trials


def check_must_detect(trials: Trials, files: Files, regions: Mapping[str, RegionFacts], eicar: bool) -> Result:
    """Whether every sample is found in every region, but for what policies explain.

    Args:
        trials: what was found.
        files: the samples.
        regions: with their declared policies.
        eicar: whether the EICAR file is one of the samples.
    """
    check = "must-detect"
    if not trials.done:
        if not trials.absent:
            return passed(check, "no bundle has a section for an engine")
        return not_run(check, f"no engine ran; {trials.missing()}")
    if not trials.loaded:
        return not_run(check, "a set was not loaded as it is, so that what it finds says nothing")
    if not files.samples:
        return not_run(check, "there is no sample: the operator gives none, and switched EICAR off")
    found = {region: _found(trials, files, region) for region in regions}
    everywhere = set.union(*found.values())
    plain = [found[region] for region, facts in regions.items() if not facts.policy]
    reference = set.intersection(*plain) if plain else everywhere
    missed = [path for path in files.samples if str(path) not in reference]
    words = f"{len(files.samples):,} samples{' (EICAR with them)' if eicar else ''}"
    if missed and trials.absent:
        return not_run(
            check,
            f"something found in {len(files.samples) - len(missed):,} of {words} by {trials.versions}; {trials.missing()}",
        )
    if missed:
        findings = [f"nothing is found in {path}" for path in missed]
        todo = "see that a feed has a signature for each"
        if eicar and missed[0] == files.samples[0]:
            todo += "; if none of the feeds knows EICAR, say `eicar = false` under [gate] in settings.toml"
        return failed(check, f"nothing found in {len(missed):,} of {words} by {trials.versions}", findings, todo=todo)
    left = {region: len(reference - seen) for region, seen in found.items() if reference - seen}
    explained = "".join(f"; {count:,} not in {region}, by its policies" for region, count in left.items())
    return passed(check, f"something found in all of {words} by {trials.versions}{explained}")


def _found(trials: Trials, files: Files, region: str) -> set[str]:
    """The samples that some engine finds with this region's bundle."""
    return {
        str(path)
        for trial in trials.done
        if region in trial.group.regions
        for path in files.samples
        if trial.found(path)
    }
