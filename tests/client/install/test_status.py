"""``coldchain status``: what runs, how fresh it is, what is known to come; it reads only."""

from __future__ import annotations

import contextlib
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain.canonical import Object
from coldchain.errors import ColdchainError, DamagedError, HeldError, NotInstalledError
from coldchain.install.directory import ClientDirectory
from coldchain.install.status import Status, status
from tests.client.agent.publisher import FIRST, SECOND
from tests.client.install.endpoint import Endpoint, installed_endpoint, snapshot


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
