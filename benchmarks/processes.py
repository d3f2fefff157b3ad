"""Memory and CPU of a program, measured from outside.

Linux counts into a child's peak memory what its parent had when it forked. So every program is started by a small launcher, an
interpreter without site packages, whose own peak (about 9 MB) is the least that can be seen of a foreign program.
Our own programs report the peak of their own address space (``VmHWM``), from which that of a bare interpreter is taken off.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
_LAUNCHER: Final = """
import os, sys, json
child = os.fork()
if not child:
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]), file=sys.stderr)
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a program took: CPU (user and system) in seconds, peak memory in bytes, and what it printed."""

    cpu: float
    memory: int
    output: str


class ToolError(Exception):
    """A program failed, or did not end in time; the message says which and how."""


def run(argv: list[str], *, timeout: float | None = None) -> Usage:
    """Runs a program to its end.

    Args:
        argv: the program and its arguments.
        timeout: seconds of wall-clock after which it and its children are ended.

    Raises:
        ToolError: it ended with an error or was ended.
    """
    command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *argv]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise ToolError(f"not done after {timeout:.0f} s") from error
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    lines = errors.strip().splitlines()
    try:
        code, cpu, kilobytes = json.loads(lines[-1])
    except (ValueError, IndexError) as error:
        raise ToolError(f"{argv[0]}: {errors.strip()[-400:]}") from error
    if code:
        raise ToolError(f"{Path(argv[0]).name} ended with {code}: {' / '.join(lines[-4:-1])}")
    return Usage(cpu, kilobytes * 1024, output)


def own(*arguments: str, timeout: float | None = None) -> tuple[Usage, dict[str, Any]]:
    """Runs :mod:`benchmarks.child`; its usage with the memory it saw itself, and the figures it printed."""
    usage = run([sys.executable, "-m", "benchmarks.child", *arguments], timeout=timeout)
    figures: dict[str, Any] = json.loads(usage.output)
    return Usage(usage.cpu, figures["memory"], usage.output), figures
