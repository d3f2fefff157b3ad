from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain import canonical
from coldchain.errors import StateError, StorageError, VerificationError
from coldchain_server.home import Home
from coldchain_server.release.approve import missing_signatures
from coldchain_server.signing.nacl_signer import NaclKey
from coldchain_server.signing.roles import (
    ChannelFacts,
    check_as_client,
    decode,
    encode,
    files_of,
    in_time,
    load_state,
    mending_moment,
    next_region_role,
    next_snapshot,
    next_timestamp,
    sign,
)
from coldchain_server.signing.rotation import publish_roles, role_signers
from coldchain_server.storage.directory import DirectoryStorage
from tests.client.tuf.repository import NOW
from tests.server import origins

EVERY = ("us", "jp", "rollout")
FACTS = ChannelFacts(1, "0" * 64, 1, 1, "1" * 64, {"us/stable/full.ccd": (1, "2" * 64)})


async def test_the_state_is_what_the_timestamp_leads_to(published_home: Home) -> None:
    before = await load_state(published_home.storage)
    leftover = published_home.public / "metadata" / f"{before.snapshot.signed.version + 1}.snapshot.json"
    leftover.write_bytes(b"a crash's leftover that nothing names")
    after = await load_state(published_home.storage)
    assert after.snapshot.signed.version == before.snapshot.signed.version
    assert sorted(after.delegated) == sorted(EVERY)


async def test_without_a_timestamp_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no keys and roles here yet"):
        await load_state(DirectoryStorage(tmp_path))


async def test_every_missing_or_damaged_file_is_named(published_home: Home) -> None:
    state = await load_state(published_home.storage)
    files = {
        f"{state.targets.signed.version}.targets",
        f"{state.snapshot.signed.version}.snapshot",
        f"{state.delegated['us'].signed.version}.us",
        "1.root",
    }
    for name in files:
        file = published_home.public / "metadata" / f"{name}.json"
        good = file.read_bytes()
        for bad in (b"{", b"", good[:-1], b'{"signatures":[],"signed":{}}'):
            file.write_bytes(bad)
            with pytest.raises(StorageError, match="damaged"):
                await load_state(published_home.storage)
        file.unlink()
        with pytest.raises(StorageError):
            await load_state(published_home.storage)
        file.write_bytes(good)
    await load_state(published_home.storage)


@pytest.mark.parametrize("role", ["targets", "us", "rollout", "snapshot", "timestamp"])
@pytest.mark.parametrize("change", ["no signature", "flipped signature", "version back", "expired", "other key"])
async def test_nothing_goes_out_that_a_client_would_refuse(published_home: Home, role: str, change: str) -> None:
    """One file of a new state is bent in one way; the walk with the client's code refuses the whole state."""
    home, keyring = published_home, origins.keyring(published_home)
    state = await load_state(home.storage)
    changed = {}
    for name in ("targets", "us", "rollout"):
        one = decode(encode(state.targets if name == "targets" else state.delegated[name]), name)
        one.signed.version += 1
        sign(one, role_signers(state, keyring, name))
        changed[name] = one
    snapshot = next_snapshot(state, changed, NOW)
    sign(snapshot, role_signers(state, keyring, "snapshot"))
    timestamp = next_timestamp(state, snapshot, NOW)
    sign(timestamp, role_signers(state, keyring, "timestamp"))
    roles = {**changed, "snapshot": snapshot, "timestamp": timestamp}
    paths = list(files_of(roles))
    await check_as_client(home.storage, files_of(roles), EVERY, NOW)

    bent = roles[role]
    if change == "no signature":
        bent.signatures.clear()
    elif change == "flipped signature":
        for signature in bent.signatures.values():
            signature.signature = ("0" if signature.signature[0] != "0" else "1") + signature.signature[1:]
    elif change == "other key":
        sign(bent, [keyring.signer("root-1"), keyring.signer("root-2")])
    else:
        if change == "version back":
            bent.signed.version -= 2
        else:
            bent.signed.expires = NOW - timedelta(seconds=1)
        sign(bent, role_signers(state, keyring, role))
    files = {name: encode(one) for name, one in zip(paths, roles.values(), strict=True)}
    if change == "version back" and role == "timestamp":
        assert roles["timestamp"].signed.version == state.timestamp.signed.version - 1
        return  # a client of the first day cannot know that it is old; endpoints that have seen more refuse it
    with pytest.raises(VerificationError):
        await check_as_client(home.storage, files, EVERY, NOW)


