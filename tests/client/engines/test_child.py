"""A program within limits: time, memory, output and its own children are bounded, and whose fault an end was is told apart."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coldchain.engines import child
from coldchain.engines.interface import never
from coldchain.errors import EngineDownError

MIB = 1 << 20


def python(work: Path, code: str, *, seconds: int = 30, memory: int = 1 << 30) -> tuple[child.Ending, list[bytes]]:
    lines: list[bytes] = []
    command = [sys.executable, "-I", "-S", "-c", code]
    return child.run(command, lines.append, seconds=seconds, memory=memory, work=work, stopped=never), lines


def test_lines_complaints_and_an_ordinary_end(tmp_path: Path) -> None:
    ending, lines = python(tmp_path, "import sys; print('a\\nb', end=''); print('c\\n\\x1b[1md', file=sys.stderr)")
    assert lines == [b"a", b"b"]
    assert list(ending.complaints) == ["c", "?[1md"]
    assert (ending.code, ending.late, ending.verdict("x", 30)) == (0, False, "")
    assert ending.peak_bytes > MIB
    assert ending.seconds > 0


def test_an_exit_code_is_the_programs_own_even_when_its_output_ends_before_it(tmp_path: Path) -> None:
    ending, _ = python(tmp_path, "import os, time; os.close(1); os.close(2); time.sleep(0.2); os._exit(7)")
    assert ending.code == 7


def test_it_works_in_its_directory_with_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDCHAIN_SECRET", "secret")
    code = "import os; print(os.getcwd()); print(os.environ['TMPDIR']); print('COLDCHAIN_SECRET' in os.environ)"
    assert python(tmp_path, code)[1] == [bytes(tmp_path), bytes(tmp_path), b"False"]


@pytest.mark.parametrize(
    "code",
    [
        "import time\nwhile True: time.sleep(9)",
        "while True: pass",
        "import os\nos.close(1)\nos.close(2)\nwhile True: pass",
    ],
    ids=["sleeping", "busy", "silent"],
)
def test_whoever_takes_too_long_is_ended(code: str, tmp_path: Path) -> None:
    ending, _ = python(tmp_path, code, seconds=1)
    assert ending.verdict("x", 1) == "x did not end within 1 seconds"
    assert ending.code in (-signal.SIGKILL, -signal.SIGXCPU)


def ended(pid: int, *, wait: bool = True) -> bool:
    """Whether the process is no more, or a zombie that nobody asks after; waits for that a little."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(500 if wait else 1):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_what_it_started_is_ended_too(tmp_path: Path) -> None:
    code = "import os, time\nif not os.fork(): print(os.getpid(), flush=True)\nwhile True: time.sleep(9)"
    _, (grandchild,) = python(tmp_path, code, seconds=1)
    assert ended(int(grandchild))


def test_memory_is_bounded(tmp_path: Path) -> None:
    code = f"import sys\nprint('start', flush=True)\ntry: x = bytearray(200 * {MIB})\nexcept MemoryError: sys.exit(9)"
    ending, lines = python(tmp_path, code, memory=100 * MIB)
    assert (ending.code, lines) == (9, [b"start"])
    assert python(tmp_path, code, memory=400 * MIB)[0].code == 0


def test_output_is_not_kept(tmp_path: Path) -> None:
    """Endless lines, and a line without an end, cost no memory here."""
    longest = 0

    def line(data: bytes) -> None:
        nonlocal longest
        longest = max(longest, len(data))

    code = (
        "import sys\nfor _ in range(300): sys.stdout.write('x' * 100000)\nprint()\nfor _ in range(100000): print('y')"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    ending = child.run(command, line, seconds=60, memory=1 << 30, work=tmp_path, stopped=never)
    assert ending.code == 0
    assert longest <= 1 << 14


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_speaks_against_the_set(number: signal.Signals, tmp_path: Path) -> None:
    ending, _ = python(tmp_path, f"import os\nos.kill(os.getpid(), {int(number)})")
    assert number.name in ending.verdict("x", 30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_being_stopped_by_somebody_does_not(number: signal.Signals, tmp_path: Path) -> None:
    code = f"import os, signal\nsignal.signal({int(number)}, signal.SIG_DFL)\nos.kill(os.getpid(), {int(number)})"
    with pytest.raises(EngineDownError, match="stopped by signal"):
        python(tmp_path, code)[0].verdict("x", 30)


def test_what_cannot_be_started_is_no_judgement(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    ending = child.run([str(nothing)], print, seconds=9, memory=1 << 30, work=tmp_path, stopped=never)
    with pytest.raises(EngineDownError, match="No such file"):
        ending.verdict("nothing", 9)
    with pytest.raises(EngineDownError, match="cannot be started"):
        child.run([str(nothing)], print, seconds=9, memory=1 << 30, work=nothing, stopped=never)


def test_it_is_ended_when_asked_to_stop(tmp_path: Path) -> None:
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 2

    command = [sys.executable, "-I", "-S", "-c", "import time\nprint(1, flush=True)\nwhile True: time.sleep(9)"]
    with pytest.raises(EngineDownError, match="interrupted"):
        child.run(command, print, seconds=30, memory=1 << 30, work=tmp_path, stopped=stopped)


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """Whoever is killed with -9 leaves no load test behind."""
    marker = tmp_path / "pid"
    inner = f"import os, time, pathlib\npathlib.Path({str(marker)!r}).write_text(str(os.getpid()))\nwhile True: time.sleep(9)"
    code = (
        "import sys, pathlib\nfrom coldchain.engines import child\n"
        f"child.run([sys.executable, '-I', '-S', '-c', {inner!r}], print, seconds=60, memory=1 << 30,"
        f" work=pathlib.Path({str(tmp_path)!r}), stopped=bool)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not marker.exists() or not marker.read_text():
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    assert ended(int(marker.read_text()))
