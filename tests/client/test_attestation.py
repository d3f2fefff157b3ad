"""Attestations: the envelope's bytes, what is signed, statements that say one thing in one way, and every changed byte."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from coldchain import canonical
from coldchain.attestation import (
    GLOBAL,
    PAYLOAD_TYPE,
    PROVENANCE,
    REBUILD,
    Envelope,
    Rebuild,
    Statement,
    bundles_of,
    check_provenance,
    file_name,
    is_envelope,
    open_rebuild,
    pae,
    parse_envelope,
    parse_rebuild,
    parse_statement,
    provenance,
    published_path,
    sign_statement,
)
from coldchain.bundle.manifest import BundleFacts, FeedFacts, Manifest, Policy, RegionFacts
from coldchain.errors import (
    ColdchainError,
    DigestError,
    InternalError,
    MalformedError,
    NewerFormatError,
    SignatureError,
    VerificationError,
)
from coldchain.keys import PublicKey
from coldchain.limits import Limits

SIGNERS = [SigningKey(bytes([number]) * 32) for number in range(1, 4)]
KEYS = [PublicKey(bytes(signer.verify_key)) for signer in SIGNERS]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


MANIFEST = Manifest(
    product="coldchain",
    channel="stable",
    release=42,
    previous=sha("before"),
    created="2026-11-24T02:00:00Z",
    whole=BundleFacts(sha("global"), 100, 10),
    regions={
        "us": RegionFacts(BundleFacts(sha("us"), 100, 10)),
        "jp": RegionFacts(BundleFacts(sha("jp"), 90, 9), (Policy("leave-out", "signature", "A-7", "why", 1),)),
    },
    feeds=(FeedFacts("acme", sha("acme"), 2, 7), FeedFacts("other", sha("other"), 1, 3, {"bad-hash": 2})),
    assembler="0.1.0",
    source=sha("source"),
)


def made(key: PublicKey = KEYS[0], **changes: Any) -> Rebuild:
    said: dict[str, Any] = {
        "product": "coldchain",
        "channel": "stable",
        "release": 42,
        "manifest": MANIFEST.digest,
        "bundles": bundles_of(MANIFEST),
        "assembler": "0.1.0",
        "source": sha("source"),
        "rebuilt": "2026-11-24T03:00:00Z",
        "key": key,
    }
    return Rebuild(**(said | changes))


def signed(statement: Statement, number: int = 0) -> bytes:
    return sign_statement(statement, KEYS[number], lambda message: SIGNERS[number].sign(message).signature).encode()


def attestation(number: int = 0, **changes: Any) -> bytes:
    return signed(made(KEYS[number], **changes).statement(), number)


def wrapped(payload: bytes, number: int = 0, kind: str = PAYLOAD_TYPE) -> bytes:
    """Any bytes, well signed."""
    return Envelope(payload, kind, {KEYS[number].keyid: SIGNERS[number].sign(pae(kind, payload)).signature}).encode()


# The envelope


def test_the_worked_examples_of_the_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("é", b"\x00") == "DSSEv1 2 é 1 \x00".encode(), "lengths are of bytes"


def test_an_envelope_as_other_tools_see_it() -> None:
    """Read with the standard library alone, as a stranger would."""
    document = json.loads(attestation())
    assert set(document) == {"payload", "payloadType", "signatures"}
    payload = base64.b64decode(document["payload"], validate=True)
    (signature,) = document["signatures"]
    message = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    SIGNERS[0].verify_key.verify(message, base64.b64decode(signature["sig"]))
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == REBUILD
    assert {one["name"]: one["digest"] for one in statement["subject"]} == {
        f"coldchain/stable/42/{region}/bundle.json": {"sha256": digest}
        for region, digest in {"us": sha("us"), "jp": sha("jp"), "global": sha("global")}.items()
    }


def test_an_attestation_goes_around() -> None:
    data = attestation()
    assert parse_envelope(data).encode() == data
    found = open_rebuild(data, KEYS[0])
    assert found == open_rebuild(data) == made()
    found.check(MANIFEST)
    assert found.statement() == parse_statement(parse_envelope(data))


def test_only_the_right_key_opens_it() -> None:
    for number in range(3):
        data = attestation(number)
        for other in range(3):
            if other == number:
                assert open_rebuild(data, KEYS[other]).key == KEYS[number]
                continue
            with pytest.raises(SignatureError, match="no signature of a known key"):
                open_rebuild(data, KEYS[other])


def test_a_signature_under_anothers_id_refuses_the_envelope() -> None:
    good = parse_envelope(attestation(0))
    forged = replace(good, signatures={KEYS[1].keyid: good.signatures[KEYS[0].keyid]})
    with pytest.raises(SignatureError, match="is bad"):
        forged.signed_by([KEYS[1]])
    # also beside a good one
    both = replace(good, signatures={**good.signatures, **forged.signatures})
    with pytest.raises(SignatureError, match="is bad"):
        both.signed_by(KEYS[:2])
    assert both.signed_by([KEYS[0]]) == [KEYS[0]], "an id that nobody asked about is skipped"


def test_several_signatures_and_one_key_counts_once() -> None:
    payload = made().statement().encode()
    message = pae(PAYLOAD_TYPE, payload)
    envelope = Envelope(
        payload,
        PAYLOAD_TYPE,
        {key.keyid: signer.sign(message).signature for key, signer in zip(KEYS, SIGNERS, strict=True)},
    )
    assert parse_envelope(envelope.encode()) == envelope
    assert envelope.signed_by([KEYS[2], KEYS[0], KEYS[2]]) == [KEYS[2], KEYS[0]]
    with pytest.raises(SignatureError, match="no signature of a known key"):
        envelope.signed_by([])


def test_a_key_signs_for_itself_only() -> None:
    """Well signed by one key, and it says that it is another's."""
    data = wrapped(made(KEYS[1]).statement().encode(), 0)
    with pytest.raises(SignatureError, match="another key than the one it names"):
        open_rebuild(data, KEYS[0])
    with pytest.raises(SignatureError, match="no signature of a known key"):
        open_rebuild(data)


