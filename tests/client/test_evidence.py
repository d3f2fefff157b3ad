"""Evidence: which policy is in force, and every way in which manifest, proof and chain can fail to speak of what is offered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coldchain.bundle.evidence_file import encode_evidence
from coldchain.bundle.manifest import BundleFacts, Manifest, RegionFacts
from coldchain.errors import (
    ColdchainError,
    EvidenceError,
    MalformedError,
    NewerFormatError,
    SignatureError,
    TransportError,
)
from coldchain.evidence import (
    DO_NOT,
    check_chain,
    check_evidence,
    check_manifest,
    effective_policy,
    refused,
    root_policy,
)
from coldchain.limits import LIMITS
from coldchain.tlog.policy import Policy, parse_policy
from coldchain.tuf.metadata import Metadata, parse_metadata
from coldchain.verify import PROOF, RegionRelease, Target
from tests.client.tlog.memory_log import MemoryLog
from tests.client.tuf.repository import Repository, digest, sign

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIGESTS = {region: digest(region.encode()) for region in ("us", "jp", "global")}


def manifest(release: int = 2, previous: str | None = "ab" * 32, **changes: Any) -> Manifest:
    regions = {region: RegionFacts(BundleFacts(DIGESTS[region], 10, 1)) for region in ("us", "jp")}
    made = Manifest(
        "coldchain",
        "stable",
        release,
        previous,
        "2026-06-01T09:00:00Z",
        BundleFacts(DIGESTS["global"], 10, 1),
        regions,
        (),
        "0.1.0",
    )
    return replace(made, **changes)


def offered(data: bytes, region: str = "us", release: int = 2, **changes: Any) -> RegionRelease:
    """What a region's role signs."""
    file = encode_evidence(data, None)
    evidence = Target(f"{region}/stable/evidence.zst", len(file), digest(file))
    full = Target(f"{region}/stable/full.ccd", 10, digest(b"full"))
    made = RegionRelease(
        "coldchain", region, "stable", release, DIGESTS[region], 10, 1, digest(data), evidence, full, {}, 3
    )
    return replace(made, **changes)


# -- which policy -----------------------------------------------------------------------------------------------------

POLICY = MemoryLog().policy


def root(member: Any = None) -> Metadata:
    repository = Repository()
    if member is not None:
        repository.root["coldchain"] = member
    return parse_metadata(sign(repository.root, repository.signers["root"]), "root", name="root")


def carrying(lines: Any, **more: Any) -> dict[str, Any]:
    return {"format": "coldchain-root-1", "log_policy": lines, **more}


def test_the_roots_policy_is_the_lines_that_it_carries() -> None:
    assert root_policy(root()) is None
    assert root_policy(root(carrying(POLICY.splitlines()))) == POLICY.encode()
    assert effective_policy(root(carrying(POLICY.splitlines())), None) == parse_policy(POLICY.encode())


BAD_MEMBERS: dict[str, Any] = {
    "no object": "policy",
    "a list": [],
    "empty": {},
    "no format": {"log_policy": []},
    "another format": {**carrying([]), "format": "coldchain-region-1"},
    "no policy": {"format": "coldchain-root-1"},
    "one more member": carrying([], more=1),
    "one text": carrying("quorum none"),
    "numbers": carrying([1]),
    "too many lines": carrying(["# x"] * (LIMITS.log_policy_lines + 1)),
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_a_member_of_another_form_is_refused(name: str) -> None:
    bad = root(BAD_MEMBERS[name])
    with pytest.raises(MalformedError):
        root_policy(bad)
    with pytest.raises(EvidenceError, match="the log policy is not in order") as caught:
        effective_policy(bad, None)
    assert caught.value.todo == DO_NOT


def test_a_line_is_one_line() -> None:
    """The reader of JSON lets no line break through; whoever has another reader is not fooled either."""
    bad = replace(root(), signed={**root().signed, "coldchain": carrying(["quorum none\nquorum none"])})
    with pytest.raises(MalformedError, match="not a list of lines"):
        root_policy(bad)


def test_a_later_format_asks_for_a_newer_client() -> None:
    later = root({**carrying([]), "format": "coldchain-root-2"})
    for attempt in (lambda: root_policy(later), lambda: effective_policy(later, None)):
        with pytest.raises(NewerFormatError, match="coldchain-root-2") as caught:
            attempt()
        assert "newer client" in caught.value.todo


@pytest.mark.parametrize("lines", [[], ["quorum none"], POLICY.splitlines()[:-1], [*POLICY.splitlines(), "nonsense"]])
def test_lines_that_are_no_policy_are_no_evidence(lines: list[str]) -> None:
    with pytest.raises(EvidenceError, match="log policy"):
        effective_policy(root(carrying(lines)), None)


def test_the_customers_own_policy_takes_the_place_of_the_roots() -> None:
    own = MemoryLog("log.example/own", need=1).policy.encode()
    members: list[Any] = [None, carrying(POLICY.splitlines()), carrying(["nonsense"]), "rubbish"]
    for member in members:
        assert effective_policy(root(member), own) == parse_policy(own)
    for bad in (b"", b"quorum none\n", b"\xff"):
        with pytest.raises(EvidenceError):
            effective_policy(root(carrying(POLICY.splitlines())), bad)


def test_a_root_without_a_log_says_what_to_do() -> None:
    with pytest.raises(EvidenceError, match=r"root.json version 1 names no public log") as caught:
        effective_policy(root(), None)
    assert "--policy FILE" in caught.value.todo


# -- the manifest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["us", "jp"])
def test_a_manifest_that_speaks_of_the_offer_is_returned(region: str) -> None:
    data = manifest().encode()
    assert check_manifest(data, offered(data, region)).encode() == data


def test_one_byte_more_less_or_other_is_another_manifest() -> None:
    data = manifest().encode()
    release = offered(data)
    for bad in (
        b"",
        data[:-1],
        data + b" ",
        *(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))),
    ):
        with pytest.raises(EvidenceError, match="missing, or not the signed one"):
            check_manifest(bad, release)


