"""What is the directory's alone: temporary files, the order of calls, the sweep."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from coldchain.errors import StorageError
from coldchain_server.storage.directory import DirectoryStorage
from tests.faults import crashpoints

NAME = "targets/us/file.ccd"


def calls(work: object) -> list[str]:
    ending = crashpoints.run(work)  # type: ignore[arg-type]
    assert ending.finished, ending.raised
    wanted = ("open", "write", "flush", "fsync", "chmod", "rename", "mkdir", "unlink")
    return [call.split()[0] for call in ending.calls if call.split()[0] in wanted]


def in_order(found: list[str], *wanted: str) -> bool:
    rest = iter(found)
    return all(one in rest for one in wanted)


def test_a_file_is_synced_before_its_name_and_the_name_before_it_counts(memory: Path) -> None:
    storage = DirectoryStorage(memory / "public")
    found = calls(lambda: storage._put(memory / "public" / NAME, b"bytes", False))
    assert in_order(
        found, *(["mkdir", "fsync"] * 3), "open", "write", "flush", "fsync", "chmod", "rename", "open", "fsync"
    )
    assert found[-1] == "fsync"


def test_a_file_that_is_there_already_is_synced_by_name(memory: Path) -> None:
    """Its writer may have died after the rename: who is told that it is stored must be able to rely on it."""
    storage = DirectoryStorage(memory / "public")
    storage._put(memory / "public" / NAME, b"bytes", False)
    assert calls(lambda: storage._put(memory / "public" / NAME, b"bytes", False))[-1] == "fsync"


async def test_published_files_can_be_read_by_any_web_server(memory: Path) -> None:
    storage = DirectoryStorage(memory / "public")
    old = os.umask(0o077)
    try:
        await storage.put(NAME, b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((memory / "public" / NAME).stat().st_mode) == 0o644


async def test_what_dead_writers_left_is_invisible_and_swept(memory: Path) -> None:
    storage = DirectoryStorage(memory / "public")
    await storage.put(NAME, b"x")
    left = [memory / "public" / "targets" / "us" / ".file.ccd.4711", memory / "public" / ".top.1"]
    for path in left:
        path.write_bytes(b"half")
    assert [path async for path in storage.list()] == [NAME]
    assert storage.sweep() == 2
    assert not any(path.exists() for path in left)
    assert storage.sweep() == 0
    assert await storage.get(NAME) == b"x"


def test_a_tree_that_is_not_there_yet_has_nothing_to_sweep(memory: Path) -> None:
    assert DirectoryStorage(memory / "public").sweep() == 0


async def test_a_failed_write_leaves_nothing(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = DirectoryStorage(memory / "public")
    await storage.put("a/old", b"old", replace=True)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        for name in ("a/new", "a/old"):
            with pytest.raises(StorageError, match="No space left on device"):
                await storage.put(name, b"new", replace=True)
    assert [path.name for path in (memory / "public" / "a").iterdir()] == ["old"]
    assert await storage.get("a/old") == b"old"


async def test_a_source_that_is_gone_is_an_error_and_leaves_nothing(memory: Path) -> None:
    storage = DirectoryStorage(memory / "public")
    with pytest.raises(StorageError):
        await storage.put(NAME, memory / "nowhere")
    assert [path async for path in storage.list()] == []
    assert storage.sweep() == 0


async def test_the_tag_is_another_for_the_same_length_in_the_same_instant(memory: Path) -> None:
    storage = DirectoryStorage(memory / "public")
    await storage.put("t", b"aa", replace=True)
    first = await storage.stat("t")
    file = memory / "public" / "t"
    found = file.stat()
    await storage.put("t", b"bb", replace=True)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    second = await storage.stat("t")
    assert first is not None
    assert second is not None
    assert first.tag != second.tag
