r"""One TUF metadata file: its envelope, its signatures, its body.

The file is JSON (any spacing); what is signed is the canonical form (:mod:`coldchain.canonical`) of ``signed``.
Worked example, a whole ``timestamp.json``, shown here with line breaks::

    {"signatures":[{"keyid":"9a0e…","sig":"5c1f…"}],
     "signed":{"_type":"timestamp","expires":"2026-11-25T09:00:00Z","meta":{"snapshot.json":{"version":7}},
               "spec_version":"1.0.34","version":31}}

It is read in two steps, so that nothing but the envelope is interpreted before its signatures were counted:
:func:`parse_envelope` (JSON, signatures, canonical bytes), :func:`good_keys` / :func:`verify_signatures`, then
:func:`parse_body`. :func:`parse_metadata` does the first and last for files that were verified before.

Members this program does not know are kept in ``signed`` and left alone, as the specification asks; the ones it knows
must have the right type and stay within :class:`~coldchain.limits.Limits`. ``sig`` must be lower-case hexadecimal: then
no bit of a file can change without its being noticed, save in signatures beyond the threshold.

Source: The Update Framework specification 1.0.34, section 4 (file formats).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from coldchain import canonical
from coldchain.canonical import JSON, Fields, Object
from coldchain.errors import DigestError, ExpiredError, MalformedError, NewerFormatError, SignatureError
from coldchain.keys import PublicKey, parse_key
from coldchain.limits import LIMITS, Limits

Kind = Literal["root", "timestamp", "snapshot", "targets"]
TOP_LEVEL: Final = ("root", "timestamp", "snapshot", "targets")

ROLE_NAME_CHARACTERS: Final = 64
PATH_CHARACTERS: Final = 512
PATTERNS: Final = 64
SIGNATURE_CHARACTERS: Final = 8192  # room for schemes we do not know; theirs are never counted

_SPEC_VERSION = re.compile(r"([0-9]{1,4})(\.[0-9]{1,4}){1,2}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_HEX = re.compile(r"(?:[0-9a-f]{2})*\Z")
_DIGESTS = {"sha256": 64, "sha512": 128}

_V = TypeVar("_V")


def _empty() -> Mapping[str, _V]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What a signed file says of another: ``version`` (0 for targets), ``length`` in bytes, ``hashes`` by algorithm."""

    version: int
    length: int | None
    hashes: Mapping[str, str]

    def check(self, data: bytes, what: str) -> None:
        """Refuses bytes of another length or hash; what is not stated is not checked.

        Raises:
            DigestError: ``data`` is not what was signed.
        """
        if self.length is not None and len(data) != self.length:
            raise DigestError(f"{what}: {len(data)} bytes came, {self.length} were signed")
        for algorithm, expected in self.hashes.items():
            if hashlib.new(algorithm, data).hexdigest() != expected:
                raise DigestError(f"{what}: the {algorithm} is not the signed one")


