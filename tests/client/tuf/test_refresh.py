"""The workflow as a whole: which files it asks for, what it keeps in which order, and that any step may be the last."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import (
    ColdchainError,
    DamagedError,
    ExpiredError,
    InternalError,
    NewerFormatError,
    NotInstalledError,
    ResponseError,
    RollbackError,
)
from coldchain.limits import Limits
from coldchain.tuf.refresh import Fetch, Keep, refresh, search
from coldchain.tuf.trusted_set import TrustedSet
from tests.client.tuf.repository import NOW, Client, Repository, sign, signer, stamp, trusted_up_to

FILES = ["root.json", "timestamp.json", "snapshot.json", "targets.json", "us.json", "rollout.json"]


def grown(*, hashes: bool = False) -> Repository:
    """A repository past its first version: root 3, and everything published twice."""
    repository = Repository(hashes=hashes)
    repository.publish_root()
    repository.publish_root()
    repository.publish("targets", "us", "rollout")
    return repository


@pytest.mark.parametrize("hashes", [False, True])
@pytest.mark.parametrize("consistent", [False, True])
def test_a_first_update_fetches_everything_once_and_keeps_it_in_the_order_of_the_specification(
    consistent: bool, hashes: bool
) -> None:
    repository = Repository(consistent=consistent, hashes=hashes)
    repository.publish_root()
    repository.publish("us")
    client = Client.of(repository)
    trusted = client.refresh(repository)
    names = ["2.snapshot", "1.targets", "2.us", "1.rollout"] if consistent else ["snapshot", "targets", "us", "rollout"]
    assert client.fetched == [f"metadata/{name}.json" for name in ["2.root", "3.root", "timestamp", *names]]
    assert client.kept == ["roots/2.root.json", *FILES]
    assert [step.name if isinstance(step, Keep) else "" for step in client.log] == [
        "", "roots/2.root.json", "root.json", "", "", "timestamp.json", "", "snapshot.json", "", "targets.json",
        "", "us.json", "", "rollout.json",
    ]  # fmt: skip
    assert trusted.role("us").name == "us"
    assert trusted.role("us").version == 2
    assert trusted.role("targets").raw == client.stored["targets.json"]


def test_an_update_without_news_fetches_two_files_and_keeps_nothing() -> None:
    repository = grown()
    client = Client.of(repository)
    client.refresh(repository)
    client.refresh(repository)
    assert client.fetched == ["metadata/4.root.json", "metadata/timestamp.json"]
    assert client.kept == []


def test_only_what_changed_is_fetched() -> None:
    repository = grown()
    client = Client.of(repository)
    client.refresh(repository)
    repository.publish("us")
    client.refresh(repository)
    assert client.fetched[2:] == ["metadata/3.snapshot.json", "metadata/3.us.json"]
    assert client.kept == ["timestamp.json", "snapshot.json", "us.json"]
    repository.publish_timestamp()
    client.refresh(repository)
    assert client.kept == ["timestamp.json"]


@pytest.mark.parametrize("hashes", [False, True])
def test_every_step_may_be_the_last_one(hashes: bool) -> None:
    """Killed before each step of an update from an older state: the next update succeeds from what was kept."""
    base = Repository(hashes=hashes)
    client = Client.of(base)
    client.refresh(base)
    old_root = base.signers["root"]
    base.set_keys("root", [signer(f"new {i}") for i in range(3)], 2)
    base.publish_root(also=old_root)
    base.publish("targets", "us", "rollout")
    for start in ({"root.json": base.pinned}, client.stored):
        whole = Client(dict(start))
        whole.refresh(base)
        steps = len(whole.log)
        for count in range(steps):
            victim = Client(dict(start))
            with pytest.raises(KeyboardInterrupt):
                victim.refresh(base, stop_after=count)
            for again in range(2):
                victim.refresh(base)
                assert victim.stored == whole.stored, (count, again)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_damaged_stored_file_counts_as_absent(name: str) -> None:
    repository = grown()
    good = Client.of(repository)
    good.refresh(repository)
    data = good.stored[name]
    damaged = [
        b"",
        b"\0" * len(data),
        data[: len(data) // 2],
        b"null",
        b"[]",
        b"{}",
        data.replace(b'"', b"'"),
        data * 2,
    ]
    damaged += [data.replace(b'"sig":"', b'"sig":"00'), b" " * (6 << 20)]
    for bad in damaged:
        client = Client(good.stored | {name: bad})
        client.refresh(repository)
        assert client.stored == good.stored


def test_a_damaged_snapshot_does_not_forget_the_timestamp() -> None:
    """Else damage on the disk would let an older timestamp in."""
    repository = Repository()
    old = dict(repository.files)
    client = Client.of(repository)
    repository.publish("us")
    client.refresh(repository)
    for bad in (b"", client.stored["snapshot.json"][:-5]):
        victim = Client(client.stored | {"snapshot.json": bad})
        repository.files["metadata/timestamp.json"] = old["metadata/timestamp.json"]
        with pytest.raises(ColdchainError, match="version 1, but version 2 was seen"):
            victim.refresh(repository)


def test_a_damaged_pinned_root_is_an_error_that_says_what_to_do() -> None:
    repository = grown()
    pinned = repository.pinned
    damaged = [b"", b"{}", pinned[:-1], pinned.replace(b'"version":1', b'"version":2'), b"\xff", pinned + b"x"]
    damaged += [sign(repository.root, [signer("root 0")]), repository.files["metadata/timestamp.json"]]
    for bad in damaged:
        client = Client({"root.json": bad})
        with pytest.raises(DamagedError, match="the pinned root is damaged") as caught:
            client.refresh(repository)
        assert "coldchain init" in caught.value.todo
        assert caught.value.kept
        assert client.fetched == []


def test_a_pinned_root_of_a_later_specification_is_no_damage() -> None:
    repository = Repository()
    later = sign(repository.root | {"spec_version": "2.0.0"}, repository.signers["root"])
    with pytest.raises(NewerFormatError):
        Client({"root.json": later}).refresh(repository)


def test_without_a_pinned_root_nothing_is_trusted() -> None:
    with pytest.raises(NotInstalledError) as caught:
        Client({}).refresh(Repository())
    assert "coldchain init" in caught.value.todo


def test_an_expired_pinned_root_is_a_good_start() -> None:
    repository = Repository()
    repository.root["expires"] = stamp(NOW - timedelta(days=400))
    pinned = sign(repository.root, repository.signers["root"])
    repository.root["expires"] = stamp(NOW + timedelta(days=400))
    repository.publish_root()
    assert Client({"root.json": pinned}).refresh(repository).root.version == 2


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", "us", "rollout"])
def test_a_missing_file_is_reported_by_its_name_and_what_was_kept_stays_good(name: str) -> None:
    repository = grown()
    path = repository.name(name)
    data = repository.files.pop(path)
    client = Client.of(repository)
    with pytest.raises(ResponseError, match=path):
        client.refresh(repository)
    repository.files[path] = data
    client.refresh(repository)
    assert set(FILES) <= set(client.stored)


def test_an_error_thrown_in_by_the_caller_ends_the_update_cleanly() -> None:
    steps = refresh({"root.json": Repository().pinned}, NOW, ["us"])
    assert isinstance(next(steps), Fetch)
    with pytest.raises(ConnectionError):
        steps.throw(ConnectionError())
    with pytest.raises(StopIteration):
        next(steps)


def test_a_time_without_a_zone_is_a_defect_of_the_caller() -> None:
    with pytest.raises(InternalError):
        Client.of(Repository()).refresh(Repository(), NOW.replace(tzinfo=None))


def test_the_order_of_the_workflow_is_enforced() -> None:
    repository = grown()
    files = repository.files
    trusted = TrustedSet(repository.pinned, NOW)
    snapshot, targets, us = (files[repository.name(name)] for name in ("snapshot", "targets", "us"))
    early: list[Callable[[], object]] = [
        lambda: trusted.timestamp,
        lambda: trusted.snapshot,
        lambda: trusted.role("targets"),
        lambda: trusted.role("us"),
        lambda: trusted.update_snapshot(snapshot),
        lambda: trusted.update_targets("targets", targets),
        lambda: trusted.update_targets("us", us),
    ]
    for ask in early:
        with pytest.raises(InternalError):
            ask()
    assert trusted.update_root(files["metadata/2.root.json"]) is trusted.root
    assert trusted.update_root(files["metadata/3.root.json"]) is trusted.root
    assert trusted.update_timestamp(files["metadata/timestamp.json"]) is trusted.timestamp
    assert not trusted.stored_snapshot_is_current()
    for late in (
        lambda: trusted.update_root(files["metadata/3.root.json"]),
        lambda: trusted.update_timestamp(files["metadata/timestamp.json"]),
        lambda: trusted.recall(None, None),
        lambda: trusted.update_targets("us", us),
    ):
        with pytest.raises(InternalError):
            late()
    assert trusted.update_snapshot(snapshot) is trusted.snapshot
    with pytest.raises(InternalError):
        trusted.update_snapshot(snapshot)
    with pytest.raises(InternalError):
        trusted.update_targets("us", us)
    trusted.update_targets("targets", targets)
    assert trusted.update_targets("us", us).delegation is not None
    assert trusted.role("targets").delegation is None


def test_an_expired_root_ends_the_order_before_the_timestamp() -> None:
    repository = Repository()
    repository.root["expires"] = stamp(NOW)
    trusted = TrustedSet(sign(repository.root, repository.signers["root"]), NOW)
    with pytest.raises(ExpiredError, match=r"root\.json"):
        trusted.update_timestamp(repository.files["metadata/timestamp.json"])


def test_a_root_after_stored_files_were_recalled_is_a_defect_of_the_caller() -> None:
    """The rotation of keys is judged with the newest root."""
    repository = grown()
    files = repository.files
    stored = files["metadata/timestamp.json"], files[repository.name("snapshot")]
    for pair in ((stored[0], None), (None, stored[1])):
        trusted = TrustedSet(repository.pinned, NOW)
        trusted.recall(*pair)
        with pytest.raises(InternalError):
            trusted.update_root(files["metadata/2.root.json"])


@pytest.mark.parametrize("kind", ["root", "timestamp", "snapshot", "targets", "us", "rollout"])
def test_a_refused_file_changes_nothing_and_the_good_one_is_taken_after_it(kind: str) -> None:
    trusted, offer, good = trusted_up_to(grown(), kind)
    root = trusted.root
    for bad in (b"", b"{}", good[:-1], good.replace(b'"version":', b'"version": 1')):
        with pytest.raises(ColdchainError):
            offer(bad)
        assert trusted.root is root
    offer(good)


GROWN = grown(hashes=True)
WHOLE = Client.of(GROWN)
WHOLE.refresh(GROWN)


@given(st.data())
def test_whatever_the_server_answers_only_our_errors_come_out_and_the_next_update_succeeds(data: st.DataObject) -> None:
    """Each answer is good, absent, arbitrary, another valid file, or good with a piece replaced."""

    def answer(path: str) -> bytes | None:
        good = GROWN.files.get(path)
        way = data.draw(st.sampled_from(["good", "good", "good", "absent", "arbitrary", "other", "spliced"]))
        if way == "good":
            return good
        if way == "absent":
            return None
        if way == "arbitrary":
            return data.draw(st.binary(max_size=40))
        if way == "other" or good is None:
            return data.draw(st.sampled_from(sorted(GROWN.files.values())))
        start = data.draw(st.integers(0, len(good)))
        return good[:start] + data.draw(st.binary(max_size=4)) + good[start + data.draw(st.integers(0, 4)) :]

    client = Client.of(GROWN)
    with suppress(ColdchainError):
        client.drive(refresh(dict(client.stored), NOW, ["us", "rollout"]), answer)
    client.refresh(GROWN)
    assert client.stored == WHOLE.stored


@given(
    st.dictionaries(st.sampled_from(FILES[1:]), st.binary(max_size=60) | st.sampled_from(sorted(GROWN.files.values())))
)
def test_whatever_is_stored_beside_the_root_the_update_succeeds_or_refuses(stored: dict[str, bytes]) -> None:
    """Stored files may be garbage or each other's; valid ones of this repository never make it fail."""
    client = Client({"root.json": GROWN.pinned} | stored)
    client.refresh(GROWN)
    assert {name: client.stored[name] for name in FILES} == {name: WHOLE.stored[name] for name in FILES}


