"""Started as a script: sets limits on itself, then becomes the program it was told to start. Uses nothing but the standard library.

::

    python -I -S confine.py PARENT SECONDS BYTES PROGRAM [ARGUMENT …]

``PARENT`` is the process id of whoever started this; the program dies with it. ``SECONDS`` bounds processor time (the parent bounds
wall time), ``BYTES`` the memory that may be written to (RLIMIT_DATA: reserved address space costs nothing). The program leaves
no core dump, is the first to go when the machine runs out of memory, and steps back for others (nice 10). What cannot be started
ends with 125 and says why.

Limits are set here and not between fork and exec of the parent, where a process with threads may do next to nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

NOT_STARTED = 125
_PR_SET_PDEATHSIG = 1


def main(words: list[str]) -> None:
    """Becomes the program; returns only by an exception."""
    parent, seconds, memory = map(int, words[:3])
    program = words[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit(NOT_STARTED)  # it is gone already, and will send nothing any more
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with contextlib.suppress(OSError):
        os.nice(10)
    for what, bound in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_DATA, memory),
    ):
        hard = resource.getrlimit(what)[1]
        most = bound if what != resource.RLIMIT_CPU else bound + 1  # so that it is a signal of its own that ends it
        if hard != resource.RLIM_INFINITY:
            bound, most = min(bound, hard), min(most, hard)
        resource.setrlimit(what, (bound, most))
    os.execv(program[0], program)  # noqa: S606  no shell, and the path of a configured program


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        sys.exit(NOT_STARTED)
