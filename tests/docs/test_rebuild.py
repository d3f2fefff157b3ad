"""What docs/rebuild.md shows works as shown: its commands, its policy lines, its table, its exit codes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from coldchain import cli
from coldchain.attestation import PAYLOAD_TYPE, REBUILD
from coldchain.errors import EvidenceError, RebuildError
from coldchain.tlog.policy import parse_policy
from coldchain_server.cli import main
from coldchain_server.commands.attestations import release_attest, release_provenance
from tests.client.test_attestation import made
from tests.client.tlog.logs import LOG

PAGE = (Path(__file__).parents[2] / "docs" / "rebuild.md").read_text(encoding="utf-8")
LINES = [
    line.partition(" # ")[0].rstrip()
    for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def test_every_command_shown_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = [shlex.split(line)[1:] for line in LINES if line.startswith("coldchain ")]
    server = [shlex.split(line)[1:] for line in LINES if line.startswith("coldchain-server ")]
    assert (len(client), len(server)) == (2, 4)
    for words in client:
        options = cli._parser(words).parse_args(words)
        assert (options.number, options.root) == (42, "root.json")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alice-42.dsse.json").write_bytes(b"")
    for words in server:
        command = {"attest": release_attest, "provenance": release_provenance}[words[1]]
        assert command in main.commands["release"].commands.values()  # type: ignore[attr-defined]
        assert command.make_context(words[1], words[2:]).params["number"] == 42


def test_the_policy_lines_are_a_policy() -> None:
    shown = [line for line in LINES if line.startswith("# coldchain:")]
    policy = parse_policy("\n".join([f"log {LOG.vkey}", "quorum none", *shown, ""]).encode())
    assert (set(policy.rebuilders), policy.rebuilds) == ({"alice", "bob"}, 1)


def test_the_table_names_the_members_of_the_predicate() -> None:
    rows = re.findall(r"^\| (`.*?) \| .* \|$", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(made().statement().predicate)


def test_types_and_codes_are_those_of_the_program() -> None:
    assert f"`{REBUILD}`" in PAGE
    assert f"`{PAYLOAD_TYPE}`" in PAGE
    assert f"{RebuildError.exit_code}: one did not" in PAGE
    assert f"it ends with {EvidenceError.exit_code}," in PAGE