def test_a_clock_ten_years_slow_lets_nothing_older_in() -> None:
    """Expiry cannot help then; versions still do."""
    repository = Repository()
    old = repository.files["metadata/timestamp.json"]
    client = Client.of(repository)
    repository.publish("us")
    slow = NOW - timedelta(days=3650)
    client.refresh(repository, slow)
    repository.files["metadata/timestamp.json"] = old
    with pytest.raises(RollbackError):
        client.refresh(repository, slow)


# delegations


def nested() -> Repository:
    """targets -> us (terminating), wide (not terminating) -> deep; and a role that is never reached."""
    repository = Repository(regions=("us", "wide", "deep", "last"))
    roles = repository.targets["delegations"]["roles"]
    roles.clear()
    keys = {name: repository.signers[name] for name in ("us", "wide", "deep", "last", "rollout")}
    repository.delegate("us", ["us/*/*"])
    repository.delegate("wide", ["*/*/*", "x/*"], terminating=False)
    repository.delegate("last", ["us/*/*", "z/*/*", "*/last/*"])
    repository.delegate("rollout", ["rollout/*"])
    for name in ("us", "wide", "last", "rollout"):
        repository.set_keys(name, keys[name], len(keys[name]))
    repository.documents["wide"]["delegations"] = {
        "keys": {one.keyid: one.json for one in keys["deep"]},
        "roles": [
            {"name": "deep", "keyids": [one.keyid for one in keys["deep"]], "threshold": 2, "paths": ["deep/*/*"]},
            {"name": "targets2", "keyids": [], "threshold": 1, "path_hash_prefixes": ["0", "1"]},
        ],
    }
    for name, paths in {
        "us": ["us/stable/a", "eu/stable/a"],
        "wide": ["x/1", "wide/stable/b"],
        "deep": ["deep/stable/c", "us/stable/d"],
        "last": ["us/stable/e", "z/last/f", "q/last/g"],
        "targets": ["top"],
    }.items():
        repository.documents[name]["targets"] = {path: {"length": 1, "hashes": {"sha256": "0" * 64}} for path in paths}
    for name in ("us", "wide", "deep", "last", "rollout", "targets", "snapshot", "timestamp"):
        repository.write(name)
    return repository


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("top", "targets"),
        ("us/stable/a", "us"),
        ("eu/stable/a", None),  # listed by us, which may not speak for it; "wide" and "deep" do not list it
        ("us/stable/d", None),  # us is terminating: nobody after it is asked
        ("us/stable/e", None),
        ("x/1", "wide"),
        ("wide/stable/b", "wide"),
        ("deep/stable/c", "deep"),
        ("z/last/f", "last"),  # wide does not list it and is not terminating
        ("q/last/g", "last"),
        ("a/b/c/d", None),
        ("x", None),
    ],
)
def test_search_goes_through_delegations_in_their_order(path: str, role: str | None) -> None:
    repository = nested()
    # "targets2" covers some paths by their hash and is not published: searching it would be an error.
    repository.documents["wide"]["delegations"]["roles"][1]["path_hash_prefixes"] = []
    for name in ("wide", "snapshot", "timestamp"):
        repository.write(name)
    assert Client.of(repository).search(repository, path) == role


