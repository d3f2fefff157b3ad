"""freshclam beside us in the same hostile-mirror cases: exit codes, and what an engine would load after them.

::

    python -m benchmarks.freshclam_cases [--case NAME]... [--limit SECONDS] [--json FILE] [--page docs/freshclam.md]

Both programs are the real ones, each against the same server over real sockets, each with release 1 installed and release 2 offered:
the same 20,000 SHA-256 signatures, of which 200 change. The server does in each case the same to both: to every request where it
refuses to answer, to the file with the signatures where it answers falsely. Afterwards the server is good again, and both run once
more. A program that has not ended after the limit (300 s) is ended and said to run on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.hostile_server import RETRY_AFTER, Behaviour, hostile_server
from benchmarks.origin_tree import OriginTree
from benchmarks.updaters import FILE, Coldchain, Freshclam

RECORDS: Final = 20_000
LIMIT: Final = 300.0
DAY: Final = 86_400
MISSING: Final = "nothing"


@dataclass(frozen=True)
class Case:
    """``how`` the server behaves (:class:`benchmarks.hostile_server.Behaviour`); ``whole``: to every request."""

    name: str
    how: str
    whole: bool
    words: str


CASES: Final = (
    Case("429", "429", True, f"429 to everything, Retry-After: {RETRY_AFTER}"),
    Case("503", "503", True, f"503 to everything, Retry-After: {RETRY_AFTER}"),
    Case("404", "404", True, "404 to everything"),
    Case("cut", "cut", False, "the signatures end at half of their announced length"),
    Case(
        "cut unannounced",
        "cut unannounced",
        False,
        "the signatures end at half, after a whole line, and no length was announced",
    ),
    Case("corrupt", "corrupt", False, "one bit of the signatures is changed"),
    Case("restored", "good", True, "the operator's withdrawal of release 2: release 1's files are put back"),
    Case("drip", "drip", False, "the signatures come at 20 bytes a second"),
    Case("killed", "stall", False, "kill -9 when half of the signatures have come"),
    Case("redirect", "redirect", True, "a redirect to another server, which has another list"),
)


@dataclass(frozen=True)
class Found:
    """What a case left of one program.

    Attributes:
        code: the exit code; None when it ran on or was killed.
        seconds: until it ended.
        requests: how many, of which
        early: came after a refusal and before the time that the server asked for.
        active: what an engine would load.
        left_over: files that nobody needs, after the case.
        next_code: the exit code of the next run, against a good server.
        next_active: what an engine would load after it.
        next_left_over: files that nobody needs, after it.
        says: the line that a person reads first.
    """

    code: int | None
    seconds: float
    requests: int
    early: int
    active: str
    left_over: int
    next_code: int | None
    next_active: str
    next_left_over: int
    says: str


class Lists:
    """The signature lists of a run, and the names that what is found goes by."""

    def __init__(self) -> None:
        self.first = records(range(RECORDS))
        self.second = records(range(RECORDS // 100, RECORDS + RECORDS // 100))
        self.foreign = records(range(10**6, 10**6 + 50))

    def name(self, data: bytes | None) -> str:
        """What a list is: one of the known ones, a part of one, or another one."""
        if data is None:
            return MISSING
        known = {self.first: "release 1", self.second: "release 2", self.foreign: "the other server's list"}
        sorted_lines = b"".join(sorted(data.splitlines(keepends=True)))
        for one, name in known.items():
            if data == one or sorted_lines == b"".join(sorted(one.splitlines(keepends=True))):
                return name
        for one, name in known.items():
            if one.startswith(data):
                part, whole = len(data.splitlines()), len(one.splitlines())
                return f"{part:,} of {whole:,} signatures of {name}"
        return "another list than any published one"


def records(numbers: Sequence[int]) -> bytes:
    """A SHA-256 database with a made-up record for each number."""
    lines = (f"{hashlib.sha256(b'%d' % n).hexdigest()}:{n + 100}:Acme.Test-{n}:73\n" for n in numbers)
    return "".join(sorted(lines)).encode()


class Bench:
    """Both programs and what is served to them, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.lists = Lists()
        origin = OriginTree(folder / "made")
        self.trees: dict[str, dict[int, Path]] = {"freshclam": {}, "coldchain": {}}
        for number, data in enumerate((self.lists.first, self.lists.second), 1):
            origin.publish({FILE: data})
            self.trees["coldchain"][number] = folder / f"coldchain-{number}"
            shutil.copytree(origin.public, folder / f"coldchain-{number}")
            plain = self.trees["freshclam"][number] = folder / f"freshclam-{number}"
            plain.mkdir()
            (plain / FILE).write_bytes(data)
            os.utime(plain / FILE, (time.time() - (3 - number) * DAY,) * 2)
        self.foreign = folder / "foreign"
        self.foreign.mkdir()
        (self.foreign / FILE).write_bytes(self.lists.foreign)
        self.programs: list[Freshclam | Coldchain] = [Coldchain(folder / "coldchain", origin)]
        if not Freshclam.missing():
            self.programs.insert(0, Freshclam(folder / "freshclam"))

    def run(self, case: Case, program: Freshclam | Coldchain, limit: float) -> Found:
        """One case."""
        trees = self.trees[program.name]
        behaviour = Behaviour(trees[1])
        with hostile_server(behaviour) as url, hostile_server(Behaviour(self.foreign)) as elsewhere:
            program.prepare(url)
            self._install(program, behaviour, 1)
            if case.name == "restored":
                self._install(program, behaviour, 2)
                behaviour.folder = trees[1]
            else:
                behaviour.folder = trees[2]
            behaviour.how, behaviour.elsewhere = case.how, elsewhere
            whole = case.whole
            behaviour.aimed = lambda path: whole or path.endswith((".ccd", ".pack", FILE))
            behaviour.asked.clear()
            behaviour.half.clear()
            started = time.monotonic()
            code, output = _run(program.command, limit, behaviour if case.name == "killed" else None)
            seconds = time.monotonic() - started
            asked, active, left = list(behaviour.asked), self.lists.name(program.active()), program.left_over()
            behaviour.ended.set()
            behaviour.how, behaviour.folder = "good", trees[2]
            next_code, _ = _run(program.command, limit, None)
        refused = case.how in ("429", "503")
        return Found(
            code=code,
            seconds=round(seconds, 1),
            requests=len(asked),
            early=sum(1 for when, _ in asked[1:] if when - asked[0][0] < RETRY_AFTER) if refused and asked else 0,
            active=active,
            left_over=left,
            next_code=next_code,
            next_active=self.lists.name(program.active()),
            next_left_over=program.left_over(),
            says=_first(output),
        )

    def _install(self, program: Freshclam | Coldchain, behaviour: Behaviour, number: int) -> None:
        """From a good server, half a day after it was published."""
        name, behaviour.folder = f"release {number}", self.trees[program.name][number]
        code, output = _run(program.command, 120.0, None)
        if code or self.lists.name(program.active()) != name:
            raise RuntimeError(f"{program.name} could not install {name} from a good server: {output}")
        program.installed_at(time.time() - (3 - number) * DAY + DAY / 2)


