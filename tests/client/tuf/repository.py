"""A TUF repository in memory, signed with PyNaCl, that can be bent in every way; and a client that drives refresh().

It writes Coldchain's own layout: root 2 of 3, targets 2 of 3, regions 2 of 2, rollout, snapshot and timestamp 1 of 1.
Every document is a plain dictionary: a test changes it and signs it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from nacl.signing import SigningKey

from coldchain import canonical
from coldchain.canonical import Object
from coldchain.errors import ResponseError
from coldchain.keys import PublicKey
from coldchain.limits import LIMITS, Limits
from coldchain.tuf.refresh import Fetch, Keep, Step, refresh, search
from coldchain.tuf.trusted_set import TrustedSet

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
Document = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Signer:
    """A key pair made from a label, so that the same label is the same key. ``keyid`` may be bent."""

    key: SigningKey
    keyid: str

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.key.verify_key.encode())

    @property
    def json(self) -> Object:
        return self.public.as_json()

    def renamed(self, keyid: str) -> Signer:
        return Signer(self.key, keyid)


def signer(label: str) -> Signer:
    key = SigningKey(hashlib.sha256(label.encode()).digest())
    return Signer(key, PublicKey(key.verify_key.encode()).keyid)


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def sign(signed: Document, signers: Iterable[Signer]) -> bytes:
    """A metadata file: compact canonical JSON."""
    body = canonical.encode(signed)
    return envelope(signed, [(one.keyid, one.key.sign(body).signature.hex()) for one in signers])


def envelope(signed: Document, signatures: Iterable[tuple[str, str]]) -> bytes:
    return canonical.encode(
        {"signatures": [{"keyid": keyid, "sig": sig} for keyid, sig in signatures], "signed": signed}
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Repository:
    """``documents`` are what is to be signed, ``signers`` who signs, ``files`` what the server serves."""

    regions: Sequence[str] = ("us", "eu")
    consistent: bool = True
    hashes: bool = False
    now: datetime = NOW
    release: int = 42
    documents: dict[str, Document] = field(default_factory=dict)
    signers: dict[str, list[Signer]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ["root", "timestamp", "snapshot", "targets", "rollout", *self.regions]
        days = {"root": 365, "timestamp": 1, "snapshot": 2, "targets": 90}
        for name in names:
            self.documents[name] = {
                "_type": name if name in days else "targets",
                "spec_version": "1.0.34",
                "version": 1,
                "expires": stamp(self.now + timedelta(days=days.get(name, 7))),
            }
        self.root.update(consistent_snapshot=self.consistent, keys={}, roles={})
        self.targets.update(targets={}, delegations={"keys": {}, "roles": []})
        self.documents["timestamp"]["meta"] = {}
        self.documents["snapshot"]["meta"] = {}
        for name in self.regions:
            self.delegate(name, [f"{name}/*/*"])
            self.documents[name]["targets"] = {}
            self.set_keys(name, [signer(f"{name} assembler"), signer(f"{name} approver")], 2)
            self.set_release(name, self.release)
        self.delegate("rollout", ["rollout/*"])
        self.documents["rollout"]["targets"] = {}
        self.set_keys("rollout", [signer("rollout")], 1)
        self.set_rollout(self.release, 100)
        for role, count, threshold in (("root", 3, 2), ("targets", 3, 2), ("snapshot", 1, 1), ("timestamp", 1, 1)):
            self.set_keys(role, [signer(f"{role} {i}") for i in range(count)], threshold)
        self.files["metadata/1.root.json"] = sign(self.root, self.signers["root"])
        for name in ["targets", "rollout", *self.regions]:
            self.write(name)
        self.write("snapshot")
        self.write("timestamp")

    # documents

    @property
    def root(self) -> Document:
        return self.documents["root"]

    @property
    def targets(self) -> Document:
        return self.documents["targets"]

    @property
    def pinned(self) -> bytes:
        return self.files["metadata/1.root.json"]

    def role(self, name: str) -> Document:
        """The object that names a role's key ids and threshold."""
        if name in self.root["roles"]:
            return dict.__getitem__(self.root["roles"], name)
        return next(role for role in self.targets["delegations"]["roles"] if role["name"] == name)

    def delegate(self, name: str, paths: list[str], *, terminating: bool = True) -> None:
        self.targets["delegations"]["roles"].append(
            {"name": name, "keyids": [], "threshold": 1, "paths": paths, "terminating": terminating}
        )

    def set_keys(self, name: str, signers: list[Signer], threshold: int) -> None:
        """The role's keys from now on; all of them sign, as far as the threshold (root: all)."""
        top = name in ("root", "timestamp", "snapshot", "targets")
        keys = self.root["keys"] if top else self.targets["delegations"]["keys"]
        keys.update({one.keyid: one.json for one in signers})
        role = self.root["roles"].setdefault(name, {}) if top else self.role(name)
        role.update(keyids=[one.keyid for one in signers], threshold=threshold)
        self.signers[name] = signers[:threshold]

    def set_release(
        self, region: str, release: int, *, sources: Iterable[int] = (41, 40), channel: str = "stable"
    ) -> None:
        manifest = digest(f"manifest {release}".encode())
        facts = {"release": release, "bundle": digest(f"{region} {release}".encode()), "bytes": 1000, "records": 10}
        document = self.documents[region]
        document["coldchain"] = {
            "format": "coldchain-region-1",
            "product": "coldchain",
            "region": region,
            "channels": {channel: facts | {"manifest": manifest}},
        }
        names = ["full.ccd", *(f"from-{source}.ccd" for source in sources)]
        document["targets"] = {
            f"{region}/{channel}/{name}": {
                "length": 100,
                "hashes": {"sha256": digest(f"{region} {release} {name}".encode())},
            }
            for name in names
        }
        evidence = digest(f"evidence {release}".encode())
        document["targets"][f"{region}/{channel}/evidence.zst"] = {"length": 50, "hashes": {"sha256": evidence}}

    def set_rollout(self, release: int, share: int, *, held: bool = False, withdrawn: Sequence[int] = ()) -> None:
        entry: Document = {"release": release, "share": share, "held": held}
        entry |= {"withdrawn": list(withdrawn)} if withdrawn else {}
        self.documents["rollout"]["coldchain"] = {
            "format": "coldchain-rollout-1",
            "regions": {region: {"stable": dict(entry)} for region in self.regions},
        }

    # publishing

    def name(self, role: str) -> str:
        plain = f"{role}.json"
        versioned = role == "root" or (role != "timestamp" and self.consistent)
        return f"metadata/{self.documents[role]['version']}.{plain}" if versioned else f"metadata/{plain}"

    def write(self, role: str, data: bytes | None = None) -> bytes:
        """Signs the document as it stands (or takes ``data``), serves it, and notes it where it must be named."""
        document = self.documents[role]
        if data is None:
            data = sign(document, self.signers[role])
        self.files[self.name(role)] = data
        info: Document = {"version": document["version"]}
        if self.hashes:
            info |= {"length": len(data), "hashes": {"sha256": digest(data)}}
        if role == "snapshot":
            self.documents["timestamp"]["meta"] = {"snapshot.json": info}
        elif role not in ("root", "timestamp"):
            self.documents["snapshot"]["meta"][f"{role}.json"] = info
        return data

    def bump(self, role: str, by: int = 1) -> Document:
        self.documents[role]["version"] += by
        return self.documents[role]

    def publish(self, *roles: str) -> None:
        """A new version of each role, and of snapshot and timestamp after them."""
        for role in [*(role for role in roles if role not in ("snapshot", "timestamp")), "snapshot", "timestamp"]:
            if role == "timestamp" or role == "snapshot" or role in roles:
                self.bump(role)
                self.write(role)

    def publish_timestamp(self) -> None:
        self.bump("timestamp")
        self.write("timestamp")

    def publish_root(self, *, also: Iterable[Signer] = ()) -> bytes:
        """The next root, signed by the new root signers and by ``also`` (the old ones)."""
        self.bump("root")
        signers = {one.keyid: one for one in [*self.signers["root"], *also]}
        return self.write("root", sign(self.root, signers.values()))

    def rotate(self, role: str, label: str) -> None:
        """Replaces a top-level role's only key and publishes the root that says so."""
        self.set_keys(role, [signer(label)], 1)
        self.publish_root()


