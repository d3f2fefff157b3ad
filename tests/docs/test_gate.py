"""What docs/gate.md says is so: its checks, its settings, its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from coldchain_server.cli import main
from coldchain_server.gate.result import CHECKS
from coldchain_server.gate.settings import GateSettings
from coldchain_server.home import load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")


def test_the_table_has_every_check_in_its_order() -> None:
    assert tuple(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)) == CHECKS


def test_the_settings_shown_are_the_default() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert load_settings(shown).gate == GateSettings()
    assert set(re.findall(r"^([a-z_]+) =", shown, re.MULTILINE)) == set(GateSettings.__dataclass_fields__)


def test_every_command_shown_is_one() -> None:
    lines = re.findall(r"^coldchain-server (.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        group, name, *words = shlex.split(line)
        command = main.commands[group]
        assert isinstance(command, click.Group)
        one = command.commands[name]
        assert one.make_context(name, words, resilient_parsing=True).params["directory"] == Path("origin")