def test_search_visits_a_role_once_even_when_delegations_run_in_a_circle() -> None:
    repository = nested()
    us = repository.signers["us"]
    repository.documents["us"]["delegations"] = {
        "keys": {one.keyid: one.json for one in us},
        "roles": [{"name": "us", "keyids": [one.keyid for one in us], "threshold": 2, "paths": ["us/*/*"]}],
    }
    for name in ("us", "snapshot", "timestamp"):
        repository.write(name)
    client = Client.of(repository)
    assert client.search(repository, "us/stable/nowhere") is None
    assert client.fetched == ["metadata/1.us.json"]


def test_search_visits_only_so_many_roles() -> None:
    repository = nested()
    repository.targets["delegations"]["roles"][0]["terminating"] = False
    for name in ("targets", "snapshot", "timestamp"):
        repository.write(name)
    client = Client.of(repository, Limits(delegations=4))
    assert client.search(repository, "us/stable/e") == "last"
    client = Client.of(repository, Limits(delegations=4))
    client.limits = Limits(delegations=4)
    repository.delegate("more", ["us/*/*"])
    for name in ("targets", "snapshot", "timestamp"):
        repository.write(name)
    with pytest.raises(ColdchainError, match="list of at most 4"):
        client.search(repository, "us/stable/e")


