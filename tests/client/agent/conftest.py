from __future__ import annotations

import pytest

from tests.client.agent.world import World, make_world
from tests.memory_disk import tmp_path

__all__ = ["tmp_path"]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
