"""The list of attacks on software updates (TUF specification 1.5.2, Uptane's list), one test each at least."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coldchain.errors import (
    DigestError,
    ExpiredError,
    MalformedError,
    NewerFormatError,
    ResponseError,
    RollbackError,
    SignatureError,
    VerificationError,
)
from coldchain.limits import Limits
from coldchain.tuf.poll import full_refresh_reason
from coldchain.tuf.refresh import Fetch
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import region_release
from tests.client.tuf.repository import (
    NOW,
    Client,
    Document,
    Repository,
    Signer,
    envelope,
    sign,
    signer,
    stamp,
    trusted_up_to,
)

STRANGER = signer("a stranger")
ALL = ["timestamp", "snapshot", "targets", "us", "rollout"]


def refused(client: Client, repository: Repository, error: type[VerificationError]) -> str:
    """The update is refused with exactly this error and none of the refused file is kept; returns the message."""
    before = dict(client.stored)
    with pytest.raises(error) as caught:
        client.refresh(repository)
    assert type(caught.value) is error
    kept = {name for name in client.stored if client.stored[name] != before.get(name)}
    assert caught.value.what.split(":")[0] not in kept - {"root.json"}, "a refused file was kept"
    return caught.value.what


# arbitrary installation


@pytest.mark.parametrize("role", ALL)
def test_a_file_signed_by_a_stranger_is_refused(role: str) -> None:
    for keyid in (STRANGER.keyid, Repository().signers[role][0].keyid):
        repository = Repository()
        count = len(repository.signers[role])
        repository.signers[role] = [STRANGER.renamed(keyid), *repository.signers[role][1:]]
        repository.bump(role)
        repository.write(role)
        repository.write("snapshot")
        repository.write("timestamp")
        message = refused(Client.of(repository), repository, SignatureError)
        assert f"{role}.json: {count - 1} of {count} needed signatures are good" in message


@pytest.mark.parametrize("role", ALL)
def test_an_unsigned_or_emptily_signed_file_is_refused(role: str) -> None:
    for signatures in ([], [(one.keyid, "") for one in Repository().signers[role]]):
        repository = Repository()
        repository.bump(role)
        repository.write(role, envelope(repository.documents[role], signatures))
        repository.write("snapshot") if role not in ("snapshot", "timestamp") else None
        repository.write("timestamp") if role != "timestamp" else None
        refused(Client.of(repository), repository, SignatureError)


@pytest.mark.parametrize("role", ["root", *ALL])
def test_the_signature_of_other_content_is_refused(role: str) -> None:
    """The body of one file under the signatures of another."""
    repository = Repository()
    repository.publish_root()
    _, offer, good = trusted_up_to(repository, role)
    document = dict(repository.documents[role])
    body = sign(document, repository.signers[role])
    changed = body.replace(b'"spec_version":"1.0.34"', b'"spec_version":"1.0.33"')
    assert changed != body
    with pytest.raises(SignatureError):
        offer(changed)
    offer(good)


@pytest.mark.parametrize("role", ALL)
def test_a_file_of_another_role_signed_by_the_right_keys_is_refused(role: str) -> None:
    """One key pair may serve several roles; the type inside tells them apart."""
    repository = Repository()
    for name in ("timestamp", "snapshot", "targets"):
        repository.set_keys(name, [signer("one for all")], 1)
    for name in ("us", "rollout"):
        repository.set_keys(name, [signer("one for all")], 1)
    repository.files["metadata/1.root.json"] = sign(repository.root, repository.signers["root"])
    for name in ["targets", "us", "rollout", "eu", "snapshot", "timestamp"]:
        repository.write(name)
    _, offer, good = trusted_up_to(repository, role)
    for other in ("root", "timestamp", "snapshot", "targets"):
        if other != repository.documents[role]["_type"]:
            with pytest.raises(MalformedError, match="of type"):
                offer(sign(repository.documents[other], [signer("one for all")]))
    offer(good)


# rollback


def test_an_older_timestamp_is_refused() -> None:
    repository = Repository()
    old = repository.files["metadata/timestamp.json"]
    client = Client.of(repository)
    repository.publish_timestamp()
    client.refresh(repository)
    repository.files["metadata/timestamp.json"] = old
    assert "version 1, but version 2 was seen" in refused(client, repository, RollbackError)


def test_a_newer_timestamp_that_names_an_older_snapshot_is_refused() -> None:
    repository = Repository()
    client = Client.of(repository)
    repository.publish("us")
    client.refresh(repository)
    repository.documents["timestamp"]["meta"]["snapshot.json"]["version"] = 1
    repository.publish_timestamp()
    assert "names snapshot 1, but snapshot 2 was seen" in refused(client, repository, RollbackError)


def test_rollback_of_the_snapshot_is_found_even_when_the_stored_timestamp_is_lost() -> None:
    repository = Repository()
    client = Client.of(repository)
    repository.publish("us")
    client.refresh(repository)
    del client.stored["timestamp.json"]
    repository.documents["us"]["version"] = 1
    repository.write("us")
    repository.publish("snapshot")
    assert "us.json" in refused(client, repository, RollbackError)


@pytest.mark.parametrize("hashes", [False, True])
@pytest.mark.parametrize("role", ["targets", "us", "rollout", "eu"])
def test_a_snapshot_that_names_an_older_role_is_refused(role: str, hashes: bool) -> None:
    """Also for a region this client does not read: another one on the same mirror may."""
    repository = Repository(hashes=hashes)
    client = Client.of(repository)
    repository.publish(role)
    client.refresh(repository)
    repository.documents[role]["version"] = 1
    repository.write(role)
    repository.publish("snapshot")
    message = refused(client, repository, RollbackError)
    assert f"names '{role}.json' version 1, but 2 was seen" in message


@pytest.mark.parametrize("role", ["targets", "us", "rollout", "eu"])
def test_a_snapshot_that_no_longer_names_a_role_is_refused(role: str) -> None:
    repository = Repository()
    client = Client.of(repository)
    client.refresh(repository)
    del repository.documents["snapshot"]["meta"][f"{role}.json"]
    repository.bump("snapshot")
    repository.write("snapshot")
    repository.publish_timestamp()
    assert f"no longer names '{role}.json'" in refused(client, repository, RollbackError)


@pytest.mark.parametrize("role", ["snapshot", "targets", "us", "rollout"])
@pytest.mark.parametrize("other", [1, 3])
def test_a_file_of_another_version_than_named_is_refused(role: str, other: int) -> None:
    """Well signed, but under the wrong name: an older or a not yet released version."""
    repository = Repository()
    client = Client.of(repository)
    repository.publish(role)
    name = repository.name(role)
    repository.documents[role]["version"] = other
    repository.files[name] = sign(repository.documents[role], repository.signers[role])
    assert f"{role}.json is version {other}" in refused(client, repository, RollbackError)


def test_rollback_is_measured_against_expired_stored_files_too() -> None:
    repository = Repository()
    client = Client.of(repository)
    old = repository.documents["timestamp"]
    repository.publish("us", "us")
    client.refresh(repository)
    later = NOW + timedelta(days=30)
    repository.documents["timestamp"] = old | {"version": 1, "expires": stamp(later + timedelta(days=1))}
    repository.write("timestamp")
    with pytest.raises(RollbackError):
        client.refresh(repository, later)


def test_a_timestamp_of_the_same_version_with_other_bytes_is_left_aside() -> None:
    """5.4.3.1: equal versions are no error; the trusted one stays and decides, the new one is never stored."""
    repository = Repository()
    client = Client.of(repository)
    client.refresh(repository)
    kept = client.stored["timestamp.json"]
    repository.publish("us")
    repository.documents["timestamp"]["version"] = 1
    repository.write("timestamp")
    trusted = client.refresh(repository)
    assert trusted.timestamp.raw == kept == client.stored["timestamp.json"]
    assert trusted.snapshot.version == 1
    assert client.kept == []


def test_a_timestamp_of_the_same_version_cannot_prolong_itself() -> None:
    repository = Repository()
    client = Client.of(repository)
    client.refresh(repository)
    later = NOW + timedelta(days=1, hours=1)
    repository.documents["timestamp"]["expires"] = stamp(later + timedelta(days=1))
    repository.write("timestamp")
    with pytest.raises(ExpiredError):
        client.refresh(repository, later)


def test_a_release_never_goes_back_by_way_of_a_newer_role() -> None:
    """The role's version grows, the release in it falls: refused where it is decided; see also test_verify."""
    repository = Repository()
    repository.set_release("us", 41, sources=())
    repository.publish("us")
    trusted = Client.of(repository).refresh(repository)
    assert region_release(trusted.role("us"), "us", "stable").release == 41