def chain_of_roles(names: list[str]) -> Repository:
    """targets delegates to the first name, that one to the second, and so on; the last one lists the target "deep"."""
    repository = Repository(regions=names)
    repository.targets["delegations"]["roles"].clear()
    for delegator, name in zip(["targets", *names], names, strict=False):
        signers = repository.signers[name]
        repository.documents[delegator]["delegations"] = {
            "keys": {one.keyid: one.json for one in signers},
            "roles": [{"name": name, "keyids": [one.keyid for one in signers], "threshold": 2, "paths": ["*"]}],
        }
    repository.documents[names[-1]]["targets"] = {"deep": {"length": 1, "hashes": {"sha256": "0" * 64}}}
    for name in [*names, "targets", "snapshot", "timestamp"]:
        repository.write(name)
    return repository


def test_a_chain_of_delegations_is_followed_to_the_limit_and_no_further() -> None:
    repository = chain_of_roles(["a", "b", "c", "d"])
    assert Client.of(repository, Limits(delegations=5)).search(repository, "deep") == "d"
    client = Client.of(repository, Limits(delegations=4))
    assert client.search(repository, "deep") is None
    assert client.fetched == ["metadata/1.a.json", "metadata/1.b.json", "metadata/1.c.json"]


def test_a_terminating_delegation_further_down_ends_the_search_of_those_above_too() -> None:
    repository = nested()
    for terminating, found in ((False, "last"), (True, None)):
        repository.documents["last"]["targets"]["deep/last/x"] = {"length": 1, "hashes": {"sha256": "0" * 64}}
        repository.documents["wide"]["delegations"]["roles"][1]["path_hash_prefixes"] = []
        repository.documents["wide"]["delegations"]["roles"][0]["terminating"] = terminating
        for name in ("last", "wide", "snapshot", "timestamp"):
            repository.write(name)
        assert Client.of(repository).search(repository, "deep/last/x") == found


