"""An origin with reports in three stores: made once, copied for each test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain_server.home import Home
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.reports import residents


@pytest.fixture(scope="session")
def _residents() -> Iterator[Home]:
    with memory_folder() as folder:
        yield asyncio.run(residents.make(folder / "origin"))


@pytest.fixture
def resident_home(_residents: Home, memory: Path) -> Home:
    """Every region's reports are in a store of its own."""
    return origins.copy(_residents, memory / "origin")
