"""What docs/mirror.md, docs/install.md and docs/freshclam.md show is what there is."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from coldchain.cli import command_line
from coldchain_server.cli import main as server

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("mirror.md", "install.md", "freshclam.md")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_shown_is_one(path: Path) -> None:
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    shown = [line.partition(" #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [match[1] for line in shown if (match := re.search(r"(?:^|-u [a-z-]+ )coldchain ([a-z].*)", line))]
    for line in commands:
        assert command_line().parse_args(shlex.split(line)).command
    assert commands or path.name == "freshclam.md"


def test_every_option_of_the_mirror_is_in_its_page_and_no_other() -> None:
    page = PAGES[0].read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(--[a-z]+)", page, re.MULTILINE))
    (below,) = [one for one in command_line()._actions if isinstance(one, argparse._SubParsersAction)]
    there = set(re.findall(r"^  (--[a-z]+)", below.choices["mirror"].format_help(), re.MULTILINE))
    assert named == there - {"--json", "--root", "--help"}


def test_what_is_named_is_there() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([a-z-]+\.md)\)", text):
            assert (ROOT / "docs" / link).exists(), link
        for name in re.findall(r"`(deploy/[A-Za-z0-9_./-]+|benchmarks/[a-z_]+\.py)`", text):
            assert (ROOT / name).exists(), name
        for module in re.findall(r"python -m ([a-z_.]+)", text):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    assert {"serve", "witness", "init"} <= set(server.commands)
