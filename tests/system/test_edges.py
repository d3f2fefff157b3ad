"""An origin, two edges of it, an edge of these, and an endpoint: real programs from the publish to what is installed, and kills.

::

    coldchain-server serve   <-  edge one, edge two   <-  edge three (of one, two)   <-  coldchain update
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from coldchain.agent.news import wait_for_news
from coldchain.agent.update import update
from coldchain.install import trusted
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain.install.source_health import read_source_health
from coldchain_server.home import Home
from coldchain_server.signing.roles import now_utc
from tests.client.agent.world import contents
from tests.client.tuf.repository import digest
from tests.server import origins
from tests.server.edge.edges import edge, page, serves, url_of
from tests.server.memory import memory_folder
from tests.server.test_serve import Process, serving
from tests.server.web.published import until


def endpoint(home: Home, path: Path, *urls: str) -> ClientDirectory:
    directory = ClientDirectory(path)
    directory.make()
    trusted.pin(directory, home.pinned_root())
    directory.write_config(Config("coldchain", "jp", "stable", digest(home.pinned_root()), urls, ROOT_POLICY))
    return directory


def words(home: Home, *upstreams: Process) -> list[str]:
    given = [word for one in upstreams for word in ("--upstream", url_of(one))]
    return ["--region", "jp", "--root", str(home.directory / "root.json"), *given]


@pytest.mark.timeout(240)
async def test_a_release_goes_through_the_chain_and_outlives_its_parts() -> None:
    with memory_folder() as folder:
        home = await origins.make(folder / "origin", now=now_utc())
        await origins.release(home, origins.FIRST, now=now_utc())
        async with (
            serving(home.directory, "--no-sign") as origin,
            edge(folder / "one", *words(home, origin)) as one,
            edge(folder / "two", *words(home, origin)) as two,
        ):
            await serves(one, 1)
            await serves(two, 1)
            chain = words(home, one, two)
            async with edge(folder / "three", *chain) as three:
                await serves(three, 1)
                client = endpoint(home, folder / "client", url_of(three), url_of(two), url_of(origin))
                assert (await update(client)).release == 1

                # a publish reaches the end of the chain, and whoever waits there is told
                await confirmed(three)
                waiting = asyncio.create_task(wait_for_news(client, 120))
                await origins.release(home, origins.SECOND, now=now_utc())
                assert await waiting
                done = await update(client)
                assert (done.release, done.way) == (2, "delta")
                assert {"acme-daily.hsb", "acme-main.hsb"} <= set(contents(client))

                # an edge of the chain dies: the next above takes over
                await one.end(signal.SIGKILL)
                await origins.release(home, origins.THIRD, now=now_utc())
                await serves(two, 3)
                await serves(three, 3)
                await three.end(signal.SIGKILL)

            # the endpoint's own edge is dead: it goes on with the next, and remembers
            assert (await update(client)).release == 3
            health = read_source_health(client)
            assert [late.why for late in health.late.values()] == ["unreachable"]
            assert (await update(client)).requests == 1

            # the origin is gone: what is left serves on, and says how old it is
            await origin.end()
            async with edge(folder / "three") as three:
                await serves(three, 3)
                await until(lambda: two.said("no news from any upstream") is not None)
                for alive in (two, three):
                    found = await page(alive)
                    assert found.status == 200
                    assert found.facts["age_seconds"] >= 0
                fresh = endpoint(home, folder / "fresh", url_of(origin), url_of(three))
                assert (await update(fresh)).release == 3
                assert await three.end() == 0
            assert await two.end() == 0
        for name in ("one", "two", "three"):  # nothing of another region
            assert [one.name for one in (folder / name / "targets").iterdir()] == ["jp"]


async def confirmed(process: Process) -> None:
    while (await page(process)).facts["warnings"]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
