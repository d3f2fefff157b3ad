"""python-tuf's own client walks what the publishing side publishes, over HTTP from the origin, and refuses every tampered role.

Nothing of ours is on the client's side but Ed25519: python-tuf's needs the ``cryptography`` package, here PyNaCl verifies.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater

from coldchain import canonical
from coldchain_server.home import Home
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.nacl_signer import register
from coldchain_server.signing.roles import decode, encode, load_state, now_utc, sign
from coldchain_server.signing.rotation import ROTATABLE, rotate
from coldchain_server.web.origin import running
from tests.server import origins
from tests.server.memory import memory_folder

REGIONS = ("us", "jp")
ROLES = ("root", "timestamp", "snapshot", "targets", "us", "jp", "rollout")


@pytest.fixture(scope="module")
def template() -> Iterator[Home]:
    """Two releases and one more root, made with today's date: python-tuf's client asks the machine's clock."""
    register()

    async def make(folder: Path) -> Home:
        now = now_utc()
        home = await origins.make(folder / "template", now=now)
        await origins.release(home, origins.FIRST, now=now)
        async with home.catalogue() as catalogue, catalogue.publisher():
            state = await load_state(home.storage)
            await rotate(state, origins.keyring(home), home.storage, "timestamp", now=now, strength=DEMO)
        await origins.release(home, origins.SECOND, now=now)
        return home

    with memory_folder() as folder:
        yield asyncio.run(make(folder))


@pytest.fixture
def home(template: Home) -> Iterator[Home]:
    with memory_folder() as folder:
        yield origins.copy(template, folder / "origin")