# freeze


@pytest.mark.parametrize("role", ["root", *ALL])
def test_expired_metadata_is_refused_at_the_second_it_expires(role: str) -> None:
    repository = Repository()
    expires = NOW + timedelta(hours=3)
    repository.documents[role]["expires"] = stamp(expires)
    if role == "root":
        repository.publish_root()
    else:
        repository.publish(role)
    for seconds, good in ((-1, True), (0, False), (1, False), (86_400 * 3650, False)):
        client = Client.of(repository)
        if good:
            client.refresh(repository, expires + timedelta(seconds=seconds))
            continue
        with pytest.raises(ExpiredError, match="clock") as caught:
            client.refresh(repository, expires + timedelta(seconds=seconds))
        assert "clock" in caught.value.todo
        assert f"{role}.json" not in client.kept or role == "root"


def test_stored_files_expire_too() -> None:
    """A server that answers, but only ever with what the client already has, ends in the expiry of that."""
    repository = Repository()
    client = Client.of(repository)
    client.refresh(repository)
    for hours in (1, 12, 23):
        client.refresh(repository, NOW + timedelta(hours=hours))
    with pytest.raises(ExpiredError, match=r"timestamp\.json"):
        client.refresh(repository, NOW + timedelta(hours=24))


@pytest.mark.parametrize("role", ["snapshot", "targets", "us", "rollout"])
def test_a_stored_file_that_expired_is_fetched_anew_and_then_refused(role: str) -> None:
    repository = Repository()
    repository.documents[role]["expires"] = stamp(NOW + timedelta(hours=1))
    repository.publish(role)
    client = Client.of(repository)
    client.refresh(repository)
    with pytest.raises(ExpiredError, match=rf"{role}\.json"):
        client.refresh(repository, NOW + timedelta(hours=2))
    assert client.fetched[-1] == repository.name(role)


