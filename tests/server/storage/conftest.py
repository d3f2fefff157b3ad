"""One contract for every backend: a second one joins by another entry of :data:`BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coldchain_server.storage.directory import DirectoryStorage
from coldchain_server.storage.interface import Storage

BACKENDS: dict[str, Callable[[Path], Storage]] = {"directory": lambda folder: DirectoryStorage(folder / "public")}


@pytest.fixture(params=BACKENDS)
def storage(request: pytest.FixtureRequest, memory: Path) -> Storage:
    return BACKENDS[request.param](memory)