async def test_a_state_that_names_a_missing_file_is_refused(published_home: Home) -> None:
    home, keyring = published_home, origins.keyring(published_home)
    state = await load_state(home.storage)
    state.snapshot.signed.version += 1
    timestamp = next_timestamp(state, state.snapshot, NOW)
    sign(timestamp, role_signers(state, keyring, "timestamp"))
    with pytest.raises(VerificationError, match="name a file that is not there"):
        await check_as_client(home.storage, files_of({"timestamp": timestamp}), EVERY, NOW)


async def test_a_refused_state_leaves_the_tree_as_it_was(published_home: Home) -> None:
    home, keyring = published_home, origins.keyring(published_home)
    state = await load_state(home.storage)
    role = next_region_role(state.delegated["us"], "stable", FACTS, NOW)
    sign(role, role_signers(state, keyring, "us")[:1])  # one signature of two
    before = {path: path.read_bytes() for path in home.public.rglob("*.json")}
    with pytest.raises(VerificationError, match=r"us\.json"):
        await publish_roles(state, keyring, home.storage, {"us": role}, NOW)
    assert {path: path.read_bytes() for path in home.public.rglob("*.json")} == before


async def test_one_private_key_under_two_ids_counts_once(published_home: Home) -> None:
    """The same public key stands in the delegation under a second id; signing under both ids is still one signature."""
    home, keyring = published_home, origins.keyring(published_home)
    state = await load_state(home.storage)
    chain = state.targets.signed.delegations
    assert chain is not None
    assert chain.roles is not None
    assembler, approver = keyring.public("assembler"), keyring.public("approver-1")
    twin = NaclKey("ab" * 32, "ed25519", "ed25519", dict(assembler.keyval))
    chain.keys[twin.keyid] = twin
    chain.roles["us"].keyids.append(twin.keyid)
    role = next_region_role(state.delegated["us"], "stable", FACTS, NOW)
    sign(role, [keyring.signer("assembler")])
    assert missing_signatures(state, "us", role) == 1
    role.signatures[twin.keyid] = type(role.signatures[assembler.keyid])(
        twin.keyid, role.signatures[assembler.keyid].signature
    )
    assert missing_signatures(state, "us", role) == 1
    role.signatures[approver.keyid] = keyring.signer("approver-1").sign(
        canonical.encode(json.loads(encode(role))["signed"])
    )
    assert missing_signatures(state, "us", role) == 0


async def test_files_go_out_with_the_timestamp_last(published_home: Home) -> None:
    state = await load_state(published_home.storage)
    names = list(files_of({"us": state.delegated["us"], "snapshot": state.snapshot, "timestamp": state.timestamp}))
    assert names[-1] == "metadata/timestamp.json"
    assert names[0] == f"metadata/{state.delegated['us'].signed.version}.us.json"


async def test_a_channel_is_replaced_and_the_other_stays(published_home: Home) -> None:
    state = await load_state(published_home.storage)
    early = ChannelFacts(1, "0" * 64, 1, 1, "1" * 64, {"us/early/full.ccd": (1, "2" * 64)})
    role = next_region_role(state.delegated["us"], "early", early, NOW)
    assert role.signed.unrecognized_fields["coldchain"]["channels"]["stable"] == state.channel("us", "stable")
    assert set(role.signed.targets) == {*state.delegated["us"].signed.targets, "us/early/full.ccd"}
    again = next_region_role(role, "stable", FACTS, NOW)
    assert set(again.signed.targets) == {"us/stable/full.ccd", "us/early/full.ccd"}
    assert again.signed.version == state.delegated["us"].signed.version + 2
    assert state.delegated["us"].signed.version == 2, "the old role is not touched"


async def test_mending_looks_at_the_latest_good_moment(published_home: Home) -> None:
    state = await load_state(published_home.storage)
    assert mending_moment(state, (), NOW) == NOW
    late = NOW + timedelta(days=400)
    assert mending_moment(state, (), late) == state.timestamp.signed.expires - timedelta(seconds=1)
    assert mending_moment(state, ("timestamp", "snapshot"), late) == state.root.signed.expires - timedelta(seconds=1)
    assert mending_moment(state, ("timestamp", "snapshot", "root", "targets"), late) == late
    assert in_time(state, (), NOW) == sorted(EVERY)
    assert in_time(state, ("us", "targets"), late) == ["us"]
