"""Rotation of every role's keys, with clients that follow across; renewal; what happens when roles have expired."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from coldchain.errors import ExpiredError, KeyringError, SignatureError, StateError, UsageError, VerificationError
from coldchain.tuf.refresh import refresh
from coldchain.tuf.trusted_set import TrustedSet
from coldchain_server.home import Home
from coldchain_server.signing.ceremony import KEYS, TOP_LEVEL
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.roles import LIVES, ROLLOUT, RoleState, encode, load_state, next_timestamp, sign
from coldchain_server.signing.rotation import (
    ROTATABLE,
    add_regions,
    expiring,
    next_key_names,
    renew,
    renew_offline,
    rotate,
)
from tests.client.tuf.repository import NOW, Client
from tests.server import origins

HOUR = timedelta(hours=1)


class Endpoint:
    """A client of one region that pinned root version 1 and keeps what it verified."""

    def __init__(self, home: Home, region: str = "us") -> None:
        self.home = home
        self.region = region
        self.client = Client({"root.json": home.pinned_root()})

    def follow(self, now: datetime = NOW, hidden: Iterable[str] = ()) -> TrustedSet:
        def fetch(path: str) -> bytes | None:
            file = self.home.public / path
            return file.read_bytes() if file.is_file() and path not in hidden else None

        return self.client.drive(refresh(dict(self.client.stored), now, [self.region, "rollout"]), fetch)


async def rotated(home: Home, role: str, now: datetime = NOW) -> list[str]:
    return await rotate(
        await load_state(home.storage), origins.keyring(home), home.storage, role, now=now, strength=DEMO
    )


async def role_of(home: Home, role: str) -> tuple[RoleState, list[str]]:
    state = await load_state(home.storage)
    return state, state.keyids("us" if role == "region" else role)[0]


@pytest.mark.parametrize("role", ROTATABLE)
async def test_clients_follow_every_rotation(published_home: Home, role: str) -> None:
    home = published_home
    follower, sleeper = Endpoint(home), Endpoint(home)
    follower.follow()
    sleeper.follow()
    _, before = await role_of(home, role)
    for turn in (2, 3):
        names = await rotated(home, role)
        assert names == [f"{name}-v{turn}" for name in KEYS[role]]
        _, after = await role_of(home, role)
        assert not set(after) & set(before), "no old key stays in force"
        assert after == [origins.keyring(home).public(name).keyid for name in names]
        before = after
        follower.follow()
        Endpoint(home).follow()
    sleeper.follow()  # two rotations at once
    # The old keys are destroyed now; everything still works with the new ones.
    for path in home.keys.iterdir():
        if path.stem in {*KEYS[role], *(f"{name}-v2" for name in KEYS[role])}:
            path.unlink()
    assert await origins.release(home, origins.SECOND) == 2
    assert await renew(await load_state(home.storage), origins.keyring(home), home.storage, now=NOW + HOUR, every=0)
    for endpoint in (follower, sleeper):
        assert endpoint.follow().role("us").version >= 3
    assert origins.read_all(home) == 2


async def test_rotations_follow_each_other(published_home: Home) -> None:
    endpoint = Endpoint(published_home)
    for role in (*ROTATABLE, *reversed(ROTATABLE)):
        await rotated(published_home, role)
        endpoint.follow()
        Endpoint(published_home).follow()
    assert await origins.release(published_home, origins.SECOND) == 2
    assert origins.read_all(published_home) == 2


@pytest.mark.parametrize("role", ROTATABLE)
async def test_no_file_of_a_rotation_leaves_a_gap(published_home: Home, role: str, tmp_path: Path) -> None:
    """Between any two files of the change, clients old and new accept what is there."""
    home = published_home
    written: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(home.storage, name)

        async def put(self, path: str, data: bytes, *, replace: bool = False) -> None:
            await home.storage.put(path, data, replace=replace)
            written.append(path)
            Endpoint(home).follow()
            known.follow()

    known = Endpoint(home)
    known.follow()
    state = await load_state(home.storage)
    await rotate(state, origins.keyring(home), Watched(), role, now=NOW, strength=DEMO)  # type: ignore[arg-type]
    assert len(written) >= 1
    assert written[-1].endswith((".root.json", "timestamp.json"))


@pytest.mark.parametrize("role", [*TOP_LEVEL[1:], "region", ROLLOUT])
async def test_lost_keys_are_replaced_by_the_delegators(published_home: Home, role: str) -> None:
    for name in KEYS[role]:
        (published_home.keys / f"{name}.json").unlink()
    endpoint = Endpoint(published_home)
    endpoint.follow()
    await rotated(published_home, role)
    endpoint.follow()
    assert await origins.release(published_home, origins.SECOND) == 2
    assert origins.read_all(published_home) == 2


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        *itertools.product(ROTATABLE, [("root-1", "root-2"), ("targets-1", "targets-2")]),
        *itertools.product(("targets", "region"), [("snapshot",), ("timestamp",)]),
    ],
)
async def test_without_the_delegators_keys_nothing_changes(
    published_home: Home, role: str, missing: tuple[str, ...]
) -> None:
    lost = missing[0].split("-")[0]
    needed = {"root"} if role in TOP_LEVEL else {"targets"}
    for name in missing:
        (published_home.keys / f"{name}.json").unlink()
    before = {path: path.read_bytes() for path in published_home.directory.rglob("*") if path.is_file()}
    if lost not in needed and len(missing) == 2:
        await rotated(published_home, role)
        return
    with pytest.raises(KeyringError, match=f"role {lost} needs"):
        await rotated(published_home, role)
    assert {path: path.read_bytes() for path in published_home.directory.rglob("*") if path.is_file()} == before


async def test_the_root_alone_cannot_be_replaced_without_a_threshold_of_old_keys(published_home: Home) -> None:
    (published_home.keys / "root-3.json").unlink()  # two of three are enough
    await rotated(published_home, "root")
    Endpoint(published_home).follow()
    for name in ("root-1-v2", "root-2-v2"):
        (published_home.keys / f"{name}.json").unlink()
    with pytest.raises(KeyringError, match="role root needs 2 keys, 1 are here: root-3-v2"):
        await rotated(published_home, "root")


async def test_a_client_refuses_the_old_keys_after_a_rotation(published_home: Home) -> None:
    """The thief of a rotated timestamp key signs a new timestamp: a client that has seen the rotation refuses it."""
    home = published_home
    await rotated(home, "timestamp")
    endpoint = Endpoint(home)
    endpoint.follow()
    state = await load_state(home.storage)
    forged = next_timestamp(state, state.snapshot, NOW)
    sign(forged, [origins.keyring(home).signer("timestamp")])
    (home.public / "metadata" / "timestamp.json").write_bytes(encode(forged))
    with pytest.raises(SignatureError):
        endpoint.follow()
    with pytest.raises(SignatureError):
        Endpoint(home).follow()


async def test_a_role_without_keys_of_its_own_is_no_choice(published_home: Home) -> None:
    with pytest.raises(UsageError, match="'us' has no keys of its own"):
        await rotated(published_home, "us")


async def test_key_names_count_on(new_home: Home) -> None:
    keyring = origins.keyring(new_home)
    state = await load_state(new_home.storage)
    assert next_key_names(state, keyring, "root") == ["root-1-v2", "root-2-v2", "root-3-v2"]
    await rotated(new_home, "timestamp")
    for path in new_home.keys.glob("root-*"):
        path.unlink()  # carried away: their names stay theirs
    state = await load_state(new_home.storage)
    assert next_key_names(state, keyring, "root") == ["root-1-v3", "root-2-v3", "root-3-v3"]
    keyring.create(["root-2-v3"], DEMO)  # left by a rotation that died
    assert next_key_names(state, keyring, "root") == ["root-1-v4", "root-2-v4", "root-3-v4"]


# -- renewal ------------------------------------------------------------------------------------------------------------


async def renewed(home: Home, now: datetime, every: float = 4 * 3600) -> list[str]:
    return await renew(await load_state(home.storage), origins.keyring(home), home.storage, now=now, every=every)


async def test_what_is_due_is_signed_and_nothing_else(published_home: Home) -> None:
    home = published_home
    assert await renewed(home, NOW) == []
    assert await renewed(home, NOW + 3 * HOUR) == []
    assert await renewed(home, NOW + 4 * HOUR) == ["timestamp"]
    assert await renewed(home, NOW + 5 * HOUR) == []
    later = NOW + LIVES["snapshot"] / 2 + HOUR
    assert await renewed(home, later) == ["rollout", "snapshot", "timestamp"]
    assert await renewed(home, later) == []
    read = origins.read(home, "us", now=later)
    assert (read.release.release, read.share) == (1, 100)
    assert Endpoint(home).follow(later + LIVES["timestamp"] - HOUR).timestamp.version >= 3


@pytest.mark.parametrize("away", [timedelta(days=2), timedelta(days=20), timedelta(days=170)])
async def test_an_origin_that_was_switched_off_recovers_by_itself(published_home: Home, away: timedelta) -> None:
    """Timestamp, snapshot and rollout have expired meanwhile."""
    now = NOW + away
    with pytest.raises(ExpiredError):
        Endpoint(published_home).follow(now)
    assert "timestamp" in await renewed(published_home, now)
    Endpoint(published_home).follow(now)


async def test_a_region_whose_role_expired_stops_no_other(published_home: Home) -> None:
    """A region that left regions.toml gets no releases; after half a year the others must not notice."""
    home = published_home
    regions = home.directory / "regions.toml"
    regions.write_text(regions.read_text().split("[regions.jp]")[0])
    now = NOW + timedelta(days=100)
    assert await origins.release(home, origins.SECOND, now=now) == 2
    now = NOW + LIVES["region"] + timedelta(days=1)
    assert await renewed(home, now)
    Endpoint(home).follow(now)
    with pytest.raises(ExpiredError):
        Endpoint(home, "jp").follow(now)
    assert await origins.release(home, origins.THIRD, now=now) == 3
    await rotated(home, "timestamp", now)
    assert origins.read(home, "us", now=now).release.release == 3
    assert [sentence for sentence in expiring(await load_state(home.storage), now) if "jp" in sentence] == [
        "role jp has expired, endpoints refuse it: publish a release"
    ]


@pytest.mark.parametrize("order", [("root", "targets"), ("targets", "root")])
async def test_root_and_targets_expired_together_are_renewed_one_after_the_other(
    published_home: Home, order: tuple[str, str]
) -> None:
    """They were made in one ceremony, so they expire in one second: neither may wait for the other."""
    home = published_home
    now = NOW + LIVES["root"] + HOUR
    with pytest.raises(VerificationError):
        Endpoint(home).follow(now)
    for role in order:
        await renew_offline(await load_state(home.storage), origins.keyring(home), home.storage, role, now=now)
    await renewed(home, now)
    assert await origins.release(home, origins.SECOND, now=now) == 2
    Endpoint(home).follow(now)
    assert origins.read_all(home, now=now) == 2


async def test_a_release_is_not_published_under_an_expired_root(published_home: Home) -> None:
    """It would be called published, and no endpoint would take it."""
    last_day = NOW + LIVES["root"] - timedelta(days=1)
    number = (await origins.build_release(published_home, origins.SECOND, now=last_day)).number
    await origins.approve_release(published_home, number, now=last_day)
    before = (published_home.public / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(ExpiredError):
        await origins.publish_release(published_home, number, now=last_day + timedelta(days=2))
    assert (published_home.public / "metadata" / "timestamp.json").read_bytes() == before
    await origins.publish_release(published_home, number, now=last_day)
    assert origins.read_all(published_home, now=last_day) == 2


@pytest.mark.parametrize("role", ["root", "targets"])
async def test_offline_roles_are_renewed_with_the_same_keys(published_home: Home, role: str) -> None:
    home = published_home
    endpoint = Endpoint(home)
    endpoint.follow()
    now = NOW + timedelta(days=1)
    state, keys = await role_of(home, role)
    await renew_offline(state, origins.keyring(home), home.storage, role, now=now)
    state, after = await role_of(home, role)
    assert after == keys
    renewed_role = state.root if role == "root" else state.targets
    assert (renewed_role.signed.version, renewed_role.signed.expires) == (2, now + LIVES[role])
    endpoint.follow(now)
    with pytest.raises(UsageError):
        await renew_offline(state, origins.keyring(home), home.storage, "us", now=now)


async def test_expiring_names_what_a_person_must_do(published_home: Home) -> None:
    state = await load_state(published_home.storage)
    assert expiring(state, NOW) == []
    assert sorted(expiring(state, NOW + LIVES["region"] - timedelta(days=3))) == [
        f"role {region} expires in 3 days: publish a release" for region in ("jp", "us")
    ]
    said = expiring(state, NOW + LIVES["root"] - timedelta(days=3))
    assert "role root expires in 3 days: coldchain-server keys renew root" in said
    assert "role targets expires in 3 days: coldchain-server keys renew targets" in said


# -- new regions ----------------------------------------------------------------------------------------------------------


async def test_a_new_region_gets_its_role_and_its_releases(published_home: Home) -> None:
    home = published_home
    old = Endpoint(home)
    old.follow()
    regions = home.directory / "regions.toml"
    regions.write_text(regions.read_text() + '\n[regions.kr]\njurisdiction = "Korea"\n')
    with pytest.raises(StateError, match="no role 'kr'") as caught:
        await origins.build_release(home, origins.SECOND)
    assert "keys regions" in caught.value.todo
    for expected in (["kr"], []):
        new = await add_regions(
            await load_state(home.storage),
            origins.keyring(home),
            home.storage,
            home.regions().regions,
            product="coldchain",
            now=NOW,
        )
        assert new == expected
    old.follow()
    assert await origins.release(home, origins.SECOND) == 2
    assert origins.read_all(home, ("us", "jp", "kr")) == 2
    assert origins.read(home, "kr").release.deltas == {}
