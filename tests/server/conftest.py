"""Origins that several tests start from: made once, copied for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain_server.home import Home
from tests.server import origins
from tests.server.memory import memory_folder


@pytest.fixture(scope="session")
def _templates() -> Iterator[dict[str, Home]]:
    async def make(folder: Path) -> dict[str, Home]:
        made = {"new": await origins.make(folder / "new")}
        made["published"] = origins.copy(made["new"], folder / "published")
        await origins.release(made["published"], origins.FIRST)
        made["built"] = origins.copy(made["published"], folder / "built")
        await origins.build_release(made["built"], origins.SECOND)
        made["approved"] = origins.copy(made["built"], folder / "approved")
        await origins.approve_release(made["approved"], 2)
        return made

    with memory_folder() as folder:
        yield asyncio.run(make(folder))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def new_home(_templates: dict[str, Home], memory: Path) -> Home:
    """After its ceremony; no release yet."""
    return origins.copy(_templates["new"], memory / "origin")


@pytest.fixture
def published_home(_templates: dict[str, Home], memory: Path) -> Home:
    """Release 1 is published."""
    return origins.copy(_templates["published"], memory / "origin")


@pytest.fixture
def built_home(_templates: dict[str, Home], memory: Path) -> Home:
    """Release 1 is published, release 2 built."""
    return origins.copy(_templates["built"], memory / "origin")


@pytest.fixture
def approved_home(_templates: dict[str, Home], memory: Path) -> Home:
    """Release 1 is published, release 2 approved."""
    return origins.copy(_templates["approved"], memory / "origin")