class Endpoint:
    """python-tuf's client with a directory of its own, which pinned root version 1."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.folder = home.directory.parent / "endpoint"
        self.folder.mkdir(exist_ok=True)

    async def fetch(self, *paths: str) -> dict[str, bytes]:
        """Refreshes and downloads the targets, all over one real socket's origin."""
        async with running(self.home.storage) as origin:
            return await asyncio.to_thread(self._fetch, origin.url, paths)

    def _fetch(self, url: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        updater = Updater(
            str(self.folder / "metadata"),
            f"{url}/metadata/",
            str(self.folder),
            f"{url}/targets/",
            bootstrap=self.home.pinned_root(),
        )
        updater.refresh()
        found = {}
        for path in paths:
            info = updater.get_targetinfo(path)
            if info is not None:
                found[path] = Path(updater.download_target(info, str(self.folder / "target"))).read_bytes()
        return found


def paths_of(home: Home) -> list[str]:
    """Everything that the newest region roles name."""
    state = asyncio.run(load_state(home.storage))
    return [path for region in REGIONS for path in state.delegated[region].signed.targets]


def test_every_regions_files_are_fetched(home: Home) -> None:
    paths = paths_of(home)
    assert {path.split("/")[2] for path in paths} == {
        *("full.ccd", "from-1.ccd", "evidence.zst"),
    }
    found = asyncio.run(Endpoint(home).fetch(*paths))
    assert sorted(found) == sorted(paths)
    now = now_utc()
    for region in REGIONS:
        ours = origins.read(home, region, now=now).release
        for target in (ours.evidence, ours.full, *ours.deltas.values()):
            data = found[target.path]
            assert (len(data), hashlib.sha256(data).hexdigest()) == (target.length, target.sha256)
    assert asyncio.run(Endpoint(home).fetch("us/stable/from-7.ccd", "eu/stable/full.ccd", "rollout/x")) == {}


def test_it_follows_a_rotation_of_every_role(home: Home) -> None:
    endpoint = Endpoint(home)
    asyncio.run(endpoint.fetch("us/stable/full.ccd"))

    async def rotated(role: str) -> None:
        async with home.catalogue() as catalogue, catalogue.publisher():
            state = await load_state(home.storage)
            await rotate(state, origins.keyring(home), home.storage, role, now=now_utc(), strength=DEMO)

    for role in ROTATABLE:
        asyncio.run(rotated(role))
        assert asyncio.run(endpoint.fetch("us/stable/full.ccd"))
    assert asyncio.run(origins.release(home, origins.THIRD, now=now_utc())) == 3
    assert len(asyncio.run(endpoint.fetch("us/stable/from-2.ccd", "us/stable/from-1.ccd"))) == 2


def file_of(home: Home, role: str) -> Path:
    state = asyncio.run(load_state(home.storage))
    if role == "timestamp":
        return home.public / "metadata" / "timestamp.json"
    every: dict[str, Any] = {
        "root": state.root,
        "targets": state.targets,
        "snapshot": state.snapshot,
        **state.delegated,
    }
    return home.public / "metadata" / f"{every[role].signed.version}.{role}.json"


Tamper = Callable[[Home, str, Path], None]


def rewrite(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(file.read_bytes())
    change(document)
    file.write_bytes(canonical.encode(document))


def another_expiry(home: Home, role: str, file: Path) -> None:
    rewrite(file, lambda document: document["signed"].update(expires="2099-01-01T00:00:00Z"))


def a_signature_flipped(home: Home, role: str, file: Path) -> None:
    def flip(document: dict[str, Any]) -> None:
        for signature in document["signatures"]:
            signature["sig"] = ("0" if signature["sig"][0] != "0" else "1") + signature["sig"][1:]

    rewrite(file, flip)


def signatures_gone(home: Home, role: str, file: Path) -> None:
    rewrite(file, lambda document: document.update(signatures=[]))


def a_signature_too_few(home: Home, role: str, file: Path) -> None:
    """One of two where two are needed; none where one is."""
    rewrite(file, lambda document: document["signatures"].pop())


def signed_by_others(home: Home, role: str, file: Path) -> None:
    """Well signed, with two keys that belong to other roles."""
    keyring = origins.keyring(home)
    metadata = decode(file.read_bytes(), role)
    others = (
        ["approver-1", "approver-2"]
        if role in ("root", "targets", "timestamp", "snapshot")
        else ["targets-1", "root-1"]
    )
    sign(metadata, [keyring.signer(name) for name in others])
    file.write_bytes(encode(metadata))


def cut(home: Home, role: str, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def gone(home: Home, role: str, file: Path) -> None:
    file.unlink()


def another_role(home: Home, role: str, file: Path) -> None:
    """A whole and well signed file, under the name of another."""
    other = "snapshot" if role != "snapshot" else "timestamp"
    file.write_bytes(file_of(home, other).read_bytes())


TAMPERS = (
    another_expiry,
    a_signature_flipped,
    signatures_gone,
    a_signature_too_few,
    signed_by_others,
    cut,
    gone,
    another_role,
)
ASKED = ("us/stable/full.ccd", "jp/stable/full.ccd", "rollout/any")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tamper", TAMPERS)
def test_a_tampered_role_is_refused(home: Home, role: str, tamper: Tamper) -> None:
    tamper(home, role, file_of(home, role))
    if role == "root" and tamper is gone:
        # Without root 2 the client stays at root 1, whose timestamp key is not the one that signs.
        assert file_of(home, "root").name == "1.root.json"
    with pytest.raises((RepositoryError, DownloadError)):
        asyncio.run(Endpoint(home).fetch(*ASKED))


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "us", "rollout"])
def test_a_replayed_role_is_refused(home: Home, role: str) -> None:
    """The old file of the same role, well signed, after the client has seen the new one."""
    before = home.directory.parent / "before"
    shutil.copytree(home.public, before)
    old = file_of(home, role)
    asyncio.run(_next(home))
    endpoint = Endpoint(home)
    assert asyncio.run(endpoint.fetch(*ASKED))
    new = file_of(home, role)
    shutil.copy(before / "metadata" / old.name, new)
    if role != "timestamp":
        shutil.rmtree(endpoint.folder / "metadata")
        (endpoint.folder / "metadata").mkdir()
    with pytest.raises((RepositoryError, DownloadError)):
        asyncio.run(endpoint.fetch(*ASKED))


async def _next(home: Home) -> None:
    """A release, and new targets with it, so that every role has a new version."""
    now = now_utc()
    await origins.release(home, origins.THIRD, now=now)
    async with home.catalogue() as catalogue, catalogue.publisher():
        state = await load_state(home.storage)
        await rotate(state, origins.keyring(home), home.storage, "region", now=now, strength=DEMO)
        state = await load_state(home.storage)
        await rotate(state, origins.keyring(home), home.storage, "rollout", now=now, strength=DEMO)


@pytest.mark.parametrize("path", ["us/stable/full.ccd", "jp/stable/from-1.ccd", "us/stable/evidence.zst"])
def test_a_tampered_file_is_refused(home: Home, path: str) -> None:
    state = asyncio.run(load_state(home.storage))
    folder, _, name = path.rpartition("/")
    digest = state.delegated[path.split("/")[0]].signed.targets[path].hashes["sha256"]
    file = home.public / "targets" / folder / f"{digest}.{name}"
    good = file.read_bytes()
    for bad in (bytes([good[0] ^ 1]) + good[1:], good[:-1], good + b"x", b""):
        file.write_bytes(bad)
        with pytest.raises((RepositoryError, DownloadError)):
            asyncio.run(Endpoint(home).fetch(path))
    file.write_bytes(good)
    assert asyncio.run(Endpoint(home).fetch(path)) == {path: good}
