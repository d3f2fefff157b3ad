"""Cosignatures: time and text are both bound, and nothing else passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import MalformedError, SignatureError
from coldchain.tlog import cosignature as module
from coldchain.tlog.cosignature import PAYLOAD_BYTES, check_cosignature, cosign, signed_bytes
from tests.client.tlog.logs import LOG, ONE, SIGNED_AT, MemoryLog, example

TEXT = MemoryLog.of(3).checkpoint().text
KEY = ONE.key.key


def sign(message: bytes) -> bytes:
    return ONE.private.sign(message).signature


def test_the_worked_example_of_the_module() -> None:
    shown = example(module.__doc__, "cosignature/v1", "NmQuc8").replace("\\n", "")
    text = shown.split("\n", 2)[2]
    assert signed_bytes(text, SIGNED_AT).decode() == shown
    assert cosign(text, SIGNED_AT, sign).hex().startswith("000000006553f100" + "92aaf08ae2b7a4e8")


def test_every_bit_of_a_cosignature_counts() -> None:
    payload = cosign(TEXT, SIGNED_AT, sign)
    assert check_cosignature(TEXT, payload, KEY) == SIGNED_AT
    for bit in range(8 * PAYLOAD_BYTES):
        changed = bytearray(payload)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            check_cosignature(TEXT, bytes(changed), KEY)
    for length in (0, 8, 64, 71, 73, 144):
        with pytest.raises(SignatureError):
            check_cosignature(TEXT, (payload * 2)[:length], KEY)
    for text in (TEXT + "x\n", TEXT[:-1], "", TEXT.replace("3", "4")):
        with pytest.raises(SignatureError):
            check_cosignature(text, payload, KEY)
    with pytest.raises(SignatureError):
        check_cosignature(TEXT, payload, LOG.key.key)


def test_a_plain_signature_is_no_cosignature() -> None:
    with pytest.raises(SignatureError):
        check_cosignature(TEXT, SIGNED_AT.to_bytes(8, "big") + sign(TEXT.encode()), KEY)


@pytest.mark.parametrize("time", [-1, 0, 2**63])
def test_times_that_are_none(time: int) -> None:
    with pytest.raises(MalformedError):
        cosign(TEXT, time, sign)
    if time >= 0:
        with pytest.raises(SignatureError):
            check_cosignature(TEXT, time.to_bytes(8, "big") + sign(signed_bytes(TEXT, time)), KEY)


@given(st.integers(1, 2**63 - 1), st.text())
def test_cosignatures_come_back(time: int, text: str) -> None:
    assert check_cosignature(text, cosign(text, time, sign), KEY) == time
