"""The watch of a fleet: each thing that may not be, done to a real endpoint, is seen; what may be is not complained of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coldchain.agent.update import Settings, update
from coldchain.errors import HeldError
from coldchain.install import trusted
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain_server.home import Home
from coldchain_server.release.rollout import change_rollout
from tests.client.tuf.repository import NOW, digest
from tests.server import origins
from tests.server.conftest import _templates, memory, published_home
from tests.server.release.test_rollout import scheduled
from tests.system.fleet.endpoints import Endpoint
from tests.system.fleet.processes import Site
from tests.system.fleet.publishing import Place, Publishing
from tests.system.fleet.watch import Watch

__all__ = ["_templates", "memory", "published_home"]

STAGES = """\
[stable]
stages = [
    { wave = 1, share = 20, hours = 1 },
    { wave = 1, share = 100, hours = 1 },
    { wave = 2, share = 100 },
]
"""


class Scene:
    """An origin with release 1 out in two regions, ``jp`` in the second wave, and an endpoint in each."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        publishing = Publishing(Site(folder), [Place("us", "", 1), Place("jp", "", 2)])
        publishing.home = home.directory
        self.endpoints = {name: Endpoint(name, folder / name, name, engine=True) for name in ("us", "jp")}
        for one in self.endpoints.values():
            directory = ClientDirectory(one.path)
            directory.make()
            trusted.pin(directory, home.pinned_root())
            pin = digest(home.pinned_root())
            directory.write_config(
                Config("coldchain", one.region, "stable", pin, ("http://none.invalid",), ROOT_POLICY)
            )
        self.watch = Watch(publishing, list(self.endpoints.values()))

    async def poll(self, name: str, bucket: int = 0) -> None:
        settings = Settings(urls=[str(self.home.public)], now=lambda: NOW, draw=lambda _: bucket)
        await update(ClientDirectory(self.endpoints[name].path), settings)

    async def second(self) -> None:
        """Release 2 begins, for a fifth of wave 1."""
        scheduled(self.home, STAGES)
        await origins.release(self.home, origins.SECOND)

    async def share(self, percent: int, region: str) -> None:
        async with self.home.catalogue() as catalogue:
            ring = origins.keyring(self.home)
            later = NOW.replace(hour=NOW.hour + 2)
            await change_rollout(self.home, catalogue, ring, "stable", [region], now=later, share=percent)

    def seen(self) -> list[str]:
        self.watch.look()
        return self.watch.broken


@pytest.fixture
async def scene(published_home: Home, memory: Path) -> Scene:
    found = Scene(published_home, memory / "fleet")
    for name in found.endpoints:
        await found.poll(name)
    assert found.seen() == []
    await found.second()
    return found


def link(endpoint: Endpoint, name: str) -> None:
    """The endpoint's link names another version."""
    new = endpoint.path / "link"
    new.symlink_to(f"versions/{name}")
    new.replace(endpoint.path / "current")


async def test_what_may_be_is_not_complained_of(scene: Scene) -> None:
    await scene.poll("us", 1999)
    assert scene.seen() == []
    with pytest.raises(HeldError):
        await scene.poll("jp")
    await scene.share(100, "us")
    assert scene.seen() == []
    await scene.share(100, "jp")
    await scene.poll("jp", 9999)
    assert scene.seen() == []
    await scene.watch.audit_all()
    assert (scene.seen(), scene.watch.audits) == ([], 2)
    assert [one.release for one in scene.watch.applied] == [1, 1, 2, 2]
    waited = scene.watch.admitted(scene.watch.applied[-1])
    assert waited == max(entry.at for entry in scene.watch.rollout["jp"])
    (_, last) = scene.watch.samples[-1]
    assert {region: dict(counts) for region, counts in last.items()} == {"us": {2: 1}, "jp": {2: 1}}


async def test_an_endpoint_that_goes_back(scene: Scene) -> None:
    us = scene.endpoints["us"]
    first = (us.path / "current").readlink().name
    await scene.poll("us")
    assert scene.seen() == []
    link(us, first)
    assert "us went from release 2 to 1: back" in scene.seen()


async def test_a_set_that_nobody_published(scene: Scene) -> None:
    link(scene.endpoints["us"], "2-0123456789abcdef")
    assert "never published in us" in scene.seen()[0]


async def test_another_regions_set(scene: Scene) -> None:
    link(scene.endpoints["us"], (scene.endpoints["jp"].path / "current").readlink().name)
    assert "never published in us" in scene.seen()[0]


async def test_an_endpoint_that_jumps_the_queue(scene: Scene) -> None:
    await scene.poll("us")
    state = scene.endpoints["us"].path / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"bucket": {"release": 2, "number": 2000}}))
    assert scene.seen() == ["us went from release 1 to 2 with bucket 2000, and no rollout gave it that"]


async def test_a_wave_before_its_time(scene: Scene) -> None:
    await scene.share(100, "jp")  # which an operator can, against the stages
    await scene.poll("jp")
    assert scene.seen() == ["jp went from release 1 to 2 before us, which is in an earlier wave, was through"]


async def test_a_set_that_is_lost(scene: Scene) -> None:
    (scene.endpoints["us"].path / "current").unlink()
    assert scene.seen() == ["us has lost its set"]


def _flip(file: Path) -> None:
    file.chmod(0o600)
    data = file.read_bytes()
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize(
    "harm", [lambda folder: _flip(next(folder.glob("*.hsb"))), lambda folder: next(folder.glob("*.hsb")).unlink()]
)
async def test_a_torn_set(harm: Callable[[Path], None], scene: Scene) -> None:
    us = scene.endpoints["us"]
    harm((us.path / "current").resolve())
    await scene.watch.audit(us)
    assert scene.watch.broken
    assert scene.watch.broken[0].startswith("us does not verify: ")


async def test_an_engine_that_goes_back(scene: Scene) -> None:
    view = scene.endpoints["us"].path / "engines" / "yara"
    view.mkdir(parents=True)
    for release, seen in ((2, []), (1, ["the engine of us went from 2 to 1"])):
        (view / "current").unlink(missing_ok=True)
        (view / "current").symlink_to(f"sets/{release}-0123456789abcdef")
        assert scene.seen() == seen
