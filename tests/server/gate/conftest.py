"""The gate's tests run real engines; where clamscan is not installed those that need it skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.gate.worlds import World
from tests.server.memory import memory_folder


@pytest.fixture
def world() -> Iterator[World]:
    """An origin's directory in memory."""
    with memory_folder() as folder:
        yield World(folder)


@pytest.fixture
def few_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the 170 MiB of engines and loader, for tests that are not about them."""
    monkeypatch.setattr("coldchain_server.gate.gate.own_files", lambda home: (Path(__file__).resolve(),))
