from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldchain.errors import StorageError
from coldchain_server.storage.content import ContentStore
from coldchain_server.storage.durable import remove
from tests.faults import crashpoints
from tests.server.storage.test_directory import calls, in_order


@pytest.fixture
def content(memory: Path) -> ContentStore:
    return ContentStore(memory / "content")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(data=st.binary(max_size=500))
def test_bytes_come_back_by_their_digest(content: ContentStore, data: bytes) -> None:
    digest = content.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert content.put(data) == digest
    assert digest in content
    assert content.get(digest) == data
    assert content(digest).read_bytes() == data


def test_what_is_not_there_says_so(content: ContentStore) -> None:
    assert "0" * 64 not in content
    with pytest.raises(StorageError, match="0000000000000000 cannot be read"):
        content.get("0" * 64)


@pytest.mark.parametrize("damage", [b"", b"other", b"word"])
def test_damage_on_the_disk_is_found(content: ContentStore, damage: bytes) -> None:
    digest = content.put(b"words")
    content(digest).write_bytes(damage)
    with pytest.raises(StorageError, match="damaged on disk") as caught:
        content.get(digest)
    assert "backup" in caught.value.todo


def test_the_file_and_its_directory_are_synced_before_put_returns(content: ContentStore) -> None:
    found = calls(lambda: content.put(b"words"))
    assert in_order(
        found, "mkdir", "fsync", "mkdir", "fsync", "open", "write", "flush", "fsync", "rename", "open", "fsync"
    )
    assert found[-1] == "fsync"
    assert calls(lambda: content.put(b"words"))[-1] == "fsync", "its writer may have died after the rename"


def test_a_killed_writer_leaves_no_content_and_the_sweep_takes_the_rest(content: ContentStore) -> None:
    digest = hashlib.sha256(b"words").hexdigest()
    whole = crashpoints.run(lambda: ContentStore(content.directory.with_name("other")).put(b"words"))
    left = 0
    for point in range(1, len(whole.calls) + 1):
        remove(content.directory)
        assert crashpoints.run(lambda: content.put(b"words"), point).killed
        if digest in content:
            assert content.get(digest) == b"words"
            content(digest).unlink()
        if content.directory.is_dir():
            assert content.sweep() == 0, "a writer may be at work"
        yesterday = time.time() - 90_000
        abandoned = list(content.directory.glob("*/.*"))
        for file in abandoned:
            os.utime(file, (yesterday, yesterday))
        assert content.sweep() == len(abandoned)
        left += len(abandoned)
        assert not list(content.directory.glob("*/.*"))
    assert left > 0
    assert content.put(b"words") == digest


def test_a_full_disk_keeps_what_was_there(content: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    old = content.put(b"old")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match="No space left"):
            content.put(b"new")
    assert content.get(old) == b"old"
    assert [file.name for file in content.directory.rglob("*") if file.is_file()] == [old]
