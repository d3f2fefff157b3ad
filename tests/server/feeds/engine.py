"""The judge: what the installed ClamAV does with databases. Tests that need it skip where it is not installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

CLAMSCAN = shutil.which("clamscan")
needs_clamscan = pytest.mark.skipif(CLAMSCAN is None, reason="clamscan is not installed")

_KNOWN = re.compile(r"^Known viruses: (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Loaded:
    """How a load went: whether the whole set was refused, how many signatures were counted, what was said."""

    failed: bool
    known: int
    said: str


def load(files: Mapping[str, bytes], scanned: bytes = b"harmless\n", *options: str) -> Loaded:
    """Loads a directory of these databases, with unwanted programs and unsigned bytecode switched on."""
    with tempfile.TemporaryDirectory(prefix="coldchain-engine-") as name:
        directory = Path(name, "databases")
        directory.mkdir()
        for file, data in files.items():
            (directory / file).write_bytes(data)
        target = Path(name, "scanned")
        target.write_bytes(scanned)
        return load_directory(directory, target, *options)


def load_directory(directory: Path, target: Path, *options: str) -> Loaded:
    """The same for a directory that exists."""
    assert CLAMSCAN is not None
    done = subprocess.run(
        [CLAMSCAN, "--detect-pua", "--bytecode-unsigned", *options, "-d", str(directory), str(target)],
        capture_output=True,
        text=True,
        errors="replace",
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    said = done.stdout + done.stderr
    known = _KNOWN.search(done.stdout)
    failed = done.returncode == 2 or known is None
    return Loaded(failed, int(known[1]) if known and not failed else 0, said)
