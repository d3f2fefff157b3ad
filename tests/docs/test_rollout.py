"""What docs/rollout.md shows is so: its stages are read, its commands are commands, and the stages of the file are its example."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from coldchain_server.assembly.regions import DEFAULT as DEFAULT_REGIONS
from coldchain_server.assembly.regions import load_regions
from coldchain_server.cli import main
from coldchain_server.release.schedule import DEFAULT, load_schedules

PAGE = (Path(__file__).parents[2] / "docs" / "rollout.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(toml)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SHOWN = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]


def test_the_stages_are_those_of_the_file_that_init_writes() -> None:
    (shown,) = (block for kind, block in BLOCKS if kind and "stages" in block)
    found = load_schedules(shown, ("stable",))
    written = "\n".join(line.removeprefix("# ") for line in DEFAULT.partition("# [stable]")[2].splitlines())
    assert found == load_schedules(f"[stable]{written}", ("stable",))
    regions = load_regions(DEFAULT_REGIONS).regions
    found["stable"].check_waves({name: one.wave for name, one in regions.items()}, "stable")
    for wave, words in ((1, "us eu jp kr sg au"), (2, "row")):
        assert " ".join(name for name, one in regions.items() if one.wave == wave) == words
        assert f"`{words}`" in PAGE


def test_the_alias_is_one() -> None:
    (shown,) = (block for kind, block in BLOCKS if kind and "alias" in block)
    assert load_regions(f'[regions.apac]\njurisdiction = "x"\n{shown}').regions["jp"].alias == "apac"


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_shown_is_one(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regions-new.toml").write_text("")
    program, *words = shlex.split(line)
    assert program == "coldchain-server"
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(command.name, words, resilient_parsing=False)


def test_options_in_the_text_exist() -> None:
    known: set[str] = set()
    todo: list[click.Command] = [main]
    while todo:
        command = todo.pop()
        known |= {option for parameter in command.params for option in parameter.opts}
        todo += command.commands.values() if isinstance(command, click.Group) else []
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        assert option in known
