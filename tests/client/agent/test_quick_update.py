"""A poll and a pack: two requests for an update, and no word of a pack is believed that would not be believed from the file itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.install.directory import ClientDirectory
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, Publisher, run, serving
from tests.client.agent.world import contents, left_over
from tests.client.tlog.memory_log import MemoryLog


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher", log=MemoryLog(), packs=True)
    made.publish(1, FIRST)
    return made


@pytest.fixture
async def endpoint(publisher: Publisher, tmp_path: Path) -> ClientDirectory:
    """An endpoint that holds release 1."""
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    async with serving(Edge(publisher.files)) as url:
        await run(directory, url)
    return directory


async def test_an_update_is_a_poll_and_a_pack(publisher: Publisher, endpoint: ClientDirectory) -> None:
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        for number, content in ((2, SECOND), (3, THIRD)):
            publisher.publish(number, content)
            edge.log.clear()
            done = await run(endpoint, url)
            snapshot = publisher.repository.documents["snapshot"]["version"]
            assert edge.paths == ["metadata/timestamp.json", f"packs/us/stable/{snapshot}.from-{number - 1}.pack"]
            assert (done.action, done.release, done.way, done.check, done.why) == (
                "updated",
                number,
                "delta",
                "quick",
                None,
            )
            assert done.requests == 2
            assert contents(endpoint) == content
            assert left_over(endpoint) == []
