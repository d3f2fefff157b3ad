"""python-tuf reads what we sign, we read what python-tuf writes, and both refuse the same files.

python-tuf's own Ed25519 needs the ``cryptography`` package; here its key class is backed by PyNaCl.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Key, Signature, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import CanonicalJSONSerializer, JSONSerializer
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from coldchain.errors import ColdchainError
from coldchain.keys import PublicKey, parse_key
from coldchain.tuf.metadata import TOP_LEVEL, Kind, Role, parse_metadata
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import region_release, rollout_state
from tests.client.tuf.repository import NOW, Client, Repository, digest, sign, signer


class NaclKey(Key):
    """An Ed25519 key of securesystemslib that verifies with PyNaCl."""

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> NaclKey:
        keytype, scheme, keyval = cls._from_dict(key_dict)
        return cls(keyid, keytype, scheme, keyval, key_dict)

    def to_dict(self) -> dict[str, Any]:
        return self._to_dict()

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        try:
            VerifyKey(bytes.fromhex(self.keyval["public"])).verify(data, bytes.fromhex(signature.signature))
        except (BadSignatureError, ValueError) as error:
            raise UnverifiedSignatureError(str(error)) from error


class NaclSigner(Signer):
    """A signer of securesystemslib over a PyNaCl key."""

    def __init__(self, label: str) -> None:
        self._key: SigningKey = signer(label).key
        public = signer(label).public
        self._public = NaclKey(public.keyid, "ed25519", "ed25519", {"public": public.raw.hex()})

    @property
    def public_key(self) -> Key:
        return self._public

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> NaclSigner:
        return cls(priv_key_uri)

    def sign(self, payload: bytes) -> Signature:
        return Signature(self._public.keyid, self._key.sign(payload).signature.hex())


@pytest.fixture(autouse=True)
def nacl_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEY_FOR_TYPE_AND_SCHEME, ("ed25519", "ed25519"), NaclKey)


def trusted_by_python_tuf(repository: Repository, *, at: Any = NOW) -> TrustedMetadataSet:
    """The same order of files through python-tuf's client core."""
    files = repository.files
    trusted = TrustedMetadataSet(repository.pinned, EnvelopeType.METADATA)
    trusted.reference_time = at
    for version in range(2, repository.root["version"] + 1):
        trusted.update_root(files[f"metadata/{version}.root.json"])
    trusted.update_timestamp(files["metadata/timestamp.json"])
    trusted.update_snapshot(files[repository.name("snapshot")])
    trusted.update_targets(files[repository.name("targets")])
    for name in ("us", "rollout"):
        trusted.update_delegated_targets(files[repository.name(name)], name, "targets")
    return trusted


# ours, read by python-tuf


@pytest.mark.parametrize("hashes", [False, True])
def test_python_tufs_client_accepts_what_we_sign(hashes: bool) -> None:
    repository = Repository(hashes=hashes)
    old = repository.signers["root"]
    repository.set_keys("root", [signer(f"new {i}") for i in range(3)], 2)
    repository.publish_root(also=old)
    repository.publish("targets", "us", "rollout")
    theirs = trusted_by_python_tuf(repository)
    ours = Client.of(repository).refresh(repository)
    for name in TOP_LEVEL:
        mine = {"root": ours.root, "timestamp": ours.timestamp, "snapshot": ours.snapshot}.get(name) or ours.role(name)
        assert theirs[name].version == mine.version
        assert theirs[name].expires == mine.expires
    us = theirs["us"]
    assert isinstance(us, Targets)
    for path, found in ours.role("us").targets.items():
        assert us.targets[path].length == found.length
        assert us.targets[path].hashes == found.hashes
    assert us.unrecognized_fields["coldchain"]["channels"]["stable"]["release"] == 42


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "us", "rollout"])
def test_the_canonical_form_is_the_same_and_the_file_survives_their_hands(role: str) -> None:
    repository = Repository()
    data = repository.pinned if role == "root" else repository.files[repository.name(role)]
    kind: Kind = role if role in TOP_LEVEL else "targets"  # type: ignore[assignment]
    theirs = Metadata.from_bytes(data)
    mine = parse_metadata(data, kind)
    assert CanonicalJSONSerializer().serialize(theirs.signed) == mine.canonical
    for compact in (True, False):
        again = theirs.to_bytes(JSONSerializer(compact=compact, validate=True))
        assert parse_metadata(again, kind).canonical == mine.canonical
        assert parse_metadata(again, kind).signatures == mine.signatures