def test_the_manifest_must_be_about_the_offer_in_every_member() -> None:
    """Well signed by the role, and about something else."""
    others: list[tuple[Manifest, str]] = [
        (manifest(product="other"), "not about release 2"),
        (manifest(channel="early"), "not about release 2"),
        (manifest(release=3), "not about release 2"),
        (manifest(regions={"jp": manifest().regions["jp"]}), "not about release 2 of region us"),
        (manifest(regions={"us": manifest().regions["jp"]}), "the manifest names bundle .* the role signs"),
    ]
    for other, words in others:
        data = other.encode()
        with pytest.raises(EvidenceError, match=words) as caught:
            check_manifest(data, offered(data))
        assert "do not go on" in caught.value.todo


def test_a_manifest_that_does_not_parse_is_no_evidence() -> None:
    for bad in (b"{}", b"null", b"", manifest().encode().replace(b":", b": ", 1)):
        with pytest.raises(EvidenceError, match="the manifest of release 2"):
            check_manifest(bad, offered(bad))


def test_a_manifest_of_a_later_format_is_said_to_be_one() -> None:
    data = manifest().encode().replace(b"coldchain-manifest-1", b"coldchain-manifest-9")
    assert data != manifest().encode()
    with pytest.raises(NewerFormatError):
        check_manifest(data, offered(data))


# -- the proof --------------------------------------------------------------------------------------------------------


def logged(data: bytes, *before: bytes, **options: Any) -> tuple[MemoryLog, int]:
    log = MemoryLog(**options)
    log.append(*before, data)
    return log, len(before)


def policy_of(log: MemoryLog) -> Policy:
    return parse_policy(log.policy.encode())


@pytest.mark.parametrize(("size", "need"), list(itertools.product((1, 2, 7), (0, 1, 2))))
def test_a_logged_and_cosigned_manifest_is_evidence(size: int, need: int) -> None:
    data = manifest().encode()
    log, index = logged(data, *(b"entry %d" % number for number in range(size - 1)), need=need)
    proof = log.proof(index, None if need else 0, at=NOW)
    found = check_evidence(data, proof, offered(data), policy_of(log), NOW)
    assert found.manifest.encode() == data
    assert (found.verified.index, found.verified.head.checkpoint.size) == (index, size)
    words = found.words()
    assert words.startswith(f"entry {index} of log.example/test, under its root at {size} entries; ")
    assert ("w0 (2026-06-01 12:00 UTC), w1 (2026-06-01 12:00 UTC)" in words) == (need > 0)
    assert ("the policy asks for no witness" in words) == (need == 0)


Bad = Callable[[MemoryLog, int], bytes | None]
BAD_PROOFS: dict[str, tuple[Bad, str]] = {
    "none": (lambda log, index: None, "comes without a proof that the public log holds it"),
    "empty": (lambda log, index: b"", "the log proof of release 2"),
    "rubbish": (lambda log, index: b"rubbish\n", "the log proof of release 2"),
    "cut": (lambda log, index: log.proof(index, at=NOW)[:-1], "the log proof of release 2"),
    "of another entry": (lambda log, index: log.proof(0, at=NOW), "is not under this root"),
    "without cosignatures": (lambda log, index: log.proof(index, 0, at=NOW), "no quorum of witnesses"),
    "one of two": (lambda log, index: log.proof(index, 1, at=NOW), "no quorum of witnesses: .*w1"),
    "from the future": (lambda log, index: log.proof(index, at=NOW + timedelta(days=2)), "clock has not reached"),
}


