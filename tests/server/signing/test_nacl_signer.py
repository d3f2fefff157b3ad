from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer

from coldchain.keys import PublicKey
from coldchain_server.signing.nacl_signer import NaclKey, NaclSigner, register

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # RFC 8032, test 1


def test_the_signature_is_that_of_rfc_8032() -> None:
    signer = NaclSigner(SEED)
    assert signer.public_key.keyval["public"] == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert signer.sign(b"").signature.startswith("e5564300c360ac72")
    assert signer.sign(b"").signature.endswith("100b")


def test_the_key_id_is_the_clients() -> None:
    key = NaclSigner(SEED).public_key
    assert key.keyid == PublicKey(bytes.fromhex(key.keyval["public"])).keyid


@given(st.binary(max_size=64), st.integers(0, 511))
def test_no_changed_signature_or_text_verifies(text: bytes, bit: int) -> None:
    signer = NaclSigner(SEED)
    good = signer.sign(text)
    signer.public_key.verify_signature(good, text)
    raw = bytearray.fromhex(good.signature)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(UnverifiedSignatureError):
        signer.public_key.verify_signature(Signature(good.keyid, raw.hex()), text)
    with pytest.raises(UnverifiedSignatureError):
        signer.public_key.verify_signature(good, text + b"\0")


@pytest.mark.parametrize("signature", ["", "zz", "00" * 63, "00" * 65])
def test_what_is_no_signature_does_not_verify(signature: str) -> None:
    key = NaclSigner(SEED).public_key
    with pytest.raises(UnverifiedSignatureError):
        key.verify_signature(Signature(key.keyid, signature), b"")


def test_python_tuf_takes_the_key_from_metadata() -> None:
    register()
    key = NaclSigner(SEED).public_key
    again = Key.from_dict(key.keyid, key.to_dict())
    assert isinstance(again, NaclKey)
    assert again == key


def test_a_seed_has_no_uri() -> None:
    with pytest.raises(ValueError, match="keyring"):
        NaclSigner.from_priv_key_uri("file:x", NaclSigner(SEED).public_key)
    assert issubclass(NaclSigner, Signer)
