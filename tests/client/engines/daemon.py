"""Real clamd as an ordinary process of a test: a configuration, a socket and a database directory of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coldchain.engines.clamd import Clamd
from coldchain.errors import EngineDownError
from tests.server.feeds.engine import CLAMSCAN

CLAMD = shutil.which("clamd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_clamd = pytest.mark.skipif(
    CLAMD is None or CLAMSCAN is None, reason="clamd or clamscan is not installed (Debian: clamav-daemon, clamav)"
)
# Built when it is run, so that no file of this project is reported by anybody's scanner.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
EICAR_RECORD = b"Coldchain.Test.Eicar:0:0:" + EICAR.hex().encode() + b"\n"
EICAR_NAME = "Coldchain.Test.Eicar"


@dataclass
class Daemon:
    """``folder`` is short: a socket's path has at most 107 bytes."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "clamd.ctl"

    @property
    def log(self) -> str:
        path = self.folder / "clamd.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def client(self) -> Clamd:
        return Clamd(self.socket, 30)

    def start(self, databases: Path, *options: str) -> None:
        """Starts it and waits until it answers."""
        assert CLAMD is not None
        config = self.folder / "clamd.conf"
        lines = [
            f"LocalSocket {self.socket}",
            f"DatabaseDirectory {databases}",
            f"LogFile {self.folder / 'clamd.log'}",
            f"TemporaryDirectory {self.folder}",
            "Foreground yes",
            "FixStaleSocket yes",
            "MaxThreads 4",
            *options,
        ]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen([CLAMD, f"--config-file={config}"], stdout=quiet, stderr=quiet)
        while True:
            try:
                self.client.scan(b"")
            except EngineDownError:
                assert self.process.poll() is None, self.log
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def daemon() -> Iterator[Daemon]:
    """One that is not yet started, and is ended in any case."""
    with tempfile.TemporaryDirectory(prefix="cc-clamd-") as name:
        made = Daemon(Path(name))
        try:
            yield made
        finally:
            made.stop()


@dataclass
class Scans:
    """A loop of scans beside what is tested: how many there were, and all that were not as they must be."""

    client: Clamd
    count: int = 0
    longest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for data, wanted in ((EICAR, EICAR_NAME), (b"nothing of note\n", None)):
                started = time.monotonic()
                try:
                    found = self.client.scan(data)
                except EngineDownError as error:
                    self.wrong.append(error.what)
                else:
                    if found != wanted:
                        self.wrong.append(f"{found} instead of {wanted}")
                self.longest = max(self.longest, time.monotonic() - started)
                self.count += 1
            stop.wait(0.005)


@contextlib.contextmanager
def scanning(made: Daemon) -> Iterator[Scans]:
    """Scans for the EICAR file and for a harmless one, again and again, as long as the block lasts."""
    scans, stop = Scans(made.client), threading.Event()
    thread = threading.Thread(target=scans.run, args=(stop,))
    thread.start()
    try:
        yield scans
    finally:
        stop.set()
        thread.join()