@pytest.mark.parametrize("name", BAD_PROOFS)
def test_a_bad_proof_is_refused_with_its_reason(name: str) -> None:
    make, words = BAD_PROOFS[name]
    data = manifest().encode()
    log, index = logged(data, b"another", b"and another")
    with pytest.raises(EvidenceError, match=words) as caught:
        check_evidence(data, make(log, index), offered(data), policy_of(log), NOW)
    assert caught.value.exit_code == 16
    assert caught.value.todo


def test_a_good_proof_by_another_policy_is_refused() -> None:
    data = manifest().encode()
    log, index = logged(data)
    proof = log.proof(index, at=NOW)
    others = [
        MemoryLog("log.example/other"),
        MemoryLog(witnesses=("wit.example/three", "wit.example/four")),
        MemoryLog(witnesses=("wit.example/one", "wit.example/three")),
    ]
    for other in others:
        with pytest.raises(EvidenceError):
            check_evidence(data, proof, offered(data), policy_of(other), NOW)
    assert check_evidence(data, proof, offered(data), policy_of(log), NOW).verified.index == index


def test_the_manifest_is_judged_before_its_proof() -> None:
    """A logged manifest helps nothing when it is about another bundle than the one that is offered."""
    data = manifest().encode()
    log, index = logged(data)
    with pytest.raises(EvidenceError, match="the role signs"):
        check_evidence(data, log.proof(index, at=NOW), offered(data, bundle="cd" * 32), policy_of(log), NOW)


# -- the chain --------------------------------------------------------------------------------------------------------


def chain(length: int) -> list[bytes]:
    """Releases 1, 2, … as they should be."""
    made: list[bytes] = []
    for number in range(1, length + 1):
        made.append(manifest(number, digest(made[-1]) if made else None).encode())
    return made


@pytest.mark.parametrize("length", range(1, 6))
def test_a_chain_holds_from_any_release_to_any_later_one(length: int) -> None:
    made = chain(length)
    for installed in range(length):
        for newest in range(installed, length):
            check_chain(made[newest:installed:-1], made[installed])


def test_every_wrong_link_is_found_wherever_it_is() -> None:
    made = chain(5)
    for at in range(1, 5):
        good = manifest(at + 1, digest(made[at - 1]))
        wrong: dict[str, tuple[Manifest, str]] = {
            "no link": (replace(good, previous=None), "names another release"),
            "another link": (replace(good, previous="cd" * 32), "names another release"),
            "another number": (replace(good, release=at + 2), "does not come after"),
            "another channel": (replace(good, channel="early"), "does not come after"),
            "another product": (replace(good, product="other"), "does not come after"),
        }
        for one, words in wrong.values():
            with pytest.raises(EvidenceError, match=words) as caught:
                check_chain([one.encode(), *made[at - 1 : 0 : -1]], made[0])
            assert caught.value.todo == DO_NOT
        for bad in (b"", b"{}", made[at][:-1]):
            with pytest.raises(EvidenceError, match="the chain of manifests"):
                check_chain([bad, *made[at - 1 : 0 : -1]], made[0])
        left_out = [*made[:at], *made[at + 1 :]]
        if at < 4:
            with pytest.raises(EvidenceError, match="does not come after"):
                check_chain(left_out[:0:-1], left_out[0])


# -- what is refused inside -------------------------------------------------------------------------------------------


def test_only_verification_becomes_evidence() -> None:
    for inner in (MalformedError("x"), SignatureError("x", todo="a way out")):
        with pytest.raises(EvidenceError, match="the thing: x") as caught, refused("the thing"):
            raise inner
        assert caught.value.todo == (inner.todo or DO_NOT)
        assert caught.value.__cause__ is inner
    others: list[ColdchainError] = [NewerFormatError("x"), TransportError("x")]
    for other in others:
        with pytest.raises(type(other), match="x"), refused("the thing"):
            raise other
    with pytest.raises(EvidenceError, match=r"^x$") as kept, refused("the thing"):
        raise EvidenceError("x", todo="this")
    assert kept.value.todo == "this"


def test_the_proof_has_its_own_name_among_the_targets() -> None:
    assert PROOF == "manifest.tlog-proof"
