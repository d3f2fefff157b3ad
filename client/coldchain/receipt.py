r"""A receipt: what an endpoint verified and when, in one JSON file that needs neither this program nor the publisher to be checked.

The second line of the file is the receipt in canonical JSON, and exactly its bytes (without the line break) are what the
endpoint signs, if it has a key::

    {"receipt":
    {"applied":{…},"canaries":[…],…,"roles":[…]}
    ,"signature":{"public":"3b6a…","sig":"…"}}

and these are its members, shown with line breaks::

    "format":"coldchain-receipt-1", "made":"2026-06-01T09:00:00Z", "client":"0.1.0",
    "follows":{"product":"coldchain","region":"us","channel":"stable"},
    "release":{"number":42,"bundle":"<sha256 of bundle.json>","bytes":4863111,"records":98234},
    "applied":{…}                     which delta made it, and when (below); null if that is not known
    "canaries":[{"engine":"clamav","name":"Coldchain.Canary.us-stable-42"}],
    "root":{"version":1,"fingerprint":"<sha256 of the pinned root.json>"},
    "roles":[{"name":"root","version":1,"file":"<base64>","signed":"<base64>",
              "signatures":[{"keyid":"9a0e…","public":"<hex>","sig":"<hex>"}]}, …]
    "manifest":"<the entry of the log, verbatim>",
    "log":{"index":41,"proof":[<the tlog-proof's lines>],"checkpoint":[<the lines of the signed note in it>],
           "signatures":[{"name":"log.example/x","public":"<hex>","time":null,"sig":"<hex>"}]},
    "policy":{"source":"root","sha256":"…","file":"<base64>"}

``file`` is the role's metadata as it came, ``signed`` the exact bytes that each ``sig`` is over. The roles are the pinned root, the
roots after it, targets and the region's. Checkpoint signatures are over the note's text; those with a time over
``cosignature/v1\ntime <time>\n`` and the text. ``docs/receipts.md`` checks each of them with openssl.

``applied`` is kept with the release since it was installed, as ``applied.json`` of its evidence. The endpoint alone says it::

    {"at":"2026-06-01T09:00:00Z","format":"coldchain-applied-1","from":41,"length":120333,"path":"us/stable/from-41.ccd",
     "release":42,"sha256":"…"}
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import coldchain
from coldchain import canonical
from coldchain.bundle.canary import canary_name
from coldchain.bundle.description import BundleDescription, check_token
from coldchain.bundle.header import CANARY_OF
from coldchain.canonical import Fields, Object
from coldchain.errors import ColdchainError, DamagedError, EvidenceError, MalformedError, NewerFormatError
from coldchain.evidence import check_evidence, effective_policy, root_policy
from coldchain.keys import PublicKey
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.note import SignedNote, check_signature
from coldchain.tlog.policy import Policy, parse_policy
from coldchain.tlog.proof import parse_proof
from coldchain.tuf.metadata import Metadata, parse_metadata
from coldchain.verify import PROOF, Check, RegionRelease, Target, region_release, verify_chain

FORMAT: Final = "coldchain-receipt-1"
APPLIED_FORMAT: Final = "coldchain-applied-1"
APPLIED: Final = "applied.json"
_MEMBERS: Final = frozenset(
    [
        "format",
        "made",
        "client",
        "follows",
        "release",
        "applied",
        "canaries",
        "root",
        "roles",
        "manifest",
        "log",
        "policy",
    ]
)
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_WHEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_HEX = re.compile(r"(?:[0-9a-f]{2})+\Z")


def applied(release: int, source: int | None, target: Target, now: datetime) -> bytes:
    """``applied.json``: which file made the release on this endpoint.

    Args:
        release: what was installed.
        source: the release that ran before, if ``target`` is a delta from it.
        target: the file that was decoded.
        now: when.
    """
    return canonical.encode(
        {
            "format": APPLIED_FORMAT,
            "at": now.strftime(_TIME),
            "from": source,
            "path": target.path,
            "length": target.length,
            "sha256": target.sha256,
            "release": release,
        }
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What an endpoint holds that goes into its receipt; verified by the caller.

    Attributes:
        product: what it follows.
        region: of which region.
        channel: on which channel.
        pinned: the pinned root.
        later_roots: the roots after it.
        evidence: the release's evidence by file name.
        description: of the installed bundle.
        policy: the customer's own log policy; None for the root's.
    """

    product: str
    region: str
    channel: str
    pinned: bytes
    later_roots: Sequence[bytes]
    evidence: Mapping[str, bytes]
    description: BundleDescription
    policy: bytes | None


