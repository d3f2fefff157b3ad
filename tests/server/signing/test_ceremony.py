from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from coldchain import canonical
from coldchain.errors import KeyringError, VerificationError
from coldchain.tuf.metadata import parse_metadata
from coldchain_server.home import Home
from coldchain_server.signing import ceremony
from coldchain_server.signing.ceremony import KEYS, THRESHOLDS, hold_ceremony
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.nacl_signer import NaclKey
from coldchain_server.signing.roles import LIVES, check_as_client, empty_region_role
from coldchain_server.storage.directory import DirectoryStorage
from tests.client.tuf.repository import NOW
from tests.server import origins

REGION_NAMES = ("us", "jp")
ROLES = ("root", "targets", "us", "jp", "rollout", "snapshot", "timestamp")


def signed(home: Home, role: str) -> dict[str, Any]:
    name = "timestamp.json" if role == "timestamp" else f"1.{role}.json"
    document: dict[str, Any] = json.loads((home.public / "metadata" / name).read_bytes())
    return document


async def test_every_role_has_its_keys_and_its_threshold(new_home: Home) -> None:
    keyring = origins.keyring(new_home)
    ids = {role: [keyring.public(name).keyid for name in names] for role, names in KEYS.items()}
    every = [keyid for of in ids.values() for keyid in of]
    assert len(set(every)) == len(every) == 12, "no key serves two purposes"
    root, targets = signed(new_home, "root")["signed"], signed(new_home, "targets")["signed"]
    for role in ("root", "targets", "snapshot", "timestamp"):
        assert root["roles"][role] == {"keyids": ids[role], "threshold": THRESHOLDS[role]}
    delegated = {role["name"]: role for role in targets["delegations"]["roles"]}
    assert list(delegated) == [*REGION_NAMES, "rollout"]
    for name, role in delegated.items():
        kind = "rollout" if name == "rollout" else "region"
        assert (role["keyids"], role["threshold"]) == (ids[kind], THRESHOLDS[kind])
    assert [THRESHOLDS[role] for role in ("root", "targets", "region")] == [2, 2, 2]


def test_other_tuf_clients_rules_are_kept(new_home: Home) -> None:
    """What python-tuf, go-tuf, tuf-js and tough ask for beyond the specification."""
    root, targets = signed(new_home, "root")["signed"], signed(new_home, "targets")["signed"]
    assert root["consistent_snapshot"] is True
    assert targets["targets"] == {}
    for keyid, key in {**root["keys"], **targets["delegations"]["keys"]}.items():
        assert keyid == NaclKey.from_public(bytes.fromhex(key["keyval"]["public"])).keyid
        assert key["keyval"]["public"] == key["keyval"]["public"].lower()
    for role in targets["delegations"]["roles"]:
        assert set(role) == {"name", "keyids", "threshold", "terminating", "paths"}, "paths, never hash prefixes"
        assert role["terminating"] is True
        assert re.fullmatch(r"[a-z][a-z0-9-]*", role["name"])
        assert role["paths"] == ["rollout/*" if role["name"] == "rollout" else f"{role['name']}/*/*"]
    for role in ROLES:
        document = signed(new_home, role)
        assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", document["signed"]["expires"])
        assert re.fullmatch(r"1\.0\.[0-9]+", document["signed"]["spec_version"])
        data = (
            new_home.public / "metadata" / ("timestamp.json" if role == "timestamp" else f"1.{role}.json")
        ).read_bytes()
        assert data == canonical.encode(document)


def test_files_stay_near_their_sizes(new_home: Home) -> None:
    sizes = {path.name: path.stat().st_size for path in (new_home.public / "metadata").iterdir()}
    assert sizes["timestamp.json"] < 400
    assert sizes["1.snapshot.json"] < 600
    assert set(sizes) == {"timestamp.json", *(f"1.{role}.json" for role in ROLES if role != "timestamp")}


@pytest.mark.parametrize("role", ROLES)
def test_roles_live_as_long_as_they_should(new_home: Home, role: str) -> None:
    data = (new_home.public / "metadata" / ("timestamp.json" if role == "timestamp" else f"1.{role}.json")).read_bytes()
    kind = role if role in ("root", "snapshot", "timestamp") else "targets"
    found = parse_metadata(data, kind, name=role)  # type: ignore[arg-type]
    assert found.expires - NOW == LIVES[role if role in LIVES else "region"]
    assert LIVES["timestamp"] <= timedelta(days=2)


async def test_a_client_that_pins_the_root_sees_regions_without_releases(new_home: Home) -> None:
    trusted = await check_as_client(new_home.storage, {}, [*REGION_NAMES, "rollout"], NOW)
    assert new_home.pinned_root() == await new_home.storage.get("metadata/1.root.json")
    for region in REGION_NAMES:
        assert trusted.role(region).targets == {}


async def test_no_ceremony_where_keys_are(new_home: Home, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in new_home.keys.iterdir()}
    with pytest.raises(KeyringError, match="exists already"):
        await hold_ceremony(
            origins.keyring(new_home),
            DirectoryStorage(tmp_path / "t"),
            ["us"],
            product="coldchain",
            now=NOW,
            strength=DEMO,
        )
    assert {path.name: path.read_bytes() for path in new_home.keys.iterdir()} == before
    assert not (tmp_path / "t").exists()


async def test_what_a_client_would_refuse_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One signature too few on a region role, and nothing goes out."""
    real = ceremony.THRESHOLDS
    monkeypatch.setattr(ceremony, "delegations", partial(ceremony.delegations, thresholds={"region": 2, "rollout": 1}))
    monkeypatch.setattr(ceremony, "THRESHOLDS", {**real, "region": 1})
    home = Home(tmp_path / "o")
    with pytest.raises(VerificationError, match="us"):
        await hold_ceremony(origins.keyring(home), home.storage, ["us"], product="coldchain", now=NOW, strength=DEMO)
    assert not home.public.exists()


def test_an_empty_region_role_says_who_it_is() -> None:
    facts = empty_region_role("coldchain", "us", NOW).signed.unrecognized_fields["coldchain"]
    assert facts == {"format": "coldchain-region-1", "product": "coldchain", "region": "us", "channels": {}}
