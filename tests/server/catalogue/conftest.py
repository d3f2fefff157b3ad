"""One contract for every backend: a second one joins by another entry of :data:`BACKENDS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.catalogue.sqlite import SqliteCatalogue

Open = Callable[[], Awaitable[Catalogue]]
"""Opens another connection to the same catalogue, as another process would."""


def sqlite(folder: Path) -> Open:
    async def opened() -> Catalogue:
        return await SqliteCatalogue.open(folder / "catalogue.sqlite")

    return opened


BACKENDS: dict[str, Callable[[Path], Open]] = {"sqlite": sqlite}


@pytest.fixture(params=BACKENDS)
async def another(request: pytest.FixtureRequest, memory: Path) -> AsyncIterator[Open]:
    """Opens connections that are closed at the end."""
    opened = BACKENDS[request.param](memory)
    async with AsyncExitStack() as stack:

        async def connect() -> Catalogue:
            catalogue = await opened()
            stack.push_async_callback(catalogue.close)
            return catalogue

        yield connect


@pytest.fixture
async def catalogue(another: Open) -> Catalogue:
    return await another()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, memory: Path) -> Open:
    """Opens connections that the test closes itself."""
    return BACKENDS[request.param](memory)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """For property tests, which are no coroutines."""
    with asyncio.Runner() as one:
        yield one