def make_receipt(known: Known, now: datetime, limits: Limits = LIMITS) -> Object:
    """The receipt, not yet signed.

    Raises:
        ColdchainError: what is known is not in order.
    """
    root = parse_metadata(known.pinned, "root", limits)
    files = [("root", data) for data in (known.pinned, *known.later_roots)]
    files += [(name, known.evidence.get(f"{name}.json", b"")) for name in ("targets", known.region)]
    roles = [parse_metadata(data, "root" if name == "root" else "targets", limits, name=name) for name, data in files]
    newest = next(role for role in reversed(roles) if role.name == "root")
    text = known.policy if known.policy is not None else root_policy(newest)
    if text is None:
        raise EvidenceError(f"root.json version {newest.version} names no public log, so there is nothing to show")
    keys = {keyid: key for role in roles for keyid, key in role.keys.items()}
    proof = known.evidence.get(PROOF, b"")
    parsed = parse_proof(proof, limits)
    bundle = known.description
    said = known.evidence.get(APPLIED)
    return {
        "format": FORMAT,
        "made": now.strftime(_TIME),
        "client": coldchain.__version__,
        "follows": {"product": known.product, "region": known.region, "channel": known.channel},
        "release": {
            "number": bundle.release,
            "bundle": bundle.digest,
            "bytes": bundle.total_bytes,
            "records": bundle.total_records,
        },
        "applied": canonical.read_canonical(said, APPLIED) if said is not None else None,
        "canaries": _canaries(
            [engine for engine, name in sorted(CANARY_OF.items()) if bundle.section(name)],
            canary_name(known.region, known.channel, bundle.release),
        ),
        "root": {"version": root.version, "fingerprint": hashlib.sha256(known.pinned).hexdigest()},
        "roles": [_role(role, keys) for role in roles],
        "manifest": known.evidence["manifest.json"].decode(),
        "log": {
            "index": parsed.index,
            "proof": _lines(proof),
            "checkpoint": _lines(parsed.checkpoint.encode()),
            "signatures": _note_signatures(parsed.checkpoint, parse_policy(text, limits)),
        },
        "policy": {
            "source": "root" if known.policy is None else "own",
            "sha256": hashlib.sha256(text).hexdigest(),
            "file": base64.b64encode(text).decode(),
        },
    }


def _role(role: Metadata, keys: Mapping[str, PublicKey]) -> Object:
    return {
        "name": role.name,
        "version": role.version,
        "file": base64.b64encode(role.raw).decode(),
        "signed": base64.b64encode(role.canonical).decode(),
        "signatures": [
            {"keyid": keyid, "public": keys[keyid].raw.hex(), "sig": signature.hex()}
            for keyid, signature in sorted(role.signatures.items())
            if keyid in keys
        ],
    }


def _lines(text: bytes) -> list[canonical.JSON]:
    """A text's lines without their line breaks, of which the last stands at its end: canonical JSON has no way to write them."""
    return list(text.decode().split("\n")[:-1])


def _text(lines: list[canonical.JSON]) -> bytes:
    """The inverse of :func:`_lines`."""
    if not all(isinstance(line, str) and "\n" not in line for line in lines):
        raise MalformedError("receipt: a text that is not a list of lines")
    return "".join(f"{line}\n" for line in lines).encode()


def _note_signatures(note: SignedNote, policy: Policy) -> list[canonical.JSON]:
    """The signatures by keys that the policy lists."""
    out: list[canonical.JSON] = []
    for key in [*policy.log_keys, *policy.witness_keys]:
        for signature in note.signatures:
            if (signature.name, signature.key_id) == (key.name, key.key_id):
                time = check_signature(note.text, signature, key)
                raw = signature.payload[-64:]
                out.append({"name": key.name, "public": key.key.raw.hex(), "time": time, "sig": raw.hex()})
    return out


def encode_receipt(receipt: Object, sign: tuple[PublicKey, Callable[[bytes], bytes]] | None = None) -> bytes:
    """The file; its second line is what is signed.

    Args:
        receipt: from :func:`make_receipt`.
        sign: the endpoint's key and what signs with it; None for a receipt that nobody signs.
    """
    line = canonical.encode(receipt)
    end = b""
    if sign is not None:
        end = b',"signature":' + canonical.encode({"public": sign[0].raw.hex(), "sig": sign[1](line).hex()})
    return b'{"receipt":\n' + line + b"\n" + end + b"}\n"


def is_receipt(beginning: bytes) -> bool:
    """Whether a file that begins so is a receipt."""
    return beginning.startswith(b'{"receipt":')


@dataclass(slots=True)
class ReceiptAudit:
    """What a receipt says and whether it holds.

    Attributes:
        receipt: its members, as far as it could be read.
        checks: in the order they were made; the last one is the failed one, if any failed.
        signer: the key that signed the receipt; None when none did.
        error: the refusal, or None.
    """

    receipt: Object = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    signer: PublicKey | None = None
    error: ColdchainError | None = None