def test_an_expired_root_on_the_way_does_not_matter_but_the_last_one_does() -> None:
    repository = Repository()
    good = repository.root["expires"]
    repository.root["expires"] = stamp(NOW - timedelta(days=1))
    repository.publish_root()
    with pytest.raises(ExpiredError, match=r"root\.json"):
        Client.of(repository).refresh(repository)
    repository.root["expires"] = good
    repository.publish_root()
    assert Client.of(repository).refresh(repository).root.version == 3


def test_time_is_fixed_when_the_update_begins() -> None:
    trusted = TrustedSet(Repository().pinned, NOW)
    assert trusted.now == NOW


def test_a_replayed_not_modified_hides_news_only_until_the_timestamp_nears_its_end() -> None:
    """The attacker answers 304 for ever; the poll rule then asks in full, and the expiry ends it."""
    repository = Repository()
    client = Client.of(repository)
    client.refresh(repository)
    hidden = None
    for hour in range(48):
        now = NOW + timedelta(hours=hour)
        if full_refresh_reason(client.stored["timestamp.json"], now, NOW, "not modified"):
            hidden = hour
            break
    assert hidden == 18, "24 hours of life less 6 hours"
    client.refresh(repository, NOW + timedelta(hours=18))
    with pytest.raises(ExpiredError):
        client.refresh(repository, NOW + timedelta(hours=24))


# mix and match


@pytest.mark.parametrize("role", ["snapshot", "targets", "us", "rollout"])
def test_files_of_two_snapshots_do_not_mix(role: str) -> None:
    """With hashes: the same version number, well signed, other bytes."""
    repository = Repository(hashes=True)
    repository.documents[role]["spec_version"] = "1.0.33"
    repository.files[repository.name(role)] = sign(repository.documents[role], repository.signers[role])
    refused(Client.of(repository), repository, DigestError)


@pytest.mark.parametrize("role", ["snapshot", "targets", "us", "rollout"])
def test_length_and_hash_are_each_checked_by_themselves(role: str) -> None:
    for wrong in ({"length": 1_000_000}, {"hashes": {"sha256": "0" * 64}}, {"hashes": {"sha512": "0" * 128}}):
        repository = Repository()
        where = repository.documents["timestamp" if role == "snapshot" else "snapshot"]["meta"]
        where[f"{role}.json"] |= wrong
        if role != "snapshot":
            repository.write("snapshot")
        repository.write("timestamp")
        refused(Client.of(repository), repository, DigestError)


