"""``clamscan`` as a judge: it loads a set of its own, in a child process, and says what it counted and found.

One run answers everything::

    clamscan --infected --recursive --detect-pua --bytecode-unsigned … --database=SET --file-list=WORK/targets
    /…/canary: Coldchain.Canary.us-stable-42.UNOFFICIAL FOUND
    Known viruses: 1234

``Known viruses`` counts every line of most databases, exceptions (fp, sfp) and repetitions among them; a record that the set itself
switches off (ign, ign2) is not counted, and some databases are not counted at all. So the number that must come out is known
before; any other means that the engine dropped something without a word (a record for an engine of the future, a line
that is no signature), which it does with exit code 0.

``--detect-pua`` and ``--bytecode-unsigned`` are there so that all of a set is loaded, whatever the daemon is set to; limits of size and
time are raised, since a file beyond them (100 MiB) would count as scanned and clean without being looked at. The files stand in
a list, because a command line ends at 2 MiB.
Source: ``man clamscan``; libclamav/readdb.c; tried with ClamAV 1.4.6.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from coldchain.bundle.description import Section
from coldchain.bundle.sections import blocks
from coldchain.engines import child
from coldchain.engines.clamd import UNOFFICIAL
from coldchain.engines.corpora import always_clean, files_below, must_detect
from coldchain.engines.interface import SHOWN, LoadReport, LoadTest, never
from coldchain.errors import EngineDownError
from coldchain.install import durable
from coldchain.limits import LIMITS
from coldchain.records import extension, record_name

UNCOUNTED: Final = frozenset({"ign", "ign2", "crb", "wdb", "ftm", "cfg", "pwdb", "cbc", "cat"})
"""Databases whose records are not among the known viruses."""
_SWITCHES_OFF: Final = frozenset({"ign", "ign2"})
TARGETS: Final = "targets"
_UNLIMITED: Final = ("--max-filesize=2000M", "--max-scansize=4000M", "--max-scantime=0")
_SUMMARY: Final = re.compile(rb"(Known viruses|Scanned files|Infected files): (\d{1,15})\Z")
_FOUND: Final = re.compile(rb"(.*): (.+) FOUND\Z", re.DOTALL)


def find_program(configured: Path | None) -> Path:
    """The path of clamscan.

    Raises:
        EngineDownError: there is none.
    """
    found = configured or next(map(Path, filter(None, [shutil.which("clamscan")])), None)
    if found is None or not os.access(found, os.X_OK):
        raise EngineDownError(
            f"{found or 'clamscan'} is not installed", todo="install ClamAV (Debian: apt-get install clamav)"
        )
    return found


def version(program: Path, work: Path) -> str:
    """What the program says of its version, without the version of databases that are not ours. Raises EngineDownError."""
    said: list[bytes] = []
    ending = child.run([str(program), "--version"], said.append, seconds=60, memory=1 << 30, work=work, stopped=never)
    if ending.verdict(program.name, 60) or ending.code != 0 or not said:
        raise EngineDownError(f"{program} does not say its version: {ending.complaint() or 'no reason given'}")
    return said[0].decode("utf-8", "replace").partition("/")[0][:60]


def expected(folder: Path, sections: Sequence[Section]) -> int:
    """How many signatures the set must count: its records, without those that it switches off itself."""
    every = sum(section.records for section in sections if extension(section.name) not in UNCOUNTED)
    off: dict[str, set[str]] = {}
    for section in sections:
        if extension(section.name) in _SWITCHES_OFF:
            for line in _lines(folder, section):
                parts = line.decode("utf-8", "replace").split(":")
                name = parts[2] if len(parts) > 2 else parts[0]
                off.setdefault(name, set()).add(parts[1].lower() if len(parts) == 2 else "")
    if not off:
        return every
    for section in sections:
        if section.kind == "set" and extension(section.name) not in UNCOUNTED:
            every -= sum(1 for line in _lines(folder, section) if _switched_off(section.name, line, off))
    return every


def _switched_off(section: str, line: bytes, off: dict[str, set[str]]) -> bool:
    marks = off.get(record_name(section, line) or "")
    return marks is not None and ("" in marks or hashlib.md5(line, usedforsecurity=False).hexdigest() in marks)


def _lines(folder: Path, section: Section) -> Iterator[bytes]:
    with durable.disk(folder / section.name), (folder / section.name).open("rb") as file:
        for block in blocks(file, section.name, LIMITS):
            yield from block[:-1].split(b"\n")


class Answer:
    """What one run said: the numbers of its summary, and what it found.

    Args:
        known: files whose verdicts are asked for; of all others the first are kept, and how many there were.
    """

    def __init__(self, known: Collection[bytes]) -> None:
        self._known = known
        self.summary: dict[str, int] = {}
        self.found: dict[bytes, str] = {}
        self.others = 0
        self.other_names: list[str] = []

    def line(self, line: bytes) -> None:
        """One line of it. Whatever ends in FOUND counts, so that no file's name can hide a hit."""
        if match := _FOUND.match(line):
            name = match[2].decode("utf-8", "replace").removesuffix(UNOFFICIAL)
            if match[1] in self._known:
                self.found[match[1]] = name
                return
            self.others += 1
            if len(self.other_names) < SHOWN:
                self.other_names.append(f"{match[1].decode('utf-8', 'backslashreplace')}: {name}")
        elif match := _SUMMARY.match(line):
            self.summary[match[1].decode()] = int(match[2])


