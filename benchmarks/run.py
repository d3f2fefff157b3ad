"""``make bench``: every history by us and by every peer, what applying costs, and the synthetic database, in one run.

::

    python -m benchmarks.run [--series NAME]... [--steps N | --every K] [--records N] [--json FILE] [--no-peers]

A default run measures at most 12 evenly spread steps of each series, so that it ends in reasonable time; which ones is printed. Results
go to ``benchmarks/results/``: ``results.md`` for people, ``results.json`` with every step, ``ratios.svg``. A series named ``synthetic``
stands for the synthetic database alone. Peers that are not installed are named as missing and nothing is made up for them.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import grown
from benchmarks.applying import Cost, cost
from benchmarks.figures import Step, megabytes, seconds, size, summarise, table, times
from benchmarks.history import Contents
from benchmarks.peers import PEERS, Peer
from benchmarks.picture import Bar, chart
from benchmarks.series import SERIES, Pair, Sampling, Series, count_versions, pairs
from benchmarks.steps import measure

RESULTS: Final = Path(__file__).resolve().parent / "results"
STEPS: Final = 12
SYNTHETIC: Final = "synthetic"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it all; 0, or 2 where nothing could be measured."""
    options = _options().parse_args(arguments)
    peers = [] if options.no_peers else [peer for peer in PEERS if not peer.missing()]
    missing = [f"{peer.name} ({peer.missing()})" for peer in PEERS if peer.missing()]
    print(f"Peers: {', '.join(peer.name for peer in peers) or 'none'}.")
    if missing:
        print(f"MISSING, and so not in any ratio below: {', '.join(missing)}.")
    results: dict[str, Any] = {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "peers": [peer.name for peer in peers],
        "missing": missing,
        "series": {},
    }
    sampling = Sampling(options.every, options.steps)
    with tempfile.TemporaryDirectory(prefix="coldchain-bench-") as scratch:
        for series in SERIES:
            if options.series and series.name not in options.series:
                continue
            if not series.path.exists():
                print(f"{series.name}: its samples are not here ({series.source}); left out.")
                continue
            contents = Contents(Path(scratch) / series.name)
            contents.directory.mkdir()
            results["series"][series.name] = _series(series, sampling, peers, contents)
            _write(results, options.json)  # so that a run that is broken off leaves what it has
        if not options.series or SYNTHETIC in options.series:
            results[SYNTHETIC] = [
                grown.measure(width, options.records, peers, Path(scratch), _say) for width in grown.WIDTHS
            ]
    if not results["series"] and SYNTHETIC not in results:
        print("Nothing was measured: no such series, or no samples.")
        return 2
    _write(results, options.json)
    print(f"\n{report(results)}\nWritten: {RESULTS.name}/results.md, results.json, ratios.svg.")
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.run", description="Measure ourselves and our peers on the same work."
    )
    names = [series.name for series in SERIES] + [SYNTHETIC]
    parser.add_argument("--series", action="append", choices=names, metavar="NAME", help=", ".join(names))
    sampling = parser.add_mutually_exclusive_group()
    sampling.add_argument("--steps", type=int, default=STEPS, help=f"at most so many steps a series (default {STEPS})")
    sampling.add_argument("--every", type=int, metavar="K", help="every K-th step instead; 1 for all")
    parser.add_argument("--records", type=int, default=grown.RECORDS, help="size of the synthetic database")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON there too")
    parser.add_argument("--no-peers", action="store_true", help="measure only ourselves")
    return parser