def test_the_same_signature_over_another_type_is_none() -> None:
    good = parse_envelope(attestation())
    for kind in ("application/json", PAYLOAD_TYPE + " ", ""):
        with pytest.raises(SignatureError):
            replace(good, payload_type=kind).signed_by([KEYS[0]])
    with pytest.raises(MalformedError, match="payload of type"):
        open_rebuild(wrapped(made().statement().encode(), kind="application/json"), KEYS[0])


def test_a_signer_that_signs_badly_is_our_own_fault() -> None:
    with pytest.raises(InternalError):
        sign_statement(made().statement(), KEYS[0], lambda message: SIGNERS[1].sign(message).signature)


def change(data: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(data)
    edit(document)
    return canonical.encode(document)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a member more": lambda d: d.update(more=1),
    "a member less": lambda d: d.pop("payloadType"),
    "no signature": lambda d: d.update(signatures=[]),
    "signatures not a list": lambda d: d.update(signatures={}),
    "a signature twice": lambda d: d["signatures"].append(d["signatures"][0]),
    "a signature's member more": lambda d: d["signatures"][0].update(cert="x"),
    "a short signature": lambda d: d["signatures"][0].update(sig=d["signatures"][0]["sig"][4:]),
    "an id in capitals": lambda d: d["signatures"][0].update(keyid=d["signatures"][0]["keyid"].upper()),
    "no id": lambda d: d["signatures"][0].update(keyid=""),
    "payload without padding": lambda d: d.update(payload=d["payload"].rstrip("=") + "A"),
    "payload in the other base64": lambda d: d.update(payload="-_" + d["payload"][2:]),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_envelope_has_one_form(name: str) -> None:
    with pytest.raises(MalformedError):
        parse_envelope(change(attestation(), EDITS[name]))


def test_an_envelope_has_one_spelling() -> None:
    data = attestation()
    for other in (data + b"\n", b" " + data, data.replace(b":", b": ", 1), data[:-1], b"[]", b"", b"\xff"):
        with pytest.raises(MalformedError):
            parse_envelope(other)


def test_bounds_of_an_envelope() -> None:
    data = attestation()
    assert parse_envelope(data, Limits(attestation_bytes=len(data))).encode() == data
    with pytest.raises(MalformedError, match="longer than allowed"):
        parse_envelope(data, Limits(attestation_bytes=len(data) - 1))
    many = parse_envelope(data)
    many = replace(many, signatures={sha(str(number)): bytes(64) for number in range(65)})
    with pytest.raises(MalformedError, match="at most 64"):
        parse_envelope(many.encode())


def test_every_changed_bit_is_refused() -> None:
    data = attestation()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationError):
            open_rebuild(bytes(damaged), KEYS[0]).check(MANIFEST)


