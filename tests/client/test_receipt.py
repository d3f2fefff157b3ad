"""Receipts: what is shown is what was verified; others can check it with openssl alone; nothing in it can be changed unseen."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from coldchain import canonical, cli
from coldchain.errors import NewerFormatError, UsageError
from coldchain.install.directory import ClientDirectory
from coldchain.install.endpoint_key import new_key, read_key
from coldchain.keys import PublicKey
from coldchain.receipt import ReceiptAudit, check_receipt, encode_receipt, is_receipt
from tests.client.agent.publisher import FIRST, SECOND, Publisher, run
from tests.client.tlog.memory_log import MemoryLog

DOCS = Path(__file__).parents[2] / "docs" / "receipts.md"


class World:
    """An endpoint at release 2, under the second root, with a key and a signed receipt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        publisher = Publisher(folder / "publisher", log=MemoryLog())
        tree = folder / "tree"
        self.root = folder / "root.json"
        self.root.write_bytes(publisher.repository.pinned)
        publisher.publish(1, FIRST)
        publisher.write(tree)
        self.directory = publisher.client(folder / "endpoint", str(tree))
        asyncio.run(run(self.directory))
        publisher.repository.publish_root()
        publisher.publish(2, SECOND)
        publisher.write(tree)
        asyncio.run(run(self.directory))
        self.key = folder / "endpoint.pem"
        self.public = new_key(self.key)
        self.file = folder / "receipt.json"
        assert self.receipt("--sign", str(self.key), "-o", str(self.file)) == 0
        self.good = self.file.read_bytes()

    def receipt(self, *words: str) -> int:
        return cli.run(["receipt", str(self.directory.path), *words])

    def signed(self, receipt: canonical.Object) -> bytes:
        key = read_key(self.key)
        return encode_receipt(receipt, (self.public, lambda data: key.sign(data).signature))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("receipts"))


def check(data: bytes, **options: Any) -> ReceiptAudit:
    return check_receipt(data, datetime.now(UTC), **options)


def test_a_receipt_says_what_was_verified(world: World) -> None:
    found = check(world.good, pinned=world.root.read_bytes(), signer=world.public)
    assert found.error is None, found.checks
    receipt: Any = found.receipt
    assert receipt["release"]["number"] == 2
    assert [role["name"] for role in receipt["roles"]] == ["root", "root", "targets", "us"]
    assert receipt["applied"]["from"] == 1
    assert receipt["applied"]["path"] == "us/stable/from-1.ccd"
    assert {one["name"] for one in receipt["canaries"]} == {"Coldchain.Canary.us-stable-2"}
    assert [one["name"] for one in receipt["log"]["signatures"]] == [
        "log.example/test",
        "wit.example/one",
        "wit.example/two",
    ]
    assert receipt["log"]["index"] == 1
    assert is_receipt(world.good)
    assert {check.name for check in found.checks} >= {
        "signed",
        "pinned root",
        "root 2",
        "targets",
        "region us",
        "public log",
    }


