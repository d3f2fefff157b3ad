"""The Containerfiles, by a linter and by what it does not ask. Building them is in tests/interop/test_container_images.py."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coldchain.cli import command_line
from coldchain_server.cli import main as server

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "containers").glob("*.Containerfile"))


def hadolint() -> str:
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if found is None:
        pytest.skip("hadolint is not installed: make .venv/.deploy")
    return found


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [hadolint(), "--failure-threshold", "info", str(path)], capture_output=True, text=True, check=False
    )


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text(encoding="utf-8")).replace("\\\n", " ")
    return [
        (word, " ".join(rest.split()))
        for word, _, rest in (line.strip().partition(" ") for line in text.splitlines())
        if word
    ]


def test_there_is_one_for_each_part() -> None:
    assert {path.name.partition(".")[0] for path in FILES} == {"agent", "edge", "origin", "witness"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_linter_finds_nothing(path: Path) -> None:
    done = lint(path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    """The negative control of the test above."""
    good = FILES[0].read_text(encoding="utf-8")
    for number, line in enumerate(
        ("RUN pip install aiohttp", "RUN cd /tmp && sudo true", "ADD client/ /x", "ENTRYPOINT coldchain agent")
    ):
        path = tmp_path / f"{number}.Containerfile"
        path.write_text(f"{good}\n{line}\n")
        assert lint(path).returncode != 0, line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_runs_without_rights_and_installs_nothing_unlocked(path: Path) -> None:
    steps = instructions(path)
    final = steps[max(number for number, (word, _) in enumerate(steps) if word == "FROM") :]
    assert [rest for word, rest in final if word == "USER"] == ["10001"]
    assert all(word != "ADD" for word, _ in steps)
    for word, rest in steps:
        if word == "ARG" and rest.startswith("BASE="):
            assert re.fullmatch(r"BASE=[a-z]+:[0-9a-z.-]+", rest)
            assert "latest" not in rest
        for install in re.findall(r"pip install [^&]*", rest) if word == "RUN" else ():
            assert "--require-hashes" in install or ("--no-deps" in install and "/src/own/" in install), install
        for source in rest.split()[:-1] if word == "COPY" and "--from" not in rest else ():
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_starts_a_command_that_there_is(path: Path) -> None:
    words = {word: rest for word, rest in instructions(path) if word in ("ENTRYPOINT", "CMD")}
    program = json.loads(words["ENTRYPOINT"])
    if program[0] == "nginx":
        assert program[-1] == "/etc/coldchain-edge/edge.conf"
        return
    arguments = json.loads(words["CMD"])
    if program == ["coldchain-server"]:
        server.commands[arguments[0]].make_context(arguments[0], ["/", *arguments[2:]])
    else:
        command_line().parse_args(arguments)


def test_the_page_shows_the_server_block_that_is_tested_and_shipped() -> None:
    page = (ROOT / "docs" / "mirror.md").read_text(encoding="utf-8")
    shipped = (ROOT / "deploy" / "nginx" / "mirror.conf").read_text(encoding="utf-8")
    assert shipped.partition("\n")[2] in page
