"""``coldchain verify``: every byte against what is signed, offline; every deviation is found and named."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain.bundle.manifest import Policy
from coldchain.errors import DamagedError, NewerFormatError, NotInstalledError
from coldchain.install.audit import audit
from tests.client.agent.publisher import FIRST, SECOND
from tests.client.install.endpoint import Endpoint, installed_endpoint, snapshot
from tests.client.tuf.repository import sign, signer

POLICY = (Policy("leave-out", "signature", "Win.Trojan.Agent-3-0", "false positive in this region", 1),)


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    return installed_endpoint(tmp_path, policy=POLICY)


def bad(endpoint: Endpoint) -> list[str]:
    """The names of the checks that fail; the audit changes nothing whatever it finds."""
    before = snapshot(endpoint.directory.path)
    found = audit(endpoint.directory, endpoint.publisher.now)
    assert snapshot(endpoint.directory.path) == before
    names = [check.name for check in found.checks if not check.ok]
    assert isinstance(found.error, DamagedError) == bool(names)
    if found.error:
        assert names[0] in found.error.what
        assert "--repair" in found.error.todo
    return names


def test_what_is_installed_is_what_was_signed(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_network)
    found = audit(endpoint.directory, endpoint.publisher.now)
    assert found.error is None
    names = [check.name for check in found.checks]
    sections = [f"section {name}" for name in sorted([*FIRST, "coldchain-canary.ndb", "coldchain-canary.yar"])]
    assert names == [
        "pinned root", "targets", "region us", "release 1", "bundle.json", *sections, "nothing else", "manifest",
    ]  # fmt: skip
    assert all(check.ok and check.detail for check in found.checks)
    assert found.notes[0] == "gate: the publisher says nothing of a gate"
    assert found.notes[1].startswith("policy of region us: leave-out signature Win.Trojan.Agent-3-0: false positive")
    assert found.notes[2] == "public log: this endpoint was set up to ask for no evidence"
    assert found.notes[3].startswith("fresh: the metadata in force is good until")


def test_old_is_said_and_is_no_damage(endpoint: Endpoint) -> None:
    found = audit(endpoint.directory, endpoint.publisher.now + timedelta(days=4000))
    assert found.error is None
    assert found.notes[-1].startswith("STALE")
    (endpoint.directory.metadata / "timestamp.json").unlink()
    found = audit(endpoint.directory, endpoint.publisher.now)
    assert found.error is None
    assert found.notes[-1].startswith("fresh: the metadata in force is good until")  # the last good check told
    (endpoint.directory.path / "state.json").unlink()
    assert audit(endpoint.directory, endpoint.publisher.now).notes[-1].startswith("fresh: unknown")


def test_every_file_that_is_changed_cut_or_missing_is_named(endpoint: Endpoint) -> None:
    for path in sorted(endpoint.version.iterdir()):
        data = path.read_bytes()
        step = max(1, len(data) // 5)
        name = path.name if path.name == "bundle.json" else f"section {path.name}"
        for at in [*range(0, len(data), step), len(data) - 1]:
            for wrong in (data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :], data[:at]):
                endpoint.replace(path.name, wrong)
                assert bad(endpoint) == [name]
        endpoint.replace(path.name, data + b"\n")
        assert bad(endpoint) == [name]
        path.unlink()
        for kind in ("nothing", "fifo", "directory", "link"):
            if kind == "fifo":
                os.mkfifo(path)
            elif kind == "directory":
                path.mkdir()
            elif kind == "link":
                path.symlink_to("/dev/zero")
            assert bad(endpoint) == [name]
            if path.is_symlink() or path.exists():
                path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(data)
        assert bad(endpoint) == []


def test_every_changed_byte_of_the_evidence_is_found(endpoint: Endpoint) -> None:
    folder = (endpoint.directory.signed / endpoint.version.name).resolve()
    first = {"targets.json": "targets", "us.json": "region us", "manifest.json": "manifest", "evidence.zst": "evidence"}
    for name, check in first.items():
        data = (folder / name).read_bytes()
        for at in range(0, len(data), max(1, len(data) // 25)):
            for wrong in (data[:at] + bytes([data[at] ^ 1 << at % 7]) + data[at + 1 :], data[:at]):
                (folder / name).write_bytes(wrong)
                found = audit(endpoint.directory, endpoint.publisher.now)
                if found.error is None:
                    # Only an order or spelling of the same signed words passes, and there is none that one bit makes.
                    raise AssertionError((name, at, wrong[max(0, at - 20) : at + 20]))
                names = [one.name for one in found.checks if not one.ok]
                assert names == [check] or isinstance(found.error, NewerFormatError), (name, at, names)
        (folder / name).unlink()
        assert bad(endpoint) == [check]
        (folder / name).write_bytes(data)
    assert bad(endpoint) == []


def test_the_whole_digest_counts_and_not_its_beginning(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name holds 16 digits of the bundle's digest; the check must not stop at those."""
    other = replace(endpoint.publisher.releases["us"][1], release=7)
    monkeypatch.setattr("coldchain.install.versions.Version.describe", lambda _version, _limits: other)
    assert bad(endpoint) == ["bundle.json"]