def check_receipt(
    data: bytes,
    now: datetime,
    *,
    pinned: bytes | None = None,
    signer: PublicKey | None = None,
    limits: Limits = LIMITS,
) -> ReceiptAudit:
    """Verifies again all that a receipt shows.

    Args:
        data: the file.
        now: against cosignatures from the future.
        pinned: the root it must hang on; None takes the one it names, whose fingerprint a person compares.
        signer: the key it must be signed by; None takes any, or none.
        limits: bounds.
    """
    found = ReceiptAudit()
    try:
        _check(found, data, now, pinned, signer, limits)
    except ColdchainError as error:
        found.error = error if isinstance(error, NewerFormatError) else _refusal(error)
        found.checks.append(Check("receipt", error.what, ok=False))
    return found


def _refusal(error: ColdchainError) -> ColdchainError:
    return EvidenceError(
        f"the receipt does not hold: {error.what}", todo="do not rely on it; have it made again on the endpoint"
    )


def _check(
    found: ReceiptAudit, data: bytes, now: datetime, pinned: bytes | None, signer: PublicKey | None, limits: Limits
) -> None:
    receipt = _open(found, data, signer, limits)
    fields = Fields(receipt, "receipt")
    follows = Fields(fields.object("follows"), "receipt: follows")
    product, region, channel = (check_token(follows.text(name, 64), name) for name in ("product", "region", "channel"))
    roots, targets, role_file = _roles(fields, region, limits)
    root = Fields(fields.object("root"), "receipt: root")
    version, named = root.integer("version"), root.sha256("fingerprint")
    root.done()
    follows.done()
    if pinned is not None and pinned != roots[0]:
        raise DamagedError(f"its root has the fingerprint {named}, which is not the root you gave")
    if hashlib.sha256(roots[0]).hexdigest() != named:
        raise DamagedError("its root is not the one with the fingerprint it names")
    chain = verify_chain(roots[0], roots[1:], targets, role_file, region=region, limits=limits)
    found.checks += [check for check in chain.checks if check.ok]
    role = chain.require()
    assert chain.root is not None  # the chain is good
    release = region_release(role, region, channel, product=product, limits=limits)
    if version != parse_metadata(roots[0], "root", limits).version:
        raise DamagedError("its root has another version than it names")
    _check_release(found, fields, release)
    policy_fields = Fields(fields.object("policy"), "receipt: policy")
    text = _decoded(policy_fields.text("file", 2 * limits.log_policy_bytes))
    source = policy_fields.text("source", 8)
    if source not in ("root", "own") or (source == "root" and root_policy(chain.root) != text):
        raise EvidenceError("the policy is not the one that the root carries")
    if policy_fields.sha256("sha256") != hashlib.sha256(text).hexdigest():
        raise EvidenceError("the policy is not the one with the digest it names")
    log = Fields(fields.object("log"), "receipt: log")
    proof = _text(log.items("proof", limits.proof_bytes))
    manifest = fields.text("manifest", limits.manifest_bytes).encode()
    policy = effective_policy(chain.root, text, limits)
    good = check_evidence(manifest, proof, release, policy, now, limits)
    note = good.verified.head.note
    shown = (
        log.integer("index"),
        log.items("checkpoint", limits.note_bytes),
        log.items("signatures", limits.note_signatures),
    )
    if shown != (good.verified.index, _lines(note.encode()), _note_signatures(note, policy)):
        raise EvidenceError("what it shows of the log is not what its proof holds")
    found.checks.append(Check("public log", good.words(), ok=True))
    whose = "its own" if source == "own" else "the root's"
    found.checks.append(Check("policy", f"{whose}, SHA-256 {hashlib.sha256(text).hexdigest()}", ok=True))
    policy_fields.done()
    log.done()
    _check_said(found, fields, release)


def _open(found: ReceiptAudit, data: bytes, signer: PublicKey | None, limits: Limits) -> Object:
    if len(data) > limits.receipt_bytes:
        raise MalformedError(f"receipt: longer than {limits.receipt_bytes} bytes")
    outer = Fields(canonical.read(data, "receipt"), "receipt")
    receipt = outer.object("receipt")
    fields = Fields(receipt, "receipt")
    form = fields.text("format", 64)
    if form != FORMAT and form.startswith("coldchain-receipt-"):
        raise NewerFormatError(f"receipt: format {form!r}", todo="install a newer client")
    fields.constant("format", FORMAT)
    if set(receipt) != _MEMBERS:
        raise MalformedError("receipt: members are missing, or there are others")
    found.receipt = receipt
    found.signer = key = _signature(outer.object("signature"), receipt) if outer.has("signature") else None
    outer.done()
    if signer is not None and key != signer:
        by = f"by {key.raw.hex()}" if key else "by nobody"
        raise EvidenceError(f"it is signed {by}, not by {signer.raw.hex()}")
    words = f"by the endpoint's key {key.raw.hex()}" if key else "by nobody: whoever had the files could have made it"
    found.checks.append(Check("signed", words, ok=True))
    return receipt