@dataclass
class Client:
    """Keeps what refresh() asks to keep; ``log`` lists every step taken."""

    stored: dict[str, bytes]
    limits: Limits = LIMITS
    log: list[Step] = field(default_factory=list)

    @classmethod
    def of(cls, repository: Repository, limits: Limits = LIMITS) -> Client:
        return cls({"root.json": repository.pinned}, limits)

    def drive(
        self,
        steps: Generator[Step, bytes | None, T],
        fetch: Callable[[str], bytes | None],
        stop_after: int | None = None,
    ) -> T:
        self.log.clear()
        answer: bytes | None = None
        try:
            while True:
                step = steps.send(answer)
                if stop_after is not None and len(self.log) >= stop_after:
                    raise KeyboardInterrupt
                self.log.append(step)
                answer = None
                if isinstance(step, Fetch):
                    answer = fetch(step.path)
                    if answer is not None and len(answer) > step.max_bytes:
                        raise ResponseError(f"{step.path}: longer than {step.max_bytes} bytes")
                else:
                    self.stored[step.name] = step.data
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def refresh(
        self,
        repository: Repository,
        now: datetime = NOW,
        roles: Sequence[str] = ("us", "rollout"),
        stop_after: int | None = None,
    ) -> TrustedSet:
        return self.drive(refresh(dict(self.stored), now, roles, self.limits), repository.files.get, stop_after)

    def search(self, repository: Repository, path: str, now: datetime = NOW) -> str | None:
        """The name of the role that speaks for ``path``."""
        trusted = self.refresh(repository, now, ())
        found = self.drive(search(trusted, dict(self.stored), path), repository.files.get)
        return found[0].name if found else None

    @property
    def fetched(self) -> list[str]:
        return [step.path for step in self.log if isinstance(step, Fetch)]

    @property
    def kept(self) -> list[str]:
        return [step.name for step in self.log if isinstance(step, Keep)]


def trusted_up_to(repository: Repository, kind: str) -> tuple[TrustedSet, Callable[[bytes], object], bytes]:
    """A trusted set that waits for ``kind``, how to offer it, and the good file. ``root`` means version 2."""
    trusted = TrustedSet(repository.pinned, NOW)
    if kind == "root":
        return trusted, trusted.update_root, repository.files["metadata/2.root.json"]
    if "metadata/2.root.json" in repository.files:
        trusted.update_root(repository.files["metadata/2.root.json"])
    order = ["timestamp", "snapshot", "targets", "us", "rollout"]
    offers: dict[str, Callable[[bytes], object]] = {
        "timestamp": trusted.update_timestamp,
        "snapshot": trusted.update_snapshot,
        "targets": lambda data: trusted.update_targets("targets", data),
        "us": lambda data: trusted.update_targets("us", data),
        "rollout": lambda data: trusted.update_targets("rollout", data),
    }
    for name in order[: order.index(kind)]:
        offers[name](repository.files[repository.name(name)])
    return trusted, offers[kind], repository.files[repository.name(kind)]
