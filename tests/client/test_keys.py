"""Ed25519 keys: what is one, what verifies, and that a key has one value and a signature one spelling."""

from __future__ import annotations

import hashlib
import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from coldchain.canonical import JSON, encode
from coldchain.errors import MalformedError
from coldchain.keys import PublicKey, parse_key

ZERO = SigningKey(b"\0" * 32)
KEY = PublicKey(ZERO.verify_key.encode())
L = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
# RFC 8032, section 7.1, tests 1 to 3: secret, public, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
# The points of small order (libsodium's list), and one of order 8 * L: none may be a key.
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
]


def test_rfc_8032_vectors() -> None:
    for _, public, message, signature in RFC_8032:
        key = PublicKey(bytes.fromhex(public))
        assert key.verify(bytes.fromhex(signature), bytes.fromhex(message))
        assert not key.verify(bytes.fromhex(signature), bytes.fromhex(message) + b"x")
    for (_, public, _, _), (_, _, message, signature) in itertools.pairwise(RFC_8032):
        assert not PublicKey(bytes.fromhex(public)).verify(bytes.fromhex(signature), bytes.fromhex(message))


def test_the_worked_example_of_the_module() -> None:
    text = (
        b'{"keytype":"ed25519","keyval":{"public":"3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"},'
        b'"scheme":"ed25519"}'
    )
    assert encode(KEY.as_json()) == text
    assert KEY.keyid == hashlib.sha256(text).hexdigest()
    assert parse_key(KEY.as_json(), "key") == KEY


def test_every_bit_of_a_signature_counts() -> None:
    signature = ZERO.sign(b"message").signature
    assert KEY.verify(signature, b"message")
    for bit in range(512):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not KEY.verify(bytes(changed), b"message")
    for length in (0, 1, 32, 63, 65, 128):
        assert not KEY.verify((signature * 2)[:length], b"message")


def test_a_signature_has_one_spelling() -> None:
    """S + L verifies under the bare equation and must be refused."""
    signature = ZERO.sign(b"message").signature
    s = int.from_bytes(signature[32:], "little")
    for multiple in range(1, 16):
        if s + multiple * L < 2**256:
            assert not KEY.verify(signature[:32] + (s + multiple * L).to_bytes(32, "little"), b"message")


def test_points_of_small_order_and_other_spellings_of_points_are_no_keys() -> None:
    for text in SMALL_ORDER:
        with pytest.raises(MalformedError):
            PublicKey(bytes.fromhex(text))
        key: JSON = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": text}}
        assert parse_key(key, "key") is None
    for y in range(P, 2**255):  # the 19 non-canonical values
        for sign_bit in (0, 1 << 255):
            with pytest.raises(MalformedError):
                PublicKey((y | sign_bit).to_bytes(32, "little"))


def test_a_key_with_a_part_of_small_order_is_no_key() -> None:
    """Else one private key could count as several public ones. Built with plain arithmetic: A + T, T of order 2."""

    def decode(data: bytes) -> tuple[int, int]:
        y = int.from_bytes(data, "little")
        sign_bit, y = y >> 255, y & (1 << 255) - 1
        d = -121665 * pow(121666, -1, P) % P
        square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        if x * x % P != square:
            x = x * pow(2, (P - 1) // 4, P) % P
        return (P - x if x & 1 != sign_bit else x), y

    x, y = decode(KEY.raw)
    x, y = -x % P, -y % P  # adding the point (0, -1) of order 2 negates both coordinates
    mixed = (y | (x & 1) << 255).to_bytes(32, "little")
    with pytest.raises(MalformedError):
        PublicKey(mixed)


def test_keys_are_32_bytes() -> None:
    for length in (0, 31, 33, 64):
        with pytest.raises(MalformedError):
            PublicKey((KEY.raw * 2)[:length])


def test_keys_are_compared_by_value() -> None:
    assert PublicKey(bytes(KEY.raw)) == KEY
    assert hash(PublicKey(bytes(KEY.raw))) == hash(KEY)
    assert PublicKey(SigningKey(b"\1" * 32).verify_key.encode()) != KEY


def test_what_parse_key_ignores_and_what_it_refuses() -> None:
    good = KEY.as_json()
    assert parse_key(good | {"keyid_hash_algorithms": ["sha256"]}, "key") == KEY
    assert parse_key(good | {"keyval": {"public": KEY.raw.hex().upper()}}, "key") == KEY
    ignored: list[JSON] = [
        good | {"keytype": "rsa"},
        good | {"scheme": "rsassa-pss-sha256"},
        good | {"keyval": {}},
        good | {"keyval": {"public": None}},
        good | {"keyval": {"public": KEY.raw.hex()[:-2]}},
        good | {"keyval": {"public": KEY.raw.hex() + "\n"}},
        good | {"keyval": {"public": " " + KEY.raw.hex()[1:]}},
        good | {"keyval": {"public": "-----BEGIN PUBLIC KEY-----"}},
    ]
    for value in ignored:
        assert parse_key(value, "key") is None
    refused: list[JSON] = [None, [], "key", 1, {}, {"keytype": "ed25519"}, good | {"keyval": "x"}, good | {"scheme": 1}]
    refused += [{name: value for name, value in good.items() if name != gone} for gone in good]
    for value in refused:
        with pytest.raises(MalformedError):
            parse_key(value, "key")


@given(st.binary(min_size=0, max_size=96), st.binary(max_size=64))
def test_no_signature_is_guessed_and_none_crashes(signature: bytes, message: bytes) -> None:
    assert not KEY.verify(signature, message)


@given(st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_key_or_malformed(raw: bytes) -> None:
    with suppress(MalformedError):
        assert PublicKey(raw).raw == raw