@dataclass(frozen=True, slots=True)
class Role:
    """Who may sign as ``name``: ``keyids``, of which ``threshold`` keys are needed; of delegations also what for.

    ``paths`` are shell patterns, ``prefixes`` beginnings of the path's SHA-256; a top-level role has neither.
    """

    name: str
    keyids: tuple[str, ...]
    threshold: int
    paths: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    terminating: bool = False

    def matches(self, path: str) -> bool:
        """Whether this delegation covers a target's path.

        A wildcard never crosses a ``/``, so pattern and path must have the same depth (specification 4.5, PATHPATTERN).
        """
        if self.prefixes:
            digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
            return digest.startswith(self.prefixes)
        parts = path.split("/")
        return any(
            len(pattern) == len(parts) and all(map(fnmatchcase, parts, pattern))
            for pattern in (text.split("/") for text in self.paths)
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """A metadata file before anything in it is believed.

    ``canonical`` are the bytes the signatures are over; ``signatures`` maps key ids to signatures; ``what`` is the
    file's name, for messages.
    """

    what: str
    signed: Object
    canonical: bytes
    signatures: Mapping[str, bytes]
    raw: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """A parsed metadata file. Which members are filled depends on ``kind``; the others are empty.

    Compared by identity: a role accepted from one delegator is not the role of that name accepted from another.

    Attributes:
        kind: root, timestamp, snapshot or targets (delegated roles are of kind targets).
        name: the role's name: the kind, or a delegated role's own name.
        version: grows with every signing.
        expires: UTC; not to be trusted from then on.
        signed: the signed object, with the members this program does not know.
        canonical: its canonical bytes.
        signatures: signature by key id.
        raw: the file itself.
        keys: root and targets: keys of a known kind, by key id.
        roles: root: the top-level roles; targets: the delegations, in their order.
        files: timestamp and snapshot: ``meta``.
        targets: targets: what is signed of each target path.
        consistent_snapshot: root: whether published names carry versions and hashes.
        delegation: set when the file was accepted as a delegated role: the delegation it was accepted by.
    """

    kind: Kind
    name: str
    version: int
    expires: datetime
    signed: Object
    canonical: bytes
    signatures: Mapping[str, bytes]
    raw: bytes
    keys: Mapping[str, PublicKey] = field(default_factory=_empty)
    roles: Mapping[str, Role] = field(default_factory=_empty)
    files: Mapping[str, FileInfo] = field(default_factory=_empty)
    targets: Mapping[str, FileInfo] = field(default_factory=_empty)
    consistent_snapshot: bool = False
    delegation: Role | None = None

    def check_time(self, now: datetime) -> None:
        """Refuses a file whose time is over: it must expire *after* ``now`` (UTC).

        Raises:
            ExpiredError: naming both times, since the clock may be what is wrong.
        """
        if self.expires <= now:
            raise ExpiredError(
                f"{self.name}.json expired at {self.expires:%Y-%m-%dT%H:%M:%SZ}; "
                f"this machine's clock says {now:%Y-%m-%dT%H:%M:%SZ}",
                todo="check the clock; if it is right, the server is stale or something holds its updates back",
            )


def max_bytes(kind: Kind, limits: Limits = LIMITS) -> int:
    """The longest file of this kind the client accepts."""
    return {
        "root": limits.root_bytes,
        "timestamp": limits.timestamp_bytes,
        "snapshot": limits.snapshot_bytes,
        "targets": limits.targets_bytes,
    }[kind]


def parse_envelope(data: bytes, kind: Kind, *, what: str, limits: Limits = LIMITS) -> Envelope:
    """The outer layer of a metadata file: strict JSON, signatures with unique key ids, the canonical signed bytes.

    Raises:
        MalformedError: too long, not JSON, a member missing or of another type, a key id twice (specification 4.2:
            multiple signatures with the same key id are not allowed).
    """
    if len(data) > max_bytes(kind, limits):
        raise MalformedError(f"{what}: longer than {max_bytes(kind, limits)} bytes")
    fields = Fields(canonical.read(data, what), what)
    signatures: dict[str, bytes] = {}
    for item in fields.items("signatures", limits.signatures):
        part = Fields(item, f"{what}: signature")
        keyid, text = part.text("keyid", most=256), part.text("sig", most=SIGNATURE_CHARACTERS)
        if keyid in signatures:
            raise MalformedError(f"{what}: two signatures with the key id {keyid[:16]!r}")
        if not _HEX.match(text):
            raise MalformedError(f"{what}: a signature is not lower-case hexadecimal")
        signatures[keyid] = bytes.fromhex(text)
    signed = fields.object("signed")
    return Envelope(what, signed, canonical.encode(signed), MappingProxyType(signatures), data)


def good_keys(delegator: Metadata, role: Role, signed: Envelope | Metadata) -> tuple[PublicKey, ...]:
    """The different keys of ``role`` that really signed, counted by value: one key under two ids counts once."""
    good: dict[bytes, PublicKey] = {}
    for keyid in role.keyids:
        key, signature = delegator.keys.get(keyid), signed.signatures.get(keyid)
        if key and signature and key.verify(signature, signed.canonical):
            good[key.raw] = key
    return tuple(good.values())


def verify_signatures(delegator: Metadata, role_name: str, signed: Envelope | Metadata, what: str) -> Role:
    """Demands the role's threshold of good signatures by keys that ``delegator`` (root or targets) names.

    Returns:
        The role, as the delegator defines it.

    Raises:
        SignatureError: the delegator knows no such role, or too few of its keys signed.
    """
    role = delegator.roles.get(role_name)
    if role is None:
        raise SignatureError(f"{what}: {delegator.name}.json names no role {role_name[:64]!r}")
    good = len(good_keys(delegator, role, signed))
    if good < role.threshold:
        raise SignatureError(
            f"{what}: {good} of {role.threshold} needed signatures are good (keys of {delegator.name}.json "
            f"version {delegator.version})",
            todo="the server or something between may be altering files; try another --url",
        )
    return role


def parse_metadata(data: bytes, kind: Kind, limits: Limits = LIMITS, *, name: str | None = None) -> Metadata:
    """Envelope and body of a file, *without* looking at its signatures.

    Args:
        data: the file.
        kind: what it must be.
        limits: bounds on foreign bytes.
        name: the role's name if it is not the kind.

    Raises:
        MalformedError: it does not follow its format.
        NewerFormatError: a TUF specification of a later major version.
    """
    return parse_body(parse_envelope(data, kind, what=f"{name or kind}.json", limits=limits), kind, limits, name=name)


def parse_body(envelope: Envelope, kind: Kind, limits: Limits = LIMITS, *, name: str | None = None) -> Metadata:
    """The signed part, interpreted. Arguments and errors as :func:`parse_metadata`."""
    what = envelope.what
    fields = Fields(envelope.signed, what)
    found = fields.text("_type", most=64)
    if found != kind:
        raise MalformedError(f"{what}: of type {found!r}, not {kind!r}")
    spec = _SPEC_VERSION.match(fields.text("spec_version", most=32))
    if spec is None:
        raise MalformedError(f"{what}: 'spec_version' is not a version")
    if int(spec[1]) != 1:
        raise NewerFormatError(f"{what} follows TUF specification {spec[0]}", todo="install a newer client")
    keys: Mapping[str, PublicKey] = _empty()
    roles: Mapping[str, Role] = _empty()
    files: Mapping[str, FileInfo] = _empty()
    targets: Mapping[str, FileInfo] = _empty()
    if kind == "root":
        keys, roles = _keys(fields, what, limits), _top_level_roles(fields, what, limits)
    elif kind == "targets":
        if fields.has("delegations"):
            delegations = Fields(fields.object("delegations"), f"{what}: delegations")
            keys, roles = _keys(delegations, what, limits), _delegations(delegations, what, limits)
        targets = {
            _path(path, what): _file_info(info, f"{what}: target", target=True)
            for path, info in fields.object("targets", limits.targets).items()
        }
    else:
        files = {
            _path(path, what): _file_info(info, f"{what}: meta", target=False)
            for path, info in fields.object("meta", limits.targets).items()
        }
        # Specification 4.4 and 4.6: a timestamp describes snapshot.json and nothing else.
        if kind == "timestamp" and set(files) != {"snapshot.json"}:
            raise MalformedError(f"{what}: 'meta' does not describe exactly snapshot.json")
    return Metadata(
        kind=kind,
        name=name or kind,
        version=fields.integer("version", least=1),
        expires=_time(fields.text("expires", most=32), what),
        signed=envelope.signed,
        canonical=envelope.canonical,
        signatures=envelope.signatures,
        raw=envelope.raw,
        keys=MappingProxyType(dict(keys)),
        roles=MappingProxyType(dict(roles)),
        files=MappingProxyType(dict(files)),
        targets=MappingProxyType(dict(targets)),
        consistent_snapshot=fields.has("consistent_snapshot") and fields.boolean("consistent_snapshot"),
    )


def _time(text: str, what: str) -> datetime:
    """``YYYY-MM-DDTHH:MM:SSZ`` and nothing else (specification 4.2, date-time)."""
    try:
        if _TIME.match(text):
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        pass
    raise MalformedError(f"{what}: 'expires' is not a time such as 2026-11-25T09:00:00Z")


def _path(text: str, what: str) -> str:
    if not text or len(text) > PATH_CHARACTERS:
        raise MalformedError(f"{what}: a path is empty or too long")
    return text


def _keys(fields: Fields, what: str, limits: Limits) -> dict[str, PublicKey]:
    parsed = {keyid: parse_key(key, f"{what}: key") for keyid, key in fields.object("keys", limits.keys).items()}
    return {keyid: key for keyid, key in parsed.items() if key is not None}


def _role(fields: Fields, name: str, what: str, limits: Limits) -> Role:
    keyids = _texts(fields, "keyids", what, limits.keys)
    if len(set(keyids)) != len(keyids):
        raise MalformedError(f"{what}: role {name!r} lists a key id twice")
    return Role(name, keyids, fields.integer("threshold", least=1))


def _texts(fields: Fields, name: str, what: str, most: int) -> tuple[str, ...]:
    items = [item for item in fields.items(name, most) if isinstance(item, str) and len(item) <= PATH_CHARACTERS]
    if len(items) != len(fields.items(name, most)):
        raise MalformedError(f"{what}: {name!r} holds something else than short strings")
    return tuple(items)


def _top_level_roles(fields: Fields, what: str, limits: Limits) -> dict[str, Role]:
    """The four roles root must name; ``mirrors``, which this client does not use, may be there."""
    objects = fields.object("roles")
    if set(objects) - {"mirrors"} != set(TOP_LEVEL):
        raise MalformedError(f"{what}: 'roles' does not name root, timestamp, snapshot and targets")
    return {name: _role(Fields(objects[name], f"{what}: role"), name, what, limits) for name in TOP_LEVEL}


def _delegations(fields: Fields, what: str, limits: Limits) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for item in fields.items("roles", limits.delegations):
        part = Fields(item, f"{what}: delegation")
        name = part.text("name", most=ROLE_NAME_CHARACTERS)
        # A delegation named like a top-level role would share its file name and its line in the snapshot.
        if not name or name in roles or name in TOP_LEVEL:
            raise MalformedError(f"{what}: delegated role name {name!r} is empty, doubled or reserved")
        if part.has("paths") == part.has("path_hash_prefixes"):
            raise MalformedError(f"{what}: delegation {name!r} has not exactly one of paths and path_hash_prefixes")
        role = _role(part, name, what, limits)
        paths = _texts(part, "paths", what, PATTERNS) if part.has("paths") else ()
        prefixes = () if part.has("paths") else _texts(part, "path_hash_prefixes", what, limits.targets)
        terminating = part.has("terminating") and part.boolean("terminating")
        roles[name] = Role(name, role.keyids, role.threshold, paths, prefixes, terminating)
    return roles


def _file_info(value: JSON, what: str, *, target: bool) -> FileInfo:
    """A target must state length and hashes, a metadata file its version (specification 4.4, 4.5)."""
    fields = Fields(value, what)
    return FileInfo(
        version=0 if target else fields.integer("version", least=1),
        length=fields.integer("length") if target or fields.has("length") else None,
        hashes=_hashes(fields, what) if target or fields.has("hashes") else _empty(),
    )


def _hashes(fields: Fields, what: str) -> Mapping[str, str]:
    """SHA-256 and SHA-512 are checked, others ignored; at least one must be there to check."""
    hashes: dict[str, str] = {}
    for algorithm, digest in fields.object("hashes", 16).items():
        if algorithm not in _DIGESTS:
            continue
        if not isinstance(digest, str) or len(digest) != _DIGESTS[algorithm] or not _HEX.match(digest):
            raise MalformedError(f"{what}: not a {algorithm} in lower-case hexadecimal")
        hashes[algorithm] = digest
    if not hashes:
        raise MalformedError(f"{what}: neither sha256 nor sha512 is given")
    return MappingProxyType(hashes)
