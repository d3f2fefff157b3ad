"""Feeds come from directories, archives and single files; nothing outside of them is read, and nothing inside is passed over."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from coldchain.errors import ColdchainError, LintError, UsageError
from coldchain_server.feeds.archives import FEED_LIMITS
from coldchain_server.feeds.sources import read_source
from tests.server.feeds.test_archives import PACKERS, tarred, zipped


def read(path: Path) -> dict[str, bytes]:
    return {one.path: one.data for one in read_source(path)}


def test_a_directory_in_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b.hdb", "a/z.ndb", "a.hdb", "Z.ldb", "é.hdb", ".git/config", ".hidden.hdb", "a/.x"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode())
    found = [one.path for one in read_source(tmp_path)]
    assert found == ["Z.ldb", "a.hdb", "a/z.ndb", "b.hdb", "é.hdb"]


def test_archives_in_a_directory_are_unpacked_in_place(tmp_path: Path) -> None:
    data = tarred(("main.hdb", b"x"), ("sub/b.ndb", b"y"))
    for end, pack in PACKERS.items():
        (tmp_path / f"acme.v1{end}").write_bytes(pack(data))
        assert read(tmp_path) == {"acme.v1/main.hdb": b"x", "acme.v1/sub/b.ndb": b"y"}
        (tmp_path / f"acme.v1{end}").unlink()
    (tmp_path / "one.zip").write_bytes(zipped(("a.hdb", b"1")))
    (tmp_path / "one.tar").write_bytes(tarred(("b.hdb", b"2")))
    assert read(tmp_path) == {"one/a.hdb": b"1", "one/b.hdb": b"2"}
    (tmp_path / "one.tar").write_bytes(tarred(("a.hdb", b"2")))
    with pytest.raises(LintError, match="twice"):
        read(tmp_path)


def test_an_archive_or_a_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(("a.hdb", b"1")))
    (tmp_path / "b.hdb").write_bytes(b"2")
    assert read(tmp_path / "a.zip") == {"a.hdb": b"1"}
    assert read(tmp_path / "b.hdb") == {"b.hdb": b"2"}
    with pytest.raises(UsageError):
        read(tmp_path / "none")


def test_links(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "sub").mkdir(parents=True)
    (outside / "a.hdb").write_bytes(b"secret")
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.hdb").write_bytes(b"x")
    (root / "b.hdb").symlink_to("sub/a.hdb")
    assert read(root) == {"b.hdb": b"x", "sub/a.hdb": b"x"}
    bad: dict[str, Callable[[Path], None]] = {
        "out": lambda one: one.symlink_to(outside / "a.hdb"),
        "out, relative": lambda one: one.symlink_to("../outside/a.hdb"),
        "nowhere": lambda one: one.symlink_to(root / "none"),
        "itself": lambda one: one.symlink_to(one),
        "directory inside": lambda one: one.symlink_to(root / "sub"),
        "directory outside": lambda one: one.symlink_to(outside / "sub"),
        "above": lambda one: one.symlink_to(".."),
        "pipe": os.mkfifo,
    }
    for name, make in bad.items():
        make(root / "c.hdb")
        with pytest.raises((LintError, UsageError)):
            read(root)
        (root / "c.hdb").unlink()
        assert len(read(root)) == 2, name


def test_bounds(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.hdb").write_bytes(b"x" * 10)
    for limits in (
        replace(FEED_LIMITS, files=4),
        replace(FEED_LIMITS, file_bytes=9),
        replace(FEED_LIMITS, total_bytes=49),
    ):
        with pytest.raises(LintError):
            list(read_source(tmp_path, limits))
    assert len(list(read_source(tmp_path, replace(FEED_LIMITS, files=5, file_bytes=10, total_bytes=50)))) == 5


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff.hdb")).write_bytes(b"x")
    with pytest.raises(LintError, match="plain path"):
        read(tmp_path)


def _as_nobody(path: Path, answer: Connection) -> None:
    if os.geteuid() == 0:
        os.setegid(65534)
        os.seteuid(65534)
    try:
        answer.send(sorted(read(path)))
    except ColdchainError as error:
        answer.send(str(error))


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that other users may come to."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_what_cannot_be_read_is_an_error(open_path: Path) -> None:
    root = open_path / "feed"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.hdb").write_bytes(b"x")
    (root / "b.zip").write_bytes(zipped(("c.hdb", b"x")))
    processes = multiprocessing.get_context("fork")

    def answer() -> object:
        here, there = processes.Pipe()
        child = processes.Process(target=_as_nobody, args=(root, there))
        child.start()
        there.close()  # a child that dies without a word ends the wait
        said = here.recv()
        child.join()
        return said

    if answer() != ["b/c.hdb", "sub/a.hdb"]:
        pytest.skip("the directory for tests is not open to other users")
    for one in (open_path, root, root / "sub", root / "sub" / "a.hdb", root / "b.zip"):
        mode = one.stat().st_mode
        one.chmod(0)
        assert "cannot be read" in str(answer()), one
        one.chmod(mode)
    assert answer() == ["b/c.hdb", "sub/a.hdb"]