def test_a_stored_snapshot_must_have_the_hash_that_the_new_timestamp_names() -> None:
    repository = Repository(hashes=True)
    client = Client.of(repository)
    client.refresh(repository)
    repository.documents["snapshot"]["x-note"] = "another edition of the same version"
    repository.write("snapshot")
    repository.publish_timestamp()
    client.refresh(repository)
    assert client.stored["snapshot.json"] == repository.files["metadata/1.snapshot.json"]


def test_a_role_that_the_snapshot_does_not_name_is_refused() -> None:
    repository = Repository()
    del repository.documents["snapshot"]["meta"]["us.json"]
    repository.write("snapshot")
    repository.write("timestamp")
    refused(Client.of(repository), repository, MalformedError)


def test_a_missing_file_is_not_taken_from_an_older_snapshot() -> None:
    repository = Repository()
    client = Client.of(repository)
    client.refresh(repository)
    repository.publish("us")
    del repository.files[repository.name("us")]
    with pytest.raises(ResponseError, match=r"metadata/2\.us\.json"):
        client.refresh(repository)
    assert client.stored["us.json"] == repository.files["metadata/1.us.json"]


# fast-forward, and recovery from it


def fast_forwarded() -> tuple[Repository, Client]:
    """Attackers held the online keys and drove all versions up; the client saw it."""
    repository = Repository()
    for role in ("timestamp", "snapshot"):
        repository.bump(role, by=10**9)
    repository.documents["snapshot"]["meta"]["us.json"]["version"] = 10**9
    repository.documents["us"]["version"] = 10**9
    repository.write("us")
    repository.write("snapshot")
    repository.write("timestamp")
    client = Client.of(repository)
    client.refresh(repository)
    for role in ("timestamp", "snapshot", "us"):
        repository.documents[role]["version"] = 2
    return repository, client


def republish(repository: Repository) -> None:
    for role in ("us", "snapshot", "timestamp"):
        repository.write(role)


def test_without_a_rotation_a_fast_forward_stays() -> None:
    repository, client = fast_forwarded()
    republish(repository)
    refused(client, repository, RollbackError)


@pytest.mark.parametrize("roles", [("timestamp",), ("snapshot",), ("timestamp", "snapshot")])
def test_rotating_the_timestamp_or_the_snapshot_key_recovers_from_a_fast_forward(roles: tuple[str, ...]) -> None:
    """5.3.11: if either was rotated, both stored files are forgotten."""
    repository, client = fast_forwarded()
    for role in roles:
        repository.rotate(role, f"new {role}")
    republish(repository)
    trusted = client.refresh(repository)
    assert (trusted.timestamp.version, trusted.snapshot.version, trusted.role("us").version) == (2, 2, 2)
    assert client.stored["timestamp.json"] == repository.files["metadata/timestamp.json"]


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_recovery_also_works_when_the_update_ended_right_after_the_new_root(role: str) -> None:
    """The attacker lets the new root pass and cuts everything after it; the next update must still recover."""
    repository, client = fast_forwarded()
    repository.rotate(role, "new")
    republish(repository)
    for steps in range(1, 6):
        victim = Client(dict(client.stored))
        with pytest.raises(KeyboardInterrupt):
            victim.refresh(repository, stop_after=steps)
        assert victim.refresh(repository).timestamp.version == 2


def test_a_new_root_without_rotation_forgets_nothing() -> None:
    """Else every new root would be a chance to roll back."""
    repository, client = fast_forwarded()
    repository.set_keys("targets", [signer("t 7"), signer("t 8")], 2)
    repository.publish_root()
    repository.write("targets")
    republish(repository)
    refused(client, repository, RollbackError)


def test_an_added_timestamp_key_forgets_nothing() -> None:
    repository, client = fast_forwarded()
    repository.set_keys("timestamp", [signer("timestamp 0"), signer("second")], 1)
    repository.publish_root()
    republish(repository)
    refused(client, repository, RollbackError)


# keys and thresholds


