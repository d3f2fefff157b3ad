from __future__ import annotations

import stat
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from coldchain.errors import KeyringError
from coldchain_server.signing import keyring as room
from coldchain_server.signing.key_files import DEMO, KeyFile, Strength, derive, parse_key_file
from coldchain_server.signing.keyring import Keyring, new_key_file, open_key_file
from coldchain_server.signing.nacl_signer import NaclKey, sign_with


class Asked:
    """Counts how often somebody had to type the passphrase."""

    def __init__(self, answer: str = "a passphrase") -> None:
        self.answer = answer
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        return self.answer


def keyring(folder: Path, answer: str = "a passphrase") -> Keyring:
    return Keyring(folder / "keys", Asked(answer))


def test_keys_are_made_found_and_sign(tmp_path: Path) -> None:
    made = keyring(tmp_path).create(["root-1", "root-2"], DEMO)
    again = keyring(tmp_path)
    assert again.names() == {key.keyid: name for name, key in made.items()}
    signer = again.signer("root-1")
    assert signer.public_key.keyid == made["root-1"].keyid
    made["root-1"].verify_signature(signer.sign(b"words"), b"words")
    assert again.public("root-2").keyval == made["root-2"].keyval


def test_files_are_for_their_owner_alone_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    keyring(tmp_path).create(["root-1"], DEMO)
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["root-1.json"]
    assert stat.S_IMODE((folder / "root-1.json").stat().st_mode) == 0o600


def test_what_a_dead_process_was_writing_goes_at_the_next_making(tmp_path: Path) -> None:
    keyring(tmp_path).create(["one"], DEMO)
    (tmp_path / "keys" / ".two.json.0123456789abcdef").write_bytes(b"half a key")
    assert list(keyring(tmp_path).files()) == ["one"]
    keyring(tmp_path).create(["two"], DEMO)
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["one.json", "two.json"]


def test_the_passphrase_is_asked_for_once_and_only_when_needed(tmp_path: Path) -> None:
    asked = Asked()
    Keyring(tmp_path, asked).create(["one", "two", "three"], DEMO)
    assert asked.times == 1
    asked = Asked()
    again = Keyring(tmp_path, asked)
    again.names()
    assert asked.times == 0
    for name in ("one", "two", "three", "one"):
        again.signer(name)
    assert asked.times == 1


def test_one_stretching_serves_all_keys_of_a_ceremony(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring(tmp_path).create(["one", "two"], DEMO)
    keyring(tmp_path).create(["three"], DEMO)
    salts = []

    def counted(passphrase: bytes, salt: bytes, strength: Strength) -> bytes:
        salts.append(salt)
        return derive(passphrase, salt, strength)

    monkeypatch.setattr(room, "derive", counted)
    again = keyring(tmp_path)
    for name in ("one", "two", "three"):
        again.signer(name)
    assert len(salts) == 2


def test_a_wrong_passphrase_opens_no_key(tmp_path: Path) -> None:
    keyring(tmp_path).create(["one"], DEMO)
    with pytest.raises(KeyringError, match="key one does not open"):
        keyring(tmp_path, "another").signer("one")


def test_no_key_is_written_over(tmp_path: Path) -> None:
    keyring(tmp_path).create(["one"], DEMO)
    before = (tmp_path / "keys" / "one.json").read_bytes()
    with pytest.raises(KeyringError, match="exists already") as caught:
        keyring(tmp_path).create(["one"], DEMO)
    assert caught.value.kept
    assert (tmp_path / "keys" / "one.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["one.json"]


@pytest.mark.parametrize("name", ["", "Root", "../root", "a/b", ".hidden", "-a", "a" * 65, "a\n", "ä"])
def test_names_stay_within_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyringError, match="not a key's name"):
        keyring(tmp_path).create([name], DEMO)
    assert not list(tmp_path.rglob("*.json"))


def test_a_threshold_needs_so_many_different_keys(tmp_path: Path) -> None:
    """A key file copied under a second name is still one key."""
    made = keyring(tmp_path).create(["one"], DEMO)
    (tmp_path / "keys" / "two.json").write_bytes((tmp_path / "keys" / "one.json").read_bytes())
    keyids = [made["one"].keyid]
    assert len(keyring(tmp_path).signers(keyids, 1, "role x")) == 1
    with pytest.raises(KeyringError, match=r"role x needs 2 keys, 1 are here: (one|two)$"):
        keyring(tmp_path).signers(keyids, 2, "role x")


def test_preferred_keys_come_first(tmp_path: Path) -> None:
    made = keyring(tmp_path).create(["approver-1", "assembler"], DEMO)
    keyids = [key.keyid for key in made.values()]
    (first,) = keyring(tmp_path).signers(keyids, 1, "role us", prefer="assembler")
    assert first.public_key.keyid == made["assembler"].keyid


def test_a_damaged_file_is_named_where_its_key_is_needed_and_nowhere_else(tmp_path: Path) -> None:
    """A broken copy of an offline key must not stop the timestamp."""
    made = keyring(tmp_path).create(["root-1", "timestamp"], DEMO)
    (tmp_path / "keys" / "root-1.json").write_bytes(b"{")
    again = keyring(tmp_path)
    assert len(again.signers([made["timestamp"].keyid], 1, "role timestamp")) == 1
    with pytest.raises(KeyringError, match=r"0 are here: none \(damaged: root-1\)"):
        again.signers([made["root-1"].keyid], 1, "role root")
    with pytest.raises(KeyringError, match="key root-1: "):
        again.signer("root-1")


def test_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="no key 'root-1' here") as caught:
        keyring(tmp_path).signer("root-1")
    assert "bring its file" in caught.value.todo