def test_other_files_are_found(endpoint: Endpoint) -> None:
    (endpoint.version / "evil.ndb").write_bytes(b"x")
    assert bad(endpoint) == ["nothing else"]


@pytest.mark.parametrize("what", ["other region", "older keys", "other release", "other version's name"])
def test_evidence_of_something_else_is_refused(endpoint: Endpoint, what: str) -> None:
    folder = (endpoint.directory.signed / endpoint.version.name).resolve()
    repository = endpoint.publisher.repository
    if what == "other region":
        (folder / "us.json").write_bytes(repository.files[repository.name("jp")])
        expected = ["region us"]
    elif what == "older keys":
        role = sign(repository.documents["us"], [signer("thief one"), signer("thief two")])
        (folder / "us.json").write_bytes(role)
        expected = ["region us"]
    elif what == "other release":
        endpoint.publish(2, SECOND)
        (folder / "us.json").write_bytes(repository.files[repository.name("us")])
        (folder / "targets.json").write_bytes(repository.files[repository.name("targets")])
        expected = ["release 2", "manifest"]
    else:
        other = endpoint.version.with_name(
            endpoint.version.name[:-1] + ("0" if endpoint.version.name[-1] != "0" else "1")
        )
        endpoint.version.rename(other)
        (endpoint.directory.signed / endpoint.version.name).rename(endpoint.directory.signed / other.name)
        folder.rename(folder.with_name(folder.name.replace(endpoint.version.name, other.name)))
        link = endpoint.directory.signed / other.name
        link.unlink()
        link.symlink_to(folder.name.replace(endpoint.directory.current.readlink().name, other.name))
        endpoint.directory.current.unlink()
        endpoint.directory.current.symlink_to(f"versions/{other.name}")
        expected = ["release 1"]
    assert bad(endpoint)[: len(expected)] == expected


Break = Callable[[Endpoint], object]


@pytest.mark.parametrize(
    ("break_", "error"),
    [
        (lambda endpoint: endpoint.directory.current.unlink(), NotInstalledError),
        (lambda endpoint: (endpoint.directory.path / "coldchain.json").unlink(), NotInstalledError),
        (lambda endpoint: (endpoint.directory.path / "coldchain.json").write_bytes(b"{}"), DamagedError),
        (lambda endpoint: (endpoint.directory.roots / "1.root.json").write_bytes(b"{}"), DamagedError),
        (lambda endpoint: (endpoint.directory.roots / "1.root.json").unlink(), DamagedError),
    ],
)
def test_without_anything_to_check_against_there_is_no_verdict(
    endpoint: Endpoint, break_: Break, error: type[Exception]
) -> None:
    break_(endpoint)
    with pytest.raises(error):
        audit(endpoint.directory, endpoint.publisher.now)


def test_the_whole_version_may_be_gone(endpoint: Endpoint) -> None:
    for path in endpoint.version.iterdir():
        path.unlink()
    endpoint.version.rmdir()
    assert bad(endpoint) == ["bundle.json"]


def test_a_later_format_is_told_from_damage(endpoint: Endpoint) -> None:
    repository = endpoint.publisher.repository
    document = repository.documents["us"]
    document["coldchain"]["format"] = "coldchain-region-2"
    folder = (endpoint.directory.signed / endpoint.version.name).resolve()
    (folder / "us.json").write_bytes(sign(document, repository.signers["us"]))
    found = audit(endpoint.directory, endpoint.publisher.now)
    assert isinstance(found.error, NewerFormatError)