def test_every_beginning_is_refused() -> None:
    data = attestation()
    for end in range(len(data)):
        with pytest.raises(MalformedError):
            open_rebuild(data[:end], KEYS[0])


# Statements


STATEMENT_EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another type": lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"),
    "a member more": lambda d: d.update(more=1),
    "no subject": lambda d: d.update(subject=[]),
    "subjects out of order": lambda d: d["subject"].reverse(),
    "a subject twice": lambda d: d["subject"].append(d["subject"][-1]),
    "a subject of another release": lambda d: d["subject"][0].update(name="coldchain/stable/41/global/bundle.json"),
    "a subject that is no bundle": lambda d: d["subject"][0].update(name="coldchain/stable/42/global"),
    "a subject with a region that cannot be": lambda d: d["subject"][0].update(
        name="coldchain/stable/42/Global/bundle.json"
    ),
    "a subject with another digest": lambda d: d["subject"][0]["digest"].update(sha512="00"),
    "a predicate of another type": lambda d: d.update(predicateType=PROVENANCE),
    "a predicate's member more": lambda d: d["predicate"].update(more=1),
    "release 0": lambda d: d["predicate"].update(release=0),
    "a number as text": lambda d: d["predicate"].update(release="42"),
    "a time with a zone": lambda d: d["predicate"].update(rebuilt="2026-11-24T03:00:00+00:00"),
    "a time in one digit": lambda d: d["predicate"].update(rebuilt="2026-11-24T3:00:00Z"),
    "February 30": lambda d: d["predicate"].update(rebuilt="2026-02-30T03:00:00Z"),
    "no manifest": lambda d: d["predicate"].update(manifest="0"),
    "a key that is none": lambda d: d["predicate"].update(key="00" * 32),
    "an assembler's member more": lambda d: d["predicate"]["assembler"].update(more=1),
}


@pytest.mark.parametrize("name", STATEMENT_EDITS)
def test_a_statement_has_one_form_however_well_it_is_signed(name: str) -> None:
    data = wrapped(change(made().statement().encode(), STATEMENT_EDITS[name]))
    with pytest.raises(MalformedError):
        open_rebuild(data, KEYS[0])


def test_a_statement_has_one_spelling() -> None:
    payload = made().statement().encode()
    for other in (payload + b"\n", payload.replace(b":", b": ", 1)):
        with pytest.raises(MalformedError):
            open_rebuild(wrapped(other), KEYS[0])


def test_a_later_rebuild_is_told_as_such() -> None:
    later = replace(made().statement(), predicate_type=REBUILD.replace("/v1", "/v2"))
    with pytest.raises(NewerFormatError):
        parse_rebuild(later)