def test_openssl_and_sha256sum_check_it_as_the_page_says(world: World, tmp_path: Path) -> None:
    """The commands of docs/receipts.md, run as they stand; every signature, and none of them by our code."""
    for program in ("openssl", "jq", "sha256sum", "bash"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed here")
    script = "set -e\n" + "\n".join(re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL))
    (tmp_path / "root.json").write_bytes(world.root.read_bytes())

    def shell(data: bytes) -> subprocess.CompletedProcess[str]:
        (tmp_path / "receipt.json").write_bytes(data)
        return subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)

    done = shell(world.good)
    assert done.returncode == 0, done.stdout + done.stderr
    receipt: Any = check(world.good).receipt
    count = 1 + sum(len(role["signatures"]) for role in receipt["roles"]) + len(receipt["log"]["signatures"])
    assert done.stdout.count("Signature Verified Successfully") == count
    # What openssl refuses: another time, another bundle, another manifest, each under a good signature of the endpoint.
    for change in ("made", "bundle", "manifest"):
        other: Any = json.loads(json.dumps(receipt))
        if change == "made":
            assert shell(world.good.replace(b'"made":"2', b'"made":"3')).returncode != 0
        elif change == "bundle":
            other["release"]["bundle"] = "00" * 32
            assert shell(world.signed(other)).returncode != 0
        else:
            other["manifest"] += " "
            assert shell(world.signed(other)).returncode != 0


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, (*path, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from leaves(one, (*path, index))
    else:
        yield path, value


def lie(value: str | int | None) -> str | int:
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    return 1 if value is None else value + 1


ITS_OWN_WORD = {
    ("made",),
    ("client",),
    ("applied", "at"),
    ("applied", "length"),
    ("applied", "path"),
    ("applied", "sha256"),
}


def test_every_member_is_checked_even_if_the_endpoint_signs_a_lie(world: World) -> None:
    receipt: Any = check(world.good).receipt
    believed = set()
    for path, value in leaves(receipt):
        other: Any = json.loads(json.dumps(receipt))
        place = other
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = lie(value)
        if check(world.signed(other)).error is None:
            believed.add(path)
    assert believed <= ITS_OWN_WORD | {("applied", "from")}
    for name in receipt:
        without = {one: value for one, value in receipt.items() if one != name}
        assert check(world.signed(without)).error is not None, name
    assert check(world.signed({**receipt, "more": 1})).error is not None
    nowhere: Any = {**receipt, "applied": None}
    assert check(world.signed(nowhere)).error is None


def test_a_laxer_policy_cannot_pass_for_the_roots(world: World) -> None:
    receipt: Any = check(world.good).receipt
    text = base64.b64decode(receipt["policy"]["file"]) + b"# another one\n"
    policy = {"sha256": hashlib.sha256(text).hexdigest(), "file": base64.b64encode(text).decode()}
    assert check(world.signed({**receipt, "policy": {"source": "root", **policy}})).error is not None
    assert check(world.signed({**receipt, "policy": {"source": "own", **policy}})).error is None


def test_every_byte_of_a_signed_receipt_counts(world: World) -> None:
    for at in range(0, len(world.good), 173):
        found = check(world.good[:at] + bytes([world.good[at] ^ 1]) + world.good[at + 1 :])
        assert found.error is not None, at
    for cut in range(0, len(world.good) - 1, 997):
        assert check(world.good[:cut]).error is not None


def test_another_root_another_key_no_key(world: World, tmp_path: Path) -> None:
    other = Publisher(tmp_path / "other", log=MemoryLog(origin="log.example/other")).repository.pinned
    assert check(world.good, pinned=other).error is not None
    stranger = PublicKey(bytes(read_key_of(tmp_path).verify_key))
    assert check(world.good, signer=stranger).error is not None
    unsigned = encode_receipt(check(world.good).receipt)
    found = check(unsigned)
    assert (found.error, found.signer) == (None, None)
    assert "by nobody" in found.checks[0].detail
    assert check(unsigned, signer=world.public).error is not None


def read_key_of(folder: Path) -> Any:
    path = folder / "another.pem"
    new_key(path)
    return read_key(path)


def test_a_later_format_is_newer(world: World) -> None:
    receipt: Any = check(world.good).receipt
    found = check(world.signed({**receipt, "format": "coldchain-receipt-2"}))
    assert isinstance(found.error, NewerFormatError)


def test_key_files(world: World, tmp_path: Path) -> None:
    assert stat.S_IMODE(world.key.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="is there already"):
        new_key(world.key)
    shared = tmp_path / "shared.pem"
    shared.write_bytes(world.key.read_bytes())
    shared.chmod(0o640)
    with pytest.raises(UsageError, match="read by others"):
        read_key(shared)
    text = world.key.read_text().split("\n")
    for bad in (b"", b"\n".join(map(str.encode, text[:2])), world.key.read_bytes() + b"\n", text[1].encode()):
        shared.write_bytes(bad)
        shared.chmod(0o600)
        with pytest.raises(UsageError, match="no Ed25519 key"):
            read_key(shared)
    assert base64.b64decode(text[1])[-32:] == bytes(read_key(world.key))
    if shutil.which("openssl"):
        made = tmp_path / "openssl.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(made)], check=True, umask=0o077)
        assert len(bytes(read_key(made))) == 32
        out = subprocess.run(
            ["openssl", "pkey", "-in", str(world.key), "-pubout", "-outform", "DER"], capture_output=True, check=True
        )
        assert out.stdout[-32:] == world.public.raw


def test_the_command_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.run(["receipt", "--check", str(world.file), "--root", str(world.root), "--key", world.public.raw.hex()])
        == 0
    )
    assert "the receipt holds" in capsys.readouterr().out
    assert cli.run(["verify", str(world.file), "--root", str(world.root)]) == 0
    assert "the receipt holds" in capsys.readouterr().out
    assert world.receipt("--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert check(json.dumps(printed, indent=1).encode()).error is None
    bad = tmp_path / "bad.json"
    bad.write_bytes(world.good.replace(b'"index":1', b'"index":0'))
    assert cli.run(["receipt", "--check", str(bad), "--json"]) == 16
    assert json.loads(capsys.readouterr().out)["ok"] is False
    for words in (
        [],
        ["--check", str(world.file), "--sign", str(world.key)],
        [str(world.directory.path), "--root", str(world.root)],
        [str(world.directory.path), "--new-key", str(tmp_path / "k"), "-o", str(tmp_path / "r")],
        ["--check", str(tmp_path / "nothing")],
        ["--check", str(world.file), "--key", "zz"],
        ["--check", str(world.file), "--key", "00" * 32],
    ):
        assert cli.run(["receipt", *words]) == 2, words
    assert world.receipt("--new-key", str(tmp_path / "k")) == 0
    assert "public half" in capsys.readouterr().out


def test_no_receipt_for_what_is_damaged(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(world.directory.path, tmp_path / "endpoint", symlinks=True)
    directory = ClientDirectory(tmp_path / "endpoint")
    section = directory.current.resolve() / "main.hsb"
    data = section.read_bytes()
    section.unlink()
    section.write_bytes(data[:-2] + b"7\n")
    output = tmp_path / "receipt.json"
    assert cli.run(["receipt", str(directory.path), "-o", str(output)]) == 40
    assert "no receipt for what is not in order" in capsys.readouterr().err
    assert not output.exists()


def test_how_it_was_applied_survives_new_evidence(world: World) -> None:
    """Roles are signed anew and the evidence with them; the endpoint's own word about its delta stays."""
    before = check(world.good).receipt["applied"]
    asyncio.run(run(world.directory))
    assert world.receipt("-o", str(world.folder / "again.json")) == 0
    assert check((world.folder / "again.json").read_bytes()).receipt["applied"] == before


def test_a_release_that_came_whole_has_a_receipt_too(world: World) -> None:
    """After a repair, or a first set: no release stands before it."""
    asyncio.run(run(world.directory, repair=True))
    assert world.receipt("--sign", str(world.key), "-o", str(world.file)) == 0
    found = check_receipt(world.file.read_bytes(), datetime.now(UTC))
    assert found.error is None
    (said,) = [check.detail for check in found.checks if check.name == "applied"]
    assert said.startswith("us/stable/full.ccd, as signed")