def scan(
    program: Path,
    folder: Path,
    targets: Sequence[Path],
    answer: Answer,
    *,
    seconds: int,
    memory: int,
    work: Path,
    stopped: Callable[[], bool] = never,
) -> tuple[child.Ending, str]:
    """One run over files and directories, read into ``answer``.

    Returns:
        How the child ended, and why the set did not load (empty when it did).

    Raises:
        EngineDownError: the program could not be started, or was stopped.
    """
    options = ["--infected", "--recursive", "--detect-pua", "--bytecode-unsigned", f"--tempdir={work}"]
    names = work / TARGETS
    names.write_bytes(b"".join(os.fsencode(target) + b"\n" for target in targets))
    command = [str(program), *options, *_UNLIMITED, f"--database={folder}", f"--file-list={names}"]
    ending = child.run(command, answer.line, seconds=seconds, memory=memory, work=work, stopped=stopped)
    problem = ending.verdict(program.name, seconds)
    if not problem and ending.code not in (0, 1):
        problem = f"{program.name} does not load the set: {ending.complaint() or f'exit code {ending.code}'}"
    return ending, problem


def load_test(
    program: Path, test: LoadTest, seconds: int, memory: int, stopped: Callable[[], bool] = never
) -> LoadReport:
    """Tries a set (see :class:`coldchain.engines.interface.Engine`)."""
    report = LoadReport("clamav", version(program, test.work))
    must = must_detect(test.corpora.must_detect)
    for path in test.corpora.clean:
        next(files_below([path]), None)  # a path that is not there is a mistake, and clamscan would only warn
    report.expected = expected(test.folder, test.sections)
    canary = test.work / "canary"
    canary.write_bytes(test.canary.data if test.canary else b"")
    watched = {os.fsencode(path): path for path in test.watched}
    answer = Answer({os.fsencode(canary), *must, *watched})
    targets = [canary, *always_clean(program), *test.corpora.clean, *test.corpora.must_detect, *test.watched]
    ending, report.problem = scan(
        program, test.folder, targets, answer, seconds=seconds, memory=memory, work=test.work, stopped=stopped
    )
    report.seconds, report.cpu_seconds, report.peak_bytes = ending.seconds, ending.cpu_seconds, ending.peak_bytes
    report.loaded = answer.summary.get("Known viruses", 0)
    report.canary = test.canary is not None and answer.found.get(os.fsencode(canary)) == test.canary.name
    missed = [str(path) for data, path in must.items() if data not in answer.found]
    report.must_detect, report.missed, report.missed_names = len(must), len(missed), missed[:SHOWN]
    report.clean_hits, report.clean_names = answer.others, answer.other_names
    report.found = {str(path): (answer.found[data],) for data, path in watched.items() if data in answer.found}
    report.scanned = answer.summary.get("Scanned files", 0)
    report.clean_files = max(0, report.scanned - 1 - len(must) - len(watched))
    report.judge(test)
    return report
