"""Updates over real sockets: what is fetched, what is installed, and what stands when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from coldchain.errors import MalformedError
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, Publisher, installed, metered, run, serving


def contents(directory: object) -> dict[str, bytes]:
    return {name: data for name, data in installed(directory).items() if not name.startswith("coldchain-canary")}  # type: ignore[arg-type]


async def test_first_install_then_a_delta_then_a_quick_check(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(1, FIRST)
    async with publisher.origin() as url, metered(url) as (relay, meter):
        directory = publisher.client(tmp_path / "endpoint", relay)
        done = await run(directory)
        assert (done.action, done.release, done.way, done.check) == ("installed", 1, "full", "full")
        assert contents(directory) == FIRST

        publisher.publish(2, SECOND)
        done = await run(directory)
        assert (done.action, done.release, done.previous, done.way) == ("updated", 2, 1, "delta")
        assert contents(directory) == SECOND
        delta, full = (publisher.files[publisher.target(name)] for name in ("from-1.ccd", "full.ccd"))
        assert len(delta) < len(full) / 5

        meter.up = meter.down = 0
        done = await run(directory)
        assert (done.action, done.check, done.requests) == ("current", "quick", 1)
        assert meter.up <= 150
        assert meter.down <= 180


async def test_another_regions_files_are_refused_and_do_not_stand_in_the_way_of_the_truth(tmp_path: Path) -> None:
    """The same people sign for both regions, so the keys alone do not tell their roles apart."""
    publisher = Publisher(tmp_path)
    publisher.repository.set_keys("jp", publisher.repository.signers["us"], 2)
    publisher.repository.publish("targets")
    publisher.publish(1, FIRST)

    def swapped(request: web.Request, data: bytes) -> bytes:
        path = request.path.lstrip("/")
        if path.endswith(".jp.json"):
            return publisher.files[path.replace(".jp.json", ".us.json")]
        return publisher.files[publisher.target(path.split(".", 1)[1])] if path.startswith("targets/jp/") else data

    edge = Edge(publisher.files, swapped)
    async with publisher.origin() as url, serving(edge) as hostile:
        directory = publisher.client(tmp_path / "endpoint", url, region="jp")
        for number, contents_ in ((1, FIRST), (2, SECOND), (3, THIRD)):
            if number > 1:
                publisher.publish(number, contents_)
            with pytest.raises(MalformedError, match="'region' is not 'jp'"):
                await run(directory, hostile)
            assert contents(directory) == (FIRST if number == 2 else SECOND if number == 3 else {})
            done = await run(directory)
            assert (done.release, contents(directory)) == (number, contents_)
