"""A place for files whose durability is not the question."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SHARED = Path("/dev/shm")


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A directory in memory where the system has such a place, else an ordinary one: fsync costs nothing there."""
    where = _SHARED if os.access(_SHARED, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where, prefix="coldchain-test-") as folder:
        yield Path(folder)
