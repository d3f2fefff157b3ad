"""``tmp_path`` in memory where there is such a place: thousands of fsyncs cost nothing there, and mean the same to a test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    place = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="coldchain-test-", dir=place) as path:
        yield Path(path)
