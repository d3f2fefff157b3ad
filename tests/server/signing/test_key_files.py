from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.pwhash import argon2id
from nacl.signing import SigningKey, VerifyKey

from coldchain import canonical
from coldchain.errors import KeyringError
from coldchain_server.signing.key_files import (
    DEMO,
    MODERATE,
    MOST_MEMORY,
    Derive,
    KeyFile,
    Strength,
    derive,
    new_salt,
    parse_key_file,
    seal,
)


def with_passphrase(passphrase: bytes) -> Derive:
    return lambda salt, strength: derive(passphrase, salt, strength)


GOOD = with_passphrase(b"correct horse")
SALT = bytes(range(16))
FILE = seal(GOOD, SALT, DEMO)
DATA = FILE.encode()


def changed(**fields: canonical.JSON) -> bytes:
    return canonical.encode({**json.loads(DATA), **fields})


def test_a_sealed_key_opens_and_signs() -> None:
    seed = parse_key_file(DATA, "k").open(GOOD, "k")
    signed = SigningKey(seed).sign(b"words")
    assert VerifyKey(FILE.public).verify(signed) == b"words"
    assert seed not in DATA
    assert seed.hex().encode() not in DATA


def test_the_passphrase_goes_through_argon2id_as_libsodium_has_it() -> None:
    assert derive(b"correct horse", SALT, DEMO) == argon2id.kdf(
        32, b"correct horse", SALT, DEMO.operations, DEMO.memory
    )
    assert MODERATE.memory >= 256 << 20  # a guess costs a quarter of a gigabyte
    assert MODERATE.operations >= 3


def test_every_key_and_salt_is_new() -> None:
    files = [seal(GOOD, new_salt(), DEMO) for _ in range(8)]
    assert (
        len({file.public for file in files}) == len({file.salt for file in files}) == len({f.box for f in files}) == 8
    )


@given(st.binary(max_size=40).filter(lambda guess: guess != b"correct horse"))
def test_another_passphrase_does_not_open_it(guess: bytes) -> None:
    with pytest.raises(KeyringError, match="does not open: the passphrase is wrong, or the file was changed"):
        FILE.open(with_passphrase(guess), "k")


def test_no_flipped_bit_gives_another_key() -> None:
    """Every bit of the file: it is refused on reading or on opening."""
    opened = 0
    for at in range(len(DATA)):
        for bit in range(8):
            data = DATA[:at] + bytes([DATA[at] ^ 1 << bit]) + DATA[at + 1 :]
            try:
                file = parse_key_file(data, "k")
            except KeyringError:
                continue
            if file.strength.memory > 1 << 20 or file.strength.operations > 9:
                continue  # another strength gives another key; nobody wants to wait for it
            opened += 1
            with pytest.raises(KeyringError):
                file.open(GOOD, "k")
    assert opened > 300, "the flips inside the hexadecimal numbers are well-formed files"


def test_every_truncation_is_refused() -> None:
    for length in range(len(DATA)):
        with pytest.raises(KeyringError):
            parse_key_file(DATA[:length], "k")


@pytest.mark.parametrize(
    "data",
    [
        changed(operations=0),
        changed(operations=101),
        changed(memory=MOST_MEMORY + 1),
        changed(memory=1),
        changed(memory=DEMO.memory + 1),
        changed(kdf="scrypt"),
        changed(format="coldchain-key-2"),
        changed(box=FILE.box.hex()[:-2]),
        changed(salt=SALT.hex().upper()),
        changed(public="zz" * 32),
        changed(more=1),
        DATA + b" " * 5000,
        DATA + b"\n",
        b"[]",
        b"",
    ],
)
def test_what_is_no_key_file_is_refused(data: bytes) -> None:
    with pytest.raises(KeyringError, match=r"key k: "):
        parse_key_file(data, "k")


def test_a_public_key_that_is_not_the_boxs_is_found() -> None:
    other = seal(GOOD, SALT, DEMO)
    with pytest.raises(KeyringError, match="not that of the seed"):
        KeyFile(other.public, FILE.salt, DEMO, FILE.box).open(GOOD, "k")


def test_a_key_of_a_device_has_no_box() -> None:
    file = KeyFile(FILE.public, uri="hsm:slot=1")
    assert parse_key_file(file.encode(), "k") == file
    with pytest.raises(KeyringError, match="lives in 'hsm'"):
        file.open(GOOD, "k")


@given(
    st.builds(
        KeyFile,
        public=st.binary(min_size=32, max_size=32),
        salt=st.binary(min_size=16, max_size=16),
        strength=st.builds(Strength, st.integers(1, 100), st.integers(8, MOST_MEMORY >> 10).map(lambda kib: kib << 10)),
        box=st.binary(min_size=72, max_size=72),
    )
)
def test_files_survive_a_round_trip(file: KeyFile) -> None:
    assert parse_key_file(file.encode(), "k") == file


@given(st.binary(max_size=300))
def test_bytes_that_are_no_file_raise_only_our_error(data: bytes) -> None:
    check: Callable[[bytes, str], object] = parse_key_file
    with pytest.raises(KeyringError):
        check(data, "k")
