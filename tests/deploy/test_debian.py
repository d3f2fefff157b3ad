"""What can be said of the Debian packages without making them (tests/interop/test_debian_package.py makes and installs them)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "deploy" / "debian"
SCRIPTS = sorted(path for path in DEBIAN.iterdir() if path.suffix in (".postinst", ".prerm", ".postrm"))


def test_the_maintainers_scripts_are_sound_and_stop_at_errors() -> None:
    assert len(SCRIPTS) == 6
    for path in SCRIPTS:
        text = path.read_text()
        assert text.startswith("#!/bin/sh\nset -e\n")
        assert text.endswith("#DEBHELPER#\n")
        assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
        if shutil.which("shellcheck"):
            done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["coldchain", "coldchain-server"])
def test_what_postinst_makes_postrm_takes_away(name: str) -> None:
    made = (DEBIAN / f"{name}.postinst").read_text()
    gone = (DEBIAN / f"{name}.postrm").read_text()
    for folder in re.findall(r'^ *install -d .* "?(/\S+?)"?$', made, re.MULTILINE):
        assert folder in gone, folder
    assert made.count("adduser") == gone.count("deluser --system") == 1
    assert "py3compile" in made
    assert "py3clean" in (DEBIAN / f"{name}.prerm").read_text()


def test_every_unit_is_in_one_package() -> None:
    rules = (DEBIAN / "rules").read_text()
    named = {
        one for group in re.findall(r"for name in ([a-z ]+); do dh_installsystemd", rules) for one in group.split()
    }
    assert named == {
        path.name.removeprefix("coldchain-").partition(".")[0] for path in (ROOT / "deploy").glob("coldchain-*.service")
    }
    for path in (*DEBIAN.glob("*.docs"),):
        for line in path.read_text().split():
            assert (ROOT / line).exists(), line


def test_the_rules_are_a_makefile_that_fetches_nothing() -> None:
    rules = (DEBIAN / "rules").read_text()
    assert rules.count("$(INSTALL)") == 4
    assert "--no-index" in rules
    assert rules.count("--require-hashes") == 2
    if shutil.which("make") and shutil.which("dh"):
        words = ["make", "-n", "-f", str(DEBIAN / "rules"), "binary"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=DEBIAN)
        assert done.returncode == 0, done.stderr
