"""The programs that are measured from outside: apply a delta, make one, work as HDiffPatch or pdiff.

Each prints one JSON object: ``memory`` (the peak of its address space, bytes), ``cpu`` (seconds of the work alone, without the start
of the interpreter and imports), and its result. Nothing is imported before a program needs it, so that ``bare`` is a bare interpreter.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def _peak() -> int:
    with open("/proc/self/status", "rb") as status:  # noqa: PTH123  pathlib would count as our memory
        for line in status:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    raise SystemExit("no VmHWM in /proc/self/status: this needs Linux")


def _report(started: float, **result: object) -> None:
    cpu, memory = time.process_time() - started, _peak()
    import json

    print(json.dumps({"memory": memory, "cpu": cpu, **result}))


def _bare() -> None:
    _report(time.process_time())


def _apply(delta: str, old: str, new: str, expected: str) -> None:
    from pathlib import Path

    from benchmarks.directories import DirectoryBundle, NewDirectory
    from coldchain.bundle.delta import apply_delta

    started = time.process_time()
    before = DirectoryBundle(Path(old)) if old else None
    with Path(delta).open("rb") as file:
        apply_delta(file, before, NewDirectory(Path(new), before), expected=expected)
    _report(started)


def _encode(contents: str, old: str, new: str, delta: str) -> None:
    from pathlib import Path

    from benchmarks.history import Contents
    from coldchain.bundle.description import parse_description
    from coldchain_server.deltas.diff import diff_bundles
    from coldchain_server.deltas.encode import encode_delta

    before = parse_description(Path(old).read_bytes()) if old else None
    after = parse_description(Path(new).read_bytes())
    store = Contents(Path(contents))
    started = time.process_time()
    change = diff_bundles(before, after, store)
    diff = time.process_time() - started
    with Path(delta).open("wb") as out:
        stats = encode_delta(change, store, out)
    _report(started, diff=diff, length=stats.length)


def _hdiffpatch_encode(old: str, new: str, patch: str) -> None:
    from pathlib import Path

    from benchmarks.peers import hdiffpatch_smallest

    started = time.process_time()
    form, data = hdiffpatch_smallest(Path(old).read_bytes(), Path(new).read_bytes())
    Path(patch).write_bytes(data)
    _report(started, form=form)


def _hdiffpatch_apply(old: str, patch: str, out: str) -> None:
    from pathlib import Path

    import hdiffpatch

    started = time.process_time()
    Path(out).write_bytes(hdiffpatch.apply(Path(old).read_bytes(), Path(patch).read_bytes()))
    _report(started)


def _ed_encode(old: str, new: str, patch: str) -> None:
    from pathlib import Path

    from benchmarks.peers import ed_script

    started = time.process_time()
    Path(patch).write_bytes(ed_script(Path(old), Path(new)))
    _report(started)


def _ed_apply(old: str, patch: str, out: str) -> None:
    from pathlib import Path

    from benchmarks.peers import apply_ed_script

    started = time.process_time()
    Path(out).write_bytes(apply_ed_script(Path(old).read_bytes(), Path(patch).read_bytes()))
    _report(started)


_PROGRAMS: dict[str, Callable[..., None]] = {
    "bare": _bare,
    "apply": _apply,
    "encode": _encode,
    "hdiffpatch-encode": _hdiffpatch_encode,
    "hdiffpatch-apply": _hdiffpatch_apply,
    "ed-encode": _ed_encode,
    "ed-apply": _ed_apply,
}

if __name__ == "__main__":
    _PROGRAMS[sys.argv[1]](*sys.argv[2:])
