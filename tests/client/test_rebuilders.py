"""K of the rebuilders that a policy names: every combination of good, missing and bad attestations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from coldchain.attestation import bundles_of, file_name
from coldchain.errors import EvidenceError
from coldchain.rebuilders import check_rebuilders
from coldchain.tlog.policy import Policy, parse_policy
from tests.client.test_attestation import KEYS, MANIFEST, attestation
from tests.client.tlog.logs import LOG

NAMES = ("alice", "bob", "carol")


def policy(needed: int) -> Policy:
    lines = [f"log {LOG.vkey}", "quorum none"]
    lines += [f"# coldchain: rebuilder {name} {key.raw.hex()}" for name, key in zip(NAMES, KEYS, strict=True)]
    return parse_policy("\n".join([*lines, f"# coldchain: rebuilders {needed}", ""]).encode())


OTHER = replace(MANIFEST, created="2026-11-24T02:00:01Z")
BAD: dict[str, tuple[Callable[[int], bytes | None], str]] = {
    "missing": (lambda _: None, "no attestation"),
    "empty": (lambda _: b"", "not JSON"),
    "flipped": (lambda n: attestation(n).replace(b'"sig":"', b'"sig":"B'), "sig"),
    "another's": (lambda n: attestation((n + 1) % 3), "no signature of a known key"),
    "of another manifest": (lambda n: attestation(n, manifest=OTHER.digest), "another manifest"),
    "of another release": (lambda n: attestation(n, release=41), "not about release 42"),
    "contradicts": (lambda n: attestation(n, bundles=bundles_of(MANIFEST) | {"jp": "00" * 32}), "another bundle"),
    "not this region": (
        lambda n: attestation(n, bundles={"jp": bundles_of(MANIFEST)["jp"]}),
        "region us was not rebuilt",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_every_combination_of_good_and_bad_ones(bad: str) -> None:
    spoil, words = BAD[bad]
    for good in itertools.product((False, True), repeat=3):
        files = {
            file_name(KEYS[n]): data for n in range(3) if (data := attestation(n) if good[n] else spoil(n)) is not None
        }
        for needed in (1, 2, 3):
            if sum(good) >= needed:
                found = check_rebuilders(policy(needed), MANIFEST, "us", files)
                assert set(found.counted) == {name for name, fine in zip(NAMES, good, strict=True) if fine}
                assert all(name in found.words() for name in found.counted)
                assert f"; {needed} needed" in found.words()
                continue
            with pytest.raises(EvidenceError) as error:
                check_rebuilders(policy(needed), MANIFEST, "us", files)
            assert error.value.exit_code == 16
            assert f"rebuilt by {sum(good)} of {needed} needed rebuilders" in error.value.what
            assert error.value.todo
            said = error.value.what
            for name, fine in zip(NAMES, good, strict=True):
                assert (f"{name}: " in said) is not fine
            assert words in said


def test_nothing_is_asked_for_by_a_policy_without_rebuilders() -> None:
    plain = parse_policy(f"log {LOG.vkey}\nquorum none\n".encode())
    assert check_rebuilders(plain, MANIFEST, "us", {}).counted == {}


def test_one_attestation_under_anothers_name_counts_for_nobody() -> None:
    """A single rebuilder cannot be two."""
    files = {file_name(key): attestation(0) for key in KEYS}
    assert set(check_rebuilders(policy(1), MANIFEST, "us", files).counted) == {"alice"}
    with pytest.raises(EvidenceError, match="1 of 2"):
        check_rebuilders(policy(2), MANIFEST, "us", files)
