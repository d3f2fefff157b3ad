"""The trusted metadata on disk: kept, recalled, made good, and taken along as evidence."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain.errors import ColdchainError, DamagedError, ExpiredError, NotInstalledError
from coldchain.install import trusted
from coldchain.install.directory import ClientDirectory, Config
from coldchain.verify import region_release, verify_chain
from tests.client.agent.publisher import FIRST
from tests.client.install.endpoint import Endpoint, installed_endpoint, snapshot
from tests.client.tuf.repository import Repository, signer

FILES = ["root.json", "timestamp.json", "snapshot.json", "targets.json", "us.json", "rollout.json"]


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    return installed_endpoint(tmp_path)


def rotate_root(endpoint: Endpoint, label: str) -> None:
    repository = endpoint.publisher.repository
    old = repository.signers["root"]
    repository.set_keys("root", [signer(f"{label} {number}") for number in range(3)], 2)
    repository.publish_root(also=old)
    repository.publish_timestamp()
    endpoint.copy()


def test_what_was_kept_is_recalled_and_every_file_is_needed(endpoint: Endpoint) -> None:
    directory, config = endpoint.directory, endpoint.directory.config()
    files = trusted.stored(directory, config)
    assert sorted(files) == sorted(FILES)
    kept = trusted.recall(files, config, endpoint.publisher.now)
    assert kept.role("us").version == endpoint.publisher.repository.documents["us"]["version"]
    assert trusted.good_until(kept, config) == endpoint.publisher.now + timedelta(days=1)
    with pytest.raises(ExpiredError):
        trusted.recall(files, config, endpoint.publisher.now + timedelta(days=2))
    trusted.recall(files, config)  # whatever its age
    for name in FILES:
        with pytest.raises(NotInstalledError, match=name):
            trusted.recall({key: data for key, data in files.items() if key != name}, config)
        changed = files[name].replace(b'"sig":"', b'"sig":"00', 1)
        with pytest.raises(ColdchainError):
            trusted.recall(files | {name: changed}, config)


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "link", "directory", "unsigned"])
@pytest.mark.parametrize("rotations", [0, 2])
def test_a_lost_or_damaged_root_is_made_good_from_the_numbered_ones(
    endpoint: Endpoint, damage: str, rotations: int
) -> None:
    for number in range(rotations):
        rotate_root(endpoint, f"new {number}")
        endpoint.update()
    directory, config = endpoint.directory, endpoint.directory.config()
    path = directory.metadata / "root.json"
    newest = path.read_bytes()
    path.unlink()
    if damage in ("empty", "cut", "unsigned"):
        path.write_bytes(
            {"empty": b"", "cut": newest[:-9], "unsigned": newest.replace(b'"sig":"', b'"sig":"0')}[damage]
        )
    elif damage == "link":
        path.symlink_to("/etc/passwd")
    elif damage == "directory":
        path.mkdir()
    assert trusted.stored(directory, config)["root.json"] == newest
    trusted.recall(trusted.stored(directory, config), config)
    # One of the numbered ones is damaged as well: the walk ends before it, and a refresh goes on from there.
    if rotations:
        (directory.roots / f"{rotations + 1}.root.json").write_bytes(b"{}")
        assert trusted.stored(directory, config)["root.json"] == trusted.root_file(directory, rotations)
    (directory.roots / "1.root.json").write_bytes(b"{}")
    with pytest.raises(DamagedError, match="pinned root"):
        trusted.stored(directory, config)


def test_pinning_the_same_root_again_changes_nothing_and_another_one_forgets_all(endpoint: Endpoint) -> None:
    directory, pinned = endpoint.directory, endpoint.publisher.repository.pinned
    before = snapshot(directory.path)
    trusted.pin(directory, pinned)
    assert snapshot(directory.path) == before
    (directory.metadata / "root.json").unlink()
    trusted.pin(directory, pinned)
    assert snapshot(directory.path) == before
    for wrong in (b"", b"{}", pinned[:-1], pinned.replace(b'"version":1', b'"version":2')):
        with pytest.raises(DamagedError):
            trusted.pin(directory, wrong)
    assert snapshot(directory.path) == before
    rotate_root(endpoint, "new")
    other = endpoint.publisher.files["metadata/2.root.json"]
    trusted.pin(directory, other)
    assert snapshot(directory.metadata) == {"root.json": other, "roots": "directory", "roots/2.root.json": other}


def test_the_pinned_root_is_the_one_of_the_configuration(publisher_free_directory: ClientDirectory) -> None:
    directory = publisher_free_directory
    repository = Repository(regions=("us",))
    config = endpoint_config(repository)
    with pytest.raises(DamagedError, match="pinned root"):
        trusted.pinned(directory, config)
    trusted.pin(directory, repository.pinned)
    assert trusted.pinned(directory, config) == (1, repository.pinned)
    (directory.roots / "1.root.json").write_bytes(repository.pinned + b" ")
    with pytest.raises(DamagedError, match="pinned root"):
        trusted.pinned(directory, config)


def endpoint_config(repository: Repository) -> Config:
    return Config("coldchain", "us", "stable", hashlib.sha256(repository.pinned).hexdigest(), ("/x",))


def evidence_of(endpoint: Endpoint) -> dict[str, bytes]:
    return trusted.read_evidence(endpoint.directory, endpoint.version.name)


def test_evidence_leads_from_the_pinned_root_to_the_release(endpoint: Endpoint) -> None:
    assert sorted(evidence_of(endpoint)) == ["applied.json", "evidence.zst", "manifest.json", "targets.json", "us.json"]
    rotate_root(endpoint, "first")
    rotate_root(endpoint, "second")
    assert endpoint.update().action == "current"
    found = evidence_of(endpoint)
    roles = ["evidence.zst", "manifest.json", "targets.json", "us.json"]
    assert sorted(found) == ["2.root.json", "3.root.json", "applied.json", *roles]
    roots = trusted.later_roots(found, 1)
    assert roots == [found["2.root.json"], found["3.root.json"]]
    assert trusted.later_roots({"3.root.json": b""}, 1) == []
    pinned = endpoint.publisher.repository.pinned
    assert verify_chain(pinned, roots, found["targets.json"], found["us.json"], region="us").ok
    # A root that is no longer kept: what runs stays, and the error says what to do.
    (endpoint.directory.roots / "2.root.json").unlink()
    endpoint.publisher.repository.publish("us")
    endpoint.copy()
    with pytest.raises(DamagedError, match="root 2 is missing") as refused:
        endpoint.update()
    assert "init" in refused.value.todo


def test_evidence_that_is_as_it_should_be_is_not_touched(endpoint: Endpoint) -> None:
    before = [(path, path.lstat().st_ino) for path in sorted(endpoint.directory.signed.rglob("*"))]
    trusted.write_evidence(endpoint.directory, endpoint.version.name, evidence_of(endpoint))
    assert [(path, path.lstat().st_ino) for path in sorted(endpoint.directory.signed.rglob("*"))] == before


@pytest.mark.parametrize(
    "damage", ["flip", "gone", "more", "link gone", "link elsewhere", "folder gone", "link is a folder"]
)
def test_damaged_evidence_is_made_anew(endpoint: Endpoint, tmp_path: Path, damage: str) -> None:
    directory, name, good = endpoint.directory, endpoint.version.name, evidence_of(endpoint)
    link = directory.signed / name
    folder = link.resolve()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "us.json").write_bytes(b"not ours")
    if damage == "flip":
        (folder / "us.json").write_bytes(good["us.json"][:-1] + b"x")
    elif damage == "gone":
        (folder / "us.json").unlink()
    elif damage == "more":
        (folder / "extra").write_bytes(b"")
    elif damage == "folder gone":
        folder.rename(tmp_path / "moved")
    else:
        link.unlink()
        if damage == "link elsewhere":
            link.symlink_to(outside)
            assert trusted.read_evidence(directory, name) == {}
        elif damage == "link is a folder":
            folder.rename(link)
            assert trusted.read_evidence(directory, name) == {}
    assert evidence_of(endpoint) != good or damage == "link is a folder"
    trusted.write_evidence(directory, name, good)
    assert evidence_of(endpoint) == good
    assert len(list(directory.signed.iterdir())) == 2
    assert snapshot(outside) == {"us.json": b"not ours"}


@pytest.mark.parametrize("target", ["..", "../metadata", ".x", ".", "/etc", "a/b"])
def test_evidence_is_read_from_beside_its_link_only(endpoint: Endpoint, target: str) -> None:
    link = endpoint.directory.signed / endpoint.version.name
    link.unlink()
    link.symlink_to(target)
    assert evidence_of(endpoint) == {}


def test_tidying_keeps_what_the_versions_need_and_follows_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    directory, name, good = endpoint.directory, endpoint.version.name, evidence_of(endpoint)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_bytes(b"")
    for junk in ("41-0000000000000000", ".41-0000000000000000.0", "x"):
        (directory.signed / junk).symlink_to(tmp_path / "victim")
    (directory.signed / ".left").mkdir()
    trusted.tidy_evidence(directory, {name})
    assert len(list(directory.signed.iterdir())) == 2
    assert evidence_of(endpoint) == good
    assert (tmp_path / "victim" / "file").exists()
    trusted.tidy_evidence(directory, set())
    assert list(directory.signed.iterdir()) == []


def test_the_statement_is_taken_from_the_evidence_when_it_is_the_signed_one(endpoint: Endpoint) -> None:
    directory, name, good = endpoint.directory, endpoint.version.name, evidence_of(endpoint)
    role = trusted.recall(trusted.stored(directory, directory.config()), directory.config()).role("us")
    release = region_release(role, "us", "stable")
    statement = {one: good[one] for one in ("evidence.zst", "manifest.json")}
    assert trusted.statement_of(directory, name, release) == statement
    for bad in (
        replace(release, evidence=replace(release.evidence, sha256="ab" * 32)),
        replace(release, evidence=replace(release.evidence, length=release.evidence.length + 1)),
    ):
        assert trusted.statement_of(directory, name, bad) is None
    assert trusted.statement_of(directory, "1-0000000000000000", release) is None
    for one in ("evidence.zst", "manifest.json", "manifest.tlog-proof"):
        for data in (None, b"", good.get(one, b"x") + b"x"):
            kept = {**good, one: data} if data is not None else {key: good[key] for key in good if key != one}
            same = kept.get(one) == good.get(one)
            assert trusted.is_as_signed(kept, release) is same, (one, data)


@pytest.mark.parametrize("name", ["metadata", "metadata/roots", "signed"])
def test_a_linked_directory_is_refused_and_nothing_is_written_there(
    endpoint: Endpoint, tmp_path: Path, name: str
) -> None:
    directory, good = endpoint.directory, evidence_of(endpoint)
    outside = tmp_path / "outside"
    (directory.path / name).rename(outside)
    (directory.path / name).symlink_to(outside)
    before = snapshot(outside)
    pinned = endpoint.publisher.repository.pinned
    for act in (
        lambda: trusted.keep(directory, "roots/2.root.json", b"x"),
        lambda: trusted.pin(directory, pinned),
        lambda: trusted.write_evidence(directory, "1-0000000000000000", good),
        lambda: trusted.tidy_evidence(directory, set()),
        lambda: endpoint.update(),
    ):
        try:
            act()
        except ColdchainError as error:
            assert isinstance(error, DamagedError)  # noqa: PT017  acts on the other directories succeed
        assert snapshot(outside) == before


def test_a_first_install_has_its_contents(endpoint: Endpoint) -> None:
    for name, data in FIRST.items():
        assert (endpoint.version / name).read_bytes() == data
    assert os.path.lexists(endpoint.directory.path / "lock")