@pytest.mark.parametrize("role", ["root", "targets", "us"])
def test_one_signature_less_than_the_threshold_is_refused(role: str) -> None:
    repository = Repository()
    repository.signers[role] = repository.signers[role][:1]
    if role == "root":
        repository.publish_root()
    else:
        repository.publish(role)
    assert "1 of 2 needed" in refused(Client.of(repository), repository, SignatureError)


def test_any_keys_of_the_role_reach_the_threshold_and_a_bad_one_does_not_hinder() -> None:
    for pick in ((0, 1), (0, 2), (1, 2), (0, 1, 2)):
        repository = Repository()
        repository.signers["targets"] = [signer(f"targets {i}") for i in pick]
        repository.publish("targets")
        Client.of(repository).refresh(repository)
    repository = Repository()
    bad = STRANGER.renamed(signer("targets 0").keyid)
    repository.signers["targets"] = [bad, signer("targets 1"), signer("targets 2")]
    repository.publish("targets")
    Client.of(repository).refresh(repository)


def test_a_key_of_another_role_does_not_count() -> None:
    """All keys stand in one object; only the role's key ids say whose they are."""
    repository = Repository()
    repository.signers["targets"] = [signer("targets 0"), signer("root 0"), signer("snapshot 0"), signer("timestamp 0")]
    repository.publish("targets")
    assert "1 of 2 needed" in refused(Client.of(repository), repository, SignatureError)


def test_a_region_key_does_not_sign_for_another_region() -> None:
    repository = Repository()
    repository.signers["us"] = repository.signers["eu"]
    repository.publish("us")
    assert "0 of 2 needed" in refused(Client.of(repository), repository, SignatureError)


def test_a_signature_twice_under_one_key_id_is_refused() -> None:
    """Specification 4.2: multiple signatures with the same key id are not allowed."""
    for role in ("root", *ALL):
        repository = Repository()
        repository.publish_root()
        _, offer, good = trusted_up_to(repository, role)
        one = repository.signers[role][0]
        with pytest.raises(MalformedError, match="two signatures"):
            offer(sign(repository.documents[role], [one, one]))
        offer(good)


@pytest.mark.parametrize("role", ["root", "targets", "us"])
def test_one_key_under_two_ids_counts_once(role: str) -> None:
    one = signer("one key")
    twice: list[Signer] = [one, one.renamed("ab" * 32)]
    repository = Repository()
    old = repository.signers["root"]
    repository.set_keys(role, twice, 2)
    if role != "us":
        repository.publish_root(also=old)
    repository.publish("targets", "us")
    assert f"{role}.json: 1 of 2 needed" in refused(Client.of(repository), repository, SignatureError)


def test_a_key_id_twice_in_a_role_is_refused() -> None:
    for role in ("targets", "us"):
        repository = Repository()
        repository.role(role)["keyids"] *= 2
        repository.publish_root()
        repository.publish("targets")
        assert "lists a key id twice" in refused(Client.of(repository), repository, MalformedError)


@pytest.mark.parametrize("role", ["root", "targets", "us", "timestamp"])
def test_an_unknown_kind_of_key_is_ignored_and_not_fatal(role: str) -> None:
    """A key of a scheme of the future beside the known ones: neither an obstacle nor a vote."""
    future = {"keytype": "ml-dsa", "scheme": "ml-dsa-65", "keyval": {"public": "00" * 32}}
    for threshold, good in ((2, True), (3, False)):
        repository = Repository()
        names = [signer(f"{role} a"), signer(f"{role} b")]
        old = repository.signers["root"]
        repository.set_keys(role, names, 2)
        keys = repository.targets["delegations"]["keys"] if role == "us" else repository.root["keys"]
        keys["cd" * 32] = future
        repository.role(role)["keyids"].insert(0, "cd" * 32)
        repository.role(role)["threshold"] = threshold
        repository.signers["root"] = list({one.keyid: one for one in [*repository.signers["root"], *old]}.values())
        repository.publish_root()
        repository.publish("targets", "us")
        data = repository.files[repository.name(role)]
        extra = data.replace(b'{"signatures":[', b'{"signatures":[{"keyid":"' + b"cd" * 32 + b'","sig":"1234"},')
        repository.write(role, extra)
        client = Client.of(repository)
        if good:
            client.refresh(repository)
        else:
            assert "2 of 3 needed" in refused(client, repository, SignatureError)


