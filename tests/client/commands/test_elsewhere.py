"""Commands of other distributions: there when they are installed, explained when they are not, and looked for only when asked."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest

from coldchain import cli
from coldchain.commands import elsewhere


def points(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, str]) -> None:
    """These entry points are installed, and no others."""
    every = metadata.EntryPoints([metadata.EntryPoint(name, value, elsewhere.GROUP) for name, value in found])

    def entry_points(**chosen: Any) -> metadata.EntryPoints:
        return every.select(**chosen)

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def test_the_server_distribution_brings_rebuild(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.run(["--help"])
    assert done.value.code == 0
    assert "\n    rebuild " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.run(["rebuild", "--help"])
    assert "coldchain rebuild https://" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["rebuild", "https://a.example", "42"], ["rebuild"], ["rebuild", "--help"]])
def test_without_it_the_command_says_what_to_install(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points(monkeypatch)
    assert cli.run(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "`coldchain rebuild` needs coldchain-server, which is not installed here" in told.err
    assert "pip install coldchain-server" in told.err
    assert cli.run([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "UsageError"


def test_without_it_the_help_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points(monkeypatch)
    with pytest.raises(SystemExit):
        cli.run(["--help"])
    told = capsys.readouterr().out
    assert "\n    update " in told
    assert "rebuild" not in told


def test_other_names_are_no_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    points(monkeypatch, ("evil", "os:abort"), ("update", "os:abort"))
    for words in (["evil"], ["--help"], ["no-such"]):
        with pytest.raises(SystemExit):
            cli.run(words)
    assert "evil " not in capsys.readouterr().out


@pytest.mark.parametrize("value", ["no_such_module_at_all:add", "coldchain.commands.elsewhere:no_such"])
def test_one_that_cannot_be_loaded_is_told(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points(monkeypatch, ("rebuild", value))
    assert cli.run(["rebuild", "https://a.example", "42"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


def test_nothing_foreign_is_loaded_for_an_endpoints_own_commands() -> None:
    program = (
        "import sys; from coldchain.cli import run; code = run(['status', '/no/such/endpoint']); "
        "print(code, sorted(name for name in sys.modules if name.split('.')[0] in ('coldchain_server', 'aiohttp', 'tuf')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "41 []"
