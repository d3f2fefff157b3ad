"""An origin's packs: with every snapshot, before its timestamp, of good files only; and gone when they are of no use any more."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain.agent.update import Settings, update
from coldchain.errors import HeldError, StorageError
from coldchain.install import trusted
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain.published_packs import KEPT, Packs, pack_path, published_packs, snapshot_of
from coldchain.tuf.refresh import Fetch, refresh
from coldchain_server.home import Home
from coldchain_server.release.rollout import change_rollout
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.roles import load_state
from coldchain_server.signing.rotation import ROTATABLE, renew, rotate
from coldchain_server.storage.directory import DirectoryStorage
from coldchain_server.web.origin import running
from tests.client.tuf.repository import NOW, digest
from tests.client.tuf.repository import Client as TufClient
from tests.server import origins

HOUR = timedelta(hours=1)


def packs(home: Home) -> dict[str, bytes]:
    return {
        path.relative_to(home.public).as_posix(): path.read_bytes() for path in (home.public / "packs").rglob("*.pack")
    }


async def snapshot(home: Home) -> int:
    version: int = (await load_state(home.storage)).snapshot.signed.version
    return version


def made(home: Home) -> dict[str, bytes]:
    """What a client makes of the published files."""

    def fetch(path: str) -> bytes | None:
        return (home.public / path).read_bytes() if (home.public / path).is_file() else None

    client = TufClient({"root.json": home.pinned_root()})
    found = client.drive(refresh(dict(client.stored), NOW, ["us", "jp", "rollout"]), fetch)
    packs: Packs = driven(published_packs(found, ["us", "jp"], "coldchain"), fetch)
    assert packs.left_out == []
    return {one.path: one.head + (fetch(one.content) or b"" if one.content else b"") for one in packs.made}


def driven(steps: Generator[Fetch, bytes | None, Packs], fetch: Callable[[str], bytes | None]) -> Packs:
    data: bytes | None = None
    while True:
        try:
            step = steps.send(data)
        except StopIteration as done:
            packs: Packs = done.value
            return packs
        data = fetch(step.path)


async def rolled(home: Home, share: int) -> None:
    async with home.catalogue() as catalogue:
        await change_rollout(home, catalogue, origins.keyring(home), "stable", (), now=NOW, share=share)


def endpoint(home: Home, path: Path, *urls: str) -> ClientDirectory:
    directory = ClientDirectory(path)
    directory.make()
    trusted.pin(directory, home.pinned_root())
    directory.write_config(Config("coldchain", "us", "stable", digest(home.pinned_root()), urls, ROOT_POLICY))
    return directory


async def test_they_are_what_any_client_would_make_of_the_files(published_home: Home) -> None:
    home = published_home
    for number, files in enumerate((origins.SECOND, origins.THIRD), 2):
        assert await origins.release(home, files) == number
        version = await snapshot(home)
        now = {path: data for path, data in packs(home).items() if snapshot_of(path) == version}
        assert now == made(home)
        assert set(now) == {
            pack_path(region, "stable", version, one) for region in ("us", "jp") for one in range(1, number + 1)
        }


async def test_endpoints_follow_releases_steps_and_rotations_with_a_pack_each(
    published_home: Home, memory: Path
) -> None:
    home = published_home
    async with running(DirectoryStorage(home.public)) as origin:
        client = endpoint(home, memory / "client", origin.url)
        settings = Settings(now=lambda: NOW, draw=lambda _: 9000)
        assert (await update(client, settings)).release == 1
        await rolled(home, 50)
        done = await update(client, settings)
        assert (done.action, done.requests) == ("current", 2)
        for role in ROTATABLE:
            state = await load_state(home.storage)
            await rotate(state, origins.keyring(home), home.storage, role, now=NOW, strength=DEMO)
            done = await update(client, settings)
            assert done.action == "current"
            # a root alone is not asked for before a day is over; a timestamp under a new key is for the full workflow
            quick = role not in ("timestamp",)
            assert (done.check == "quick") is quick, role
        assert await origins.release(home, origins.SECOND) == 2
        await rolled(home, 10)
        with pytest.raises(HeldError):
            await update(client, settings)
        await rolled(home, 100)
        done = await update(client, settings)
        assert (done.release, done.way, done.check) == (2, "delta", "quick")
        assert done.requests == 2, "so small a pack is in its first bytes as a whole"
        await origins.release(home, origins.THIRD)
        done = await update(client, settings)
        assert (done.release, done.requests) == (3, 2)


async def test_packs_of_older_snapshots_go(published_home: Home) -> None:
    home = published_home
    for share in range(10, 70, 10):
        await rolled(home, share)
        version = await snapshot(home)
        assert {snapshot_of(path) for path in packs(home)} == set(range(max(version - KEPT, 1) + 1, version + 1))
    before = packs(home)
    state = await load_state(home.storage)
    assert await renew(state, origins.keyring(home), home.storage, now=NOW + HOUR, every=0) == ["timestamp"]
    assert packs(home) == before, "a timestamp that is signed anew leaves them"


async def test_what_a_publish_left_that_died_is_not_kept(published_home: Home) -> None:
    home = published_home
    version = await snapshot(home)
    for path in (pack_path("us", "stable", version + 1, 77), pack_path("us", "stable", version + 4, 1)):
        (home.public / path).parent.mkdir(parents=True, exist_ok=True)
        (home.public / path).write_bytes(b"of roles that were never published")
    (home.public / pack_path("us", "stable", version + 1, 1)).write_bytes(b"the same")
    await rolled(home, 40)
    now = {path: data for path, data in packs(home).items() if snapshot_of(path) > version}
    assert now == made(home)


async def test_whatever_keeps_a_pack_from_being_made_keeps_nobody_from_publishing(
    published_home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = published_home
    put, joined = DirectoryStorage.put, DirectoryStorage.put_joined

    async def refuses(self: DirectoryStorage, path: str, *rest: object, **options: object) -> None:
        if path.startswith("packs/"):
            raise StorageError("the disk is full")
        await (joined if len(rest) > 1 else put)(self, path, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(DirectoryStorage, "put", refuses)
    monkeypatch.setattr(DirectoryStorage, "put_joined", refuses)
    assert await origins.release(home, origins.SECOND) == 2
    assert origins.read_all(home) == 2
    assert any("packs are missing" in record.message for record in caplog.records)
    monkeypatch.undo()
    shutil.rmtree(home.public / "manifests")
    await rolled(home, 30)
    version = await snapshot(home)
    assert {path for path in packs(home) if snapshot_of(path) == version} == {
        pack_path(region, "stable", version, 2) for region in ("us", "jp")
    }, "the chain is lost, and the roles are still there"