def test_a_rebuild_about_anything_else_is_refused() -> None:
    other = replace(MANIFEST, created="2026-11-24T02:00:01Z")
    for wrong in (
        made(manifest=other.digest),
        made(release=43),
        made(channel="early"),
        made(product="other"),
        made(bundles=bundles_of(MANIFEST) | {"us": sha("jp")}),
        made(bundles=bundles_of(MANIFEST) | {"kr": sha("us")}),
        made(bundles=bundles_of(MANIFEST) | {GLOBAL: sha("us")}),
    ):
        with pytest.raises(DigestError):
            open_rebuild(signed(wrong.statement())).check(MANIFEST)
        with pytest.raises(DigestError):
            made().check(other)
    made(bundles={"us": sha("us")}).check(MANIFEST)


# Provenance


def test_the_provenance_says_what_the_manifest_says() -> None:
    statement = provenance(MANIFEST)
    assert statement.predicate_type == PROVENANCE
    assert sorted(statement.subjects.values()) == sorted([sha("us"), sha("jp"), sha("global")])
    predicate: Any = statement.predicate
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert [(one["name"], one["digest"]["sha256"]) for one in definition["resolvedDependencies"]] == [
        ("acme", sha("acme")),
        ("other", sha("other")),
    ]
    assert definition["externalParameters"]["regions"]["jp"] == [
        {"action": "leave-out", "kind": "signature", "name": "A-7", "reason": "why"}
    ]
    assert definition["externalParameters"]["skipBad"] == ["other"]
    assert details["builder"]["version"] == {"coldchain-server": "0.1.0"}
    assert details["builder"]["builderDependencies"][0]["digest"]["sha256"] == sha("source")
    assert details["metadata"] == {"invocationId": MANIFEST.digest, "startedOn": "2026-11-24T02:00:00Z"}
    assert details["byproducts"][0]["digest"]["sha256"] == MANIFEST.digest
    check_provenance(parse_statement(parse_envelope(signed(statement))), MANIFEST)


def test_the_provenance_of_another_manifest_is_refused() -> None:
    for other in (
        replace(MANIFEST, created="2026-11-24T02:00:01Z"),
        replace(MANIFEST, feeds=MANIFEST.feeds[:1]),
        replace(MANIFEST, source=None),
    ):
        with pytest.raises(DigestError):
            check_provenance(provenance(other), MANIFEST)
    assert "builderDependencies" not in str(provenance(replace(MANIFEST, source=None)).predicate)


# In the log, and anything at all


def test_entries_of_the_log_are_told_apart() -> None:
    assert is_envelope(attestation())
    assert is_envelope(wrapped(b"anything"))
    assert not is_envelope(MANIFEST.encode())
    both = {"format": "coldchain-manifest-1", "payloadType": PAYLOAD_TYPE}
    for entry in (b"", b"{}", b"[]", b"\x00", attestation()[:-1], canonical.encode(dict(both))):
        assert not is_envelope(entry)


def test_names_of_files() -> None:
    assert file_name(KEYS[0]) == f"{KEYS[0].keyid}.dsse.json"
    assert published_path("5c" * 32, KEYS[0]) == f"attestations/{'5c' * 32}/{KEYS[0].keyid}.dsse.json"


JSONS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.one_of(st.binary(), JSONS.map(lambda value: json.dumps(value).encode())))
def test_any_bytes_are_refused_by_our_own_errors(data: bytes) -> None:
    is_envelope(data)
    for one in (data, wrapped(data)):
        with suppress(ColdchainError):
            open_rebuild(one, KEYS[0])
            raise AssertionError("nobody wrote this")


@given(st.sampled_from(sorted(json.loads(made().statement().encode())["predicate"])), JSONS)
def test_any_value_of_a_member_is_read_as_itself_or_refused(name: str, value: Any) -> None:
    payload = change(made().statement().encode(), lambda document: document["predicate"].update({name: value}))
    with suppress(ColdchainError):
        assert open_rebuild(wrapped(payload), KEYS[0]).statement().encode() == payload
