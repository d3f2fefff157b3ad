"""Applies a delta in a process of its own and tells what it took: run as ``python -m tests.client.bundle.apply_child``.

Arguments: the delta, the old bundle's directory (empty: none), the new one's, the expected digest. Prints one JSON object: ``bare``
and ``peak``, the address space's peak (``VmHWM``, bytes) before anything was imported and at the end, ``loaded`` after the imports, and
``error``, the class of the error it ended with, or null.
"""

from __future__ import annotations

import sys


def _peak() -> int:
    with open("/proc/self/status", "rb") as status:  # noqa: PTH123  pathlib would count as our memory
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM:"))


def main() -> None:
    bare = _peak()
    import json
    from pathlib import Path

    from benchmarks.directories import DirectoryBundle, NewDirectory
    from coldchain.bundle.delta import apply_delta
    from coldchain.errors import ColdchainError

    delta, old, new, expected = sys.argv[1:]
    loaded = _peak()
    error = None
    before = DirectoryBundle(Path(old)) if old else None
    try:
        with Path(delta).open("rb") as file:
            apply_delta(file, before, NewDirectory(Path(new), before), expected=expected)
    except ColdchainError as raised:
        error = type(raised).__name__
    print(json.dumps({"bare": bare, "loaded": loaded, "peak": _peak(), "error": error}))


if __name__ == "__main__":
    main()