def _say(text: str) -> None:
    """A line that the next one overwrites, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _series(series: Series, sampling: Sampling, peers: Sequence[Peer], contents: Contents) -> dict[str, Any]:
    started = time.monotonic()
    count = count_versions(series)
    wanted = len(sampling.pick(count - 1))
    failures: dict[str, str] = {}
    steps: list[Step] = []
    last: Pair | None = None
    for pair in pairs(series, count, sampling, contents):
        _say(f"{series.name}: step {len(steps) + 1} of {wanted}, {time.monotonic() - started:.0f} s")
        steps.append(measure(pair, contents, peers, failures))
        last = pair
    assert last is not None
    _say("")
    applied = cost(last.old, last.new, contents)
    summary = summarise(steps, series.goal)
    sampled = sampling.say(wanted, count - 1)
    print(f"\n{series.name} ({series.kind}; {sampled}, {time.monotonic() - started:.0f} s)")
    print(_one(summary, applied))
    for where, reason in failures.items():
        print(f"  {where}: {reason.splitlines()[0][:160]}")
    return {
        "kind": series.kind,
        "sampling": sampled,
        "summary": summary,
        "apply": applied.as_json(),
        "failures": failures,
        "steps": [asdict(step) for step in steps],
    }


def _one(summary: dict[str, Any], applied: Cost) -> str:
    best = ", ".join(f"{name} {count}x" for name, count in summary["best is"].items())
    return (
        f"  median {size(summary['median']['ours'])} B, best peer {size(summary['best median'])} B ({best or 'no peer'}): "
        f"ratio {times(summary['ratio'])}, goal {times(summary['goal'])}\n"
        f"  apply {megabytes(applied.apply_memory)}, {seconds(applied.apply_cpu)}, {times(applied.ratio)} of cp + sha256sum"
    )


def _write(results: dict[str, Any], also: Path | None) -> None:
    RESULTS.mkdir(exist_ok=True)
    data = json.dumps(results, indent=1) + "\n"
    (RESULTS / "results.json").write_text(data, encoding="utf-8")
    if also:
        also.write_text(data, encoding="utf-8")
    (RESULTS / "results.md").write_text(report(results), encoding="utf-8")
    bars = [
        Bar(name, found["summary"]["ratio"], found["summary"]["goal"])
        for name, found in results["series"].items()
        if found["summary"]["ratio"] is not None
    ]
    (RESULTS / "ratios.svg").write_text(chart(bars, "Deltas over real histories"), encoding="utf-8")


def report(results: dict[str, Any]) -> str:
    """The Markdown of a run."""
    parts = [
        f"# Deltas measured\n\n{results['machine']}, Python {results['python']}. Peers: {', '.join(results['peers'])}."
    ]
    if results["missing"]:
        parts.append(f"**Missing peers**: {', '.join(results['missing'])}.")
    if results["series"]:
        parts += ["## Histories: bytes a step", _bytes(results), "## Histories: goals", _goals(results)]
    if results.get(SYNTHETIC):
        parts += ["## Synthetic hash databases", *(grown.tables(found) for found in results[SYNTHETIC])]
    return "\n\n".join(parts) + "\n"


def _bytes(results: dict[str, Any]) -> str:
    peers = results["peers"]
    rows = []
    for name, found in results["series"].items():
        summary = found["summary"]
        for label, key in (("median", "median"), ("total", "total")):
            measured = summary[key]
            cells = [size(measured.get(peer)) for peer in peers]
            rows.append([f"{name}, {label}", str(summary["steps"]), size(measured["ours"]), *cells])
    return table(["series", "steps", "ours", *peers], rows)


def _goals(results: dict[str, Any]) -> str:
    rows = []
    for name, found in results["series"].items():
        summary, applied = found["summary"], found["apply"]
        worst = summary["one-line worst"]
        rows.append(
            [
                name,
                times(summary["ratio"]),
                times(summary["total ratio"]),
                times(summary["worst ratio"]),
                times(summary["goal"]),
                f"{summary['above goal']}/{summary['steps']}",
                "–" if worst is None else f"{worst:+d} B",
                megabytes(applied["apply_memory"]),
                seconds(applied["apply_cpu"]),
                times(applied["ratio"]),
                seconds(summary["encode cpu"]),
            ]
        )
    header = [
        "series",
        "median ratio",
        "of totals",
        "worst",
        "goal",
        "above goal",
        "one line",
        "apply memory",
        "apply CPU",
    ]
    return table([*header, "to cp+sha256sum", "encode CPU"], rows)


if __name__ == "__main__":
    sys.exit(main())
