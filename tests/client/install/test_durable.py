"""Files are written whole, durably, and never outside their directory."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import ColdchainError, DamagedError, InternalError, StorageError
from coldchain.install import durable
from coldchain.install.durable import Folder
from tests.client.install.endpoint import snapshot

Act = Callable[[Folder], object]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "here").mkdir()
    with durable.open_folder(tmp_path / "here") as folder:
        yield folder


def fill(folder: Folder, name: str) -> None:
    with folder.new_file(name) as file:
        file.write(b"new")


def edit(folder: Folder, name: str) -> None:
    descriptor = folder.edit(name)
    os.write(descriptor, b"new")
    os.close(descriptor)


# Everything that writes a name, by what it is called.
WRITERS: dict[str, Callable[[Folder, str], object]] = {
    "write": lambda folder, name: folder.write(name, b"new"),
    "new_file": fill,
    "edit": edit,
    "replace_symlink": lambda folder, name: folder.replace_symlink(name, "new"),
    "link": lambda folder, name: folder.link(name, folder, "source"),
    "move": lambda folder, name: folder.move("source", folder, name),
    "make": lambda folder, name: folder.make(name),
    "remove": lambda folder, name: folder.remove(name),
}
READERS: dict[str, Callable[[Folder, str], object]] = {
    "read": lambda folder, name: folder.read(name, 10),
    "descriptor": lambda folder, name: folder.descriptor(name),
    "look": lambda folder, name: folder.look(name),
    "read_link": lambda folder, name: folder.read_link(name),
    "folder": lambda folder, name: folder.folder(name).__enter__(),
    "link from": lambda folder, name: folder.link("x", folder, name),
    "move from": lambda folder, name: folder.move(name, folder, "x"),
}


# -- nothing lands elsewhere -----------------------------------------------------------------------------------------


@given(st.text(max_size=12), st.sampled_from(["/", "\0", ""]), st.text(max_size=12))
def test_a_name_is_one_component(first: str, middle: str, last: str) -> None:
    name = first + middle + last
    if middle == "":
        name = {0: "", 1: ".", 2: ".."}[len(name) % 3]
    # A descriptor that is none: were a call made at all, it would be EBADF, a StorageError.
    folder = Folder(Path("nowhere"), -1)
    for act in [*WRITERS.values(), *READERS.values()]:
        with pytest.raises(InternalError):
            act(folder, name)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["file", "directory", "nothing"])
def test_a_link_in_the_place_of_a_name_leads_nothing_outside(
    tmp_path: Path, here: Folder, name: str, kind: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    if kind == "file":
        victim.write_bytes(b"old")
    elif kind == "directory":
        victim.mkdir()
        (victim / "inner").write_bytes(b"old")
    before = snapshot(outside)
    (here.path / "target").symlink_to("../outside/victim")
    (here.path / "source").write_bytes(b"mine")
    try:
        WRITERS[name](here, "target")
    except ColdchainError as error:
        assert isinstance(error, StorageError)  # noqa: PT017  the others succeed, and must leave the victim alone
    assert snapshot(outside) == before


@pytest.mark.parametrize("name", ["write", "replace_symlink"])
def test_a_link_in_the_place_of_the_temporary_name_leads_nothing_outside(
    tmp_path: Path, here: Folder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "00000000")
    (tmp_path / "victim").write_bytes(b"old")
    (here.path / ".target.00000000.tmp").symlink_to("../victim")
    with pytest.raises(StorageError):
        WRITERS[name](here, "target")
    assert (tmp_path / "victim").read_bytes() == b"old"
    assert not (here.path / "target").exists()


@pytest.mark.parametrize("kind", ["link", "file", "link to nothing"])
def test_a_directory_that_is_none_is_refused(tmp_path: Path, here: Folder, kind: str) -> None:
    (tmp_path / "evil").mkdir()
    if kind == "file":
        (here.path / "versions").write_bytes(b"")
    else:
        (here.path / "versions").symlink_to("../evil" if kind == "link" else "nowhere")
    with pytest.raises(DamagedError, match="not a directory of its own"), here.folder("versions"):
        pass
    here.make("versions")  # something is there: make leaves it
    with pytest.raises(DamagedError), here.folder("versions"):
        pass


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("depth", [0, 1])
def test_a_directory_swapped_while_it_is_open_keeps_what_is_written(tmp_path: Path, name: str, depth: int) -> None:
    path = tmp_path / "mine"
    (path / "inner").mkdir(parents=True)
    evil = tmp_path / "evil"
    (evil / "inner").mkdir(parents=True)
    for place in (path, path / "inner", evil, evil / "inner"):
        (place / "source").write_bytes(b"source")
        (place / "name").write_bytes(b"name") if name == "remove" else None
    before = snapshot(evil)
    with durable.open_folder(path) as outer, outer.folder("inner") as inner:
        if depth:
            (path / "inner").rename(path / "moved")
            (path / "inner").symlink_to(evil / "inner")
        else:
            path.rename(tmp_path / "moved")
            path.symlink_to(evil)
        WRITERS[name](inner if depth else outer, "name")
    assert snapshot(evil) == before
    moved = path / "moved" if depth else tmp_path / "moved"
    assert (moved / "name").is_symlink() or (moved / "name").exists() == (name != "remove")


def test_removing_a_tree_follows_no_link_in_it(tmp_path: Path, here: Folder) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_bytes(b"old")
    before = snapshot(outside)
    (here.path / "tree" / "a").mkdir(parents=True)
    (here.path / "tree" / "a" / "link").symlink_to(outside)
    (here.path / "tree" / "file").symlink_to(outside / "deep" / "file")
    here.remove("tree")
    here.remove("tree")  # nothing is there: no error
    assert here.names() == []
    assert snapshot(outside) == before


# -- whole, or not at all --------------------------------------------------------------------------------------------


def test_write_replaces_and_leaves_nothing_else(here: Folder) -> None:
    for data in (b"", b"one", b"x" * 3_000_000, b"two"):
        here.write("file", data)
        assert here.read("file", len(data)) == data
        assert here.names() == ["file"]


@pytest.mark.parametrize("least", [1, 7])
def test_short_writes_are_gone_on_with(here: Folder, monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:least])))
    data = bytes(range(256))
    here.write("file", data)
    assert here.read("file", 1000) == data


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "symlink"])
def test_a_refused_call_leaves_the_old_file_and_no_other(
    here: Folder, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for name in ("write", "replace_symlink"):
        here.write("file", b"old")
        with monkeypatch.context() as patched:
            patched.setattr(os, call, refuse)
            untouched = (name == "write") == (call == "symlink") or (name, call) == ("replace_symlink", "write")
            if untouched and (name, call) != ("replace_symlink", "fsync"):
                continue
            with pytest.raises(StorageError, match=os.strerror(number)) as refused:
                WRITERS[name](here, "file")
        assert str(here.path / "file") in refused.value.what
        assert refused.value.todo
        assert here.names() == ["file"]
        if (name, call) != ("replace_symlink", "fsync"):  # the link stands already, only not yet for sure
            assert here.read("file", 10) == b"old"


def test_a_new_file_is_new_and_read_only(here: Folder) -> None:
    fill(here, "file")
    found = here.look("file")
    assert found is not None
    assert stat.S_IMODE(found.st_mode) == 0o444
    with pytest.raises(StorageError, match="exists"):
        fill(here, "file")
    assert here.read("file", 3) == b"new"


@pytest.mark.parametrize(
    "number", [errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOSPC]
)
def test_a_file_that_cannot_be_linked_is_copied(here: Folder, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    here.write("old", b"content", mode=0o444)
    here.link("linked", here, "old")
    monkeypatch.setattr(os, "link", refuse)
    if number == errno.ENOSPC:
        with pytest.raises(StorageError):
            here.link("copied", here, "old")
        return
    here.link("copied", here, "old")
    assert here.read("copied", 10) == here.read("linked", 10) == b"content"
    inodes = [found.st_ino for name in ("old", "linked", "copied") if (found := here.look(name))]
    assert inodes[0] == inodes[1] != inodes[2]
    (here.path / "symlink").symlink_to("old")
    os.mkfifo(here.path / "fifo")
    for name in ("symlink", "fifo", "missing"):
        with pytest.raises(StorageError):
            here.link("x", here, name)


def test_a_link_is_linked_itself_and_not_what_it_leads_to(here: Folder, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"old")
    (here.path / "symlink").symlink_to("../victim")
    here.link("second", here, "symlink")
    assert here.read_link("second") == "../victim"
    assert (tmp_path / "victim").stat().st_nlink == 1


# -- reading -----------------------------------------------------------------------------------------------------------


def test_only_regular_files_of_the_allowed_length_are_read(here: Folder) -> None:
    here.write("file", b"12345")
    (here.path / "link").symlink_to("file")
    (here.path / "directory").mkdir()
    os.mkfifo(here.path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here.path / "socket"))
        for name in ("link", "directory", "fifo", "socket", "missing"):
            assert here.read(name, 100) is None, name
            assert here.descriptor(name) is None, name
    assert [here.read("file", most) for most in (4, 5, 6)] == [None, b"12345", b"12345"]


def test_editing_takes_regular_files_only(here: Folder) -> None:
    (here.path / "directory").mkdir()
    os.mkfifo(here.path / "fifo")
    for name in ("directory", "fifo"):
        with pytest.raises(StorageError):
            here.edit(name)


def test_links_are_told_from_other_things(here: Folder) -> None:
    here.replace_symlink("link", "a/b")
    here.write("file", b"")
    assert here.read_link("link") == "a/b"
    assert here.read_link("missing") is None
    with pytest.raises(DamagedError, match="not a link"):
        here.read_link("file")


def test_sweep_removes_what_a_killed_process_left_and_nothing_else(here: Folder) -> None:
    gone = [".state.json.5f0c1a9e.tmp", ".a\nb.00000000.tmp", "..00000000.tmp"]
    stay = [
        "state.json",
        ".state.json.5f0c1a9.tmp",
        ".hidden",
        "x.00000000.tmp",
        ".y.0000000g.tmp",
        ".z.00000000.tmp.bak",
    ]
    for name in gone + stay:
        (here.path / name).write_bytes(b"")
    assert sorted(here.sweep()) == sorted(gone)
    assert here.names() == sorted(stay)


# -- durable: what is synced, and in which order ---------------------------------------------------------------------


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced (by its name) and renamed, in order."""
    log: list[str] = []
    fsync = os.fsync

    def noted_fsync(descriptor: int) -> None:
        log.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name.split('.')[0] or 'temporary'}")
        fsync(descriptor)

    def noted(name: str) -> None:
        call = getattr(os, name)

        def wrapped(*words: object, **options: object) -> object:
            log.append(name)
            return call(*words, **options)

        monkeypatch.setattr(os, name, wrapped)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    for name in ("replace", "rename", "mkdir", "symlink"):
        noted(name)
    return log