def test_an_ed25519_key_of_another_scheme_or_without_a_real_value_is_ignored() -> None:
    real = signer("x").json
    bent: list[Document] = [real | {"scheme": "ed25519ph"}, real | {"keytype": "x25519"}]
    bent += [real | {"keyval": value} for value in ({}, {"public": 7}, {"public": "00" * 32}, {"public": "zz" * 32})]
    for key in bent:
        repository = Repository()
        repository.set_keys("timestamp", [signer("timestamp 0"), signer("x")], 1)
        repository.root["keys"][signer("x").keyid] = key
        repository.publish_root()
        Client.of(repository).refresh(repository)
        repository.signers["timestamp"] = [signer("x")]
        repository.write("timestamp")
        refused(Client.of(repository), repository, SignatureError)


def test_a_key_id_is_a_label_that_is_neither_required_nor_trusted_to_be_a_hash() -> None:
    repository = Repository()
    named = signer("a").renamed("our-first-key")
    repository.set_keys("timestamp", [named], 1)
    repository.publish_root()
    repository.publish_timestamp()
    Client.of(repository).refresh(repository)
    repository.signers["timestamp"] = [STRANGER.renamed("our-first-key")]
    repository.publish_timestamp()
    refused(Client.of(repository), repository, SignatureError)


def test_a_role_may_name_a_key_that_nobody_defines() -> None:
    repository = Repository()
    repository.role("timestamp")["keyids"].append("ef" * 32)
    repository.publish_root()
    Client.of(repository).refresh(repository)


# root


def test_a_root_needs_the_threshold_of_the_old_keys_and_of_its_own() -> None:
    fresh = [signer(f"new root {i}") for i in range(3)]
    for old_count in range(4):
        for new_count in range(4):
            repository = Repository()
            old = [signer(f"root {i}") for i in range(3)]
            repository.set_keys("root", fresh, 2)
            repository.bump("root")
            repository.write("root", sign(repository.root, [*old[:old_count], *fresh[:new_count]]))
            client = Client.of(repository)
            if old_count >= 2 and new_count >= 2:
                assert client.refresh(repository).root.version == 2
            else:
                refused(client, repository, SignatureError)
                assert client.stored == {"root.json": repository.pinned}


def test_a_raised_threshold_counts_at_once() -> None:
    repository = Repository()
    repository.role("root")["threshold"] = 3
    repository.publish_root()
    assert "2 of 3 needed" in refused(Client.of(repository), repository, SignatureError)


@pytest.mark.parametrize("version", [1, 3, 4, 10**6])
def test_a_root_is_never_skipped_nor_repeated(version: int) -> None:
    repository = Repository()
    repository.documents["root"]["version"] = version
    repository.files["metadata/2.root.json"] = sign(repository.root, repository.signers["root"])
    assert "after 1 comes 2" in refused(Client.of(repository), repository, RollbackError)


def test_every_root_on_the_way_is_walked_and_kept() -> None:
    repository = Repository()
    for i in range(5):
        old = repository.signers["root"]
        repository.set_keys("root", [signer(f"root {i} {j}") for j in range(3)], 2)
        repository.publish_root(also=old)
    client = Client.of(repository)
    assert client.refresh(repository).root.version == 6
    assert client.kept[:10] == [name for n in range(2, 7) for name in (f"roots/{n}.root.json", "root.json")]
    # A client that starts from any of them arrives as well; without the one between nobody does.
    for n in range(1, 7):
        start = Client({"root.json": repository.files[f"metadata/{n}.root.json"]})
        assert start.refresh(repository).root.version == 6
    repository.files["metadata/3.root.json"] = repository.files["metadata/4.root.json"]
    refused(Client.of(repository), repository, SignatureError)


def test_a_revoked_key_is_revoked() -> None:
    for role in ("timestamp", "snapshot", "targets"):
        repository = Repository()
        old = repository.signers[role]
        client = Client.of(repository)
        client.refresh(repository)
        repository.set_keys(role, [signer("n 1"), signer("n 2")], len(old))
        repository.publish_root()
        repository.signers[role] = old
        repository.publish(role)
        refused(client, repository, SignatureError)