def _run(command: list[str], limit: float, kill_at_half: Behaviour | None) -> tuple[int | None, str]:
    """Runs it to its end, to the limit, or to the half of a file; its code (None unless it ended by itself) and its words."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            if kill_at_half is not None and kill_at_half.half.wait(limit):
                time.sleep(0.5)  # until it has read what was sent
                os.killpg(process.pid, signal.SIGKILL)
            output = process.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]
    return (process.returncode if process.returncode >= 0 else None), output


def _first(output: str) -> str:
    """The line that says how it ended: an error if there is one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("ClamAV update process", "WARNING: DNS Update Info"))]
    errors = [line for line in told if line.startswith(("ERROR", "WARNING", "coldchain:"))]
    line = (errors or told[-1:] or [""])[0]
    return line[:110]


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="coldchain-freshclam-") as folder:
        yield Bench(Path(folder))


def measure(names: Sequence[str], limit: float) -> dict[str, dict[str, Found]]:
    """Case -> program -> what was found."""
    out: dict[str, dict[str, Found]] = {}
    with bench() as made:
        for case in CASES:
            if names and case.name not in names:
                continue
            out[case.name] = {program.name: made.run(case, program, limit) for program in made.programs}
            for name, found in out[case.name].items():
                print(
                    f"{case.name:16} {name:10} {_code(found):>9} {found.seconds:6.1f} s  {found.active}; then {found.next_active}"
                )
    return out


def table(results: Mapping[str, Mapping[str, Found]]) -> str:
    """The table for a page."""
    lines = [
        "| case | program | exit code | after | requests | an engine would load | left over | after the next run |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for case in CASES:
        for name, found in results.get(case.name, {}).items():
            early = f", {found.early} before it was asked to" if found.early else ""
            after = found.next_active + (f", {found.next_left_over} files left over" if found.next_left_over else "")
            lines.append(
                f"| {case.words} | {name} | {_code(found)} | {found.seconds:.0f} s | {found.requests}{early} | {found.active} "
                f"| {found.left_over} | {after} |"
            )
    return "\n".join(lines)


def _code(found: Found) -> str:
    return "none" if found.code is None else str(found.code)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 without freshclam."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freshclam_cases", description="See the module.")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], default=[])
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the table into this page, between its two marks")
    options = parser.parse_args(arguments)
    if Freshclam.missing():
        print(f"{Freshclam.missing()}: apt-get install clamav-freshclam", file=sys.stderr)
        return 2
    results = measure(options.case, options.limit)
    if options.json:
        text = json.dumps(
            {case: {name: asdict(one) for name, one in found.items()} for case, found in results.items()}, indent=1
        )
        options.json.write_text(text + "\n", encoding="utf-8")
    made = table(results)
    print(made)
    if options.page:
        put(options.page, "cases", made)
    return 0


def put(page: Path, mark: str, text: str) -> None:
    """Puts a text between ``<!-- MARK -->`` and ``<!-- end of MARK -->`` of a page."""
    before, start, rest = page.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- end of {mark} -->")
    if not start or not end:
        raise SystemExit(f"{page} has no marks for {mark}")
    page.write_text(f"{before}{start}{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
