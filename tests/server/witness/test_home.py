"""A witness's directory: made whole or made again, never mistaken for something else."""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path

import pytest

from coldchain.errors import KeyringError, StateError, StorageError, UsageError
from coldchain.tlog.vkey import Kind, parse_vkey
from coldchain_server.signing.key_files import DEMO
from coldchain_server.witness.home import WitnessHome, found_witness
from tests.client.tlog.logs import LOG, ORIGIN, witness
from tests.faults import crashpoints
from tests.server.witness.asking import NAME, make_witness, passphrase


def make(directory: Path, name: str = NAME) -> WitnessHome:
    return found_witness(directory, name, passphrase, DEMO)


def nobody() -> str:
    raise KeyringError("nobody is there to ask")


def test_a_witness_is_made_once(tmp_path: Path) -> None:
    home = make(tmp_path / "new" / "witness")
    key = home.key
    assert (key.name, key.kind) == (NAME, Kind.COSIGNATURE)
    assert parse_vkey((home.directory / "vkey").read_text().strip()) == key
    assert (home.directory / "keys" / "witness.json").stat().st_mode & 0o777 == 0o600
    assert key.key.verify(home.signer(passphrase)(b"message"), b"message")
    assert found_witness(home.directory, NAME, nobody).key == key, "no passphrase is asked for when it is there"
    with pytest.raises(StateError, match="name is"):
        make(home.directory, "wit.example/other")
    assert home.key == key


def test_the_private_key_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    home = make(tmp_path / "witness")
    with pytest.raises(KeyringError, match="passphrase is wrong"):
        home.signer(lambda: "another")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\tb", "a\u00a0b"])
def test_names_that_cannot_stand_in_a_signature(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        make(tmp_path / "witness", name)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("somebody's origin")
    with pytest.raises(StateError, match=r"no witness and not empty: it holds root\.json"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["root.json"]


def test_a_fresh_file_system_is_empty(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert make(tmp_path).exists


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="not a witness's directory"):
        _ = WitnessHome(tmp_path).key
    home = make_witness(tmp_path / "a")
    (home.directory / "witness.sqlite").unlink()
    with pytest.raises(StateError, match=r"memory witness\.sqlite is missing"):
        home.memory()
    found_witness(home.directory, NAME, passphrase, DEMO)
    with pytest.raises(StateError, match=r"memory witness\.sqlite is missing"):
        home.memory()
    home = make_witness(tmp_path / "b")
    shutil.rmtree(home.directory / "keys")
    with pytest.raises(KeyringError, match="no key 'witness'"):
        home.signer(passphrase)


@pytest.mark.parametrize("text", ["", "x", "a+b+c\n", f"{LOG.vkey}\n", f"{witness(1).vkey}\n\n", "\xff"])
def test_a_damaged_vkey(tmp_path: Path, text: str) -> None:
    home = make_witness(tmp_path / "witness")
    (home.directory / "vkey").write_bytes(text.encode("latin-1"))
    with pytest.raises(StorageError, match="damaged"):
        _ = home.key


def test_another_witnesss_key_does_not_sign_here(tmp_path: Path) -> None:
    first, second = make_witness(tmp_path / "first"), make(tmp_path / "second")
    shutil.copy(second.directory / "keys/witness.json", first.directory / "keys/witness.json")
    with pytest.raises(KeyringError, match="not the key that vkey names"):
        first.signer(passphrase)
    shutil.copy(second.directory / "vkey", first.directory / "vkey")
    with pytest.raises(StateError, match="another witness's"):
        first.memory()


@pytest.mark.parametrize("most", [16, pytest.param(10_000, marks=pytest.mark.faults)])
def test_a_witness_is_whole_or_made_again_after_a_crash_at_any_point(tmp_path: Path, most: int) -> None:
    whole = crashpoints.run(lambda: make(tmp_path / "whole"))
    assert whole.finished, whole.raised
    points = crashpoints.spread(len(whole.calls), most)
    unfinished = 0
    for point in points:
        directory = tmp_path / str(point)
        ending = crashpoints.run(lambda directory=directory: make(directory), point)  # type: ignore[misc]
        assert ending.killed
        home = WitnessHome(directory)
        before = home.key if home.exists else None
        unfinished += before is None
        key = make(directory).key
        assert before in (None, key), "a key that was announced stays"
        assert key.key.verify(home.signer(passphrase)(b"m"), b"m")
        memory = home.memory()
        assert memory.follow(ORIGIN, LOG.vkey)
        memory.close()
    assert 0 < unfinished < len(points)


@pytest.mark.parametrize(
    ("error", "most"),
    [(errno.ENOSPC, 12), *(pytest.param(one, 100, marks=pytest.mark.faults) for one in (errno.EIO, errno.EROFS))],
)
def test_a_disk_that_refuses_is_said_and_tried_again(tmp_path: Path, error: int, most: int) -> None:
    points = len(crashpoints.run(lambda: make(tmp_path / "whole")).calls)
    for point in crashpoints.spread(points, most):
        directory = tmp_path / str(point)

        def attempt(directory: Path = directory) -> None:
            with contextlib.suppress(StorageError, KeyringError):
                make(directory)

        ending = crashpoints.run(attempt, point, error=error)
        assert not ending.raised, ending.raised
        assert make(directory).exists
