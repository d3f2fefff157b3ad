from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.errors import StorageError
from coldchain_server.storage.durable import disk, make_directory, move, remove, temporary, write_file
from tests.server.storage.test_directory import calls, in_order


def test_new_directories_are_synced_from_the_top(memory: Path) -> None:
    assert in_order(
        calls(lambda: make_directory(memory / "a" / "b")), "mkdir", "open", "fsync", "mkdir", "open", "fsync"
    )
    assert calls(lambda: make_directory(memory / "a" / "b")) == []


def test_a_file_is_replaced_whole(memory: Path) -> None:
    for data in (b"one", b"two"):
        found = calls(lambda data=data: write_file(memory / "f", data))
        assert in_order(found, "open", "write", "flush", "fsync", "rename", "open", "fsync")
        assert (memory / "f").read_bytes() == data
    assert [path.name for path in memory.iterdir()] == ["f"]


def test_no_two_writers_have_one_temporary_name(memory: Path) -> None:
    names = {temporary(memory / "f") for _ in range(100)}
    assert len(names) == 100
    assert all(name.parent == memory and name.name.startswith(".f.") for name in names)


def test_both_ends_of_a_move_are_synced(memory: Path) -> None:
    (memory / "a").mkdir()
    write_file(memory / "a" / "f", b"x")
    assert calls(lambda: move(memory / "a" / "f", memory / "f")).count("fsync") == 2
    assert (memory / "f").read_bytes() == b"x"
    with pytest.raises(StorageError):
        move(memory / "a" / "f", memory / "g")


def test_removing_takes_files_directories_links_and_nothing(memory: Path) -> None:
    (memory / "d" / "e").mkdir(parents=True)
    (memory / "outside").mkdir()
    (memory / "outside" / "kept").write_bytes(b"x")
    (memory / "link").symlink_to(memory / "outside")
    (memory / "f").write_bytes(b"x")
    for name in ("d", "link", "f", "nothing"):
        remove(memory / name)
    assert [path.name for path in memory.rglob("*")] == ["outside", "kept"]


def test_a_refusal_names_the_path_and_what_to_do() -> None:
    with pytest.raises(StorageError, match=r"regions\.toml: Permission denied") as caught, disk(Path("a/regions.toml")):
        raise PermissionError(13, "Permission denied")
    assert "permissions" in caught.value.todo
