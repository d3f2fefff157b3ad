"""Started as a script: sets limits on itself and starts the program it was told to, within them. Standard library only.

::

    python -I -S confine.py PARENT TELL SECONDS BYTES PROGRAM [ARGUMENT …]

``PARENT`` is the process id of whoever started this; when that is gone, this and the program go too. ``SECONDS`` bounds processor time
(the parent bounds wall time), ``BYTES`` the memory that may be written to (RLIMIT_DATA: reserved address space costs nothing). The
program leaves no core dump, is the first to go when the machine runs out of memory, and steps back for others (nice 10). What cannot be
started ends with 125 and says why. To the descriptor ``TELL`` one line is written at the end: the program's wait status, the processor
time it used in microseconds, and the most memory it held in KiB.

Limits are set here and not between fork and exec of the parent, where a process with threads may do next to nothing; and the memory is
measured from here because the kernel counts what a process held before exec, which would be the parent's size.
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


def go_with(parent: int) -> None:
    """From now on this process is killed when that parent ends, whichever way."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(NOT_STARTED)  # it is gone already, and nothing would tell


def limit(seconds: int, memory: int) -> None:
    """Sets the limits, never above those that are set already."""
    for what, bound in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, memory)):
        hard = resource.getrlimit(what)[1]
        most = bound if what != resource.RLIMIT_CPU else bound + 1  # so that it is a signal of its own that ends it
        if hard != resource.RLIM_INFINITY:
            bound, most = min(bound, hard), min(most, hard)
        resource.setrlimit(what, (bound, most))


def main(words: list[str]) -> None:
    """Starts the program, waits for its end, and tells of it."""
    parent, tell, seconds, memory = map(int, words[:4])
    program = words[4:]
    go_with(parent)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with contextlib.suppress(OSError):
        os.nice(10)
    here = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.close(tell)
            go_with(here)
            limit(seconds, memory)
            os.execv(program[0], program)  # noqa: S606  no shell, and the path of a configured program
        except OSError as error:
            os.write(2, f"{error.strerror}\n".encode())
        os._exit(NOT_STARTED)
    for stream in (0, 1, 2):
        os.close(stream)  # the program's own: whoever reads them sees its end, not ours
    _, status, used = os.wait4(child, 0)
    microseconds = round((used.ru_utime + used.ru_stime) * 1_000_000)
    os.write(tell, f"{status} {microseconds} {used.ru_maxrss}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
