"""How long a withdrawal takes: from the command to the signed timestamp, and what it costs an endpoint that polls.

``python -m benchmarks.withdrawing [RECORDS] [--gate]`` makes an origin with the default seven regions and demonstration keys, publishes
release 1 (RECORDS hash records, 100,000 by default) and release 2 (1,000 more), and then types
``coldchain-server withdraw 2 --publish`` with both keys at hand. ``--gate`` tries it in the installed engines, as a real origin does;
without it the command does everything else. The endpoint runs release 2 and has a bucket that no stage reaches.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from coldchain.agent.update import Settings, update
from coldchain.install.directory import ClientDirectory
from coldchain_server.home import Home
from coldchain_server.web.origin import running

BIN = Path(sys.executable).parent
SCHEDULE = """
[stable]
stages = [
    { wave = 1, share = 1, hours = 2 },
    { wave = 1, share = 100, hours = 2 },
    { wave = 2, share = 100 },
]
"""
NO_ENGINES = '\n[gate]\nengines = []\nwithout = "a benchmark of everything else"\n'
NO_SAMPLES = '\n[gate]\neicar = false\nwithout = "made-up records find no sample"\n'


def records(count: int) -> bytes:
    """A hash database of made-up records."""
    lines = (f"{hashlib.sha256(str(n).encode()).hexdigest()}:{1000 + n}:Win.Trojan.Agent-{n}-0" for n in range(count))
    return "".join(f"{line}\n" for line in sorted(lines)).encode()


def typed(home: Path, *words: str) -> Any:
    """One command, as an operator types it; its answer."""
    done = subprocess.run(
        [BIN / "coldchain-server", *words, "--json"],
        env={**os.environ, "COLDCHAIN_PASSPHRASE": "a passphrase", "COLDCHAIN_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return json.loads(done.stdout)


async def polled(home: Home, endpoint: Path) -> tuple[int, int, int]:
    """One poll of an endpoint whose bucket comes last: the release it runs then, requests, bytes of bodies."""
    async with running(home.storage) as origin:
        done = await update(ClientDirectory(endpoint), Settings(urls=[origin.url], draw=lambda _: 9999))
    return done.release, done.requests, done.bytes_down


def main(count: int, gate: bool) -> None:
    """Runs it and prints the figures."""
    with tempfile.TemporaryDirectory(prefix="coldchain-bench-") as name:
        folder = Path(name)
        home, feed, endpoint = folder / "origin", folder / "feed", folder / "endpoint"
        feed.mkdir()
        typed(home, "init", str(home), "--demo-keys")
        with (home / "settings.toml").open("a") as file:
            file.write(NO_SAMPLES if gate else NO_ENGINES)
        (feed / "a.hsb").write_bytes(records(count))
        typed(home, "feed", "add", "acme", str(feed), "--kind", "clamav")
        for number in (1, 2):
            (feed / "a.hsb").write_bytes(records(count + 1000 * (number - 1)))
            for step in (("build",), ("approve", str(number)), ("publish", str(number))):
                typed(home, "release", *step)
        words: list[str | Path] = [
            "init",
            endpoint,
            "--root",
            home / "root.json",
            "--region",
            "row",
            "--url",
            "http://127.0.0.1:1",
        ]
        subprocess.run([BIN / "coldchain", *words], check=True, capture_output=True)
        asyncio.run(polled(Home(home), endpoint))
        (home / "rollout.toml").write_text(SCHEDULE)
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
        answer = typed(home, "withdraw", "2", "--reason", "a benchmark", "--publish")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        signed = (home / "public/metadata/timestamp.json").stat().st_mtime - started
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        release, requests, down = asyncio.run(polled(Home(home), endpoint))
        print(
            f"{count:,} records, 7 regions, gate {'on' if gate else 'off'}: withdraw to signed timestamp {signed:.1f} s "
            f"({cpu:.1f} s CPU), state {answer['state']}; endpoint on release 2, outside every share: one poll, "
            f"{requests} requests, {down:,} bytes of bodies, runs {release}"
        )


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main(numbers[0] if numbers else 100_000, "--gate" in sys.argv)
