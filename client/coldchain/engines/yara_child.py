"""Runs in a child process: compiles every YARA file of a directory, scans files, and says what it found, a JSON list a line.

::

    python -P -m coldchain.engines.yara_child FOLDER SECONDS
    ["version", "1.23.0"]
    ["compiled", 5883]                          rules of all files together
    ["found", "/…/canary", ["Coldchain_Canary_us_stable_42"]]
    ["scanned", 17]

What to scan stands in a file ``targets`` in the current directory, NUL between the names; what cannot be read is passed over. A file
that cannot be compiled ends it with code 2, a scan that takes longer than SECONDS with code 4, and yara-x not being there with code 3,
each with words on standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

TARGETS: Final = "targets"
REFUSED: Final = 2
ABSENT: Final = 3
SLOW: Final = 4


def main(folder: Path, seconds: int) -> int:
    """Compiles and scans; returns the exit code."""
    try:
        import yara_x

        from coldchain.engines.yara_rules import compiler
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        return ABSENT
    _say("version", metadata.version("yara-x"))
    made = compiler()
    for file in sorted(folder.iterdir()):
        try:
            made.new_namespace(file.name)
            made.add_source(file.read_text(encoding="utf-8"), origin=file.name)
        except (yara_x.CompileError, UnicodeDecodeError) as error:
            words = str(error).strip().splitlines() or ["does not compile"]
            sys.stderr.write(f"{file.name}: {words[0]}\n")
            return REFUSED
    rules = made.build()
    _say("compiled", sum(1 for _ in rules))
    scanner = yara_x.Scanner(rules)
    scanner.set_timeout(seconds)
    count = 0
    for name in _targets():
        try:
            matching = scanner.scan_file(os.fsdecode(name)).matching_rules
        except yara_x.TimeoutError:
            sys.stderr.write(f"a scan of {os.fsdecode(name)!r} takes longer than {seconds} seconds\n")
            return SLOW
        except yara_x.ScanError:
            continue
        count += 1
        found = sorted(rule.identifier for rule in matching)
        if found:
            _say("found", os.fsdecode(name), found[:20])
    _say("scanned", count)
    return 0


def _targets() -> Iterable[bytes]:
    return filter(None, Path(TARGETS).read_bytes().split(b"\0"))


def _say(*words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
