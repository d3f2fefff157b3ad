"""What the shells complete, asked of the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.command_lines import client
from deploy.make_completion import FOLDER, files

PROGRAM = client()
Ask = Callable[..., list[set[str]]]
COMMANDS = {one.path[-1]: one for one in PROGRAM.commands}


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_the_scripts_are_current() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert found == files(), "run: make pages"


def bash(*lines: list[str], cwd: Path | None = None) -> list[set[str]]:
    """What bash would offer for the last word of each line."""
    script = [f"source {FOLDER / 'coldchain.bash'}"]
    for words in lines:
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
        script += [f"COMP_WORDS=({quoted})", "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))", "_coldchain"]
        script += ['printf "%s\\n" "${COMPREPLY[@]}" END']
    command = [shell("bash"), "--norc", "-u"]
    done = subprocess.run(command, input="\n".join(script), capture_output=True, text=True, check=True, cwd=cwd)
    assert done.stderr == ""
    return [set(filter(None, part.split("\n"))) for part in done.stdout.split("END\n")[:-1]]


def fish(*lines: list[str], cwd: Path | None = None) -> list[set[str]]:
    script = [f"source {FOLDER / 'coldchain.fish'}"]
    for words in lines:
        line = " ".join(words).replace("'", "\\'")
        script += [f"complete -C '{line}'", "echo END"]
    environment = {**os.environ, "HOME": str(cwd or "/nonexistent"), "XDG_CONFIG_HOME": "/nonexistent"}
    done = subprocess.run(
        [shell("fish"), "--no-config"],
        input="\n".join(script),
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env=environment,
    )
    return [{line.partition("\t")[0] for line in part.split("\n") if line} for part in done.stdout.split("END\n")[:-1]]


@pytest.mark.parametrize("ask", [bash, fish])
def test_commands_options_and_what_follows_them(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "a file.json").touch()
    (tmp_path / "folder").mkdir()
    lines, wanted = [["coldchain", "u"], ["coldchain", "zzz"]], [{"update"}, set()]
    for name, command in COMMANDS.items():
        lines.append(["coldchain", name, "--"])
        wanted.append({flag for option in command.options for flag in option.flags if flag.startswith("--")})
    found = ask(*lines, cwd=tmp_path)
    assert found == wanted
    there = {
        one.rstrip("/").replace("\\ ", " ") for one in ask(["coldchain", "init", "x", "--root", ""], cwd=tmp_path)[0]
    }
    assert {"a file.json", "folder"} <= there
    folders = ask(["coldchain", "init", "x", "--url", ""], ["coldchain", "pack", "--from", ""], cwd=tmp_path)
    assert {one.rstrip("/") for one in folders[0]} == {"folder"}
    assert folders[1] == set()


def test_bash_completes_every_command() -> None:
    (found,) = bash(["coldchain", ""])
    assert found == {*COMMANDS, *(flag for option in PROGRAM.options for flag in option.flags)}


def typed(program: list[str], setup: str, line: str, ready: str) -> str:
    """What stands on the line of a real interactive shell after TAB was pressed."""
    master, slave = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "", "HOME": "/nonexistent"}
    process = subprocess.Popen(program, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = ""

    def until(mark: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while mark not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([master], [], [], 0.5)[0]:
                seen += os.read(master, 4096).decode(errors="replace")

    try:
        os.write(master, f"{setup}; echo {ready[:2]}''{ready[2:]}\n".encode())
        until(ready + "\r\n")
        seen = ""
        os.write(master, line.encode() + b"\t")
        until(" ")
        time.sleep(0.2)
        os.write(master, b"END")
        until("END")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x07", "", seen)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_person_at_bash_presses_tab() -> None:
    setup = f"source {FOLDER / 'coldchain.bash'}"
    assert "coldchain update" in typed([shell("bash"), "--norc", "--noprofile", "-i"], setup, "coldchain upd", "READY")
    assert "coldchain update --repair" in typed(
        [shell("bash"), "--norc", "--noprofile", "-i"], setup, "coldchain update --re", "READY"
    )


def test_a_person_at_zsh_presses_tab(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "_coldchain", tmp_path)
    setup = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -D -u"
    for line, whole in (("coldchain upd", "update"), ("coldchain update --re", "--repair")):
        found = typed([shell("zsh"), "-f", "-i"], setup, line, "READY")
        assert whole in found.replace("\x08", ""), found


def test_the_scripts_are_sound() -> None:
    assert subprocess.run([shell("bash"), "-n", str(FOLDER / "coldchain.bash")], check=False).returncode == 0
    if shutil.which("shellcheck"):
        done = subprocess.run(
            ["shellcheck", "-s", "bash", str(FOLDER / "coldchain.bash")], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_the_server_completes_itself(kind: str) -> None:
    from click.testing import CliRunner

    from coldchain_server.cli import main

    shell("bash")  # click asks for its version
    done = CliRunner().invoke(
        main, [], env={"_COLDCHAIN_SERVER_COMPLETE": f"{kind}_source"}, prog_name="coldchain-server"
    )
    assert "_COLDCHAIN_SERVER_COMPLETE" in done.output
    words = {"COMP_WORDS": "coldchain-server rel", "COMP_CWORD": "1" if kind != "fish" else "rel"}
    done = CliRunner().invoke(
        main, [], env={"_COLDCHAIN_SERVER_COMPLETE": f"{kind}_complete", **words}, prog_name="coldchain-server"
    )
    assert "release" in done.output