def test_every_rule_of_durability_is_kept(here: Folder, order: list[str]) -> None:
    def said(act: Act) -> list[str]:
        order.clear()
        act(here)
        return list(order)

    assert said(lambda folder: folder.write("file", b"x")) == ["sync temporary", "replace", "sync here"]
    assert said(lambda folder: folder.replace_symlink("link", "x")) == ["symlink", "replace", "sync here"]
    assert said(lambda folder: folder.make("a")) == ["mkdir", "sync here"]
    assert said(lambda folder: folder.make("a")) == ["mkdir"]
    assert said(lambda folder: fill(folder, "new")) == ["sync new"]
    assert said(lambda folder: folder.move("new", folder, "newer")) == ["rename", "sync here"]
    with here.folder("a") as other:
        assert said(lambda folder: folder.move("newer", other, "x")) == ["rename", "sync a", "sync here"]
    assert said(lambda folder: durable.make_directory(folder.path / "p" / "q")) == [
        "mkdir",
        "sync here",
        "mkdir",
        "sync p",
    ]


def test_a_copy_in_place_of_a_link_is_durable(here: Folder, order: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "other file system")

    here.write("old", b"x")
    monkeypatch.setattr(os, "link", refuse)
    order.clear()
    here.link("copy", here, "old")
    assert order == ["sync copy"]


def test_a_file_is_dated_and_a_link_is_not_followed(here: Folder, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"")
    before = (tmp_path / "outside").stat().st_mtime
    here.write("file", b"")
    here.date("file", 1_700_000_000)
    found = here.look("file")
    assert found is not None
    assert found.st_mtime == 1_700_000_000
    here.replace_symlink("link", "../outside")
    here.date("link", 1_700_000_000)
    assert (tmp_path / "outside").stat().st_mtime == before
    with pytest.raises(StorageError):
        here.date("nothing", 1)
