"""``coldchain status``: what runs, how fresh it is, what is known to come; it reads only."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain.canonical import Object
from coldchain.errors import ColdchainError, DamagedError, HeldError, NotInstalledError
from coldchain.install.directory import ClientDirectory
from coldchain.install.status import Status, status
from tests.client.agent.publisher import FIRST, SECOND
from tests.client.install.endpoint import Endpoint, installed_endpoint, snapshot
from tests.client.tlog.memory_log import MemoryLog


def look(endpoint: Endpoint, **later: float) -> Status:
    before = snapshot(endpoint.directory.path)
    found = status(endpoint.directory, endpoint.publisher.now + timedelta(**later))
    assert snapshot(endpoint.directory.path) == before
    return found


def test_before_the_first_update(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError):
        status(ClientDirectory(tmp_path / "nothing"), Endpoint.at(tmp_path / "x").publisher.now)
    endpoint = Endpoint.at(tmp_path)
    found = look(endpoint)
    assert (found.version, found.release, found.previous, found.damage, found.offered) == (None,) * 5
    assert found.stale
    assert found.good_until is None
    assert "no timestamp.json is kept yet" in found.rollout


def test_what_runs_and_what_is_known(tmp_path: Path) -> None:
    endpoint = installed_endpoint(tmp_path)
    found = look(endpoint)
    assert (found.release, found.previous, found.offered, found.damage, found.stale) == (1, None, 1, None, False)
    assert found.rollout == "release 1 to 100 % of endpoints"
    assert found.good_until == endpoint.publisher.now + timedelta(days=1)
    assert not look(endpoint, hours=23, minutes=59).stale
    assert look(endpoint, hours=24).stale

    endpoint.publish(2, SECOND)
    assert look(endpoint).offered == 1  # nobody was asked
    endpoint.update()
    found = look(endpoint)
    assert (found.release, found.previous and found.previous.release, found.offered) == (2, 1, 2)

    endpoint.publish(3, FIRST, share=0)
    with pytest.raises(HeldError):
        endpoint.update()
    found = look(endpoint)
    assert (found.release, found.offered, found.rollout) == (2, 3, "release 3 to 0 % of endpoints")
    endpoint.publisher.repository.set_rollout(3, 50, held=True)
    endpoint.publisher.repository.publish("rollout")
    endpoint.copy()
    with pytest.raises(HeldError):
        endpoint.update()
    assert look(endpoint).rollout == "release 3 to 50 % of endpoints, held"

    document: Object = found.as_json()
    assert document["release"] == 2
    assert document["previous"] == 1
    assert document["good_until"] == f"{endpoint.publisher.now + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    assert document["damage"] is None
    assert document["stale"] is False


def test_damage_at_first_sight_is_said(tmp_path: Path) -> None:
    endpoint = installed_endpoint(tmp_path)
    endpoint.replace("daily.hsb", FIRST["daily.hsb"] + b"x")
    assert "daily.hsb" in (look(endpoint).damage or "")
    (endpoint.version / "daily.hsb").unlink()
    assert "daily.hsb" in (look(endpoint).damage or "")
    (endpoint.version / "daily.hsb").mkdir()
    assert "daily.hsb" in (look(endpoint).damage or "")
    (endpoint.version / "bundle.json").unlink()
    assert "bundle.json" in (look(endpoint).damage or "")
    shutil.rmtree(endpoint.version)
    assert look(endpoint).damage


def test_a_rollout_that_has_not_begun(tmp_path: Path) -> None:
    endpoint = installed_endpoint(tmp_path)
    endpoint.publisher.repository.documents["rollout"]["coldchain"]["regions"] = {}
    endpoint.publisher.repository.publish("rollout")
    endpoint.copy()
    assert endpoint.update().action == "current"
    assert look(endpoint).rollout == "has not begun"


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", "us", "rollout"])
def test_damaged_metadata_is_no_reason_to_say_nothing(tmp_path: Path, name: str) -> None:
    endpoint = installed_endpoint(tmp_path)
    (endpoint.directory.metadata / f"{name}.json").write_bytes(b"{}")
    found = look(endpoint)
    assert found.release == 1
    assert not found.stale  # the last good check told until when
    assert name in found.rollout
    (endpoint.directory.path / "state.json").unlink()
    assert look(endpoint).stale


def test_damaged_links(tmp_path: Path) -> None:
    endpoint = installed_endpoint(tmp_path)
    endpoint.directory.previous.symlink_to("/etc")
    assert look(endpoint).previous is None
    endpoint.directory.current.unlink()
    endpoint.directory.current.symlink_to("/etc")
    with pytest.raises(DamagedError), contextlib.suppress(NotInstalledError):
        look(endpoint)
    with pytest.raises(ColdchainError):
        endpoint.update()


def test_the_age_of_the_logs_evidence(tmp_path: Path) -> None:
    endpoint = installed_endpoint(tmp_path, log=MemoryLog())
    at = endpoint.publisher.now
    for later, words in (
        ({"minutes": 59}, "less than an hour before now"),
        ({"hours": 1}, "1 hour before now"),
        ({"hours": 47}, "47 hours before now"),
        ({"days": 2}, "2 days before now"),
        ({"days": 3653}, "3,653 days before now"),
        ({"hours": -2}, "2 hours AFTER now"),
    ):
        found = look(endpoint, **later)
        assert (found.log.index, found.log.size, found.log.cosigned, found.log.problem) == (0, 1, at, "")
        assert f"({words})" in found.log.lines(found.now)[1]
    found = look(endpoint, days=-2)
    assert "clock has not reached" in found.log.problem
    assert found.log.lines(found.now)[1] == "vouched for  by no witness"


def test_an_endpoint_that_asks_for_no_evidence_says_so(tmp_path: Path) -> None:
    found = look(installed_endpoint(tmp_path))
    assert not found.log.asked
    assert found.log.lines(found.now)[0] == "public log   NOT CHECKED: this endpoint asks for no evidence"


def test_without_a_release_or_without_good_evidence_of_it(tmp_path: Path) -> None:
    endpoint = Endpoint.at(tmp_path, log=MemoryLog())
    found = look(endpoint)
    assert found.log.lines(found.now)[0] == "public log   nothing is known yet"
    endpoint.publish(1, FIRST)
    endpoint.update()
    (link,) = [one for one in endpoint.directory.signed.iterdir() if one.is_symlink()]
    kept = {one.name: one.read_bytes() for one in link.iterdir()}
    manifest = kept["manifest.json"]
    altered: dict[str, list[tuple[str, bytes | None]]] = {
        "without its manifest or its proof": [("manifest.json", None), ("manifest.tlog-proof", None)],
        "another bundle": [("manifest.json", manifest.replace(b'"us":', b'"uz":'))],
        "another release": [("manifest.json", manifest.replace(b'"release":1', b'"release":2'))],
    }
    for words, changes in altered.items():
        for name, data in changes:
            (link / name).unlink()
            if data is not None:
                (link / name).write_bytes(data)
            assert words in look(endpoint).log.problem
            (link / name).write_bytes(kept[name])
    assert look(endpoint).log.problem == ""
    # whatever is wrong with the policy is said, and everything else as before
    endpoint.directory.write_config(replace(endpoint.directory.config(), policy="ab" * 32))
    found = look(endpoint)
    assert "is missing or changed" in found.log.problem
    assert found.release == 1
