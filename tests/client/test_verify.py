"""From verified metadata to a decision, and the offline check of what is installed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import (
    ColdchainError,
    DamagedError,
    ExpiredError,
    InternalError,
    MalformedError,
    NewerFormatError,
    NotPublishedError,
    RollbackError,
    SignatureError,
)
from coldchain.limits import Limits
from coldchain.tuf.metadata import Metadata, parse_metadata
from coldchain.tuf.trusted_set import accept
from coldchain.verify import (
    Chain,
    RegionRelease,
    RolloutState,
    Target,
    decide,
    region_release,
    rollout_state,
    target,
    verify_chain,
)
from tests.client.tuf.repository import NOW, Client, Document, Repository, digest, sign, signer, stamp


def accepted(repository: Repository, name: str = "us") -> Metadata:
    """A delegated role as a client accepts it, from the documents as they stand."""
    top = parse_metadata(sign(repository.targets, []), "targets")
    return accept(top, name, sign(repository.documents[name], repository.signers[name]), "targets")


def bent(bend: Callable[[Document], object], name: str = "us") -> Metadata:
    repository = Repository()
    bend(repository.documents[name])
    return accepted(repository, name)


# targets


def test_a_target_is_what_the_accepted_role_signs() -> None:
    found = target(accepted(Repository()), "us/stable/full.ccd")
    sha256 = digest(b"us 42 full.ccd")
    assert found == Target("us/stable/full.ccd", 100, sha256)
    assert found.url_path == f"targets/us/stable/{sha256}.full.ccd"
    assert Target("plain", 1, "ab").url_path == "targets/ab.plain"


def test_a_role_speaks_only_for_the_paths_delegated_to_it() -> None:
    listed = {"length": 1, "hashes": {"sha256": "0" * 64}}
    role = bent(lambda us: us["targets"].update({"eu/stable/full.ccd": listed, "us/x": listed, "us/a/b/c": listed}))
    for path in ("eu/stable/full.ccd", "us/x", "us/a/b/c"):
        assert path in role.targets
        with pytest.raises(SignatureError, match="may not speak for"):
            target(role, path)


def test_a_role_that_was_not_accepted_speaks_for_nothing() -> None:
    repository = Repository()
    parsed = parse_metadata(repository.files["metadata/1.us.json"], "targets", name="us")
    with pytest.raises(SignatureError):
        target(parsed, "us/stable/full.ccd")
    with pytest.raises(SignatureError):
        region_release(parsed, "us", "stable")


def test_an_unlisted_target_is_not_published() -> None:
    with pytest.raises(NotPublishedError):
        target(accepted(Repository()), "us/stable/from-7.ccd")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "us//x",
        "us/../x",
        "us/./x",
        "/us/x",
        "us/x/",
        "us/.hid/x",
        "us\\stable\\x",
        "us/a b/x",
        "us/ä/x",
        "us/x/a\n",
    ],
)
def test_a_target_path_is_made_of_plain_names(path: str) -> None:
    role = accepted(Repository())
    assert role.delegation is not None
    anything = dataclasses.replace(role.delegation, paths=("*", "*/*", "*/*/*", "*/*/*/*"))
    listing = dataclasses.replace(role, delegation=anything, targets={path: role.targets["us/stable/full.ccd"]})
    with pytest.raises(MalformedError, match="plain names"):
        target(listing, path)


def test_a_target_needs_a_sha256() -> None:
    role = bent(lambda us: us["targets"]["us/stable/full.ccd"].update(hashes={"sha512": "0" * 128}))
    with pytest.raises(MalformedError, match="sha256"):
        target(role, "us/stable/full.ccd")


# the region's role


def test_a_region_release_is_read_whole() -> None:
    repository = Repository()
    release = region_release(accepted(repository), "us", "stable")
    assert (release.product, release.region, release.channel, release.release) == ("coldchain", "us", "stable", 42)
    assert (release.bundle, release.bytes, release.records) == (digest(b"us 42"), 1000, 10)
    assert release.full.path == "us/stable/full.ccd"
    assert release.manifest == digest(b"manifest 42")
    assert release.evidence == Target("us/stable/evidence.zst", 50, digest(b"evidence 42"))
    assert {source: found.path for source, found in release.deltas.items()} == {
        41: "us/stable/from-41.ccd",
        40: "us/stable/from-40.ccd",
    }
    assert release.role_version == 1
    assert release.best(41) == release.deltas[41]
    assert release.best(39) == release.best(None) == release.full
    repository.set_release("us", 42, sources=(1,))
    release = region_release(accepted(repository), "us", "stable")
    assert release.best(None) == release.full
    assert release.best(1) == release.deltas[1]


def test_channels_do_not_mix() -> None:
    def both(us: Document) -> None:
        early = dict(us["coldchain"]["channels"]["stable"], release=50, manifest=digest(b"manifest 50"))
        us["coldchain"]["channels"]["early"] = early
        info = {"length": 7, "hashes": {"sha256": "1" * 64}}
        us["targets"] |= {"us/early/full.ccd": info, "us/early/from-49.ccd": info}
        us["targets"]["us/early/evidence.zst"] = {"length": 7, "hashes": {"sha256": digest(b"evidence 50")}}

    role = bent(both)
    assert set(region_release(role, "us", "early").deltas) == {49}
    assert set(region_release(role, "us", "stable").deltas) == {40, 41}


LISTED = {"length": 1, "hashes": {"sha256": "0" * 64}}
SHA512 = {"sha512": "0" * 128}


def facts(us: Document) -> Document:
    return us["coldchain"]  # type: ignore[no-any-return]


def stable(us: Document) -> Document:
    return us["coldchain"]["channels"]["stable"]  # type: ignore[no-any-return]


REFUSED: list[tuple[str, Callable[[Document], object]]] = [
    ("no facts", lambda us: us.pop("coldchain")),
    ("facts of another type", lambda us: us.update(coldchain=[1])),
    ("no format", lambda us: facts(us).pop("format")),
    ("another family", lambda us: facts(us).update(format="coldchain-rollout-1")),
    ("no family", lambda us: facts(us).update(format="coldchain-region")),
    ("another product", lambda us: facts(us).update(product="other")),
    ("no product", lambda us: facts(us).pop("product")),
    ("another region", lambda us: facts(us).update(region="eu")),
    ("no region", lambda us: facts(us).pop("region")),
    ("an unknown member", lambda us: facts(us).update(more=1)),
    ("no channels", lambda us: facts(us).pop("channels")),
    ("channels of another type", lambda us: facts(us).update(channels=[])),
    ("too many channels", lambda us: facts(us)["channels"].update({f"c{i}": {} for i in range(16)})),
    ("a channel of another type", lambda us: facts(us)["channels"].update(stable=1)),
    ("an unknown member of a channel", lambda us: stable(us).update(more=1)),
    *((f"no {name}", lambda us, name=name: stable(us).pop(name)) for name in ("release", "bundle", "bytes", "records")),
    ("no manifest", lambda us: stable(us).pop("manifest")),
    (
        "release 0",
        lambda us: (stable(us).update(release=0), [us["targets"].pop(f"us/stable/from-{i}.ccd") for i in (40, 41)]),
    ),
    ("release as text", lambda us: stable(us).update(release="42")),
    ("negative bytes", lambda us: stable(us).update(bytes=-1)),
    ("too many bytes", lambda us: stable(us).update(bytes=2**40)),
    ("too many records", lambda us: stable(us).update(records=2**40)),
    ("a short digest", lambda us: stable(us).update(bundle="ab")),
    ("a delta from itself", lambda us: us["targets"].update({"us/stable/from-42.ccd": LISTED})),
    ("a delta from the future", lambda us: us["targets"].update({"us/stable/from-43.ccd": LISTED})),
    ("an overlong full bundle", lambda us: us["targets"]["us/stable/full.ccd"].update(length=2**33)),
    ("an overlong delta", lambda us: us["targets"]["us/stable/from-41.ccd"].update(length=2**33)),
    ("overlong evidence", lambda us: us["targets"]["us/stable/evidence.zst"].update(length=2**21)),
    ("a full bundle without sha256", lambda us: us["targets"]["us/stable/full.ccd"].update(hashes=SHA512)),
]


@pytest.mark.parametrize(("case", "bend"), REFUSED, ids=[case for case, _ in REFUSED])
def test_facts_are_strict(case: str, bend: Callable[[Document], object]) -> None:
    role = bent(bend)
    with pytest.raises(MalformedError):
        region_release(role, "us", "stable")


@pytest.mark.parametrize("gone", ["full.ccd", "evidence.zst"])
def test_a_release_without_its_files_is_not_published(gone: str) -> None:
    with pytest.raises(NotPublishedError):
        region_release(bent(lambda us: us["targets"].pop(f"us/stable/{gone}")), "us", "stable")


def test_other_files_in_the_folder_are_left_alone() -> None:
    names = ["from-.ccd", "from-041.ccd", "from--1.ccd", "from-4.ccd.txt", "from-4x.ccd", "xfrom-4.ccd", "from-0.ccd"]
    role = bent(lambda us: us["targets"].update({f"us/stable/{name}": LISTED for name in names}))
    assert set(region_release(role, "us", "stable").deltas) == {40, 41}
    role = bent(lambda us: us["targets"].update({"from-7.ccd": LISTED, "eu/stable/from-7.ccd": LISTED}))
    assert set(region_release(role, "us", "stable").deltas) == {40, 41}


def test_the_first_release_is_a_release() -> None:
    repository = Repository()
    repository.set_release("us", 1, sources=())
    release = region_release(accepted(repository), "us", "stable")
    assert release.release == 1
    repository.set_rollout(1, 100)
    rollout = rollout_state(accepted(repository, "rollout"), "us", "stable")
    assert decide(release, rollout, None, 9999).action == "apply"


def test_counts_of_channels_and_regions_are_bounded() -> None:
    for more, good in ((15, True), (16, False)):
        role = bent(lambda us, more=more: facts(us)["channels"].update({f"c{i}": {} for i in range(more)}))  # type: ignore[misc]
        with nullcontext() if good else pytest.raises(MalformedError):
            region_release(role, "us", "stable")
    for more, good in ((254, True), (255, False)):
        regions: Document = {f"r{i}": {} for i in range(more)}
        role = bent(lambda document, regions=regions: document["coldchain"]["regions"].update(regions), "rollout")  # type: ignore[misc]
        with nullcontext() if good else pytest.raises(MalformedError):
            rollout_state(role, "us", "stable")


def test_a_release_may_come_without_deltas_and_a_channel_without_a_release() -> None:
    role = bent(lambda us: [us["targets"].pop(f"us/stable/from-{i}.ccd") for i in (40, 41)])
    assert region_release(role, "us", "stable").deltas == {}
    with pytest.raises(NotPublishedError, match="early"):
        region_release(role, "us", "early")
    role = bent(lambda us: (facts(us).update(channels={}), us.update(targets={})))
    with pytest.raises(NotPublishedError):
        region_release(role, "us", "stable")


def test_the_role_must_be_the_regions_own() -> None:
    role = accepted(Repository(), "eu")
    assert region_release(role, "eu", "stable").region == "eu"
    with pytest.raises(MalformedError, match="not the role of region 'us'"):
        region_release(role, "us", "stable")


def test_another_product_is_refused() -> None:
    with pytest.raises(MalformedError, match="product"):
        region_release(accepted(Repository()), "us", "stable", product="otherchain")


def test_a_later_format_has_its_own_error() -> None:
    for version in ("coldchain-region-2", "coldchain-region-1.1"):
        repository = Repository()
        facts(repository.documents["us"]).update(format=version, surprise=[])
        role = accepted(repository)
        with pytest.raises(NewerFormatError) as caught:
            region_release(role, "us", "stable")
        assert "newer client" in caught.value.todo
    rollout = bent(lambda document: document["coldchain"].update(format="coldchain-rollout-2"), "rollout")
    with pytest.raises(NewerFormatError):
        rollout_state(rollout, "us", "stable")


def test_limits_apply() -> None:
    role = accepted(Repository())
    for limits in (
        Limits(bundle_bytes=999),
        Limits(records=9),
        Limits(delta_bytes=99),
        Limits(manifest_bytes=24, proof_bytes=25),
    ):
        with pytest.raises(MalformedError):
            region_release(role, "us", "stable", limits=limits)
    tight = Limits(bundle_bytes=1000, records=10, delta_bytes=100, manifest_bytes=25, proof_bytes=25)
    region_release(role, "us", "stable", limits=tight)


# rollout


def test_a_rollout_is_read_whole() -> None:
    repository = Repository()
    repository.set_rollout(42, 25, held=True)
    role = accepted(repository, "rollout")
    assert rollout_state(role, "us", "stable") == RolloutState(42, 25, True)
    assert rollout_state(role, "us", "early") is None
    assert rollout_state(role, "jp", "stable") is None


WITHDRAWN_OUT_OF_ORDER: list[Any] = [[0], [True], ["1"], [2, 1], [1, 1], {}, None, list(range(1, 66))]


def test_a_rollout_is_strict() -> None:
    def state(rollout: Document) -> Document:
        return rollout["coldchain"]["regions"]["us"]["stable"]  # type: ignore[no-any-return]

    bends: list[Callable[[Document], object]] = [
        lambda rollout: rollout.pop("coldchain"),
        lambda rollout: rollout["coldchain"].update(format="coldchain-region-1"),
        lambda rollout: rollout["coldchain"].update(more=1),
        lambda rollout: rollout["coldchain"].pop("regions"),
        lambda rollout: rollout["coldchain"].update(regions=[]),
        lambda rollout: rollout["coldchain"]["regions"].update(us=[]),
        lambda rollout: rollout["coldchain"]["regions"]["us"].update(stable=[]),
        lambda rollout: state(rollout).update(more=1),
        *(lambda rollout, name=name: state(rollout).pop(name) for name in ("release", "share", "held")),
        *(lambda rollout, share=share: state(rollout).update(share=share) for share in (-1, 101, True, "5")),
        lambda rollout: state(rollout).update(held=0),
        *(lambda rollout, bad=bad: state(rollout).update(withdrawn=bad) for bad in WITHDRAWN_OUT_OF_ORDER),
        lambda rollout: state(rollout).update(release=0),
        lambda rollout: state(rollout).update(release=True),
    ]
    for bend in bends:
        with pytest.raises(MalformedError):
            rollout_state(bent(bend, "rollout"), "us", "stable")
    with pytest.raises(MalformedError, match="not the rollout role"):
        rollout_state(accepted(Repository()), "us", "stable")


# the decision


def release_number(number: int) -> RegionRelease:
    repository = Repository(release=number)
    repository.set_release("us", number, sources=())
    return region_release(accepted(repository), "us", "stable")


def test_every_combination_of_release_rollout_installed_and_bucket() -> None:
    shares = (0, 1, 50, 99, 100)
    buckets = (0, 99, 100, 4999, 5000, 9899, 9900, 9999)
    for number, about, installed in itertools.product((41, 42), (41, 42, 43), (None, 40, 41, 42, 43)):
        release = release_number(number)
        for share, held, bucket in itertools.product(shares, (False, True), buckets):
            rollout = RolloutState(about, share, held)
            if installed is not None and installed > number:
                with pytest.raises(RollbackError, match=f"{installed} is installed"):
                    decide(release, rollout, installed, bucket)
                continue
            decision = decide(release, rollout, installed, bucket)
            assert decision.release == number
            if installed == number:
                assert decision.action == "current"
            elif about != number:
                assert decision.action == "wait"
                assert str(about) in decision.reason
            elif held:
                assert decision.action == "held"
            else:
                assert decision.action == ("apply" if bucket < 100 * share or installed is None else "wait")
            assert str(number) in decision.reason


def test_what_was_withdrawn_is_left_at_once_unless_held() -> None:
    """Whatever the bucket and the share; a hold stops even that, and nobody goes back."""
    for share, held, withdrawn in itertools.product((0, 50, 100), (False, True), ((), (40,), (40, 41), (41, 42, 43))):
        rollout = RolloutState(42, share, held, withdrawn)
        for installed, bucket in itertools.product((None, 39, 40, 41, 42), (0, 4999, 5000, 9999)):
            action = decide(RELEASE_42, rollout, installed, bucket).action
            reached = bucket < share * 100 or installed in withdrawn or installed is None
            wanted = "held" if held else "apply" if reached else "wait"
            assert action == ("current" if installed == 42 else wanted)
        with pytest.raises(RollbackError):
            decide(RELEASE_42, rollout, 43, 0)


def test_withdrawn_releases_are_read() -> None:
    def bend(document: Document) -> None:
        document["coldchain"]["regions"] = {
            "us": {"stable": {"release": 42, "share": 5, "held": False, "withdrawn": [40, 41]}}
        }

    assert rollout_state(bent(bend, "rollout"), "us", "stable") == RolloutState(42, 5, False, (40, 41))


def test_without_a_rollout_nobody_applies_anything() -> None:
    release = release_number(42)
    for bucket in (0, 9999):
        assert decide(release, None, None, bucket).action == "wait"
        assert decide(release, None, 41, bucket).action == "wait"
        assert decide(release, None, 42, bucket).action == "current"
        with pytest.raises(RollbackError):
            decide(release, None, 43, bucket)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 9999))
def test_a_growing_share_never_leaves_an_endpoint_out_again(a: int, b: int, bucket: int) -> None:
    release = RELEASE_42
    small, large = sorted((a, b))
    if decide(release, RolloutState(42, small, False), 41, bucket).action == "apply":
        assert decide(release, RolloutState(42, large, False), 41, bucket).action == "apply"


RELEASE_42 = release_number(42)


@pytest.mark.parametrize("share", [0, 1, 37, 100])
def test_a_share_is_exactly_that_share_of_the_buckets(share: int) -> None:
    rollout = RolloutState(42, share, False)
    count = sum(decide(RELEASE_42, rollout, 41, bucket).action == "apply" for bucket in range(10_000))
    assert count == 100 * share


@pytest.mark.parametrize("bucket", [-1, 10_000])
def test_a_bucket_out_of_range_is_a_defect(bucket: int) -> None:
    with pytest.raises(InternalError):
        decide(RELEASE_42, RolloutState(42, 100, False), None, bucket)


# offline


def evidence(repository: Repository) -> dict[str, Any]:
    version = repository.root["version"]
    return {
        "pinned": repository.pinned,
        "later_roots": [repository.files[f"metadata/{n}.root.json"] for n in range(2, version + 1)],
        "targets": repository.files[repository.name("targets")],
        "region_role": repository.files[repository.name("us")],
        "region": "us",
    }


def rotated() -> Repository:
    repository = Repository()
    old = repository.signers["root"]
    repository.set_keys("root", [signer(f"new {i}") for i in range(3)], 2)
    repository.publish_root(also=old)
    repository.publish_root()
    return repository


def test_a_good_chain_says_each_thing_that_was_checked() -> None:
    repository = rotated()
    chain = verify_chain(**evidence(repository))
    assert chain.ok
    assert chain.error is None
    assert [check.name for check in chain.checks] == ["pinned root", "root 2", "root 3", "targets", "region us"]
    assert all(check.ok for check in chain.checks)
    assert digest(repository.pinned) in chain.checks[0].detail
    assert "2 good signatures of 2 needed by root version 1" in chain.checks[1].detail
    assert "2 good signatures of 2 needed by root version 2" in chain.checks[1].detail
    assert "2 good signatures of 2 needed by root version 3" in chain.checks[3].detail
    assert "2 good signatures of 2 needed by targets version 1" in chain.checks[4].detail
    assert "us/*/*" in chain.checks[4].detail
    for one in repository.signers["us"]:
        assert one.keyid[:8] in chain.checks[4].detail
    role = chain.require()
    assert region_release(role, "us", "stable").release == 42
    assert chain.root is not None
    assert chain.root.version == 3
    assert chain.targets is not None


def test_an_empty_chain_vouches_for_nothing() -> None:
    with pytest.raises(InternalError):
        Chain(()).require()


def test_expiry_is_checked_only_when_a_time_is_given() -> None:
    repository = rotated()
    years_later = NOW + timedelta(days=3650)
    assert verify_chain(**evidence(repository)).ok
    good = verify_chain(**evidence(repository), now=NOW)
    assert good.ok
    assert all(check.ok for check in good.checks)
    assert [check.name for check in good.checks[5:]] == ["expiry of root", "expiry of targets", "expiry of us"]
    assert "2026-06-08 12:00:00 UTC" in good.checks[-1].detail
    late = verify_chain(**evidence(repository), now=years_later)
    assert not late.ok
    assert late.role is None
    with pytest.raises(ExpiredError):
        late.require()
    for role, name in (("root", "root"), ("targets", "targets"), ("us", "us")):
        repository = rotated()
        repository.documents[role]["expires"] = stamp(NOW)
        if role == "root":
            repository.publish_root()
        else:
            repository.write(role)
        chain = verify_chain(**evidence(repository), now=NOW)
        assert (chain.checks[-1].name, chain.checks[-1].ok) == (f"expiry of {name}", False)
        assert isinstance(chain.error, ExpiredError)


def test_each_link_of_the_chain_is_needed() -> None:
    repository = rotated()
    good = evidence(repository)
    stranger = [signer("x"), signer("y"), signer("z")]
    cases: list[tuple[str, dict[str, Any], type[ColdchainError]]] = [
        ("pinned root", {"pinned": b"{}"}, DamagedError),
        ("pinned root", {"pinned": sign(repository.root, stranger)}, DamagedError),
        ("root 2", {"later_roots": good["later_roots"][1:]}, SignatureError),
        ("root 3", {"later_roots": [good["later_roots"][0]] * 2}, RollbackError),
        ("root 2", {"later_roots": [sign(repository.root, stranger)]}, SignatureError),
        ("targets", {"targets": sign(repository.targets, stranger)}, SignatureError),
        ("targets", {"targets": good["region_role"]}, SignatureError),
        ("region us", {"region_role": sign(repository.documents["us"], stranger)}, SignatureError),
        ("region us", {"region_role": repository.files["metadata/1.eu.json"]}, SignatureError),
        ("region us", {"region_role": good["targets"]}, SignatureError),
        ("region jp", {"region": "jp"}, SignatureError),
        ("region root", {"region": "root"}, SignatureError),
    ]
    for step, change, error in cases:
        chain = verify_chain(**{**good, **change})
        assert not chain.ok
        assert chain.role is None
        assert [check.ok for check in chain.checks[:-1]] == [True] * (len(chain.checks) - 1)
        assert (chain.checks[-1].name, chain.checks[-1].ok) == (step, False)
        assert type(chain.error) is error
        assert chain.checks[-1].detail == chain.error.what
        with pytest.raises(error):
            chain.require()


def test_a_chain_of_an_old_root_does_not_hold_under_rotated_keys() -> None:
    repository = Repository()
    old = evidence(repository)
    repository.set_keys("targets", [signer("t 1"), signer("t 2")], 2)
    repository.publish_root()
    assert verify_chain(**old).ok
    chain = verify_chain(**{**old, "later_roots": [repository.files["metadata/2.root.json"]]})
    assert isinstance(chain.error, SignatureError)


PARTS = ["pinned", "root 2", "root 3", "targets", "region_role"]


def each_change_is_found(part: str, step: int) -> None:
    """Flips and truncations, every ``step`` bytes. Root 2 is signed by more keys than needed: a spare may break."""
    good = evidence(rotated())
    data: bytes = good["later_roots"][int(part[-1]) - 2] if part.startswith("root") else good[part]
    flips = [data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :] for i in range(0, len(data), step)]
    for other in [*flips, *(data[:i] for i in range(0, len(data), 5 * step))]:
        roots = [other if part == f"root {n}" else root for n, root in enumerate(good["later_roots"], start=2)]
        change = {"later_roots": roots} if part.startswith("root") else {part: other}
        chain = verify_chain(**{**good, **change})
        if chain.ok:
            assert part == "root 2"
            assert parse_metadata(other, "root").canonical == parse_metadata(data, "root").canonical
        else:
            assert isinstance(chain.error, ColdchainError)
            assert not chain.checks[-1].ok


@pytest.mark.parametrize("part", PARTS)
def test_changes_of_the_evidence_are_found(part: str) -> None:
    each_change_is_found(part, 7)


@pytest.mark.faults
@pytest.mark.parametrize("part", PARTS)
def test_every_change_of_the_evidence_is_found(part: str) -> None:
    each_change_is_found(part, 1)


@given(st.binary(max_size=100), st.sampled_from(["pinned", "targets", "region_role"]))
def test_arbitrary_bytes_are_refused_in_words(data: bytes, part: str) -> None:
    chain = verify_chain(**{**GOOD, part: data})
    assert not chain.ok
    assert chain.checks[-1].detail


GOOD = evidence(Repository())


def test_the_same_evidence_that_a_client_kept_verifies_offline() -> None:
    repository = rotated()
    client = Client.of(repository)
    trusted = client.refresh(repository)
    chain = verify_chain(
        repository.pinned,
        [client.stored[f"roots/{n}.root.json"] for n in (2, 3)],
        client.stored["targets.json"],
        client.stored["us.json"],
        region="us",
        now=NOW,
    )
    assert chain.require().raw == trusted.role("us").raw
