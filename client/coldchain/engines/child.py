"""A program run within limits: its lines as they come, and how it ended.

::

    ending = run([str(clamscan), "-d", str(folder)], lines.append, seconds=600, memory=4 << 30, work=work)
    ending.verdict("clamscan")      # "" after an ordinary end; else e.g. "clamscan was ended by signal 11 (SIGSEGV)"

The child is a process group of its own: an interrupt from the keyboard does not reach it, and what it started is killed with it. It
gets a clean environment, and ``work`` as its current and its temporary directory. Its output is read as it comes and never kept
whole: lines go to whoever wants them, and of its complaints the last few stay.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from coldchain.engines import confine
from coldchain.errors import EngineDownError

_BLOCK: Final = 1 << 16
_LINE: Final = 1 << 14
"""A line that is longer is cut: no engine's answer is."""
_COMPLAINTS: Final = 20
_STOPPED_BY_OTHERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class Ending:
    """How a child ended: ``code`` as :mod:`subprocess` has it (negative: a signal), times in seconds."""

    code: int = 0
    late: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    complaints: deque[str] = field(default_factory=lambda: deque(maxlen=_COMPLAINTS))

    def verdict(self, name: str, seconds: int) -> str:
        """What an end that was none of the program's own means for the set it worked on; empty for an ordinary one.

        Raises:
            EngineDownError: it could not be started, or somebody else stopped it: that says nothing about the set.
        """
        if self.late or self.code == -signal.SIGXCPU:
            return f"{name} did not end within {seconds:,} seconds"
        if self.code == confine.NOT_STARTED:
            raise EngineDownError(f"{name} cannot be started: {self.complaint() or 'no reason given'}")
        if -self.code in _STOPPED_BY_OTHERS:
            words = f"{name} was stopped by signal {-self.code}"
            raise EngineDownError(words, todo="run `coldchain update DIR` again")
        if self.code < 0:
            with contextlib.suppress(ValueError):
                return f"{name} was ended by signal {-self.code} ({signal.Signals(-self.code).name})"
            return f"{name} was ended by signal {-self.code}"
        return ""

    def complaint(self) -> str:
        """The last thing it complained about, in at most 200 printable characters."""
        return self.complaints[-1] if self.complaints else ""


def run(
    command: Sequence[str],
    line: Callable[[bytes], None],
    *,
    seconds: int,
    memory: int,
    work: Path,
    stopped: Callable[[], bool],
) -> Ending:
    """Runs a program to its end, or to its limits.

    Args:
        command: the program's absolute path, and its arguments.
        line: gets every line of its standard output, without the line's end.
        seconds: wall time, and processor time too.
        memory: bytes that it may hold.
        work: its current and temporary directory.
        stopped: whether to end it and give up, asked a few times a second.

    Raises:
        EngineDownError: no process could be made, or it was ``stopped``.
    """
    started = time.monotonic()
    until = started + seconds
    environment = {
        "LC_ALL": "C",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TMPDIR": str(work),
        **{name: os.environ[name] for name in ("PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ},
    }
    told, tell = os.pipe()
    with os.fdopen(told, "rb") as report:
        bounds = map(str, (os.getpid(), tell, seconds, memory))
        try:
            child = subprocess.Popen(  # noqa: S603  no shell; the program is the configured one
                [sys.executable, "-I", "-S", confine.__file__, *bounds, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(tell,),
                cwd=work,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineDownError(f"{command[0]} cannot be started: {error.strerror or error}") from error
        finally:
            os.close(tell)
        ending = Ending()
        try:
            ending.late = not (_read(child, line, ending, until, stopped) and _ended(child.pid, until))
        finally:
            # Who is late goes, and what it started with it; an ordinary end has come before, and is not changed by this.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            ending.code = child.wait()
            for pipe in (child.stdout, child.stderr):
                assert pipe is not None
                pipe.close()
        _measure(report.read(), ending)
    ending.seconds = time.monotonic() - started
    return ending


def _measure(report: bytes, ending: Ending) -> None:
    """What :mod:`coldchain.engines.confine` tells at the end; nothing when it was killed itself."""
    words = report.split()
    if len(words) == 3:
        status, microseconds, kibibytes = map(int, words)
        ending.code = os.waitstatus_to_exitcode(status)
        ending.cpu_seconds, ending.peak_bytes = microseconds / 1_000_000, kibibytes * 1024


def _read(
    child: subprocess.Popen[bytes],
    line: Callable[[bytes], None],
    ending: Ending,
    until: float,
    stopped: Callable[[], bool],
) -> bool:
    """Reads both outputs to their ends; False when the time is over before."""

    def complain(data: bytes) -> None:
        text = "".join(c if c.isprintable() else "?" for c in data.decode("utf-8", "replace")).strip()
        if text:
            ending.complaints.append(text[:200])

    assert child.stdout is not None
    assert child.stderr is not None
    with selectors.DefaultSelector() as open_:
        open_.register(child.stdout, selectors.EVENT_READ, _Lines(line))
        open_.register(child.stderr, selectors.EVENT_READ, _Lines(complain))
        while open_.get_map():
            left = until - time.monotonic()
            if left <= 0:
                return False
            if stopped():
                raise EngineDownError("interrupted while a set was tried")
            for key, _ in open_.select(min(left, 0.25)):
                data = os.read(key.fd, _BLOCK)
                key.data.feed(data)
                if not data:
                    open_.unregister(key.fileobj)
    return True


def _ended(pid: int, until: float) -> bool:
    """Waits for the end of a child that says no more, and leaves it to be waited for; False when the time is over before."""
    pause = 0.001
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True


class _Lines:
    """Cuts what comes into lines."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """The next piece; an empty one is the end."""
        *whole, rest = (self._rest + data).split(b"\n")
        for one in whole:
            self._take(one[:_LINE])
        self._rest = rest[:_LINE]
        if not data and rest:
            self._take(self._rest)
            self._rest = b""
