"""Layout, configuration and lock of a client's directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.errors import (
    ColdchainError,
    DamagedError,
    LockedError,
    MalformedError,
    NewerFormatError,
    NotInstalledError,
    StorageError,
    UsageError,
)
from coldchain.install.directory import (
    CONFIG_BYTES,
    ENTRIES,
    MOST_URLS,
    RESERVED,
    ClientDirectory,
    Config,
    check_region,
    normal_url,
    parse_config,
    read_file,
    urls,
)
from tests.client.install.endpoint import snapshot

CONFIG = Config("coldchain", "us", "stable", "ab" * 32, ("https://a.example", "https://b.example/mirror"))
BELOW = ("metadata", "metadata/roots", "versions", "signed", "staging")


# -- configuration ---------------------------------------------------------------------------------------------------


def test_the_worked_example() -> None:
    assert CONFIG.encode() == (
        b'{"channel":"stable","format":"coldchain-client-1","product":"coldchain","region":"us","root":"'
        + b"ab" * 32
        + b'","urls":["https://a.example","https://b.example/mirror"]}'
    )
    assert parse_config(CONFIG.encode()) == CONFIG


def test_every_change_of_a_byte_is_refused_or_means_what_it_says() -> None:
    data = CONFIG.encode()
    for at in range(len(data)):
        for bit in (1, 2, 4, 8, 16, 32, 64, 128):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            try:
                found = parse_config(changed)
            except (MalformedError, NewerFormatError, UsageError):
                continue
            assert found.encode() == changed
        with pytest.raises(MalformedError):
            parse_config(data[:at])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "other-1"),
        ("format", 1),
        ("region", "../us"),
        ("region", "targets"),
        ("region", ""),
        ("channel", "a/b"),
        ("product", ""),
        ("root", "ab"),
        ("root", "AB" * 32),
        ("urls", []),
        ("urls", [1]),
        ("urls", ["https://a.example/"]),
        ("urls", ["https://a.example", 1]),
        ("urls", ["ftp://a.example"]),
        ("urls", ["https://a.example"] * (MOST_URLS + 1)),
        ("urls", "https://a.example"),
        ("more", 1),
    ],
)
def test_a_configuration_that_this_program_would_not_write_is_refused(name: str, value: canonical.JSON) -> None:
    document = canonical.read_canonical(CONFIG.encode(), "x")
    document[name] = value
    with pytest.raises((MalformedError, UsageError)):
        parse_config(canonical.encode(document))


def test_a_later_format_is_told_from_damage(publisher_free_directory: ClientDirectory) -> None:
    directory = publisher_free_directory
    data = CONFIG.encode()
    (directory.path / "coldchain.json").write_bytes(data.replace(b"client-1", b"client-2"))
    with pytest.raises(NewerFormatError, match="client-2"):
        directory.config()
    for damaged in (b"", b"x", data[:-1], data + b" ", b"\xff", data * 400):
        (directory.path / "coldchain.json").write_bytes(damaged)
        with pytest.raises((DamagedError, NotInstalledError)) as found:
            directory.config()
        assert isinstance(found.value, DamagedError) == (len(damaged) <= CONFIG_BYTES)
        assert "coldchain init" in found.value.todo
    (directory.path / "coldchain.json").unlink()
    with pytest.raises(NotInstalledError):
        directory.config()
    directory.write_config(CONFIG)
    assert directory.config() == CONFIG


@pytest.mark.parametrize("path", ["missing", "file", "file/below", "missing/below"])
def test_a_place_that_is_no_client_directory(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotInstalledError):
        ClientDirectory(tmp_path / path).config()


@pytest.mark.parametrize("name", [*sorted(RESERVED), "", "a/b", "..", ".us", "U S", "us\n", "x" * 200])
def test_a_region_is_a_token_that_no_other_file_has(name: str) -> None:
    with pytest.raises(MalformedError):
        check_region(name)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("http://127.0.0.1:8080/x//", "http://127.0.0.1:8080/x"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("/mirror/", "/mirror"),
        ("file:///mirror", "/mirror"),
        ("file:///mirror%20two", "/mirror two"),
    ],
)
def test_urls_are_kept_in_one_form(given_: str, kept: str) -> None:
    assert normal_url(given_) == kept
    assert normal_url(kept) == kept
    assert urls([given_, kept]) == (kept,)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a.example",
        "https://",
        "https://a.example?x",
        "https://a.example/#x",
        "https://user:word@a.example",
        "https://a.example:port",
        "https://a.example:99999",
        "https://[::1",
        "https://a .example",
        "https://ä.example",
        "https://a.example/\n",
        "https://a.example/" + "x" * 1024,
        "file://host/x",
        "/x\0y",
        "x://y",
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        normal_url(url)


@given(st.text(max_size=60) | st.from_regex(r"(https?|file|x)://[a-z0-9.:/@?#\[\]%-]{0,30}", fullmatch=True))
def test_any_text_is_a_base_url_or_refused(text: str) -> None:
    try:
        found = normal_url(text)
    except UsageError:
        return
    assert normal_url(found) == found


def test_the_number_of_urls_is_bounded() -> None:
    many = [f"https://{number}.example" for number in range(MOST_URLS + 1)]
    assert urls(many[1:]) == tuple(many[1:])
    for wrong in ([], many):
        with pytest.raises(UsageError):
            urls(wrong)


# -- layout ------------------------------------------------------------------------------------------------------------


def test_make_makes_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path / "a" / "b")
    directory.make()
    assert set(snapshot(directory.path)) == set(BELOW)
    for name in reversed(BELOW):
        for make in (directory.complete, directory.make):
            shutil.rmtree(directory.path / name)
            make()
            assert set(snapshot(directory.path)) == set(BELOW)


def test_make_refuses_a_directory_of_other_things(tmp_path: Path) -> None:
    for name in [*sorted(ENTRIES), ".hidden"]:
        (tmp_path / name).mkdir()
    ClientDirectory(tmp_path).make()
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match="photos"):
        ClientDirectory(tmp_path).make()
    ClientDirectory(tmp_path).complete()  # an update goes on whatever else somebody puts there
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="not a directory"):
        ClientDirectory(tmp_path / "file").make()


@pytest.mark.parametrize("name", BELOW)
def test_a_link_in_the_place_of_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    outside = tmp_path / "outside"
    (outside / "roots").mkdir(parents=True)
    (directory.path / name).rename(tmp_path / "moved")
    (directory.path / name).symlink_to(outside)
    with pytest.raises(DamagedError, match="not a directory of its own"), directory.folder(*name.split("/")):
        pass


def test_the_directory_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    ClientDirectory(tmp_path / "real").make()
    (tmp_path / "link").symlink_to("real")
    directory = ClientDirectory(tmp_path / "link")
    directory.make()
    directory.write_config(CONFIG)
    assert ClientDirectory(tmp_path / "real").config() == CONFIG


def test_sweep_removes_temporary_names_where_files_are_written(publisher_free_directory: ClientDirectory) -> None:
    directory = publisher_free_directory
    for name in (".", "metadata", "metadata/roots"):
        (directory.path / name / ".x.00000000.tmp").write_bytes(b"")
        (directory.path / name / "x").write_bytes(b"")
    directory.sweep()
    assert set(snapshot(directory.path)) == {*BELOW, "x", "metadata/x", "metadata/roots/x"}


def test_reading_a_file_never_blocks_and_never_follows(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    assert read_file(tmp_path / "file", 3) == b"123"
    assert read_file(tmp_path / "file", 2) is None
    for name in ("link", "fifo", "missing", "file/below", "missing/below", ".", ".."):
        assert read_file(tmp_path / name, 100) is None, name


# -- lock --------------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from coldchain.install.directory import ClientDirectory
with ClientDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_works_on_a_directory_and_its_lock_goes_with_it(publisher_free_directory: ClientDirectory) -> None:
    directory = publisher_free_directory
    for how in ("end", "kill"):
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(directory.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(LockedError, match="another process") as found, directory.locked():
                pass
            assert found.value.exit_code == 42
            assert found.value.kept
            if how == "kill":
                other.kill()
            other.communicate()
        with directory.locked():
            pass


def test_the_lock_is_a_file_of_ours(publisher_free_directory: ClientDirectory, tmp_path: Path) -> None:
    directory = publisher_free_directory
    lock = directory.path / "lock"
    (tmp_path / "victim").write_bytes(b"old")
    lock.symlink_to("../victim")
    with pytest.raises(StorageError), directory.locked():
        pass
    assert (tmp_path / "victim").read_bytes() == b"old"
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(StorageError), directory.locked():
        pass
    with pytest.raises(StorageError), ClientDirectory(tmp_path / "missing").locked():
        pass


def test_the_holder_writes_nowhere_else_when_the_directory_is_swapped(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    ClientDirectory(tmp_path / "evil").make()
    before = snapshot(tmp_path / "evil")
    with directory.locked():
        directory.path.rename(tmp_path / "moved")
        directory.path.symlink_to("evil")
        directory.write_config(CONFIG)
        with directory.folder("metadata", "roots") as roots:
            roots.write("1.root.json", b"x")
        directory.sweep()
        directory.complete()
    assert snapshot(tmp_path / "evil") == before
    assert ClientDirectory(tmp_path / "moved").config() == CONFIG
    with pytest.raises(ColdchainError):
        directory.config()  # afterwards the name leads to the other one