def test_key_ids_are_theirs() -> None:
    key = signer("any").public
    assert digest(encode_canonical(key.as_json()).encode()) == key.keyid  # type: ignore[union-attr]


def test_both_refuse_the_same_files() -> None:
    """Each file broken in several ways: python-tuf refuses where we do, and accepts where we do."""
    cases = 0
    for role in ("timestamp", "snapshot", "targets", "us", "rollout"):
        good = Repository()
        data = good.files[good.name(role)]
        document = good.documents[role]
        signers = good.signers[role]
        broken = {
            "good": data,
            "spaced": json.dumps(json.loads(data), indent=2).encode(),
            "cut": data[:-1],
            "unsigned": sign(document, []),
            "stranger": sign(document, [signer("stranger")]),
            "one short": sign(document, signers[1:]),
            "altered": data.replace(b"1.0.34", b"1.0.33"),
            "other version": sign(document | {"version": 7}, signers),
            "expired": sign(document | {"expires": "2026-06-01T12:00:00Z"}, signers),
            "other type": sign(document | {"_type": "mirrors"}, signers),
            "no version": sign({key: value for key, value in document.items() if key != "version"}, signers),
            "version 0": sign(document | {"version": 0}, signers),
            "fractions": sign(document | {"expires": "2026-06-09T12:00:00.123Z"}, signers),
            "an unknown member": sign(document | {"x-more": [1, {"a": None}]}, signers),
        }
        for name, bad in broken.items():
            repository = Repository()
            repository.files[repository.name(role)] = bad
            results = []
            for attempt in (
                lambda repository=repository: trusted_by_python_tuf(repository),
                lambda repository=repository: Client.of(repository).refresh(repository),
            ):
                try:
                    attempt()
                    results.append(True)
                except (RepositoryError, ColdchainError):
                    results.append(False)
            expected = name in ("good", "spaced", "an unknown member") or (
                name == "other version" and role == "timestamp"
            )
            assert results == [expected, expected], (role, name, results)
            cases += 1
    assert cases == 70


# theirs, read by us


