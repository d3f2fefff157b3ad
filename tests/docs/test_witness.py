"""What docs/witness.md shows works as shown: its options, its policy, its keys, its table; and the unit that it installs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coldchain.tlog.policy import parse_policy
from coldchain.tlog.vkey import parse_vkey
from coldchain_server.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "witness.md").read_text(encoding="utf-8")
UNIT = ROOT / "deploy" / "coldchain-witness.service"
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


def test_every_command_shown_is_one() -> None:
    shown = [line for kind, block in BLOCKS if kind == "sh" for line in block.replace("\\\n", " ").splitlines()]
    shown += [
        line.removeprefix("ExecStart=") for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")
    ]
    commands = [shlex.split(line) for line in shown if "coldchain-server witness" in line]
    assert len(commands) == 3
    for words in commands:
        arguments = words[words.index("witness") + 1 :]
        context = main.commands["witness"].make_context("witness", list(arguments))
        assert context.params["directory"] == Path("/var/lib/coldchain-witness")


def test_the_options_named_in_the_text_exist() -> None:
    known = {name for option in main.commands["witness"].params for name in option.opts}
    for option in re.findall(r"`(--[a-z-]+)`", PAGE):
        assert option in known


def test_the_policy_shown_is_one_and_demands_what_the_text_says() -> None:
    (text,) = [block for kind, block in BLOCKS if not kind and "quorum quorum-1" in block]
    policy = parse_policy(text.encode())
    now = datetime(2026, 11, 25, tzinfo=UTC)
    time = int(now.timestamp())
    good = {
        names
        for names in [(), ("fleet",), ("ch",), ("ch", "jp"), ("fleet", "ch"), ("fleet", "jp"), ("fleet", "ch", "jp")]
        if policy.evaluate(dict.fromkeys(names, time), now).satisfied
    }
    assert good == {("fleet", "ch"), ("fleet", "jp"), ("fleet", "ch", "jp")}
    other = re.search(r"`(group quorum-1 2 [^`]+)`", PAGE)
    assert other is not None
    changed = text.replace("group others any ch jp\n", "").replace("group quorum-1 all fleet others", other.group(1))
    assert parse_policy(changed.encode()).evaluate({"ch": time, "jp": time}, now).satisfied


def test_the_keys_shown_are_keys() -> None:
    found = re.findall(r"[a-z./0-9]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{44}", PAGE)
    assert len(found) >= 6
    for vkey in found:
        assert parse_vkey(vkey) is not None


def test_the_statuses_of_the_table_are_those_that_are_tested() -> None:
    table = PAGE[PAGE.index("## What it answers") :]
    assert set(re.findall(r"\| (\d{3})\b", table)) == {"200", "400", "403", "404", "409", "413", "422", "429", "503"}


def test_the_unit_is_sound_and_tight() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    answer = subprocess.run(
        [program, "security", "--offline=true", "--threshold=15", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Unknown" not in answer.stderr, answer.stderr
    assert "Failed to parse" not in answer.stderr, answer.stderr
