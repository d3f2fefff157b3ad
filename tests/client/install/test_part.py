"""A download in staging: gone on with, never beyond its length, believed only when the whole is hashed."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from coldchain.errors import DamagedError, DigestError, StorageError
from coldchain.install.directory import ClientDirectory
from coldchain.install.part import Part

DATA = b"0123456789"


@pytest.fixture
def part(publisher_free_directory: ClientDirectory) -> Part:
    return Part(publisher_free_directory, len(DATA), hashlib.sha256(DATA).hexdigest())


def path(part: Part) -> Path:
    return part.directory.staging / part.name


def test_it_is_gone_on_with_from_every_place(part: Part) -> None:
    for start in range(len(DATA) + 1):
        part.remove()
        with part.append(0) as write:
            write(DATA[:start])
        assert part.there() == start
        with part.append(start) as write:
            for at in range(start, len(DATA)):
                write(DATA[at : at + 1])
        part.check()
        with part.open() as file:
            assert file.read() == DATA


def test_what_was_behind_the_place_is_cut_off(part: Part) -> None:
    path(part).write_bytes(b"xxxxxxxx")
    with part.append(2) as write:
        write(b"y")
    assert path(part).read_bytes() == b"xxy"


def test_what_cannot_be_a_beginning_is_removed(part: Part, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"01")
    for make in (
        lambda: path(part).write_bytes(DATA + b"x"),
        lambda: path(part).symlink_to(victim),
        lambda: os.mkfifo(path(part)),
        lambda: path(part).mkdir(),
    ):
        make()
        assert part.there() == 0
        assert not os.path.lexists(path(part))
    assert victim.read_bytes() == b"01"


def test_a_link_in_its_place_is_not_written_through(part: Part, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"old")
    path(part).symlink_to(victim)
    with pytest.raises(StorageError), part.append(0):
        pass
    with pytest.raises(StorageError), part.open():
        pass
    path(part).unlink()
    part.directory.staging.rmdir()
    part.directory.staging.symlink_to(tmp_path)
    for act in (part.there, part.remove, part.check, lambda: part.append(0).__enter__()):
        with pytest.raises(DamagedError):
            act()
    assert victim.read_bytes() == b"old"


@pytest.mark.parametrize("swap", ["staging", "."])
def test_a_directory_swapped_mid_write_keeps_the_bytes(part: Part, tmp_path: Path, swap: str) -> None:
    evil = tmp_path / "evil"
    (evil / "staging").mkdir(parents=True)
    with part.directory.locked(), part.append(0) as write:
        write(DATA[:4])
        place = (part.directory.path / swap).resolve()
        place.rename(tmp_path / "moved")
        place.symlink_to(evil)
        write(DATA[4:])
    moved = tmp_path / "moved" / ("staging" if swap == "." else "")
    assert (moved / part.name).read_bytes() == DATA
    assert [one.name for one in evil.rglob("*")] == ["staging"]


def test_every_flipped_byte_and_every_truncation_is_refused_and_forgotten(part: Part) -> None:
    for at in range(len(DATA)):
        for wrong in (DATA[:at], DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :]):
            path(part).write_bytes(wrong)
            with pytest.raises(DigestError):
                part.check()
            assert not path(part).exists()


def test_the_disk_is_told_from_the_connection(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks_off() -> None:
        with part.append(0) as write:
            write(DATA[:3])
            raise ConnectionResetError

    with pytest.raises(ConnectionError):
        breaks_off()
    assert part.there() == 3

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space"), part.append(3) as write:
        write(DATA[3:])
    assert part.there() == 3
