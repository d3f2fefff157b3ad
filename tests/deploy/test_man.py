"""The man pages are those that the command lines make, and formatters take them without a complaint."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from coldchain.cli import command_line
from coldchain_server.cli import main as server
from deploy.command_lines import Command, client
from deploy.command_lines import server as server_commands
from deploy.make_man import FOLDER, page, pages

EVERY = [one for program in (client(), server_commands()) for one in program.walk()]


def test_the_pages_are_current() -> None:
    found = {path.name: path.read_text(encoding="ascii") for path in FOLDER.glob("*")}
    assert found == pages(), "run: make pages"


def test_every_command_and_option_of_help_is_in_its_page() -> None:
    (below,) = [one for one in command_line()._actions if isinstance(one, argparse._SubParsersAction)]
    shown = {("coldchain", name): parser.format_help() for name, parser in below.choices.items()}
    assert {one.path for one in EVERY if len(one.path) == 2 and one.path[0] == "coldchain"} == set(shown)
    assert {one.path[1] for one in EVERY if len(one.path) == 2 and one.path[0] == "coldchain-server"} == set(
        server.commands
    )
    made = pages()
    for path, text in shown.items():
        told = made[f"{'-'.join(path)}.1"].replace(r"\-", "-")
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)):
            assert option in told, (path, option)
        assert ".SH EXAMPLE" in told


@pytest.mark.parametrize("program", ["mandoc", "man"])
def test_formatters_take_them(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    paths = sorted(map(str, FOLDER.glob("*.1")))
    if program == "mandoc":
        answer = subprocess.run(
            ["mandoc", "-T", "lint", "-W", "warning", *paths], capture_output=True, text=True, check=False
        )
        assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")
        return
    for path in (paths[0], str(FOLDER / "coldchain-update.1"), str(FOLDER / "coldchain-server.1")):
        environment = {"LC_ALL": "C.UTF-8", "MANWIDTH": "120", "PATH": "/usr/bin:/bin"}
        words = ["man", "--warnings=all", "-l", path]
        answer = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        assert answer.returncode == 0, answer.stderr
        assert answer.stderr == ""
        assert "EXIT STATUS" in answer.stdout


def test_no_text_becomes_an_instruction(tmp_path: Path) -> None:
    """Words of help that begin with a dot, or hold quotes, backslashes and dashes, come out as they are."""
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    nasty = r".B bold 'quoted' \fBfont\fR --dash `tick` \\ …"
    made = Command(("x",), nasty, nasty, nasty, nasty, (), ())
    path = tmp_path / "x.1"
    path.write_text(page(made, made), encoding="ascii")
    answer = subprocess.run(["mandoc", "-T", "utf8", str(path)], capture_output=True, text=True, check=False)
    shown = re.sub(r".\x08", "", answer.stdout)
    assert " ".join(shown.split()).count(nasty.replace("…", "...")) >= 3
