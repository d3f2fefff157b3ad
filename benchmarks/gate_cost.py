"""What the gate costs a release: time, processor time here and in the engines, and memory.

::

    python -m benchmarks.gate_cost 1000 100000 500000
    python -m benchmarks.gate_cost --kind yara DIRECTORY      a feed that is there, in place of made-up records

The records are made up: 60 % SHA-256, 30 % MD5, 8 % body and 2 % logical signatures, and EICAR. Seven regions get them; one leaves
out a signature. Settings are the default, so 256 MiB of this machine's own files are scanned, and everything that no signature
may match. The release is built through the server's own functions and not logged.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from coldchain_server.assembly.regions import DEFAULT
from coldchain_server.catalogue.interface import Feed
from coldchain_server.founding import Founding, found
from coldchain_server.gate.gate import run_gate
from coldchain_server.home import DEFAULT_SETTINGS
from coldchain_server.release.build import build
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.roles import now_utc

POLICY = """
[[regions.jp.policy]]
action = "leave-out"
kind = "signature"
name = "Made.Body-1"
reason = "a benchmark"
"""


@dataclass(frozen=True)
class Used:
    """Seconds of the wall, of this process and of its children; and the most memory that each held, in MiB."""

    wall: float
    here: float
    engines: float
    peak: int
    engines_peak: int

    @classmethod
    def now(cls) -> Used:
        """So far."""
        here, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(
            time.monotonic(),
            here.ru_utime + here.ru_stime,
            children.ru_utime + children.ru_stime,
            here.ru_maxrss >> 10,
            children.ru_maxrss >> 10,
        )


def digits(what: str, number: int) -> str:
    """Hexadecimal digits that look random and never change."""
    return hashlib.sha256(f"{what} {number}".encode()).hexdigest()


def made_up(folder: Path, records: int) -> Feed:
    """A feed of so many records."""
    folder.mkdir()
    files = {
        "made.hsb": [f"{digits('s', n)}:{1000 + n}:Made.Sha-{n}:73" for n in range(records * 60 // 100)],
        "made.hdb": [f"{digits('m', n)[:32]}:{1000 + n}:Made.Md-{n}" for n in range(records * 30 // 100)]
        + ["44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test-Signature"],
        "made.ndb": [f"Made.Body-{n}:0:*:{digits('n', n)[:48]}" for n in range(records * 8 // 100)],
        "made.ldb": [
            f"Made.Logic-{n};Engine:73-255,Target:0;0&1;{digits('l', n)[:32]};{digits('l', n)[32:]}"
            for n in range(records * 2 // 100)
        ],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return Feed("made", "clamav", str(folder), False)


async def one(folder: Path, feed: Feed, regions: str, settings: str) -> None:
    """Builds a release, and prints what the gate of it used and said."""
    home = await found(folder / "origin", Founding(settings, regions, lambda: "a benchmark", DEMO), now=now_utc())

    def measured(*words: Any) -> Any:
        before = Used.now()
        outcome = run_gate(*words)
        after = Used.now()
        print(
            f"  gate: {after.wall - before.wall:.1f} s; processor {after.here - before.here:.1f} s here and "
            f"{after.engines - before.engines:.1f} s in engines; at most {after.peak} MiB here ({before.peak} before) and "
            f"{after.engines_peak} MiB in an engine"
        )
        for check in outcome.checks:
            print(f"  {check.check:14} {check.result:7} {check.detail}")
        return outcome

    async with home.catalogue() as catalogue:
        await catalogue.put_feed(feed)
        before = Used.now()
        with mock.patch("coldchain_server.release.build.run_gate", measured):
            await build(home, catalogue, channel="stable", now=now_utc())
        after = Used.now()
    used = f"{after.here - before.here:.1f} s here and {after.engines - before.engines:.1f} s in engines"
    print(f"  the whole build: {after.wall - before.wall:.1f} s; processor {used}", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="What the gate costs a release.")
    parser.add_argument("what", nargs="+", help="numbers of records, or directories of feeds with --kind")
    parser.add_argument("--kind", help="the kind of the feeds in these directories")
    options = parser.parse_args()
    for number, what in enumerate(options.what):
        with tempfile.TemporaryDirectory(prefix="coldchain-gate-cost-") as name:
            folder = Path(name)
            print(f"{what}:", flush=True)
            if options.kind:
                settings = f'{DEFAULT_SETTINGS}[gate]\neicar = false\nwithout = "a benchmark"\n'
                feed = Feed(f"feed-{number}", options.kind, str(Path(what).resolve()), True)
                asyncio.run(one(folder, feed, DEFAULT, settings))
            else:
                asyncio.run(one(folder, made_up(folder / "feed", int(what)), DEFAULT + POLICY, DEFAULT_SETTINGS))


if __name__ == "__main__":
    main()
