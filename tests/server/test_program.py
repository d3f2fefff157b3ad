"""Each command is loaded alone, and is the one that every command is among."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from coldchain_server.cli import main
from coldchain_server.program import MODULES, alone

EVERY = [
    (name, *below)
    for name, command in main.commands.items()
    for below in ([(one,) for one in command.commands] if isinstance(command, click.Group) else [()])
]


def test_what_is_loaded_alone_is_what_stands_among_all() -> None:
    assert {name for name, *_ in EVERY} >= set(MODULES)
    for words in EVERY:
        found = alone(words)
        assert found is None or found is main.commands[words[0]], words
        assert (found is None) == (words[0] not in MODULES), words
    for others in ([], ["--help"], ["nothing"], ["release"], ["release", "--help"], ["release", "nothing"]):
        assert alone(others) is None, others


@pytest.mark.parametrize("words", [["witness", "--help"], ["rollout", "show", "--help"]])
def test_the_program_loads_little_and_speaks_as_ever(words: list[str]) -> None:
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        f"sys.argv = ['coldchain-server', *{words!r}]\n"
        "from coldchain_server.program import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"Usage: coldchain-server {' '.join(words[:-1])}")
    assert not {"coldchain_server.cli", "coldchain_server.gate.gate"} & set(done.stderr.split())
