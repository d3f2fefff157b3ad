"""What an update costs freshclam and us, on the same data in the same run.

::

    python -m benchmarks.freshclam_cost [--records 1000000] [--changed 1000] [--runs 3] [--json FILE] [--page docs/freshclam.md]

A database of SHA-256 signatures as a custom URL of freshclam, and as a bundle of ours, from a plain server on the loopback address: the
first set, and then the next one in which a thousand records changed. Runs of the programs alternate; medians are shown. freshclam
is measured as Debian configures it, where it loads the new database once as a test, and without that; ours without an engine, which
an endpoint with one adds the same test to. Both end with the same signatures on the disk, which is checked; ours has verified them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.figures import megabytes
from benchmarks.freshclam_cases import DAY, put, records
from benchmarks.hostile_server import Behaviour, hostile_server
from benchmarks.origin_tree import OriginTree
from benchmarks.processes import run
from benchmarks.updaters import FILE, Coldchain, Freshclam

STEPS: Final = ("first set", "next set")


@dataclass(frozen=True)
class Cost:
    """Of one run: wall-clock and CPU seconds, peak memory in bytes, bytes received."""

    seconds: float
    cpu: float
    memory: int
    received: int


def measure(count: int, changed: int, runs: int) -> dict[str, dict[str, list[Cost]]]:
    """Program -> step -> its runs."""
    out: dict[str, dict[str, list[Cost]]] = {}
    with tempfile.TemporaryDirectory(prefix="coldchain-cost-") as name:
        folder = Path(name)
        lists = [records(range(count)), records(range(changed, count + changed))]
        origin = OriginTree(folder / "made")
        ours, plain = [], []
        for number, data in enumerate(lists):
            origin.publish({FILE: data})
            ours.append(folder / f"coldchain-{number}")
            shutil.copytree(origin.public, ours[-1])
            plain.append(folder / f"freshclam-{number}")
            plain[-1].mkdir()
            (plain[-1] / FILE).write_bytes(data)
            os.utime(plain[-1] / FILE, (time.time() - (2 - number) * DAY,) * 2)
        programs: list[tuple[Freshclam | Coldchain, list[Path]]] = [(Coldchain(folder / "ours", origin), ours)]
        if not Freshclam.missing():
            programs.append((Freshclam(folder / "tested", name="freshclam, tested"), plain))
            programs.append((Freshclam(folder / "untested", tests=False, name="freshclam, not tested"), plain))
        for number in range(runs):
            for program, trees in programs:
                with hostile_server(Behaviour(trees[0])) as url:
                    program.prepare(url)
                    for step, tree, data in zip(STEPS, trees, lists, strict=True):
                        with hostile_server(Behaviour(tree)) as here:
                            program.follow(here)
                            cost = _run(program, tree)
                        if sorted((program.active() or b"").splitlines()) != sorted(data.splitlines()):
                            raise RuntimeError(f"{program.name} did not install the {step}")
                        program.installed_at(time.time() - 1.5 * DAY)
                        out.setdefault(program.name, {}).setdefault(step, []).append(cost)
                        print(
                            f"run {number + 1}: {program.name:24} {step}: {cost.seconds:.2f} s, {megabytes(cost.memory)}"
                        )
    return out


def _run(program: Freshclam | Coldchain, tree: Path) -> Cost:
    started = time.monotonic()
    usage = run(program.command, timeout=600)
    seconds = time.monotonic() - started
    received = (tree / FILE).stat().st_size if isinstance(program, Freshclam) else _received(usage.output)
    return Cost(seconds, usage.cpu, usage.memory, received)


def _received(words: str) -> int:
    """From what ``coldchain update`` says of itself: ``… every byte as signed (67,002,111 bytes, 9 requests)``."""
    return int(words.partition("(")[2].partition(" bytes")[0].replace(",", ""))


def table(results: dict[str, dict[str, list[Cost]]]) -> str:
    """The table for a page: medians."""
    lines = [
        "| update | program | bytes received | seconds | CPU seconds | peak memory |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for step in STEPS:
        for name, steps in results.items():
            runs = steps[step]
            middle = [
                statistics.median(getattr(one, what) for one in runs)
                for what in ("received", "seconds", "cpu", "memory")
            ]
            lines.append(
                f"| {step} | {name} | {int(middle[0]):,} | {middle[1]:.1f} | {middle[2]:.1f} | {megabytes(int(middle[3]))} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 without freshclam."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freshclam_cost", description="See the module.")
    parser.add_argument("--records", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--changed", type=int, default=1000, metavar="N")
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the table into this page, between its two marks")
    options = parser.parse_args(arguments)
    if Freshclam.missing():
        print(f"{Freshclam.missing()}: apt-get install clamav-freshclam", file=sys.stderr)
        return 2
    results = measure(options.records, options.changed, options.runs)
    told = (
        f"{options.records:,} SHA-256 signatures, {options.changed:,} of them new in the next set; medians of {options.runs} "
        f"alternating runs; Python {platform.python_version()}, {os.cpu_count()} cores.\n\n"
    )
    made = told + table(results)
    if options.json:
        data = {
            name: {step: [asdict(one) for one in runs] for step, runs in steps.items()}
            for name, steps in results.items()
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(made)
    if options.page:
        put(options.page, "costs", made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
