"""Approvals: the worked example, what is not one, and that an approval is of exactly one release."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import approval
from coldchain.approval import Approval, approve, check_approval, file_name, parse_approval
from coldchain.errors import ColdchainError, EvidenceError, MalformedError, NewerFormatError, SignatureError
from coldchain.limits import LIMITS
from coldchain.tlog.note import SignedNote
from coldchain.verify import RegionRelease, Target
from tests.client.tlog.memory_log import MemoryLog, Signing

TEAM, OTHER = Signing.make("security.example.com/fleet"), Signing.make("security.example.com/other")
AT = datetime(2026, 6, 2, 9, tzinfo=UTC)
GOOD = Approval("coldchain", "us", "stable", 42, "5c" * 32, "9a" * 32, AT)


def sign(text: str, *signers: Signing) -> bytes:
    return SignedNote(text, tuple(one.sign(text) for one in signers or (TEAM,))).encode()


def test_the_worked_example_is_what_is_written() -> None:
    data = GOOD.sign(TEAM.public, lambda message: TEAM.private.sign(message).signature)
    assert data == sign(GOOD.text)
    assert parse_approval(data, TEAM.public) == GOOD
    shown = [line.strip().split("  ")[0] for line in (approval.__doc__ or "").split("\n") if line.startswith("    ")]
    for line in ("coldchain-approval-1", "product coldchain", "region us", "channel stable", "release 42"):
        assert line in shown
        assert f"{line}\n" in GOOD.text
    assert "approved 2026-06-02T09:00:00Z\n" in GOOD.text
    assert file_name("us", "stable", 42) == "us-stable-42.approval"


def test_whose_signature_it_must_be() -> None:
    with pytest.raises(SignatureError):
        parse_approval(sign(GOOD.text, OTHER), TEAM.public)
    assert parse_approval(sign(GOOD.text, OTHER, TEAM), TEAM.public) == GOOD
    forged = Signing(TEAM.public, OTHER.private)
    with pytest.raises(SignatureError):
        parse_approval(sign(GOOD.text, forged), TEAM.public)


def test_every_change_of_a_byte_is_refused() -> None:
    data = sign(GOOD.text)
    for at, bit in itertools.product(range(len(data)), (1, 16, 128)):
        with pytest.raises(ColdchainError):
            parse_approval(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :], TEAM.public)
    for at in range(len(data)):
        with pytest.raises(ColdchainError):
            parse_approval(data[:at], TEAM.public)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("coldchain-approval-1", "coldchain-approval"),
        lambda text: text.replace("product coldchain\n", ""),
        lambda text: text + "more 1\n",
        lambda text: text.replace("region us", "region  us"),
        lambda text: text.replace("region us", "channel us"),
        lambda text: text.replace("region us", "region ../us"),
        lambda text: text.replace("release 42", "release 042"),
        lambda text: text.replace("release 42", "release 0"),
        lambda text: text.replace("release 42", "release -1"),
        lambda text: text.replace("5c5c", "5C5C"),
        lambda text: text.replace("9a9a", "9a"),
        lambda text: text.replace("2026-06-02", "2026-06-31"),
        lambda text: text.replace("T09:00:00Z", "T09:00:00"),
    ],
)
def test_a_text_of_another_form_is_none_whoever_signed_it(change: Any) -> None:
    changed = change(GOOD.text)
    assert changed != GOOD.text
    with pytest.raises(MalformedError):
        parse_approval(sign(changed), TEAM.public)


def test_a_later_format_and_a_long_one() -> None:
    with pytest.raises(NewerFormatError):
        parse_approval(sign(GOOD.text.replace("approval-1", "approval-2")), TEAM.public)
    with pytest.raises(MalformedError, match="longer"):
        parse_approval(sign(GOOD.text + "x\n" * LIMITS.approval_bytes), TEAM.public)


def test_a_checkpoint_is_no_approval() -> None:
    log = MemoryLog()
    log.append(b"entry")
    with pytest.raises(MalformedError):
        parse_approval(log.note().encode(), log.key.public)


RELEASE_FILES: dict[str, Any] = {
    "manifest": "9a" * 32,
    "evidence": Target("us/stable/evidence.zst", 1, "00" * 32),
    "full": Target("us/stable/full.ccd", 1, "00" * 32),
}
OTHER_MANIFEST: dict[str, Any] = {"manifest": "9b" * 32}


def release(**changed: Any) -> RegionRelease:
    facts: dict[str, Any] = {
        "product": "coldchain",
        "region": "us",
        "channel": "stable",
        "release": 42,
        "bundle": "5c" * 32,
        "bytes": 1,
        "records": 1,
        "deltas": MappingProxyType({}),
        "role_version": 1,
    }
    return RegionRelease(**facts | RELEASE_FILES | changed)


def test_it_is_of_exactly_one_release() -> None:
    data = sign(GOOD.text)
    assert check_approval(data, TEAM.public, release()) == GOOD
    assert replace(approve(release(), AT), approved=AT) == GOOD
    for changed in (
        {"product": "other"},
        {"region": "jp"},
        {"channel": "early"},
        {"release": 43},
        {"release": 41},
        {"bundle": "5d" * 32},
        OTHER_MANIFEST,
    ):
        with pytest.raises(EvidenceError, match="the approval is of"):
            check_approval(data, TEAM.public, release(**changed))


@given(st.binary(max_size=300))
def test_rubbish_is_refused_with_our_error(data: bytes) -> None:
    with pytest.raises(ColdchainError):
        parse_approval(data, TEAM.public)
