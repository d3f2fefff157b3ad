"""Origins that several tests start from: made once, copied for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain_server.home import Home
from tests.server import origins
from tests.server.memory import memory_folder


def _made(directory: Path, releases: int, approved: bool) -> Home:
    async def make() -> Home:
        home = await origins.make(directory)
        for number, files in enumerate((origins.FIRST, origins.SECOND)[:releases], 1):
            assert await origins.release(home, files) == number
        if approved:
            number = (
                await origins.build_release(home, (origins.FIRST, origins.SECOND, origins.THIRD)[releases])
            ).number
            await origins.approve_release(home, number)
        return home

    return asyncio.run(make())


@pytest.fixture(scope="session")
def _templates() -> Iterator[dict[str, Home]]:
    kinds = {"new": (0, False), "published": (1, False), "approved": (1, True)}
    with memory_folder() as folder:
        yield {name: _made(folder / name, *kind) for name, kind in kinds.items()}


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
def approved_home(_templates: dict[str, Home], memory: Path) -> Home:
    """Release 1 is published, release 2 approved."""
    return origins.copy(_templates["approved"], memory / "origin")
