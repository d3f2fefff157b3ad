"""Stop a piece of work at each of its C calls that touch the system: by kill -9, or with an errno raised there.

The work runs in a forked child. ``sys.setprofile`` reports every call into C before it is made, in every thread, so the code under
test needs no seams; the child dies (SIGKILL to itself, buffers lost) or gets the error instead of making that call. Points are
numbered from 1 in the order in which the work reaches them. Worked example::

    def work() -> None:
        publish(home)
        crashpoints.acknowledge()      # from here on the world was told that it is done
        home.close()

    whole = crashpoints.run(work)      # nothing is stopped: whole.calls == ("mkdir release.py:40", "open durable.py:31", …)
    for point in crashpoints.spread(len(whole.calls), 40):
        restore(home)
        ending = crashpoints.run(work, point)
        assert ending.killed
        ...                            # what does the disk hold now? ending.acknowledged says whether the end was told

Not seen: what one C call does within (SQLite's own writes during ``execute``), and calls that C code makes itself, such as those
through :class:`functools.partial`. Python takes the profile function away from a thread in which it raised, so after an injected
error that thread goes on unobserved: one error a run.
"""

from __future__ import annotations

import errno as errno_names
import io
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

FILE_CALLS: Final = frozenset(
    {
        *(
            "open",
            "write",
            "writelines",
            "pwrite",
            "flush",
            "truncate",
            "ftruncate",
            "posix_fallocate",
            "close",
            "__exit__",
        ),
        *("fsync", "fdatasync", "sendfile", "copy_file_range", "flock", "lockf"),
        *("rename", "replace", "unlink", "remove", "mkdir", "rmdir", "link", "symlink", "chmod", "fchmod", "utime"),
        *("execute", "executemany", "executescript", "commit", "rollback"),  # sqlite3
    }
)
"""Names of C functions and methods that change files or directories, or hold them open."""

_OWNERS: Final = (ModuleType, io.IOBase, sqlite3.Connection, sqlite3.Cursor)
"""What such a function or method belongs to: ``str.replace`` and a lock's ``__exit__`` touch no file. A socket's calls
count when a sweep names them."""

_pipe = -1


@dataclass(frozen=True)
class Ending:
    """How the child ended.

    Attributes:
        killed: it died at the point.
        raised: the traceback of the exception that ended the work, empty for none.
        acknowledged: the work called :func:`acknowledge`.
        calls: what it called up to its end, ``name file:line`` each; only of a child that was not killed.
    """

    killed: bool
    raised: str
    acknowledged: bool
    calls: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Nothing stopped it."""
        return not self.killed and not self.raised


def acknowledge() -> None:
    """Called by the work when it has told the world that it is done; noted even when the child dies right after."""
    if _pipe >= 0:
        os.write(_pipe, b"A")


def run(
    work: Callable[[], object],
    stop_at: int = 0,
    *,
    error: int | None = None,
    calls: Iterable[str] = FILE_CALLS,
) -> Ending:
    """Runs the work in a forked child.

    Args:
        work: what to do; it must open what it needs itself (event loops, databases, threads).
        stop_at: the point to stop it at; 0 lets it run.
        error: an errno to raise there in place of the call; None kills.
        calls: names of the C calls that count as points.

    Returns:
        How it ended.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(work, stop_at, error, frozenset(calls), writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        words = told.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    acknowledged = words.startswith(b"A")
    words = words.removeprefix(b"A")
    if status == -signal.SIGKILL:
        return Ending(True, "", acknowledged, ())
    if status != 0 or not words:
        raise AssertionError(f"the child ended with {status} by itself: {words!r}")
    found = json.loads(words)
    return Ending(False, found["raised"], acknowledged, tuple(found["calls"]))


def _in_child(work: Callable[[], object], stop_at: int, error: int | None, calls: frozenset[str], writer: int) -> None:
    """Never returns: neither into pytest nor through its exit handlers."""
    global _pipe  # one pipe a child
    _pipe = writer
    seen: list[str] = []
    raised = ""
    hook = _hook(stop_at, error, calls, seen)
    try:
        threading.setprofile(hook)
        sys.setprofile(hook)
        work()
    except BaseException:  # noqa: BLE001  whatever it is, the parent is told
        sys.setprofile(None)
        raised = traceback.format_exc()
    sys.setprofile(None)
    threading.setprofile(None)
    data = json.dumps({"raised": raised, "calls": seen}).encode()
    while data:
        data = data[os.write(writer, data) :]
    os._exit(0)


def _hook(
    stop_at: int, error: int | None, calls: frozenset[str], seen: list[str]
) -> Callable[[FrameType, str, Any], object]:
    def profile(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or called.__name__ not in calls:
            return
        owner = getattr(called, "__self__", None)
        if not isinstance(owner, _OWNERS) and not (
            isinstance(owner, socket.socket) and called.__name__ not in FILE_CALLS
        ):
            return
        if called.__name__ == "write" and frame.f_code is acknowledge.__code__:
            return
        seen.append(f"{called.__name__} {Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        if len(seen) == stop_at:
            if error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(error, f"{os.strerror(error or 0)} ({errno_names.errorcode[error or 0]}, injected)")

    return profile


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` of the points 1 to ``total``, evenly spread, the first and the last among them."""
    if total <= count:
        return list(range(1, total + 1))
    return sorted({1 + round(step * (total - 1) / (count - 1)) for step in range(count)})