def test_a_stored_role_file_of_a_revoked_key_is_not_used() -> None:
    repository = Repository()
    client = Client.of(repository)
    client.refresh(repository)
    repository.set_keys("us", [signer("us new a"), signer("us new b")], 2)
    repository.publish("targets")
    refused(client, repository, SignatureError)
    repository.publish("us")
    client.refresh(repository)


def test_only_so_many_roots_in_one_update() -> None:
    """5.3.3: after Y roots the update goes on with what it has; the next one goes further."""
    repository = Repository()
    for _ in range(5):
        repository.publish_root()
    client = Client.of(repository, Limits(root_rotations=3))
    assert client.refresh(repository).root.version == 4
    assert client.refresh(repository).root.version == 6


# endless data and other excess


@pytest.mark.parametrize("role", ["root", *ALL])
def test_a_file_longer_than_its_limit_is_refused_unread(role: str) -> None:
    repository = Repository()
    repository.publish_root()
    trusted, offer, good = trusted_up_to(repository, role)
    limit = {
        "root": trusted.limits.root_bytes,
        "timestamp": trusted.limits.timestamp_bytes,
        "snapshot": trusted.limits.snapshot_bytes,
    }.get(role, trusted.limits.targets_bytes)
    offer(good + b" " * (limit - len(good))) if role == "root" else None
    if role == "root":
        trusted, offer, good = trusted_up_to(repository, role)
    with pytest.raises(MalformedError, match="longer than"):
        offer(good + b" " * (limit - len(good) + 1))
    offer(good)


def test_each_fetch_is_bounded_by_the_signed_length_or_the_limit() -> None:
    for hashes in (False, True):
        repository = Repository(hashes=hashes)
        repository.publish_root()
        client = Client.of(repository)
        client.refresh(repository)
        for step in client.log:
            if isinstance(step, Fetch):
                data = repository.files.get(step.path)
                signed = hashes and "root" not in step.path and "timestamp" not in step.path
                assert step.max_bytes == len(data or b"") if signed else step.max_bytes >= 16 * 1024
    repository = Repository()
    repository.documents["snapshot"]["meta"]["us.json"]["length"] = 2**40
    repository.write("snapshot")
    repository.write("timestamp")
    client = Client.of(repository)
    with pytest.raises(DigestError):
        client.refresh(repository)
    assert client.log[-1] == Fetch("metadata/1.us.json", client.limits.targets_bytes)


# regions


@pytest.mark.parametrize("same_keys", [False, True])
def test_one_regions_role_in_the_place_of_another_is_refused(same_keys: bool) -> None:
    """With different keys the signatures tell; with the same keys the region's name inside does."""
    repository = Repository()
    if same_keys:
        for region in ("us", "eu"):
            repository.set_keys(region, [signer("assembler"), signer("approver")], 2)
        for name in ("targets", "us", "eu", "snapshot", "timestamp"):
            repository.write(name)
    repository.files["metadata/1.us.json"] = repository.files["metadata/1.eu.json"]
    client = Client.of(repository)
    if not same_keys:
        refused(client, repository, SignatureError)
        return
    trusted = client.refresh(repository)
    with pytest.raises(MalformedError, match="'region' is not 'us'"):
        region_release(trusted.role("us"), "us", "stable")


def test_a_role_that_root_or_targets_does_not_name_is_refused() -> None:
    repository = Repository()
    repository.documents["snapshot"]["meta"]["jp.json"] = {"version": 1}
    repository.files["metadata/1.jp.json"] = repository.files["metadata/1.us.json"]
    repository.write("snapshot")
    repository.write("timestamp")
    with pytest.raises(SignatureError, match="names no role 'jp'"):
        Client.of(repository).refresh(repository, roles=["jp"])


def test_a_later_specification_is_reported_only_when_it_is_signed() -> None:
    """Anybody can write spec_version 2 into a file; only the publisher can make clients ask for a newer program."""
    for role in ("root", *ALL):
        repository = Repository()
        repository.publish_root()
        _, offer, good = trusted_up_to(repository, role)
        document = repository.documents[role] | {"spec_version": "2.0.0"}
        with pytest.raises(NewerFormatError, match=r"2\.0\.0"):
            offer(sign(document, repository.signers[role]))
        with pytest.raises(SignatureError):
            offer(sign(document, [STRANGER]))
        offer(good)
