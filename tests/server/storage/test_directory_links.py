"""Reading the published tree follows no link and opens nothing but regular files, whoever put what into it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from coldchain.errors import StorageError
from coldchain_server.storage.directory import DirectoryStorage


async def everything(storage: DirectoryStorage, path: str) -> bytes:
    return b"".join([block async for block in storage.read(path)])


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_bytes(b"a key")
    (tmp_path / "root").mkdir()
    return directory


def plant(kind: str, root: Path, outside: Path) -> str:
    """Puts something that is not a published file below root; returns its path in the tree."""
    (root / "log").mkdir()
    (root / "log" / "good").write_bytes(b"good")
    target = root / "log" / "planted"
    if kind == "link to a file outside":
        target.symlink_to(outside / "secret")
    elif kind == "link to a file inside":
        target.symlink_to("good")
    elif kind == "link that leads nowhere":
        target.symlink_to("nowhere")
    elif kind == "link to itself":
        target.symlink_to("planted")
    elif kind == "linked directory":
        target.symlink_to(outside)
        return "log/planted/secret"
    elif kind == "directory":
        target.mkdir()
    elif kind == "file as directory":
        return "log/good/below"
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(root)
            server.bind("log/planted")
    else:
        return "log/missing"
    return "log/planted"


@pytest.mark.parametrize(
    "kind",
    [
        "link to a file outside", "link to a file inside", "link that leads nowhere", "link to itself", "linked directory",
        "directory", "file as directory", "pipe", "socket", "nothing",
    ],
)  # fmt: skip
async def test_what_is_no_file_is_as_if_it_were_not_there(
    kind: str, tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = plant(kind, tmp_path / "root", outside)
    storage = DirectoryStorage(tmp_path / "root")
    assert await storage.stat(path) is None
    with pytest.raises(StorageError):
        await storage.get(path)
    with pytest.raises(StorageError):
        await everything(storage, path)
    listed = [one async for one in storage.list()]
    assert path not in listed


async def test_the_root_itself_may_be_a_link_and_files_below_it_are_read(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "link").symlink_to("root")
    storage = DirectoryStorage(tmp_path / "link")
    await storage.put("log/tile/0/x001/067", b"tile")
    entry = await storage.stat("log/tile/0/x001/067")
    assert entry is not None
    assert entry.length == 4
    assert await storage.get("log/tile/0/x001/067") == b"tile"
    assert await everything(storage, "log/tile/0/x001/067") == b"tile"


async def test_a_tree_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path / "missing")
    assert await storage.stat("log/checkpoint") is None
    assert [one async for one in storage.list()] == []
    await storage.put("log/checkpoint", b"first")
    assert await storage.get("log/checkpoint") == b"first"


async def test_no_descriptor_is_left_open(tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = DirectoryStorage(tmp_path / "root")
    paths = ["log/good", "log/missing", "log/good/below", plant("linked directory", tmp_path / "root", outside)]

    async def look() -> None:
        for path in paths:
            if await storage.stat(path) is not None:
                await storage.get(path)
                await everything(storage, path)

    await look()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        await look()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
