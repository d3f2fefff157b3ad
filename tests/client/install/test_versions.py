"""Versions beside each other: built whole, switched by one rename, unchanged sections linked."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from coldchain.bundle.delta import NewBundle, OldBundle, apply_delta
from coldchain.bundle.description import BundleDescription
from coldchain.errors import ColdchainError, DamagedError, DigestError, StorageError
from coldchain.install import versions
from coldchain.install.directory import ClientDirectory
from coldchain.install.versions import OldVersion, Version, parse_version
from tests.client.agent.publisher import FIRST, SECOND, Publisher
from tests.client.install.endpoint import snapshot


class Bundles:
    """Two releases as a publisher encodes them; that is the slow part."""

    def __init__(self, path: Path) -> None:
        publisher = Publisher(path)
        self.one = publisher.describe("us", 1, FIRST)
        self.two = publisher.describe("us", 2, SECOND)
        self.full = publisher.encode(None, self.one)
        self.delta = publisher.encode(self.one, self.two)


class Store:
    """Bundles staged by hand."""

    def __init__(self, path: Path, bundles: Bundles) -> None:
        self.directory = ClientDirectory(path / "endpoint")
        self.directory.make()
        self.one, self.two, self.full, self.delta = bundles.one, bundles.two, bundles.full, bundles.delta

    def stage(self, data: bytes, old: Version | None, new: BundleDescription) -> BundleDescription:
        return versions.stage(self.directory, io.BytesIO(data), old, new.digest)

    def install(self, old: Version | None = None) -> Version:
        data, new = (self.delta, self.two) if old else (self.full, self.one)
        version = versions.place(self.directory, self.stage(data, old, new))
        versions.switch(self.directory, version, old)
        return version


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("publisher") / "x")


@pytest.fixture
def store(tmp_path: Path, bundles: Bundles) -> Store:
    return Store(tmp_path, bundles)


def test_a_version_is_what_was_signed_and_unchanged_sections_are_linked(store: Store) -> None:
    one = store.install()
    two = store.install(one)
    for version, contents, described in ((one, FIRST, store.one), (two, SECOND, store.two)):
        assert versions.check(version) is None
        assert version.glance() is None
        assert version.describe() == described
        assert version.name == f"{described.release}-{described.digest[:16]}"
        for name, data in contents.items():
            assert (version.path / name).read_bytes() == data
        assert all(one.stat().st_mode & 0o777 == 0o444 for one in version.path.iterdir())
    same = [name for name in FIRST if FIRST[name] == SECOND[name]]
    assert same == ["main.hsb"]
    for name in FIRST:
        assert ((one.path / name).stat().st_ino == (two.path / name).stat().st_ino) == (name in same)
    assert versions.linked(store.directory, store.directory.current) == two
    assert versions.linked(store.directory, store.directory.previous) == one
    assert versions.installed(store.directory) == [two, one]
    assert versions.tidy(store.directory) == {one.name, two.name}


def test_on_a_system_without_links_unchanged_sections_are_copied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    one = store.install()
    monkeypatch.setattr(os, "link", refuse)
    two = store.install(one)
    assert versions.check(two) is None
    assert (one.path / "main.hsb").stat().st_ino != (two.path / "main.hsb").stat().st_ino


def test_the_last_known_good_one_stays_and_older_ones_go(store: Store) -> None:
    one = store.install()
    two = store.install(one)
    three = versions.place(store.directory, store.stage(store.full, None, store.one))
    assert three.name == f"{one.name}.2"
    versions.switch(store.directory, three, None)  # two was damaged, say: one stays the previous one
    assert versions.tidy(store.directory) == {three.name, one.name}
    versions.switch(store.directory, three, three)
    assert versions.tidy(store.directory) == {three.name}
    assert not two.path.exists()


@pytest.mark.parametrize("name", ["main.hsb", "daily.hsb", "rules.yar", "bundle.json"])
@pytest.mark.parametrize(
    "damage", ["flip first", "flip last", "cut", "grow", "empty", "gone", "link", "directory", "fifo"]
)
def test_a_delta_upon_a_damaged_version_never_becomes_one(store: Store, tmp_path: Path, name: str, damage: str) -> None:
    one = store.install()
    path = one.path / name
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage.startswith("flip"):
        data[0 if damage == "flip first" else -1] ^= 1
        path.write_bytes(data)
    elif damage in ("cut", "grow", "empty"):
        path.write_bytes({"cut": bytes(data[:-1]), "grow": bytes(data) + b"x\n", "empty": b""}[damage])
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "directory":
        path.mkdir()
    elif damage == "fifo":
        os.mkfifo(path)
    assert versions.check(one) is not None
    if not damage.startswith("flip") or name == "bundle.json":
        assert one.glance() is not None
    try:
        found = store.stage(store.delta, one, store.two)
    except ColdchainError as error:
        assert not isinstance(error, StorageError), error.what  # noqa: PT017  a damaged version is no refusal of the disk
        return
    # A delta that does not touch what is damaged may still lead to the signed bundle, byte for byte.
    assert found == store.two
    assert versions.check(versions.place(store.directory, found)) is None


def test_a_link_of_the_right_length_is_no_section(store: Store, tmp_path: Path) -> None:
    one = store.install()
    path = one.path / "rules.yar"
    length = path.stat().st_size
    path.unlink()
    path.symlink_to("x" * length)
    assert path.lstat().st_size == length
    assert one.glance() == "rules.yar is no file"


def test_a_section_on_a_failing_disk_is_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = store.install()

    real = OldVersion.open

    def failing(old: OldVersion, name: str) -> BinaryIO:
        file = real(old, name)
        unreadable = os.open(os.devnull, os.O_WRONLY)
        os.dup2(unreadable, file.fileno())
        os.close(unreadable)
        return file

    monkeypatch.setattr(OldVersion, "open", failing)
    with OldVersion(one).open("daily.hsb") as file:
        for most in (10, -1):
            with pytest.raises(DamagedError, match="cannot be read"):
                file.read(most)
    with pytest.raises(DamagedError, match="cannot be read"):
        store.stage(store.delta, one, store.two)


@pytest.mark.parametrize("at", [1, 2, 5, 50, 200])
def test_a_wrong_full_bundle_never_becomes_a_version(store: Store, at: int) -> None:
    for data in (store.full[:-at], store.full[:at], store.full + b"x" * at, store.delta):
        with pytest.raises(ColdchainError):
            store.stage(data, None, store.one)
    with pytest.raises(DigestError):
        store.stage(store.full, None, store.two)
    assert versions.installed(store.directory) == []
    assert list(store.directory.versions.iterdir()) == []
    assert store.stage(store.full, None, store.one) == store.one  # what lay in staging is no hindrance


def test_what_is_written_is_what_was_announced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def more(delta: BinaryIO, old: OldBundle | None, new: NewBundle, **options: Any) -> BundleDescription:
        with new.create("extra.ndb") as file:
            file.write(b"x\n")
        return apply_delta(delta, old, new, **options)

    monkeypatch.setattr(versions, "apply_delta", more)
    with pytest.raises(DigestError, match="not the signed bundle"):
        store.stage(store.full, None, store.one)


@pytest.mark.parametrize(
    "target", ["42-5c1f0a9e33b07d12", "../versions/x", "/etc", "versions/..", "versions/x", "x", ""]
)
def test_links_that_this_program_does_not_make_are_refused(store: Store, target: str) -> None:
    current = store.directory.current
    assert versions.linked(store.directory, current) is None
    if target:
        current.symlink_to(target)
    else:
        current.mkdir()
    with pytest.raises(DamagedError):
        versions.linked(store.directory, current)


def test_a_previous_link_of_somebody_else_is_removed(store: Store, tmp_path: Path) -> None:
    one = store.install()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_bytes(b"")
    store.directory.previous.symlink_to(tmp_path / "victim")
    assert versions.installed(store.directory) == [one]
    versions.tidy(store.directory)
    assert not store.directory.previous.is_symlink()
    store.directory.previous.symlink_to("versions/41-5c1f0a9e33b07d12")  # leads nowhere
    versions.tidy(store.directory)
    assert not store.directory.previous.is_symlink()
    assert (tmp_path / "victim" / "file").exists()


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("42-5c1f0a9e33b07d12", 42),
        ("42-5c1f0a9e33b07d12.2", 42),
        ("042-5c1f0a9e33b07d12", None),
        ("0-5c1f0a9e33b07d12", None),
        ("42-5c1f0a9e33b07d1", None),
        ("42-5C1F0A9E33B07D12", None),
        ("42-5c1f0a9e33b07d12.0", None),
        ("42-5c1f0a9e33b07d12\n", None),
        ("42", None),
        ("new", None),
    ],
)
def test_names_of_versions(name: str, release: int | None) -> None:
    found = parse_version(Path("versions") / name)
    assert (found.release if found else None) == release
    assert found is None or (found.prefix, found.name) == ("5c1f0a9e33b07d12", name)


@pytest.mark.parametrize("name", ["staging", "staging/new", "versions", "versions/1"])
def test_a_link_in_the_place_of_a_directory_leads_nothing_outside(store: Store, tmp_path: Path, name: str) -> None:
    one = store.install()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    path = store.directory.path / name.replace("versions/1", f"versions/{one.name}")
    if path.exists():
        path.rename(tmp_path / "moved")
    path.symlink_to(outside)
    before = snapshot(outside)
    with contextlib.suppress(ColdchainError):
        store.install(one)
    with contextlib.suppress(ColdchainError):
        store.install()
    with contextlib.suppress(ColdchainError):
        versions.tidy(store.directory)
    assert snapshot(outside) == before


@pytest.mark.parametrize("swap", ["staging", "staging/new", "."])
def test_a_directory_swapped_mid_write_leads_nothing_outside(
    store: Store, tmp_path: Path, swap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = store.install()
    evil = tmp_path / "evil"
    for name in ("staging/new", "versions", "signed", "metadata"):
        (evil / name).mkdir(parents=True)
    before = snapshot(evil)
    create = versions.StagedVersion.create
    swapped: list[str] = []

    @contextlib.contextmanager
    def swapping(new: versions.StagedVersion, name: str) -> Iterator[BinaryIO]:
        with create(new, name) as file:
            if not swapped:
                path = Path(os.path.normpath(store.directory.path / swap))
                path.rename(tmp_path / "moved")
                path.symlink_to(evil / swap)
                swapped.append(name)
            yield file

    monkeypatch.setattr(versions.StagedVersion, "create", swapping)
    with store.directory.locked(), contextlib.suppress(ColdchainError):
        store.install(one)
    assert swapped
    assert snapshot(evil) == before
