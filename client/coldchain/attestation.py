"""Attestations: what somebody states about a release and signs. DSSE envelopes around in-toto Statements v1.

An envelope, canonical JSON, shown with line breaks::

    {"payload":"<base64 of the statement>",
     "payloadType":"application/vnd.in-toto+json",
     "signatures":[{"keyid":"<64 hex>","sig":"<base64 of 64 bytes>"}]}

What is signed (Ed25519) is not the envelope but, with lengths as decimal bytes::

    DSSEv1 28 application/vnd.in-toto+json <length of the statement> <the statement>
    e.g. type "http://example.com/HelloWorld", body "hello world":
    DSSEv1 29 http://example.com/HelloWorld 11 hello world

A key id only finds a key (it is the one of :mod:`coldchain.keys`); signatures by unknown ids are skipped, a bad one by a known id
refuses the envelope. Two statements are ours. The *provenance* of a release is a function of its manifest (SLSA v1)::

    {"_type":"https://in-toto.io/Statement/v1",
     "predicate":{"buildDefinition":{…,"resolvedDependencies":[{"digest":{"sha256":"<feed snapshot>"},"name":"acme",…}]},
                  "runDetails":{"builder":{…,"id":"https://coldchain.example/assembler/v1","version":{"coldchain-server":"0.1.0"}},…}},
     "predicateType":"https://slsa.dev/provenance/v1",
     "subject":[{"digest":{"sha256":"<bundle digest>"},"name":"coldchain/stable/42/jp/bundle.json"},…]}

The *rebuild* says that its signer assembled the release again from the snapshots that its manifest names, and that the bundles in
``subject`` (of some or all regions; ``global`` is the global one) came out as the manifest has them::

    "predicate":{"assembler":{"source":"<sha256>","version":"0.1.0"},
                 "channel":"stable",
                 "key":"<the signer's public key, 64 hex>",
                 "manifest":"<sha256 of the manifest>",
                 "product":"coldchain",
                 "rebuilt":"2026-11-24T02:00:00Z",
                 "release":42},
    "predicateType":"https://coldchain.example/rebuild/v1"

``assembler`` is the rebuilder's own (:mod:`coldchain_server.assembly.provenance`). ``key`` makes an envelope checkable on its own;
whether the key means anything is for the reader to say (:mod:`coldchain.rebuilders`). An envelope of a rebuild may stand in the
public log as an entry beside the manifests: it has a member ``payloadType`` and no ``format``, a manifest the other way round
(:func:`is_envelope`), as has the third kind of entry, a move of reports (:mod:`coldchain.residency`).

Sources: the DSSE specification (secure-systems-lab/dsse, protocol.md), in-toto Statement v1, SLSA provenance v1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from coldchain import canonical
from coldchain.bundle.description import check_token
from coldchain.bundle.manifest import MOST_REGIONS, Manifest
from coldchain.canonical import JSON, Fields, Object
from coldchain.errors import DigestError, InternalError, MalformedError, NewerFormatError, SignatureError
from coldchain.keys import SIGNATURE_BYTES, PublicKey
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.spellings import decode64, encode64

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
REBUILD: Final = "https://coldchain.example/rebuild/v1"
BUILD_TYPE: Final = "https://coldchain.example/release/v1"
BUILDER: Final = "https://coldchain.example/assembler/v1"
GLOBAL: Final = "global"

_KEYID = re.compile(r"[0-9a-f]{64}\Z")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


# The envelope


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope: ``signatures`` is key id -> 64 bytes, in the envelope's order."""

    payload: bytes
    payload_type: str
    signatures: Mapping[str, bytes]

    def encode(self) -> bytes:
        """The canonical bytes."""
        signatures: list[JSON] = [{"keyid": keyid, "sig": encode64(sig)} for keyid, sig in self.signatures.items()]
        return canonical.encode(
            {"payload": encode64(self.payload), "payloadType": self.payload_type, "signatures": signatures}
        )

    def signed_by(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        """Those of ``keys`` that signed it; at least one.

        Raises:
            SignatureError: none did, or a signature under the id of one of them is not its own.
        """
        message = pae(self.payload_type, self.payload)
        found = []
        for key in dict.fromkeys(keys):
            signature = self.signatures.get(key.keyid)
            if signature is None:
                continue
            if not key.verify(signature, message):
                raise SignatureError(f"attestation: the signature of key {key.keyid[:16]}… is bad")
            found.append(key)
        if not found:
            raise SignatureError("attestation: no signature of a known key")
        return found


def parse_envelope(data: bytes, limits: Limits = LIMITS) -> Envelope:
    """An envelope from foreign bytes: canonical, every member known. Its signatures are not checked here.

    Raises:
        MalformedError: anything else, or a bound exceeded.
    """
    what = "attestation"
    if len(data) > limits.attestation_bytes:
        raise MalformedError(f"{what}: longer than allowed")
    fields = Fields(canonical.read_canonical(data, what), what)
    payload = decode64(fields.text("payload", limits.attestation_bytes), f"{what}: payload")
    kind = fields.text("payloadType", 256)
    signatures: dict[str, bytes] = {}
    for item in fields.items("signatures", limits.signatures):
        one = Fields(item, f"{what}: signature")
        keyid = one.text("keyid", 64)
        if not _KEYID.match(keyid) or keyid in signatures:
            raise MalformedError(f"{what}: {keyid!r} is not a key id, or stands twice")
        signatures[keyid] = decode64(one.text("sig", 128), f"{what}: sig", SIGNATURE_BYTES)
        one.done()
    fields.done()
    if not signatures:
        raise MalformedError(f"{what}: not signed at all")
    return Envelope(payload, kind, signatures)


Sign = Callable[[bytes], bytes]
"""Makes the 64-byte Ed25519 signature of a message."""


def sign_statement(statement: Statement, key: PublicKey, sign: Sign) -> Envelope:
    """The statement in an envelope with one signature.

    Raises:
        InternalError: ``sign`` does not sign for ``key``.
    """
    payload = statement.encode()
    signature = sign(pae(PAYLOAD_TYPE, payload))
    if not key.verify(signature, pae(PAYLOAD_TYPE, payload)):
        raise InternalError("the signer made a signature that is not its key's")
    return Envelope(payload, PAYLOAD_TYPE, {key.keyid: signature})


def is_envelope(entry: bytes) -> bool:
    """Whether an entry of the public log is an envelope, and not a manifest. It may still be a bad one."""
    try:
        value = canonical.read_canonical(entry, "log entry")
    except MalformedError:
        return False
    return "payloadType" in value and "format" not in value


# The statement


@dataclass(frozen=True, slots=True)
class Statement:
    """An in-toto Statement v1: ``subjects`` is name -> SHA-256, ``predicate`` whatever its type says."""

    subjects: Mapping[str, str]
    predicate_type: str
    predicate: Object

    def encode(self) -> bytes:
        """The canonical bytes, subjects in the order of their names."""
        subjects: list[JSON] = [
            {"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(self.subjects.items())
        ]
        return canonical.encode(
            {
                "_type": STATEMENT,
                "subject": subjects,
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


def parse_statement(envelope: Envelope) -> Statement:
    """The statement in an envelope.

    Raises:
        MalformedError: it holds something else, or no canonical statement.
    """
    what = "statement"
    if envelope.payload_type != PAYLOAD_TYPE:
        raise MalformedError(f"attestation: payload of type {envelope.payload_type[:80]!r}, not {PAYLOAD_TYPE!r}")
    fields = Fields(canonical.read_canonical(envelope.payload, what), what)
    fields.constant("_type", STATEMENT)
    subjects: dict[str, str] = {}
    for item in fields.items("subject", MOST_REGIONS + 1):
        one = Fields(item, f"{what}: subject")
        name = one.text("name", 512)
        digest = Fields(one.object("digest"), f"{what}: digest")
        subjects[name] = digest.sha256("sha256")
        digest.done()
        one.done()
    found = Statement(subjects, fields.text("predicateType", 256), fields.object("predicate"))
    fields.done()
    if not subjects or found.encode() != envelope.payload:
        raise MalformedError(f"{what}: subjects are missing, out of order, or stand twice")
    return found


def bundle_name(product: str, channel: str, release: int, region: str) -> str:
    """The name of a bundle among the subjects; only a label, the digest is what counts."""
    return f"{product}/{channel}/{release}/{region}/bundle.json"


def bundles_of(manifest: Manifest) -> dict[str, str]:
    """Region (and :data:`GLOBAL`) -> bundle digest."""
    return {**{name: one.facts.bundle for name, one in manifest.regions.items()}, GLOBAL: manifest.whole.bundle}


def _subjects(product: str, channel: str, release: int, bundles: Mapping[str, str]) -> dict[str, str]:
    return {bundle_name(product, channel, release, region): digest for region, digest in bundles.items()}


# Provenance


def provenance(manifest: Manifest) -> Statement:
    """The SLSA provenance of a release: everything in it follows from the manifest."""
    policies: Object = {
        name: [
            {"action": one.action, "kind": one.kind, "name": one.name, "reason": one.reason} for one in region.policy
        ]
        for name, region in manifest.regions.items()
    }
    skipping: list[JSON] = [feed.name for feed in manifest.feeds if feed.skipped]
    snapshots: list[JSON] = [
        {
            "name": feed.name,
            "digest": {"sha256": feed.snapshot},
            "annotations": {"files": feed.files, "records": feed.records},
        }
        for feed in manifest.feeds
    ]
    source: list[JSON] = (
        [{"name": "assembler source", "digest": {"sha256": manifest.source}}] if manifest.source else []
    )
    predicate: Object = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "product": manifest.product,
                "channel": manifest.channel,
                "release": manifest.release,
                "regions": policies,
                "skipBad": skipping,
            },
            "resolvedDependencies": snapshots,
        },
        "runDetails": {
            "builder": {
                "id": BUILDER,
                "version": {"coldchain-server": manifest.assembler},
                **({"builderDependencies": source} if source else {}),
            },
            "metadata": {"invocationId": manifest.digest, "startedOn": manifest.created},
            "byproducts": [{"name": "manifest.json", "digest": {"sha256": manifest.digest}}],
        },
    }
    subjects = _subjects(manifest.product, manifest.channel, manifest.release, bundles_of(manifest))
    return Statement(subjects, PROVENANCE, predicate)


def check_provenance(statement: Statement, manifest: Manifest) -> None:
    """Whether a statement is the provenance of the release.

    Raises:
        DigestError: it says anything else than the manifest.
    """
    if statement.encode() != provenance(manifest).encode():
        raise DigestError(f"provenance: it does not say what the manifest of release {manifest.release} says")


# Rebuilds


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What a rebuilder states. ``bundles`` is region (and :data:`GLOBAL`) -> bundle digest; times are UTC, ``…SSZ``."""

    product: str
    channel: str
    release: int
    manifest: str
    bundles: Mapping[str, str]
    assembler: str
    source: str
    rebuilt: str
    key: PublicKey

    def statement(self) -> Statement:
        """The statement."""
        predicate: Object = {
            "assembler": {"version": self.assembler, "source": self.source},
            "channel": self.channel,
            "key": self.key.raw.hex(),
            "manifest": self.manifest,
            "product": self.product,
            "rebuilt": self.rebuilt,
            "release": self.release,
        }
        return Statement(_subjects(self.product, self.channel, self.release, self.bundles), REBUILD, predicate)

    def check(self, manifest: Manifest) -> None:
        """Whether it is about this manifest, and says what it says.

        Raises:
            DigestError: it is about another one, or contradicts it.
        """
        if self.manifest != manifest.digest:
            raise DigestError(f"it is about another manifest than that of release {manifest.release}")
        if (self.product, self.channel, self.release) != (manifest.product, manifest.channel, manifest.release):
            raise DigestError(f"it is not about release {manifest.release} of {manifest.product} {manifest.channel}")
        signed = bundles_of(manifest)
        for region, digest in self.bundles.items():
            if signed.get(region) != digest:
                raise DigestError(f"region {region}: it names another bundle than the manifest")


def parse_rebuild(statement: Statement) -> Rebuild:
    """A rebuild from a statement: every member known, and nothing said in two ways.

    Raises:
        MalformedError: it is none.
        NewerFormatError: of a later version.
    """
    what = "rebuild"
    if statement.predicate_type != REBUILD:
        if statement.predicate_type.startswith(REBUILD.rpartition("v")[0]):
            raise NewerFormatError(
                f"attestation of type {statement.predicate_type[:80]!r}", todo="install a newer client"
            )
        raise MalformedError(f"attestation: {statement.predicate_type[:80]!r} is not that of a rebuild")
    fields = Fields(statement.predicate, what)
    assembler = Fields(fields.object("assembler"), f"{what}: assembler")
    product, channel = check_token(fields.text("product"), "product"), check_token(fields.text("channel"), "channel")
    release = fields.integer("release", least=1)
    found = Rebuild(
        product=product,
        channel=channel,
        release=release,
        manifest=fields.sha256("manifest"),
        bundles={_region(name, product, channel, release): sha256 for name, sha256 in statement.subjects.items()},
        assembler=assembler.text("version", 64),
        source=assembler.sha256("source"),
        rebuilt=_time(fields.text("rebuilt", 20)),
        key=PublicKey(bytes.fromhex(fields.sha256("key"))),
    )
    assembler.done()
    fields.done()
    return found


def _region(name: str, product: str, channel: str, release: int) -> str:
    parts = name.split("/")
    region = parts[3] if len(parts) == 5 else ""
    if bundle_name(product, channel, release, region) != name:
        raise MalformedError(f"rebuild: the subject {name[:80]!r} is no bundle of release {release}")
    return check_token(region, "region")


def _time(text: str) -> str:
    try:
        if datetime.strptime(text, _TIME).replace(tzinfo=UTC).strftime(_TIME) == text:
            return text
    except ValueError:
        pass  # said below, with the text that is not one
    raise MalformedError(f"rebuild: {text!r} is not a time in UTC such as 2026-11-24T02:00:00Z")


def open_rebuild(data: bytes, key: PublicKey | None = None, limits: Limits = LIMITS) -> Rebuild:
    """A rebuild from the bytes of an envelope, signed by the key that it names.

    Args:
        data: the envelope.
        key: whose it must be; None for whoever it names.
        limits: bounds.

    Raises:
        VerificationError: it is none, of another key, or not signed by it.
        NewerFormatError: of a later version.
    """
    envelope = parse_envelope(data, limits)
    if key is not None:
        envelope.signed_by([key])  # before anything in it is read
    found = parse_rebuild(parse_statement(envelope))
    if key is not None and found.key != key:
        raise SignatureError("attestation: signed by another key than the one it names")
    envelope.signed_by([found.key])
    return found


def file_name(key: PublicKey) -> str:
    """How the attestation of that key is called, wherever it lies."""
    return f"{key.keyid}.dsse.json"


def published_path(manifest: str, key: PublicKey) -> str:
    """Where the attestation of that key about the manifest (its SHA-256) is published."""
    return f"attestations/{manifest}/{file_name(key)}"
