"""What an update costs an endpoint whose clamd runs: time, memory, and how long a scan waits while clamd reloads.

::

    python -m benchmarks.engine_reload [--records 1000000] [--waiting] [--no-freshclam]

Everything is real: an origin makes two releases of made-up SHA-256 records (the second adds 5,000 and takes 1,000 away), a process
``coldchain update`` fetches, verifies, tries, switches and proves, and a clamd with a configuration of its own runs the set. Two
clients scan all the while, a harmless file and EICAR; the longest that one of them waited is the reload's gap, and a verdict that
was wrong ends the run. Then freshclam brings clamd the same two databases as a custom database from a web server on this
machine, with ``NotifyClamd``, under the same scans.

``--waiting`` runs clamd with ``ConcurrentDatabaseReload no``. Needs clamd and clamscan (Debian: clamav-daemon, clamav).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import processes
from benchmarks.processes import Usage
from coldchain.engines.clamd import Clamd
from coldchain.errors import EngineDownError

ADDED: Final = 5_000
REMOVED: Final = 1_000
# Built when it is run, so that no file of this project is reported by anybody's scanner.
EICAR: Final = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SEARCH: Final = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
MIB: Final = 1 << 20


def databases(count: int) -> tuple[bytes, bytes]:
    """Two versions of a database of SHA-256 records, sorted."""
    dice = random.Random(1)
    lines = [
        f"{dice.randbytes(32).hex()}:{dice.randrange(100, 4_000_000)}:Win.Trojan.Agent-{number}-0\n"
        for number in range(count + ADDED)
    ]
    first, second = sorted(lines[:count]), sorted(lines[REMOVED:])
    return "".join(first).encode(), "".join(second).encode()


class Clamav:
    """A clamd as an ordinary process."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.socket = folder / "clamd.ctl"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, database: Path) -> float:
        """Starts it; returns the seconds until it answers."""
        program = shutil.which("clamd", path=SEARCH)
        assert program is not None
        config = self.folder / "clamd.conf"
        lines = [f"LocalSocket {self.socket}", f"DatabaseDirectory {database}", f"LogFile {self.folder / 'log'}"]
        config.write_text("\n".join([*lines, "Foreground yes", "FixStaleSocket yes", *self.options]) + "\n")
        started, quiet = time.monotonic(), subprocess.DEVNULL
        self.process = subprocess.Popen([program, f"--config-file={config}"], stdout=quiet, stderr=quiet)
        while True:
            try:
                Clamd(self.socket).scan(b"")
            except EngineDownError as error:
                if self.process.poll() is not None:
                    raise SystemExit(f"clamd does not start; see {self.folder / 'log'}") from error
                time.sleep(0.02)
            else:
                return time.monotonic() - started

    def stop(self) -> None:
        """Ends it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def memory(self) -> tuple[int, int]:
        """What it holds now, and the most it held, in bytes."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = dict(line.split(":", 1) for line in status.splitlines())
        return int(found["VmRSS"].split()[0]) * 1024, int(found["VmHWM"].split()[0]) * 1024


@dataclass
class Waits:
    """How long each scan of a loop waited, in seconds; what was not as it must be."""

    waits: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def run(self, socket: Path, data: bytes, name: str | None, stop: threading.Event) -> None:
        """Scans until it is stopped."""
        client = Clamd(socket, 600)
        while not stop.is_set():
            started = time.monotonic()
            try:
                found = client.scan(data)
                if found != name:
                    self.wrong.append(f"{found} instead of {name}")
            except EngineDownError as error:
                self.wrong.append(error.what)
            self.waits.append(time.monotonic() - started)
            stop.wait(0.01)


@contextlib.contextmanager
def scanning(clamd: Clamav) -> Iterator[Waits]:
    """Scans as long as the block lasts."""
    waits, stop = Waits(), threading.Event()
    samples: list[tuple[bytes, str | None]] = [(b"harmless\n", None), (EICAR, "Coldchain.Test.Eicar")]
    threads = [threading.Thread(target=waits.run, args=(clamd.socket, *one, stop)) for one in samples]
    for thread in threads:
        thread.start()
    try:
        yield waits
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if waits.wrong:
        raise SystemExit(f"scans went wrong: {waits.wrong[:3]}")


