"""The files that a release is tried on: this machine's own, the operator's, and EICAR.

Worked example, ``system = ["/usr/lib", "/usr/bin", "/etc"]`` and 256 MiB: all 3 MiB of ``/etc``, and 126 MiB of each of the others.
Which files of a directory are taken follows from their paths alone (in the order of the paths' SHA-256), so that two releases are tried
on the same ones, and no corner of the directory is always left out by its name.

EICAR, the harmless file that every anti-virus engine detects by agreement, is never on the disk but while the gate runs: its 68 bytes
would make engines that watch the disk take this program away. Source: https://www.eicar.org/download-anti-malware-testfile/
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coldchain.errors import UsageError

MOST_FILE_BYTES: Final = 64 << 20
"""Of a file of the system corpus: engines pass over very large files, and one of them must not be the whole corpus."""
MOST_FILES: Final = 1_000_000
_EICAR: Final = (rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$", b"EICAR-STANDARD-ANTIVIRUS", rb"-TEST-FILE!$H+H*")


@dataclass(frozen=True, slots=True)
class Sample:
    """Some files of many; ``bytes`` is the length of those taken, ``of`` how many there were to choose from."""

    files: tuple[Path, ...] = ()
    bytes: int = 0
    of: int = 0


def eicar() -> bytes:
    """The EICAR test file."""
    return b"".join(_EICAR)


def system_sample(directories: Sequence[Path], most_bytes: int) -> Sample:
    """Files of this machine's directories, of at most so many bytes; see the module for which.

    Directories that are not there, links, and files that cannot be read are passed over.
    """
    chosen: list[Path] = []
    seen: set[tuple[int, int]] = set()
    total = 0
    found = [sorted(_readable(directory, seen)) for directory in directories]
    # The smallest first: what it does not need of its share goes to those that have more.
    found.sort(key=lambda files: sum(length for _, _, length in files))
    for number, files in enumerate(found):
        share = (most_bytes - total) // (len(found) - number)
        for _, path, length in files:
            if length <= share and os.access(path, os.R_OK):
                chosen.append(Path(path))
                total += length
                share -= length
    return Sample(tuple(sorted(chosen)), total, sum(map(len, found)))


def _readable(directory: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[bytes, str, int]]:
    """Regular files that were not seen yet: the SHA-256 of the path, the path, the length. Tens of thousands, so no Path for each."""
    for folder, _, names in os.walk(directory.resolve()):
        for name in names:
            path = f"{folder}/{name}"
            try:
                found = os.lstat(path)
            except OSError:
                continue
            good = stat.S_ISREG(found.st_mode) and 0 < found.st_size <= MOST_FILE_BYTES and path.isprintable()
            if good and (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                yield hashlib.sha256(os.fsencode(path)).digest(), path, found.st_size


def operators_files(paths: Iterable[Path], key: str) -> tuple[Path, ...]:
    """Every file of the operator's, from files and directories.

    Raises:
        UsageError: a path is not there, holds no file, or a file cannot be read or has a name that is not printable: a corpus of
            which a part is left out in silence proves less than it says.
    """
    files: dict[Path, None] = {}
    for path in paths:
        found = [one for one in _below(path) if one.is_file()] if path.is_dir() else [path] if path.is_file() else []
        if not found:
            raise UsageError(f"settings.toml: [gate]: {key}: {path} is not there, or holds no file")
        for one in found:
            if not str(one).isprintable() or not os.access(one, os.R_OK):
                raise UsageError(f"settings.toml: [gate]: {key}: {str(one)!r} cannot be read, or is named unprintably")
            files[one] = None
            if len(files) > MOST_FILES:
                raise UsageError(f"settings.toml: [gate]: {key}: more than {MOST_FILES:,} files")
    return tuple(sorted(files))


def _below(directory: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        for name in names:
            yield Path(folder, name)