def test_search_asks_for_nothing_that_the_update_loaded() -> None:
    repository = Repository()
    client = Client.of(repository)
    trusted = client.refresh(repository)
    us = trusted.role("us")
    found = client.drive(search(trusted, {}, "us/stable/full.ccd"), repository.files.get)
    assert found == (us, us.targets["us/stable/full.ccd"])
    assert client.log == []


def test_an_expired_root_ends_the_update_before_anything_else_is_asked_for() -> None:
    repository = Repository()
    client = Client.of(repository)
    with pytest.raises(ExpiredError):
        client.refresh(repository, NOW + timedelta(days=366))
    assert client.fetched == ["metadata/2.root.json"]


def test_a_role_accepted_from_one_delegator_is_not_the_role_of_another() -> None:
    """Two roles delegate to the same name with different keys: each way needs its own signatures."""
    repository = nested()
    stranger = signer("stranger")
    repository.documents["us"]["delegations"] = {
        "keys": {stranger.keyid: stranger.json},
        "roles": [{"name": "deep", "keyids": [stranger.keyid], "threshold": 1, "paths": ["us/*/*"]}],
    }
    for name in ("us", "snapshot", "timestamp"):
        repository.write(name)
    client = Client.of(repository)
    assert client.search(repository, "deep/stable/c") == "deep"
    with pytest.raises(ColdchainError, match=r"deep\.json: 0 of 1 needed"):
        client.search(repository, "us/stable/nowhere")


def test_role_names_never_leave_the_metadata_directory() -> None:
    for name in ("../up", "a/b", "..", "a?b#c", "roots/9.root", "ü"):
        repository = Repository(regions=(name,))
        client = Client.of(repository)
        published = {path for path in repository.files if name in path}
        for path in published:
            repository.files[path.replace(name, quote(name, safe=""))] = repository.files[path]
        client.refresh(repository, roles=[name])
        kept = client.kept[-1]
        assert "/" not in kept
        assert kept == f"{quote(name, safe='')}.json"
        assert kept not in (".", "..")
