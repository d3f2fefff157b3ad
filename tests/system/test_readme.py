"""The README's tour, followed literally: every line runs, in the order and the words it stands there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the tour prints, from a directory that looks like a clone. Only its two ports are replaced by free ones."""
    directory = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "fixtures" / "feeds", directory / "fixtures" / "feeds")
    (directory / ".venv").mkdir()
    (directory / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    found = re.search(r"## A two-minute tour.*?```sh\n(.*?)```", README, re.DOTALL)
    assert found is not None
    script = found[1]
    for port in ("8080", "8081"):
        assert port in script
        script = script.replace(port, free_port())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COLDCHAIN_")}
    # whatever it ends with, its servers end too; they would hold the pipes open
    script = "trap 'kill $(jobs -p) 2>/dev/null' EXIT\n" + script
    done = subprocess.run(
        ["bash", "-e", "-u", "-m", "-o", "pipefail", "-c", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_shows_what_it_promises(tour: str) -> None:
    for words in (
        "cosigned by mine",
        "release 1 of stable is published",
        "installed: release 1, as the full bundle",
        "release 1 is exactly what was signed",
        "updated: release 2, was 1, as a delta",
        "release 1 -> 2:",
        "Acme.Test.Backdoor-1423 is in release 2",
        "exit code 40",
        "repaired: release 2",
        "public log: entry 1 of example.org/log",
        "nothing is wrong",
        "every difference is a declared one",
        "every bundle of 8 came out as published, bit for bit",
    ):
        assert words in tour, words


def test_every_page_and_file_it_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`((?:client|docs|server|benchmarks)/[a-z_/.-]+[a-z])`", README):
        assert (ROOT / name).exists(), name


def test_every_make_target_it_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets
