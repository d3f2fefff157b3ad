"""The files that a set is tried on: the customer's corpora, and those that every machine has."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from coldchain.errors import UsageError

EXAMPLES: Final = ("/bin/sh", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
MOST_MUST_DETECT: Final = 100_000
_NEXT: Final = "mend [corpora] or [[engine]] of policy.toml"


def always_clean(*programs: Path) -> list[Path]:
    """Regular files that no set may find anything in: the programs, Python, a shell, the loader of programs.

    A set that finds one of them would stop the machine; it is never loaded, with or without a corpus.
    """
    found = [one.resolve() for one in (*programs, *map(Path, (sys.executable, *EXAMPLES)))]
    return [one for one in dict.fromkeys(found) if one.is_file()]


def files_below(paths: Sequence[Path]) -> Iterator[Path]:
    """The regular files that the paths are or hold, in order; links below the paths are not followed.

    Raises:
        UsageError: a path is not there.
    """
    for path in paths:
        try:
            found = path.stat()
        except OSError as error:
            raise UsageError(f"{path} of the corpora cannot be read: {error.strerror}", todo=_NEXT) from error
        if not stat.S_ISDIR(found.st_mode):
            yield path
            continue
        for place, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                one = Path(place, name)
                if stat.S_ISREG(one.lstat().st_mode):
                    yield one


def must_detect(paths: Sequence[Path]) -> dict[bytes, Path]:
    """The files of a must-detect corpus, by the bytes of their paths.

    Raises:
        UsageError: a path is not there, there are too many files, or a name could not stand in a line of an answer.
    """
    found: dict[bytes, Path] = {}
    for path in files_below(paths):
        if not str(path).isprintable():
            raise UsageError(f"{str(path)!r} of the must-detect corpus has a name that is not printable", todo=_NEXT)
        if len(found) == MOST_MUST_DETECT:
            raise UsageError(f"the must-detect corpus has more than {MOST_MUST_DETECT:,} files", todo=_NEXT)
        found[os.fsencode(path)] = path
    return found