def _signature(value: Object, receipt: Object) -> PublicKey:
    fields = Fields(value, "receipt: signature")
    key = PublicKey(_hex(fields.text("public", 64)))
    if not key.verify(_hex(fields.text("sig", 128)), canonical.encode(receipt)):
        raise EvidenceError("the endpoint's signature is not good")
    fields.done()
    return key


def _hex(text: str) -> bytes:
    if not _HEX.match(text):
        raise MalformedError("receipt: not lower-case hexadecimal")
    return bytes.fromhex(text)


def _decoded(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedError("receipt: not base64") from error
    if base64.b64encode(data).decode() != text:
        raise MalformedError("receipt: base64 in another spelling than its own")
    return data


def _roles(fields: Fields, region: str, limits: Limits) -> tuple[list[bytes], bytes, bytes]:
    """The files of the roots, of targets and of the region's role; what is shown beside each file must be what it holds."""
    files: dict[str, list[bytes]] = {"root": [], "targets": [], region: []}
    roles: list[Metadata] = []
    items = fields.items("roles", limits.root_rotations + 3)
    for item in items:
        shown = Fields(item, "receipt: role")
        name = shown.text("name", 64)
        if name not in files:
            raise MalformedError(f"receipt: a role {name!r} that is not asked for")
        data = _decoded(shown.text("file", 2 * limits.targets_bytes))
        role = parse_metadata(data, "root" if name == "root" else "targets", limits, name=name)
        files[name].append(data)
        roles.append(role)
    keys = {keyid: key for role in roles for keyid, key in role.keys.items()}
    if [_role(role, keys) for role in roles] != items:
        raise MalformedError("receipt: what it shows of a role is not what the role's file holds")
    if not files["root"] or len(files["targets"]) != 1 or len(files[region]) != 1:
        raise MalformedError("receipt: it must show a root, the targets and the region's role")
    return files["root"], files["targets"][0], files[region][0]


def _check_release(found: ReceiptAudit, fields: Fields, release: RegionRelease) -> None:
    shown = fields.object("release")
    signed: Object = {
        "number": release.release,
        "bundle": release.bundle,
        "bytes": release.bytes,
        "records": release.records,
    }
    if shown != signed:
        raise EvidenceError(f"the release it names is not release {release.release} as its role signs it")
    found.checks.append(Check(f"release {release.release}", f"bundle {release.bundle}, as signed", ok=True))
    name = canary_name(release.region, release.channel, release.release)
    canaries = fields.items("canaries", len(CANARY_OF))
    if canaries not in [_canaries(engines, name) for engines in ((), ("clamav",), ("yara",), ("clamav", "yara"))]:
        raise EvidenceError("a canary it names is not this release's")


def _canaries(engines: Sequence[str], name: str) -> list[canonical.JSON]:
    return [{"engine": engine, "name": name} for engine in engines]


def _check_said(found: ReceiptAudit, fields: Fields, release: RegionRelease) -> None:
    """What only the endpoint can say: it must at least fit what is signed."""
    made = fields.text("made", 32)
    if not _WHEN.match(made):
        raise MalformedError("receipt: 'made' is not a time")
    fields.text("client", 64)
    said = fields.object("applied") if found.receipt.get("applied") is not None else None
    if said is None:
        found.checks.append(Check("applied", f"not known how; verified at {made}, says the endpoint", ok=True))
        return
    shown = Fields(said, "receipt: applied")
    shown.constant("format", APPLIED_FORMAT)
    source = shown.integer_or_null("from", least=1)
    target = release.full if source is None else release.deltas.get(source)
    at = shown.text("at", 32)
    number, path, length, sha256 = (
        shown.integer("release"),
        shown.text("path"),
        shown.integer("length"),
        shown.sha256("sha256"),
    )
    shown.done()
    if not _WHEN.match(at) or number != release.release:
        raise MalformedError("receipt: 'applied' is not about this release")
    # A role that was signed anew may name other deltas than the one that was applied: then the endpoint's word stands alone.
    signed = target is not None and (path, length, sha256) == (target.path, target.length, target.sha256)
    words = "as signed" if signed else "which the role no longer names"
    found.checks.append(
        Check("applied", f"{path}, {words}, at {at}; all verified again at {made}, says the endpoint", ok=True)
    )
