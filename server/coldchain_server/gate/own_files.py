"""The check *own-files*: no signature matches our own files, the engines' or the loader's; it would end the protection itself.

::

    ours      the code of both packages, the root that customers pin, signed metadata and manifests, and of the release that is tried
              every section and every file that is served
    engines'  clamscan, clamd and what they are linked to; yara-x
    loader    everything that is mapped into this process: the dynamic loader, the C library, Python

A YARA rule may match the source that holds it: rules hold in plain what they look for. How many do is part of the result, for an engine
that scans the disk will find these files. It may match no other source, and no ClamAV signature may match any.

What is not on this machine is not scanned; how many files were is part of the result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import coldchain
import coldchain_server
from coldchain_server.gate.result import Result, failed, not_run, passed, some
from coldchain_server.gate.trial import NAMES, Files, Trials
from coldchain_server.home import Home

PROGRAMS: Final = ("clamscan", "clamd", "clamdscan", "freshclam", "clamonacc", "sigtool")
_NEWEST: Final = 64
_SECONDS: Final = 20


def own_files(home: Home) -> tuple[Path, ...]:
    """Ours (but for the release itself), the engines' and the loader's: regular files that are there, each once."""
    found = [*_ours(home), *_mapped(), *_programs()]
    return tuple(sorted({real for path in found if (real := path.resolve()).is_file() and str(real).isprintable()}))


def check_own_files(trials: Trials, files: Files) -> Result:
    """Whether none of them is matched by any signature."""
    check = "own-files"
    if not trials.done:
        if not trials.absent:
            return passed(check, "no bundle has a section for an engine")
        return not_run(check, f"no engine ran; {trials.missing()}")
    if not trials.loaded:
        return not_run(check, "a set was not loaded as it is, so that what it finds says nothing")
    findings, blamed, hit, themselves = [], set[str](), set[str](), set[str]()
    for trial in trials.done:
        where = f"{NAMES[trial.group.kind]}: {trial.group.regions[0]}"
        findings += [f"{where}: {line}" for line in trial.report.clean_names]
        hit.update(line.rpartition(": ")[0] for line in trial.report.clean_names)
        blamed.update(line.rpartition(": ")[2] for line in trial.report.clean_names)
        for path in files.own:
            names = set(trial.found(path))
            if trial.group.kind == "yara":
                themselves |= names & files.rules.get(path, frozenset())
                names -= files.rules.get(path, frozenset())
            if names:
                findings.append(f"{where}: {some(names)} in {path}")
                blamed |= names
                hit.add(str(path))
    words = f"{len(files.own):,} files of ours, of the engines and of the loader"
    if findings:
        return failed(check, f"{len(hit):,} of {words} were matched by {some(blamed)}", findings, blamed)
    sources = f"; {len(themselves):,} YARA rules match the source that holds them" if themselves else ""
    return passed(check, f"nothing found in {words} by {trials.versions}{trials.spared}{sources}")


def _ours(home: Home) -> Iterator[Path]:
    for package in (coldchain, coldchain_server):
        yield from Path(str(package.__file__)).parent.rglob("*.py")
    yield home.directory / "root.json"
    for folder in ("metadata", "manifests", "log"):
        files = [path for path in (home.public / folder).glob("*") if path.is_file() and not path.name.startswith(".")]
        yield from sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))[-_NEWEST:]


def _mapped() -> Iterator[Path]:
    """Files mapped into this process. Source: ``man 5 proc_pid_maps``; other systems than Linux give the interpreter alone."""
    yield Path(sys.executable)
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            yield Path(fields[5])


def _programs() -> Iterator[Path]:
    """The engine's programs, and the libraries that the loader gives them (``man 8 ld.so``: LD_TRACE_LOADED_OBJECTS)."""
    for name in PROGRAMS:
        program = shutil.which(name)
        if program is None:
            continue
        yield Path(program)
        try:
            done = subprocess.run(  # noqa: S603  an installed program, which the loader lists and does not run
                [program],
                env={"LD_TRACE_LOADED_OBJECTS": "1", "PATH": os.defpath},
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        yield from (Path(word) for word in done.stdout.split() if word.startswith("/"))
