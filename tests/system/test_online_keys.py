"""Stolen online keys: whoever has rollout, snapshot and timestamp, and the mirror, delays or hastens; they introduce nothing.

A real origin published two releases by the threshold. The thief signs what he likes with the online keys and puts it into a mirror of
his own; endpoints are the real client. What they come to run is one of the two releases, whole, and never a lower one than before.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from coldchain.agent.update import Settings, update
from coldchain.errors import ColdchainError, HeldError, RollbackError, SignatureError, VerificationError
from coldchain.install import trusted
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain.install.versions import linked
from coldchain_server.home import Home
from coldchain_server.signing.roles import ROLLOUT, encode, load_state, rollout_role, sign
from tests.client.agent.publisher import installed
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.conftest import _templates, memory, published_home

__all__ = ["_templates", "memory", "published_home"]

ONLINE = ("rollout", "snapshot", "timestamp")


class Thief:
    """The keys ``names`` of the origin, and a mirror."""

    def __init__(self, home: Home, mirror: Path, names: tuple[str, ...]) -> None:
        self.home, self.mirror = home, mirror
        keyring = origins.keyring(home)
        self.signers = {name: keyring.signer(name) for name in names}
        shutil.copytree(home.public, mirror)

    def put(self, name: str, role: Metadata[Any], by: str) -> None:
        """Signs with a stolen key, and serves it."""
        sign(role, [self.signers[by]])
        (self.mirror / "metadata" / name).write_bytes(encode(role))

    def put_rollout(
        self, version: int, entry: Mapping[str, Any], targets: Mapping[str, TargetFile] | None = None
    ) -> None:
        role = rollout_role(version, {region: {"stable": dict(entry)} for region in ("us", "jp")}, NOW)
        role.signed.targets = dict(targets or {})
        self.put(f"{version}.rollout.json", role, "rollout")

    async def put_state(self, roles: Mapping[str, int], *, by: str = "snapshot", later: int = 1) -> None:
        """A snapshot that names these versions, and a timestamp that names it."""
        state = await load_state(self.home.storage)
        meta = {f"{name}.json": MetaFile(version) for name, version in roles.items()}
        snapshot = Metadata(Snapshot(state.snapshot.signed.version + later, None, NOW + timedelta(days=9), meta))
        self.put(f"{snapshot.signed.version}.snapshot.json", snapshot, by)
        await self.put_timestamp(snapshot.signed.version, later)

    async def put_timestamp(self, snapshot: int, later: int = 1) -> None:
        version = (await load_state(self.home.storage)).timestamp.signed.version + later
        self.put(
            "timestamp.json",
            Metadata(Timestamp(version, None, NOW + timedelta(days=1), MetaFile(snapshot))),
            "timestamp",
        )


def endpoint(home: Home, path: Path) -> ClientDirectory:
    directory = ClientDirectory(path)
    directory.make()
    pinned = home.pinned_root()
    trusted.pin(directory, pinned)
    pin = hashlib.sha256(pinned).hexdigest()
    directory.write_config(Config("coldchain", "us", "stable", pin, ("http://placeholder.invalid",), ROOT_POLICY))
    return directory


async def polls(directory: ClientDirectory, mirror: Path, bucket: int = 9999) -> ColdchainError | None:
    """One poll of the mirror; the refusal, if there was one."""
    try:
        await update(directory, Settings(urls=[str(mirror)], now=lambda: NOW, draw=lambda _: bucket))
    except ColdchainError as error:
        return error
    return None


def runs(directory: ClientDirectory) -> int:
    version = linked(directory, directory.current)
    return version.release if version else 0


@pytest.fixture
async def stand(published_home: Home, memory: Path) -> tuple[Home, dict[int, ClientDirectory]]:
    """Release 2 is out to nobody yet; endpoints that run nothing, release 1, and release 2."""
    home = published_home
    ends = {number: endpoint(home, memory / f"on-{number}") for number in (0, 1, 2)}
    for number in (1, 2):
        assert await polls(ends[number], home.public) is None
    await origins.release(home, origins.SECOND)
    assert await polls(ends[2], home.public) is None
    assert {number: runs(one) for number, one in ends.items()} == {0: 0, 1: 1, 2: 2}
    return home, ends


CONTENT = {1: origins.FIRST, 2: origins.SECOND}


def whole(directory: ClientDirectory) -> bool:
    """What is installed is, to the byte, what the threshold signed under that number."""
    files = {name: data for name, data in installed(directory).items() if "canary" not in name}
    return files == {f"acme-{name}": data for name, data in CONTENT[runs(directory)].items()}


async def test_a_stolen_rollout_key_starts_stops_and_hastens_and_introduces_nothing(
    stand: tuple[Home, dict[int, ClientDirectory]], memory: Path
) -> None:
    """The snapshot pins versions, not bytes, so a thief with a mirror serves a rollout of his own under the version in force."""
    home, ends = stand
    thief = Thief(home, memory / "mirror", ("rollout",))
    version = (await load_state(home.storage)).delegated[ROLLOUT].signed.version
    tried = 0
    for release, share, held, withdrawn in itertools.product(
        (1, 2, 3, 99), (0, 50, 100), (False, True), ((), (1,), (1, 2, 3))
    ):
        if tried % 5 and share != 100:
            continue  # the whole product is the pure function's test; here every value comes, and most pairs
        thief.put_rollout(version, {"release": release, "share": share, "held": held, "withdrawn": list(withdrawn)})
        for number, one in ends.items():
            copy = ClientDirectory(memory / "copy")
            shutil.rmtree(copy.path, ignore_errors=True)
            shutil.copytree(one.path, copy.path, symlinks=True)
            refused = await polls(copy, thief.mirror)
            assert runs(copy) in {number, 2}, f"from {number} to {runs(copy)}"
            assert runs(copy) == 0 or whole(copy)
            if runs(copy) != number:
                assert release == 2
                assert not held
            elif number != 2:
                assert isinstance(refused, HeldError)
            tried += 1
    assert tried > 60


async def test_a_rollout_role_that_lists_files_speaks_for_none(
    stand: tuple[Home, dict[int, ClientDirectory]], memory: Path
) -> None:
    home, ends = stand
    thief = Thief(home, memory / "mirror", ("rollout",))
    evil = b"evil"
    digest = hashlib.sha256(evil).hexdigest()
    (thief.mirror / f"targets/us/stable/{digest}.from-1.ccd").write_bytes(evil)
    (thief.mirror / f"targets/us/stable/{digest}.full.ccd").write_bytes(evil)
    files = {
        path: TargetFile(len(evil), {"sha256": digest}, path)
        for path in ("us/stable/full.ccd", "us/stable/from-1.ccd", "rollout/x")
    }
    version = (await load_state(home.storage)).delegated[ROLLOUT].signed.version
    thief.put_rollout(version, {"release": 2, "share": 100, "held": False}, files)
    for number in (0, 1):
        assert await polls(ends[number], thief.mirror) is None
        assert runs(ends[number]) == 2
        assert whole(ends[number])


async def test_a_stolen_timestamp_key_shows_nothing_but_what_was_published(
    stand: tuple[Home, dict[int, ClientDirectory]], memory: Path
) -> None:
    home, ends = stand
    newest = (await load_state(home.storage)).snapshot.signed.version
    for snapshot in range(1, newest + 3):
        thief = Thief(home, memory / f"mirror-{snapshot}", ("timestamp",))
        await thief.put_timestamp(snapshot, later=snapshot)
        refused = await polls(ends[2], thief.mirror)
        assert (refused is None) == (snapshot == newest)
        if snapshot < newest:
            assert isinstance(refused, RollbackError)
        assert (runs(ends[2]), whole(ends[2])) == (2, True)
    fresh = endpoint(home, memory / "fresh")
    older = Thief(home, memory / "older", ("timestamp",))
    await older.put_timestamp(newest - 1)
    assert await polls(fresh, older.mirror) is None
    assert (runs(fresh), whole(fresh)) == (1, True), (
        "a new endpoint may be shown an older release: delayed, not introduced"
    )
    later = Thief(home, memory / "later", ("timestamp",))
    await later.put_timestamp(newest, later=5)
    await polls(fresh, later.mirror)
    assert runs(fresh) == 2


async def test_a_snapshot_that_the_timestamps_thief_signed_is_refused(
    stand: tuple[Home, dict[int, ClientDirectory]], memory: Path
) -> None:
    home, ends = stand
    thief = Thief(home, memory / "mirror", ("timestamp",))
    await thief.put_state({"targets": 1, "us": 9, "jp": 9, ROLLOUT: 9}, by="timestamp")
    assert isinstance(await polls(ends[1], thief.mirror), SignatureError)
    assert (runs(ends[1]), whole(ends[1])) == (1, True)


@pytest.mark.parametrize("what", ["a region role of the thief's", "an older region role", "a region role gone"])
async def test_all_online_keys_together_sign_no_region_role(
    stand: tuple[Home, dict[int, ClientDirectory]], memory: Path, what: str
) -> None:
    home, ends = stand
    thief = Thief(home, memory / "mirror", ONLINE)
    state = await load_state(home.storage)
    versions = {"targets": state.targets.signed.version}
    versions |= {name: role.signed.version for name, role in state.delegated.items()}
    if what == "a region role of the thief's":
        versions["us"] += 1
        role = state.delegated["us"]
        forged = Metadata(
            Targets(
                versions["us"], None, role.signed.expires, role.signed.targets, None, role.signed.unrecognized_fields
            )
        )
        forged.signed.unrecognized_fields["coldchain"]["channels"]["stable"]["release"] = 3
        sign(forged, thief.signers.values())
        (thief.mirror / f"metadata/{versions['us']}.us.json").write_bytes(encode(forged))
    elif what == "an older region role":
        versions["us"] -= 1
    else:
        del versions["us"]
    versions[ROLLOUT] += 1
    thief.put_rollout(versions[ROLLOUT], {"release": 3, "share": 100, "held": False, "withdrawn": [1, 2]})
    await thief.put_state(versions)
    for number in (1, 2):
        refused = await polls(ends[number], thief.mirror)
        if (what, number) == ("an older region role", 1):
            assert refused is None, "it never saw a newer one: what it runs is called current, as by any stale mirror"
        else:
            assert isinstance(refused, VerificationError | HeldError)
        assert (runs(ends[number]), whole(ends[number])) == (number, True)