class Origin:
    """A publisher with one region and no witness, and its tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        regions = folder.with_name("regions.toml")
        regions.write_text('neutral = "ch"\n[regions.us]\njurisdiction = "United States"\nwave = 1\n', encoding="utf-8")
        self._do("init", str(folder), "--demo-keys", "--regions", str(regions))
        with (folder / "settings.toml").open("a", encoding="utf-8") as settings:
            settings.write('[gate]\nengines = []\nwithout = "a benchmark of endpoints"\n')

    def release(self, database: bytes, scratch: Path) -> None:
        """Makes and publishes the next release."""
        feed = scratch / "feed"
        feed.mkdir(exist_ok=True)
        (feed / "main.hsb").write_bytes(database)
        (feed / "eicar.ndb").write_bytes(b"Coldchain.Test.Eicar:0:0:" + EICAR.hex().encode() + b"\n")
        home = ["--home", str(self.folder)]
        self._do("feed", "add", "bench", str(feed), "--kind", "clamav", *home)
        number = json.loads(self._do("release", "build", "--json", *home))["release"]
        self._do("release", "approve", str(number), *home)
        self._do("release", "publish", str(number), *home)

    def _do(self, *words: str) -> str:
        program = Path(sys.executable).with_name("coldchain-server")
        environment = os.environ | {"COLDCHAIN_PASSPHRASE": "a passphrase for the benchmark"}
        done = subprocess.run([program, *words], capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"coldchain-server {' '.join(words[:2])}: {done.stdout}{done.stderr}")
        return done.stdout


_UPDATE: Final = """
import sys
from pathlib import Path
from coldchain import cli
code = cli.run(sys.argv[1:])
print(*[line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")])
sys.exit(code)
"""
# What the kernel tells of a child's memory includes what the child's own children held; this is of the client alone.


def update(directory: Path) -> tuple[Usage, dict[str, Any], float]:
    """``coldchain update`` in a process of its own. Returns its usage, what it said, and its wall time in seconds."""
    started = time.monotonic()
    usage = processes.run([sys.executable, "-c", _UPDATE, "update", str(directory), "--json"])
    seconds = time.monotonic() - started
    said, memory = usage.output.rsplit("VmHWM:", 1)
    return Usage(usage.cpu, int(memory.split()[0]) * 1024, said), json.loads(said), seconds


def show(what: str, rows: Sequence[tuple[str, str]]) -> None:
    """A table of one measurement."""
    print(f"\n{what}")
    for name, value in rows:
        print(f"  {name:<44} {value}")


def waits(found: Waits) -> list[tuple[str, str]]:
    """The rows about scans."""
    return [
        ("scans meanwhile, all answered rightly", f"{len(found.waits):,}"),
        ("median wait of a scan", f"{statistics.median(found.waits) * 1000:.1f} ms"),
        ("longest wait of a scan (the reload's gap)", f"{max(found.waits) * 1000:.0f} ms"),
    ]


def ours(scratch: Path, versions: tuple[bytes, bytes], options: Sequence[str]) -> None:
    """Two releases through our client."""
    tree = Origin(scratch / "origin")
    tree.release(versions[0], scratch)
    directory = scratch / "endpoint"
    clamd = Clamav(scratch, *options)
    url = str(scratch / "origin" / "public")
    words = ["--root", str(scratch / "origin" / "root.json"), "--region", "us", "--url", url]
    processes.run([sys.executable, "-m", "coldchain.cli", "init", str(directory), *words])
    text = f'[[engine]]\nkind = "clamav"\nsocket = "{clamd.socket}"\n'
    (directory / "policy.toml").write_text(text, encoding="utf-8")
    try:
        processes.run([sys.executable, "-m", "coldchain.cli", "update", str(directory)])
    except processes.ToolError as error:
        if "engine down" not in str(error):  # clamd is not started before it has a set
            raise
    try:
        loaded = clamd.start(directory / "engines" / "clamav" / "current")
        update(directory)
        tree.release(versions[1], scratch)
        before = clamd.memory()[0]
        with scanning(clamd) as found:
            usage, said, seconds = update(directory)
        after, peak = clamd.memory()
        (engine,) = said["engines"]
        assert (engine["action"], engine["release"], engine["problem"]) == ("activated", 2, "")
        test = engine["load_test"]
        show(
            f"update from release 1 to 2, {test['loaded']:,} signatures, a delta of {said['bytes_down']:,} bytes",
            [
                ("clamd's own start with release 1", f"{loaded:.1f} s"),
                ("the whole update", f"{seconds:.1f} s"),
                ("of that the load test", f"{test['milliseconds'] / 1000:.1f} s"),
                ("of that from switch to proof", f"{engine['proof_milliseconds'] / 1000:.1f} s"),
                ("processor time, with the load test's", f"{usage.cpu:.1f} s"),
                ("peak memory of the client", f"{usage.memory / MIB:.0f} MiB"),
                ("peak memory of the load test", f"{test['peak_bytes'] / MIB:.0f} MiB"),
                ("clamd before, after, at most", f"{before / MIB:.0f}, {after / MIB:.0f}, {peak / MIB:.0f} MiB"),
                *waits(found),
            ],
        )
        usage, _, seconds = update(directory)
        show(
            "a poll with nothing new, clamd asked for its canary",
            [
                ("time, processor time", f"{seconds:.2f} s, {usage.cpu:.2f} s"),
                ("peak memory of the client", f"{usage.memory / MIB:.0f} MiB"),
            ],
        )
    finally:
        clamd.stop()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def freshclams(scratch: Path, versions: tuple[bytes, bytes], options: Sequence[str]) -> None:
    """The same two databases through freshclam, as custom databases."""
    program = shutil.which("freshclam", path=SEARCH)
    if program is None:
        print("\nfreshclam is not installed: nothing to compare with")
        return
    served, database = scratch / "served", scratch / "freshclam"
    served.mkdir()
    database.mkdir()
    eicar = b"Coldchain.Test.Eicar:0:0:" + EICAR.hex().encode() + b"\n"
    handler = functools.partial(_Quiet, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    clamd = Clamav(scratch, *options)
    base = f"http://127.0.0.1:{server.server_address[1]}"
    config = scratch / "freshclam.conf"
    owner = "root" if os.getuid() == 0 else os.environ.get("USER", "clamav")
    lines = [
        f"DatabaseDirectory {database}",
        f"DatabaseOwner {owner}",
        "DatabaseMirror 127.0.0.1",
        "ScriptedUpdates no",
    ]
    lines += [f"DatabaseCustomURL {base}/main.hsb", f"DatabaseCustomURL {base}/eicar.ndb", "TestDatabases yes"]
    config.write_text("\n".join([*lines, f"NotifyClamd {scratch / 'clamd.conf'}"]) + "\n", encoding="utf-8")
    custom = ["--update-db=custom", "--stdout", f"--config-file={config}"]

    def serve(version: bytes) -> None:
        (served / "main.hsb").write_bytes(version)
        (served / "eicar.ndb").write_bytes(eicar)

    try:
        (scratch / "clamd.conf").write_text(f"LocalSocket {clamd.socket}\n", encoding="utf-8")
        serve(versions[0])
        processes.run([program, *custom])
        clamd.start(database)
        time.sleep(1.1)  # freshclam compares whole seconds
        serve(versions[1])
        new = next(iter(set(versions[1].splitlines()) - set(versions[0].splitlines())))
        before = clamd.memory()[0]
        started = time.monotonic()
        with scanning(clamd) as found:
            usage = processes.run([program, *custom])
            said = time.monotonic() - started
            log = scratch / "log"
            while log.read_text(encoding="utf-8").count("Database correctly reloaded") < 1:
                time.sleep(0.05)
            live = time.monotonic() - started
            time.sleep(0.5)
        after, peak = clamd.memory()
        show(
            f"freshclam with the same databases ({len(versions[1]):,} bytes fetched whole; new e.g. {new[:8].decode()}…)",
            [
                ("the whole update, as freshclam says", f"{said:.1f} s"),
                ("until clamd has it, as its log says", f"{live:.1f} s"),
                ("processor time", f"{usage.cpu:.1f} s"),
                ("peak memory of freshclam, its test with it", f"{usage.memory / MIB:.0f} MiB"),
                ("clamd before, after, at most", f"{before / MIB:.0f}, {after / MIB:.0f}, {peak / MIB:.0f} MiB"),
                *waits(found),
            ],
        )
    finally:
        clamd.stop()
        server.shutdown()
        server.server_close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it all; 0, or 2 where ClamAV is not installed."""
    parser = argparse.ArgumentParser(description="What an update costs an endpoint whose clamd runs.")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the database (default 1,000,000)")
    parser.add_argument("--waiting", action="store_true", help="clamd with ConcurrentDatabaseReload no")
    parser.add_argument("--no-freshclam", action="store_true", help="do not compare with freshclam")
    given = parser.parse_args(arguments)
    if shutil.which("clamd", path=SEARCH) is None or shutil.which("clamscan") is None:
        print("clamd or clamscan is not installed (Debian: clamav-daemon, clamav)")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = ["ConcurrentDatabaseReload no"] if given.waiting else []
    version = subprocess.run(["clamscan", "--version"], capture_output=True, text=True, check=True).stdout.split("/")[0]
    print(
        f"{version.strip()}, Python {platform.python_version()}, {os.cpu_count()} cores, {' '.join(options) or 'concurrent reloads'}"
    )
    versions = databases(given.records)
    print(f"databases: {given.records:,} records, sha256 {hashlib.sha256(versions[1]).hexdigest()[:16]}")
    with tempfile.TemporaryDirectory(prefix="cc-bench-") as name:
        ours(Path(name), versions, options)
    if not given.no_freshclam:
        with tempfile.TemporaryDirectory(prefix="cc-bench-") as name:
            freshclams(Path(name), versions, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
