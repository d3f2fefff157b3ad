from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from tests.client.monitor.watched import Relay, Watched, make_template, relays, watched
from tests.memory_disk import tmp_path
from tests.server.memory import memory_folder

__all__ = ["tmp_path"]


@pytest.fixture(scope="session")
def ways() -> Iterator[Mapping[str, Relay]]:
    with relays() as made:
        yield made


@pytest.fixture(scope="session")
def template(ways: Mapping[str, Relay]) -> Iterator[Path]:
    with memory_folder() as folder:
        asyncio.run(make_template(folder, ways))
        yield folder


@pytest.fixture
async def world(template: Path, ways: Mapping[str, Relay], tmp_path: Path) -> AsyncIterator[Watched]:
    async with watched(template, tmp_path, ways) as made:
        yield made