def theirs_root(**changes: Any) -> tuple[Metadata[Root], list[NaclSigner]]:
    signers = [NaclSigner(f"r{i}") for i in range(3)]
    root = Root(version=1, expires=NOW + timedelta(days=365), consistent_snapshot=True, **changes)
    for one in signers:
        root.add_key(one.public_key, "root")
    root.roles["root"].threshold = 2
    for role in ("timestamp", "snapshot", "targets"):
        root.add_key(NaclSigner(role).public_key, role)
    return Metadata(root), signers


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("hashes", [False, True])
def test_our_client_accepts_what_python_tuf_writes(compact: bool, hashes: bool) -> None:
    serializer = JSONSerializer(compact=compact)

    def signed(content: Any, *signers: Signer) -> bytes:
        metadata = Metadata(content)
        for one in signers:
            metadata.sign(one, append=True)
        return metadata.to_bytes(serializer)

    def info(data: bytes) -> MetaFile:
        return MetaFile(1, len(data), {"sha256": digest(data)}) if hashes else MetaFile(1)

    root, root_signers = theirs_root()
    root_bytes = signed(root.signed, *root_signers[:2])
    manifest = digest(b"manifest")
    facts = {"release": 42, "bundle": digest(b"bundle"), "bytes": 1, "records": 1, "manifest": manifest}
    us = Targets(
        expires=NOW + timedelta(days=7),
        targets={
            "us/stable/full.ccd": TargetFile(10, {"sha256": digest(b"full")}, "us/stable/full.ccd"),
            "us/stable/evidence.zst": TargetFile(10, {"sha256": digest(b"evidence")}, "us/stable/evidence.zst"),
        },
        unrecognized_fields={
            "coldchain": {
                "format": "coldchain-region-1",
                "product": "coldchain",
                "region": "us",
                "channels": {"stable": facts},
            }
        },
    )
    rollout = Targets(
        expires=NOW + timedelta(days=7),
        unrecognized_fields={
            "coldchain": {
                "format": "coldchain-rollout-1",
                "regions": {"us": {"stable": {"release": 42, "share": 5, "held": False}}},
            }
        },
    )
    top = Targets(expires=NOW + timedelta(days=90), delegations=Delegations({}, {}))
    assert top.delegations is not None
    assert top.delegations.roles is not None
    for name, paths in (("us", ["us/*/*"]), ("rollout", ["rollout/*"])):
        top.delegations.roles[name] = DelegatedRole(name, [], 1, True, paths=paths)
        top.add_key(NaclSigner(name).public_key, name)
    files = {
        "targets": signed(top, NaclSigner("targets")),
        "us": signed(us, NaclSigner("us")),
        "rollout": signed(rollout, NaclSigner("rollout")),
    }
    snapshot = Snapshot(
        expires=NOW + timedelta(days=2), meta={f"{name}.json": info(data) for name, data in files.items()}
    )
    files["snapshot"] = signed(snapshot, NaclSigner("snapshot"))
    timestamp = Timestamp(expires=NOW + timedelta(days=1), snapshot_meta=info(files["snapshot"]))
    files["timestamp"] = signed(timestamp, NaclSigner("timestamp"))

    trusted = TrustedSet(root_bytes, NOW)
    trusted.update_timestamp(files["timestamp"])
    trusted.update_snapshot(files["snapshot"])
    for name in ("targets", "us", "rollout"):
        trusted.update_targets(name, files[name])
    release = region_release(trusted.role("us"), "us", "stable")
    assert (release.release, release.full.length) == (42, 10)
    state = rollout_state(trusted.role("rollout"), "us", "stable")
    assert state is not None
    assert state.share == 5
    for name, data in {"root": root_bytes, **files}.items():
        kind: Kind = name if name in TOP_LEVEL else "targets"  # type: ignore[assignment]
        assert (
            CanonicalJSONSerializer().serialize(Metadata.from_bytes(data).signed)
            == parse_metadata(data, kind).canonical
        )


def test_their_keys_are_our_keys() -> None:
    one = NaclSigner("x")
    key = parse_key(one.public_key.to_dict(), "key")
    assert key == signer("x").public == PublicKey(bytes.fromhex(one.public_key.keyval["public"]))
    assert key is not None
    assert key.verify(bytes.fromhex(one.sign(b"m").signature), b"m")


def test_path_patterns_mean_the_same_to_both() -> None:
    patterns = [
        "us/*/*",
        "us/*",
        "*",
        "*/*",
        "a?c",
        "us/[ab]/*",
        "us/[!a]/*",
        "u*/s?/x.*",
        "**",
        "us/*.ccd",
        "",
        "[",
        "us/**/x",
    ]
    paths = [
        "us/stable/full.ccd",
        "us/a/b",
        "us/c/b",
        "us/x",
        "us/x.ccd",
        "us",
        "abc",
        "a/c",
        "u/st/x.y",
        "",
        "[",
        "us/a/b/x",
    ]
    for pattern in patterns:
        theirs = DelegatedRole("r", [], 1, True, paths=[pattern])
        ours = Role("r", (), 1, (pattern,))
        for path in paths:
            assert ours.matches(path) == theirs.is_delegated_path(path), (pattern, path)
    for prefix in ("", "0", "a", digest(b"us/x")[:3]):
        for path in paths:
            theirs = DelegatedRole("r", [], 1, True, path_hash_prefixes=[prefix])
            assert Role("r", (), 1, (), (prefix,)).matches(path) == theirs.is_delegated_path(path)
