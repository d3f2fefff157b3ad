"""The whole way through both command lines: rebuild and sign, publish, and an endpoint that asks for it."""

from __future__ import annotations

import asyncio
import json
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from coldchain import cli
from coldchain.agent.update import Settings, update
from coldchain.attestation import check_provenance, open_rebuild, parse_envelope, parse_statement, provenance
from coldchain.errors import EvidenceError
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory
from coldchain.keys import PublicKey
from coldchain_server.assembly.again import assemble_again
from coldchain_server.cli import main
from coldchain_server.home import Home
from coldchain_server.rebuild import rebuild as module
from coldchain_server.signing import keyring
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state
from tests.client.tuf.repository import NOW
from tests.server import origins

PASSPHRASE = "the rebuilder's own"


@pytest.fixture(autouse=True)
def _cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretching a passphrase as it should be takes a second each time."""
    monkeypatch.setattr(keyring.new_key_file, "__defaults__", (DEMO,))
    monkeypatch.setenv("COLDCHAIN_PASSPHRASE", PASSPHRASE)


def rebuild(*words: str) -> int:
    return cli.run(["rebuild", *words])


def server(home: Home, *words: str) -> Any:
    result = CliRunner(env={"COLDCHAIN_PASSPHRASE": origins.PASSPHRASE}).invoke(
        main, [*words, "--home", str(home.directory)]
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def signed(home: Home, folder: Path, name: str, number: int, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """A new rebuilder's attestation of a release, and the rebuilder's key."""
    out = folder / f"{name}-{number}.dsse.json"
    key = folder / f"{name}.json"
    words = [] if key.exists() else ["--new-key"]
    root = str(home.directory / "root.json")
    assert (
        rebuild(str(home.public), str(number), "--root", root, "--sign", str(key), *words, "-o", str(out), "--json")
        == 0
    )
    return out, told(capsys)["key"]


def endpoint(folder: Path, home: Home, policy: bytes, region: str = "jp") -> ClientDirectory:
    file = folder / "policy"
    file.write_bytes(policy)
    words = ["--root", str(home.directory / "root.json"), "--region", region, "--url", str(home.public)]
    assert cli.run(["init", str(folder / "endpoint"), *words, "--policy", str(file)]) == 0
    return ClientDirectory(folder / "endpoint")


async def policy(home: Home, *rebuilders: str, needed: int = 1) -> bytes:
    log = policy_of(await load_state(home.storage)).logs[0].vkey
    lines = [f"log {log}", "quorum none"]
    lines += [f"# coldchain: rebuilder r{number} {key}" for number, key in enumerate(rebuilders)]
    return "\n".join([*lines, f"# coldchain: rebuilders {needed}", ""]).encode()


async def updated(directory: ClientDirectory, now: datetime = NOW) -> int:
    return (await update(directory, Settings(now=lambda: now, draw=lambda _: 0))).release


def test_from_a_rebuild_to_an_endpoint_that_asks_for_it(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    file, key = signed(home, tmp_path, "alice", 2, capsys)
    other, another = signed(home, tmp_path, "bob", 2, capsys)
    old, _ = signed(home, tmp_path, "alice", 1, capsys)
    assert key != another
    directory = endpoint(tmp_path, home, asyncio.run(policy(home, key)))

    def refused(words: str) -> None:
        with pytest.raises(EvidenceError, match=words) as error:
            asyncio.run(updated(directory))
        assert error.value.exit_code == 16
        assert not directory.current.exists()

    refused("rebuilt by 0 of 1 needed rebuilders .r0: no attestation.")
    server(home, "release", "attest", "2", str(other))
    refused("r0: no attestation")
    server(home, "release", "attest", "1", str(old))
    refused("r0: no attestation")
    manifest = origins.read(home, "us").manifest
    place = home.public / "attestations" / manifest.digest / f"{PublicKey(bytes.fromhex(key)).keyid}.dsse.json"
    for wrong, words in ((other, "no signature of a known key"), (old, "about another manifest")):
        place.write_bytes(wrong.read_bytes())
        refused(words)
    told_ = json.loads(server(home, "release", "attest", "2", str(file), "--log", "--json"))
    assert (told_["key"], told_["left_out"], told_["index"]) == (key, [], 3)
    assert place.read_bytes() == file.read_bytes()
    assert asyncio.run(updated(directory)) == 2
    found = audit(directory, NOW)
    assert found.error is None
    assert any(check.name == "rebuilt" and "r0 (version" in check.detail for check in found.checks)
    capsys.readouterr()
    assert cli.run(["verify", str(directory.path)]) == 0
    assert "rebuilt: bit for bit by r0" in capsys.readouterr().out
    assert rebuild(str(home.public), "3", "--json") == 0, "an attestation in the log is in nobody's way"


def test_the_words_for_a_person(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "carol.json"
    monkeypatch.chdir(tmp_path)
    assert rebuild(str(home.public), "2", "--sign", str(key), "--new-key") == 0
    text = capsys.readouterr().out
    assert "release 2 of stable: entry 1 of" in text
    assert "NOT pinned" in text
    for region in ("global", "us", "eu", "jp", "kr"):
        assert f"\n  {region:6} same    " in text
    assert "every bundle of 5 came out as published, bit for bit" in text
    assert "coldchain-server release attest 2 stable-2.dsse.json" in text
    stated = open_rebuild((tmp_path / "stable-2.dsse.json").read_bytes())
    assert f"# coldchain: rebuilder NAME {stated.key.raw.hex()}" in text
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_what_does_not_rebuild_has_a_code_of_its_own(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = assemble_again

    def other(manifest: Any, regions: Any, content: Any, names: Any = None) -> Any:
        again = real(manifest, regions, content, names)
        return type(again)({**again.bundles, "jp": again.bundles["us"]}, again.feeds)

    monkeypatch.setattr(module, "assemble_again", other)
    monkeypatch.setattr(module, "source_digest", lambda: "5c" * 32)
    out = tmp_path / "out.dsse.json"
    words = [str(home.public), "2", "--sign", str(tmp_path / "k.json"), "--new-key", "-o", str(out)]
    assert rebuild(*words) == 52
    shown = capsys.readouterr()
    assert "\n  jp     DIFFERS " in shown.out
    assert shown.err.startswith("coldchain: does not rebuild: another assembler is at work here")
    assert not out.exists()
    words.remove("--new-key")
    assert rebuild(*words, "--json") == 52
    found = told(capsys)
    assert (found["error"], found["rebuilt"], found["assembler"]["same"]) == ("RebuildError", False, False)
    assert {row["region"] for row in found["bundles"] if not row["same"]} == {"jp"}
    assert not out.exists()


def test_keys_and_files_that_cannot_be(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, key = str(home.public), tmp_path / "dave.json"
    assert rebuild(url, "2", "--sign", str(key)) == 64, "not there"
    assert rebuild(url, "99", "--sign", str(key), "--new-key") == 18
    good = key.read_bytes()
    assert rebuild(url, "2", "--sign", str(key), "--new-key") == 64, "there already"
    assert key.read_bytes() == good
    monkeypatch.setenv("COLDCHAIN_PASSPHRASE", "another")
    assert rebuild(url, "2", "--sign", str(key)) == 64
    monkeypatch.setenv("COLDCHAIN_PASSPHRASE", PASSPHRASE)
    for words in (
        ["--output", str(tmp_path / "x")],
        ["--new-key"],
        ["--root", str(tmp_path / "nothing")],
        ["--policy", str(tmp_path / "nothing")],
        ["--channel", "NO"],
        ["--region", "row"],
    ):
        assert rebuild(url, "2", *words) == 2
    assert rebuild(url, "2", "--sign", str(key), "-o", str(tmp_path / "no" / "such" / "folder")) == 43
    assert rebuild(str(tmp_path / "nothing"), "2") == 20


def test_the_provenance_is_that_of_the_manifest(home: Home) -> None:
    manifest = origins.read(home, "us").manifest
    plain = server(home, "release", "provenance", "2").encode()
    assert plain == provenance(manifest).encode() + b"\n"
    assert json.loads(server(home, "release", "provenance", "2", "--json")) == json.loads(plain)
    envelope = parse_envelope(server(home, "release", "provenance", "2", "--sign").rstrip("\n").encode())
    assembler = PublicKey(bytes.fromhex(origins.keyring(home).public("assembler").keyval["public"]))
    assert envelope.signed_by([assembler]) == [assembler]
    check_provenance(parse_statement(envelope), manifest)