@pytest.mark.parametrize("uri", ["nowhere:x", "hsm:", "file:relative"])
def test_a_key_of_an_unknown_device_is_refused(tmp_path: Path, uri: str) -> None:
    keyring(tmp_path).create(["one"], DEMO)
    path = tmp_path / "keys" / "one.json"
    public = parse_key_file(path.read_bytes(), "one").public
    path.write_bytes(KeyFile(public, uri=uri).encode())
    assert keyring(tmp_path).public("one").keyid == NaclKey.from_public(public).keyid
    with pytest.raises(KeyringError, match="key one: no signer for"):
        keyring(tmp_path).signer("one")


# One key in a file of its own


def test_a_key_file_outside_any_keyring(tmp_path: Path) -> None:
    """Nothing else in the directory is touched, nor its mode."""
    tmp_path.chmod(0o755)
    other = tmp_path / ".alice.json.left"
    other.write_bytes(b"")
    path = tmp_path / "alice.json"
    made = new_key_file(path, lambda: "a passphrase", DEMO)
    assert (tmp_path.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o755, 0o600)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".alice.json.left", "alice.json"]
    signer = open_key_file(path, lambda: "a passphrase")
    assert signer.public_key.keyid == made.keyid
    key, sign = sign_with(signer)
    assert key.keyid == made.keyid
    assert key.verify(sign(b"message"), b"message")
    before = path.read_bytes()
    asked = Asked()
    with pytest.raises(KeyringError, match="exists already") as refused:
        new_key_file(path, asked, DEMO)
    assert asked.times == 0
    assert refused.value.todo == "leave --new-key out"
    assert path.read_bytes() == before
    with pytest.raises(KeyringError, match="passphrase is wrong"):
        open_key_file(path, lambda: "another")


def test_key_files_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    with pytest.raises(KeyringError, match="cannot be read"):
        open_key_file(path, lambda: "x")
    with pytest.raises(KeyringError, match="cannot be written"):
        new_key_file(tmp_path / "no" / "alice.json", lambda: "x", DEMO)
    for data in (b"", b"{}", b" " * 5000):
        path.write_bytes(data)
        with pytest.raises(KeyringError, match=r"key alice\.json: "):
            open_key_file(path, lambda: "x")
    path.write_bytes(KeyFile(bytes(SigningKey.generate().verify_key), uri="nowhere:x").encode())
    with pytest.raises(KeyringError, match="no signer for"):
        open_key_file(path, lambda: "x")
