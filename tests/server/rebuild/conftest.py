from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain_server.home import Home
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.rebuild import worlds


@pytest.fixture(scope="session")
def _world() -> Iterator[Home]:
    with memory_folder() as folder:
        yield asyncio.run(worlds.make(folder / "origin"))


@pytest.fixture
def home(_world: Home, memory: Path) -> Home:
    """See :func:`worlds.make`."""
    return origins.copy(_world, memory / "origin")
