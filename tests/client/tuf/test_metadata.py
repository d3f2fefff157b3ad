"""One file at a time: what is read, what is refused, and that nothing else than our own errors comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.errors import ColdchainError, DigestError, ExpiredError, MalformedError, NewerFormatError
from coldchain.limits import Limits
from coldchain.tuf.metadata import TOP_LEVEL, FileInfo, Kind, Role, good_keys, parse_envelope, parse_metadata
from tests.client.tuf.repository import NOW, Repository, digest, envelope, sign, signer

KINDS: tuple[Kind, ...] = ("root", "timestamp", "snapshot", "targets")


def test_what_is_read_of_each_kind() -> None:
    repository = Repository(hashes=True)
    root = parse_metadata(repository.pinned, "root")
    assert (root.kind, root.name, root.version, root.consistent_snapshot) == ("root", "root", 1, True)
    assert set(root.roles) == set(TOP_LEVEL)
    assert root.roles["root"].threshold == 2
    assert len(root.keys) == 8
    assert root.expires == datetime(2027, 6, 1, 12, tzinfo=UTC)
    assert root.canonical == canonical.encode(repository.root)
    assert root.raw == repository.pinned
    timestamp = parse_metadata(repository.files["metadata/timestamp.json"], "timestamp")
    snapshot_bytes = repository.files["metadata/1.snapshot.json"]
    assert timestamp.files["snapshot.json"] == FileInfo(1, len(snapshot_bytes), {"sha256": digest(snapshot_bytes)})
    snapshot = parse_metadata(snapshot_bytes, "snapshot")
    assert set(snapshot.files) == {"targets.json", "us.json", "eu.json", "rollout.json"}
    targets = parse_metadata(repository.files["metadata/1.targets.json"], "targets")
    assert list(targets.roles) == ["us", "eu", "rollout"]
    assert targets.roles["us"] == Role(
        "us", tuple(one.keyid for one in repository.signers["us"]), 2, ("us/*/*",), (), True
    )
    us = parse_metadata(repository.files["metadata/1.us.json"], "targets", name="us")
    assert us.name == "us"
    assert us.targets["us/stable/evidence.zst"] == FileInfo(0, 50, {"sha256": digest(b"evidence 42")})
    assert us.delegation is None
    assert parse_metadata(sign(repository.documents["rollout"], []), "targets").signatures == {}


def test_other_spellings_of_the_same_json_are_the_same_metadata() -> None:
    """Other writers indent; signatures are over the canonical form."""
    repository = Repository()
    pretty = json.dumps(json.loads(repository.pinned), indent=2).encode()
    root = parse_metadata(pretty, "root")
    assert root.canonical == parse_metadata(repository.pinned, "root").canonical
    assert len(good_keys(root, root.roles["root"], root)) == 2


def test_unknown_members_are_kept_and_signed() -> None:
    repository = Repository()
    repository.root["x-new"] = {"a": [1, None, True]}
    root = parse_metadata(sign(repository.root, repository.signers["root"]), "root")
    assert root.signed["x-new"] == {"a": [1, None, True]}
    assert len(good_keys(root, root.roles["root"], root)) == 2


Bend = Callable[[dict[str, Any]], object]


def setting(*path: str | int, to: Any) -> Bend:
    def bend(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return bend


def without(*path: str | int) -> Bend:
    def bend(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return bend


WRONG: list[Any] = [None, True, -1, 0, "1", "", [], {}, [1], {"a": 1}, 2**53 - 1]
US = ("delegations", "roles", 0)
INFO = ("targets", "us/stable/full.ccd")

ALWAYS: list[tuple[tuple[str | int, ...], list[Any]]] = [
    (("_type",), [*WRONG, "mirrors"]),
    (("spec_version",), [*WRONG, "1", "1.", "1.0.", "x1.0.0", "1.0.0 ", "1.0.0\n", "1.0.0.0", "-1.0", "01234.0"]),
    (("version",), [value for value in WRONG if value != 2**53 - 1]),
    (
        ("expires",),
        [
            *WRONG,
            "2026-06-01",
            "2026-06-01T12:00:00",
            "2026-06-01T12:00:00+00:00",
            "2026-06-01T12:00:00.5Z",
            "2026-06-01T12:00:00Z ",
            "2026-06-01T12:00:00Z\n",
            "2026-06-01 12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-02-30T12:00:00Z",
            "0000-01-01T00:00:00Z",
            "2026-6-01T12:00:00Z",
            "2026-06-01T24:00:00Z",
            "２０２６-06-01T12:00:00Z",
        ],
    ),
]
INTEGERS = [value for value in WRONG if type(value) is not int]
MANY: dict[str, list[tuple[tuple[str | int, ...], list[Any]]]] = {
    "root": [
        (("keys",), [value for value in WRONG if value not in ({},)]),
        (("roles",), [*WRONG]),
        (("consistent_snapshot",), [value for value in WRONG if value is not True]),
        (("roles", "root"), WRONG),
        (("roles", "extra"), [{"keyids": [], "threshold": 1}]),
        (("roles", "root", "threshold"), [*INTEGERS, 0, -1]),
        (("roles", "root", "keyids"), [value for value in WRONG if value != []]),
        (("roles", "root", "keyids"), [["a", "a"], ["a", None], ["x" * 513]]),
    ],
    "timestamp": [
        (("meta",), WRONG),
        (("meta", "other.json"), [{"version": 1}]),
        (("meta", "snapshot.json"), WRONG),
        (("meta", "snapshot.json", "version"), [*INTEGERS, 0, -1]),
        (("meta", "snapshot.json", "length"), [*INTEGERS, -1]),
        (("meta", "snapshot.json", "hashes"), [*WRONG, {"md5": "00"}, {"sha256": "0" * 63}, {"sha256": "G" * 64}]),
        (("meta", "snapshot.json", "hashes"), [{"sha256": "A" * 64}, {"sha512": "0" * 64}, {"sha256": 1}]),
    ],
    "snapshot": [
        (("meta",), [value for value in WRONG if value != {}]),
        (("meta", "us.json"), WRONG),
        (("meta", ""), [{"version": 1}]),
        (("meta", "x" * 513), [{"version": 1}]),
    ],
    "targets": [
        (("targets",), [value for value in WRONG if value != {}]),
        (("delegations",), WRONG),
        (("delegations", "keys"), [value for value in WRONG if value != {}]),
        (("delegations", "roles"), [value for value in WRONG if value != []]),
        (("delegations", "keys", "k"), [*WRONG, {"keytype": "a", "scheme": "b"}, {"keytype": "a", "keyval": {}}]),
        (("delegations", "keys", "k"), [{"scheme": "a", "keyval": {}}, {"keytype": 1, "scheme": "b", "keyval": {}}]),
        (
            (*US, "name"),
            [*(value for value in WRONG if value != "1"), "root", "timestamp", "snapshot", "targets", "eu", "x" * 65],
        ),
        ((*US, "threshold"), [*INTEGERS, 0, -1]),
        ((*US, "keyids"), [value for value in WRONG if value != []]),
        ((*US, "paths"), [value for value in WRONG if value != []]),
        ((*US, "paths"), [["x" * 513], ["a", 1], ["a"] * 65]),
        ((*US, "path_hash_prefixes"), [[], ["0"]]),  # beside paths
        ((*US, "terminating"), [value for value in WRONG if value is not True]),
        (("targets", ""), [{"length": 1, "hashes": {"sha256": "0" * 64}}]),
        (("targets", "x" * 513), [{"length": 1, "hashes": {"sha256": "0" * 64}}]),
        (("targets", "t"), [*WRONG, {"length": 1}, {"hashes": {"sha256": "0" * 64}}]),
        (("targets", "t"), [{"length": -1, "hashes": {"sha256": "0" * 64}}, {"length": 1, "hashes": {}}]),
    ],
}
MISSING: dict[str, list[tuple[str | int, ...]]] = {
    "root": [("keys",), ("roles",), *(("roles", name) for name in TOP_LEVEL), ("roles", "root", "keyids")],
    "timestamp": [("meta",), ("meta", "snapshot.json"), ("meta", "snapshot.json", "version")],
    "snapshot": [("meta",), ("meta", "us.json", "version")],
    "targets": [
        ("targets",),
        ("delegations", "keys"),
        ("delegations", "roles"),
        *((*US, name) for name in ("name", "keyids", "threshold", "paths")),
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_wrong_value_is_malformed(kind: Kind) -> None:
    checked = 0
    for path, values in [*ALWAYS, *MANY[kind]]:
        for value in values:
            document = canonical.read(canonical.encode(Repository().documents[kind]), kind)
            assert isinstance(document, dict)
            setting(*path, to=value)(document)
            with pytest.raises(MalformedError):
                parse_metadata(sign(document, []), kind)
            checked += 1
    assert checked > 40


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_member_is_malformed(kind: Kind) -> None:
    for path in [("_type",), ("spec_version",), ("version",), ("expires",), *MISSING[kind]]:
        document = canonical.read(canonical.encode(Repository().documents[kind]), kind)
        assert isinstance(document, dict)
        without(*path)(document)
        with pytest.raises(MalformedError):
            parse_metadata(sign(document, []), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_left_out_or_added(kind: Kind) -> None:
    optional: dict[str, list[Bend]] = {
        "root": [
            without("consistent_snapshot"),
            setting("roles", "mirrors", to={"keyids": [], "threshold": 1}),
            setting("keys", to={}),
            setting("roles", "root", "threshold", to=99),
        ],
        "timestamp": [setting("meta", "snapshot.json", "hashes", to={"sha256": "0" * 64, "blake3": 7})],
        "snapshot": [setting("meta", to={}), setting("meta", "any thing.json", to={"version": 9})],
        "targets": [
            without("delegations"),
            without(*US, "terminating"),
            setting("targets", to={}),
            setting("targets", "t", to={"length": 0, "hashes": {"sha512": "0" * 128}, "custom": {"a": 1}}),
            lambda document: (
                document["delegations"]["roles"][0].pop("paths"),
                document["delegations"]["roles"][0].update(path_hash_prefixes=["00"]),
            ),
        ],
    }
    common: list[Bend] = [setting("spec_version", to=version) for version in ("1.0", "1.0.0", "1.99.99")]
    for bend in [*common, *optional[kind]]:
        document = canonical.read(canonical.encode(Repository().documents[kind]), kind)
        assert isinstance(document, dict)
        bend(document)
        parse_metadata(sign(document, []), kind)


def test_every_length_is_bounded_exactly() -> None:
    """The longest allowed value is read, one more is not."""
    repository = Repository()
    info = {"length": 1, "hashes": {"sha256": "0" * 64}}
    algorithms = {f"h{i}": "" for i in range(15)}
    key = signer("x").json
    cases: list[tuple[Kind, tuple[str | int, ...], Any, Any]] = [
        ("targets", (*US, "name"), "x" * 64, "x" * 65),
        ("targets", (*US, "paths"), ["x" * 512], ["x" * 513]),
        ("targets", (*US, "paths"), ["x"] * 64, ["x"] * 65),
        ("targets", (*US, "keyids"), ["x" * 512], ["x" * 513]),
        ("targets", ("targets",), {"x" * 512: info}, {"x" * 513: info}),
        (
            "targets",
            ("targets", "t", "hashes"),
            {"sha256": "0" * 64} | algorithms,
            {"sha256": "0" * 64, "y": 1} | algorithms,
        ),
        ("root", ("keys", "k"), key | {"keytype": "x" * 128}, key | {"keytype": "x" * 129}),
        ("root", ("keys", "k"), key | {"scheme": "x" * 128}, key | {"scheme": "x" * 129}),
        ("root", ("spec_version",), "1.2345.6789", "1.23456.7"),
    ]
    for kind, path, good, bad in cases:
        for value, allowed in ((good, True), (bad, False)):
            document = canonical.read(canonical.encode(repository.documents[kind]), kind)
            assert isinstance(document, dict)
            if "t" in path:
                setting("targets", "t", to=dict(info))(document)
            setting(*path, to=value)(document)
            with nullcontext() if allowed else pytest.raises(MalformedError):
                parse_metadata(sign(document, []), kind)
    for signature, allowed in (
        (("k" * 256, "00"), True),
        (("k" * 257, "00"), False),
        (("k", "00" * 4096), True),
        (("k", "00" * 4097), False),
    ):
        with nullcontext() if allowed else pytest.raises(MalformedError):
            parse_metadata(envelope(repository.root, [signature]), "root")


def test_delegations_by_hash_prefix_are_read() -> None:
    repository = Repository()
    us = repository.role("us")
    del us["paths"]
    us["path_hash_prefixes"] = ["0a", "ff"]
    role = parse_metadata(sign(repository.targets, []), "targets").roles["us"]
    assert (role.paths, role.prefixes) == ((), ("0a", "ff"))


def test_messages_name_the_file() -> None:
    for kind, name, file in (
        ("targets", "us", "us.json"),
        ("targets", None, "targets.json"),
        ("root", None, "root.json"),
    ):
        with pytest.raises(MalformedError, match=rf"^{file}: "):
            parse_metadata(b"{", kind, name=name)  # type: ignore[arg-type]


def test_a_later_specification_has_its_own_error() -> None:
    for version in ("2.0", "2.0.0", "0.9.0", "11.0.0"):
        with pytest.raises(NewerFormatError):
            parse_metadata(sign(Repository().root | {"spec_version": version}, []), "root")


def test_envelopes() -> None:
    signed = Repository().root
    good = ("aa", "0011")
    parse_metadata(envelope(signed, [good, ("bb", "")]), "root")
    for signatures in (
        [good, good],
        [good, ("aa", "22")],
        [("aa", "1")],
        [("aa", "AB")],
        [("aa", "zz")],
        [("aa", "00 11")],
        [("aa", "00\n")],
        [("aa", "00" * 5000)],
        [("k" * 257, "00")],
        [(str(i), "00") for i in range(65)],
    ):
        with pytest.raises(MalformedError):
            parse_metadata(envelope(signed, signatures), "root")
    parse_metadata(envelope(signed, [(str(i), "00") for i in range(64)]), "root")
    envelopes: list[Any] = [
        [],
        {},
        {"signed": signed},
        {"signatures": []},
        {"signatures": {}, "signed": signed},
        {"signatures": [], "signed": []},
        {"signatures": [1], "signed": signed},
        {"signatures": [{}], "signed": signed},
        {"signatures": [{"keyid": "a"}], "signed": signed},
        {"signatures": [{"sig": "00"}], "signed": signed},
        {"signatures": [{"sig": 1, "keyid": "a"}], "signed": signed},
        {"signatures": [{"sig": "00", "keyid": 1}], "signed": signed},
    ]
    for whole in envelopes:
        with pytest.raises(MalformedError):
            parse_envelope(canonical.encode(whole), "root", what="root.json")
    text = sign(signed, [])
    for bad in (text.replace(b'"version":1', b'"version":1,"version":1'), text.replace(b":1}", b":1.0}"), text + b"{}"):
        with pytest.raises(MalformedError):
            parse_metadata(bad, "root")


def test_every_count_is_bounded() -> None:
    repository = Repository()
    cases: list[tuple[str, Limits]] = [
        ("root", Limits(keys=7)),
        ("root", Limits(signatures=1)),
        ("root", Limits(root_bytes=100)),
        ("timestamp", Limits(timestamp_bytes=100)),
        ("snapshot", Limits(snapshot_bytes=100)),
        ("snapshot", Limits(targets=3)),
        ("targets", Limits(targets_bytes=100)),
        ("targets", Limits(delegations=2)),
        ("targets", Limits(keys=4)),
        ("us", Limits(targets=3)),
    ]
    for name, limits in cases:
        kind: Kind = "targets" if name == "us" else name  # type: ignore[assignment]
        data = repository.files[repository.name(name)]
        parse_metadata(data, kind)
        with pytest.raises(MalformedError):
            parse_metadata(data, kind, limits)


def test_path_patterns() -> None:
    def matches(pattern: str, path: str) -> bool:
        return Role("r", (), 1, (pattern,)).matches(path)

    for pattern, path, expected in [
        ("us/*/*", "us/stable/full.ccd", True),
        ("us/*/*", "us/stable", False),
        ("us/*/*", "us/stable/a/b", False),
        ("us/*/*", "eu/stable/a", False),
        ("us/*/*", "US/stable/a", False),
        ("us/*/*", "us//", True),
        ("us/*", "us/stable/full.ccd", False),
        ("*", "us/stable", False),
        ("*", "us", True),
        ("*/*", "us", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a?c", "a/c", False),
        ("targets/*.tgz", "targets/foo.tgz", True),
        ("targets/*.tgz", "targets/foo.txt", False),
        ("foo.tgz", "foo.tgz", True),
        ("foo.tgz", "fooxtgz", False),
        ("", "", True),
        ("us/*/*", "xus/stable/a", False),
        ("us/*/*", "us/stable/a\n", True),
    ]:
        assert matches(pattern, path) is expected, (pattern, path)
    assert Role("r", (), 1, ("a", "b/*")).matches("b/x")
    assert not Role("r", (), 1, ()).matches("a")


def test_path_hash_prefixes() -> None:
    path = "us/stable/full.ccd"
    start = digest(path.encode())[:2]
    assert Role("r", (), 1, (), ("zz", start)).matches(path)
    assert not Role("r", (), 1, (), ("zz",)).matches(path)
    assert not Role("r", (), 1, (), ()).matches(path)


def test_file_infos_check_each_stated_property() -> None:
    data = b"content"
    good = digest(data)
    FileInfo(1, None, {}).check(data, "f")
    FileInfo(1, 7, {"sha256": good}).check(data, "f")
    for bad in (FileInfo(1, 6, {}), FileInfo(1, 8, {"sha256": good}), FileInfo(1, 7, {"sha256": "0" * 64})):
        with pytest.raises(DigestError):
            bad.check(data, "f")
    with pytest.raises(DigestError):
        FileInfo(1, 7, {"sha256": good, "sha512": "0" * 128}).check(data, "f")


def test_expiry_is_exclusive() -> None:
    timestamp = parse_metadata(Repository().files["metadata/timestamp.json"], "timestamp")
    timestamp.check_time(NOW)
    with pytest.raises(ExpiredError):
        timestamp.check_time(timestamp.expires)


def test_signatures_are_counted_by_the_value_of_the_key() -> None:
    repository = Repository()
    one = signer("one")
    repository.set_keys("timestamp", [one, one.renamed("b"), one.renamed("c"), signer("two")], 1)
    root = parse_metadata(sign(repository.root, []), "root")
    signed = sign(repository.documents["timestamp"], [one, one.renamed("b"), one.renamed("c"), signer("two")])
    timestamp = parse_metadata(signed, "timestamp")
    assert good_keys(root, root.roles["timestamp"], timestamp) == (one.public, signer("two").public)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
MEMBERS = ["_type", "version", "expires", "spec_version", "keys", "roles", "meta", "targets", "delegations", "hashes"]


@given(st.binary(max_size=300), st.sampled_from(KINDS))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes, kind: Kind) -> None:
    with pytest.raises(ColdchainError):
        parse_metadata(data, kind)


@given(json_values, st.sampled_from(KINDS))
def test_arbitrary_json_raises_only_our_errors(value: Any, kind: Kind) -> None:
    for data in (value, {"signed": value, "signatures": []}, {"signed": {}, "signatures": value}):
        with pytest.raises(ColdchainError):
            parse_metadata(json.dumps(data).encode(), kind)


@settings(max_examples=300)
@given(st.data(), st.sampled_from(KINDS))
def test_real_metadata_with_an_arbitrary_member_raises_only_our_errors(data: st.DataObject, kind: Kind) -> None:
    """Walks to some place in a real document and puts any JSON there."""
    document: Any = json.loads(sign(Repository().documents[kind], []))
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys) if keys else st.just(0))
        inner = place[key] if keys else None
        if not keys or not isinstance(inner, dict | list) or data.draw(st.booleans()):
            break
        place = inner
    if isinstance(place, dict):
        place[data.draw(st.sampled_from(MEMBERS)) if not keys else key] = data.draw(json_values)
    elif keys:
        place[key] = data.draw(json_values)
    try:
        parsed = parse_metadata(json.dumps(document).encode(), kind)
    except ColdchainError:
        return
    assert parsed.kind == kind


def test_deep_nesting_is_refused() -> None:
    for depth in (33, 1000, 100_000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            data = b'{"signatures":[],"signed":' + opening * depth + b"1" + closing * depth + b"}"
            with pytest.raises(ColdchainError):
                parse_metadata(data, "snapshot")
