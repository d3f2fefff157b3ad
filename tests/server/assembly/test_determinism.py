"""The same inputs give the same bytes: on any machine, in any order, locale, time zone, directory and version of Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
FIXTURES = REPOSITORY / "fixtures" / "feeds" / "v2"
BUILD = Path(__file__).with_name("build_bundles.py")
NEEDED = ("cffi", "pycparser", "pynacl", "yara-x", "zstandard")
"""What the feeds room and the assembler import."""


def copy(target: Path, *, backwards: bool) -> Path:
    """The fixtures, their files made in one order or the other."""
    for file in sorted(FIXTURES.rglob("*"), reverse=backwards):
        if file.is_file():
            made = target / file.relative_to(FIXTURES)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_bytes(file.read_bytes())
            os.utime(made, (1 + backwards * 10**9, 1 + backwards * 10**9))
            made.chmod(0o600 if backwards else 0o644)
    return target


def build(
    feeds: Path, work: Path, python: str = sys.executable, umask: int = 0o022, **environment: str
) -> dict[str, str]:
    """Digests of a build in a process of its own."""
    work.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [python, "-W", "error", str(BUILD), str(feeds), str(work / "content")],
        cwd=work,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{REPOSITORY}/client:{REPOSITORY}/server",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    digests: dict[str, str] = json.loads(done.stdout)
    return digests


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("usual")
    return build(copy(path / "feeds", backwards=False), path / "work", PYTHONHASHSEED="0", LC_ALL="C.UTF-8", TZ="UTC")


def _locales() -> list[str]:
    listed = subprocess.run(["/usr/bin/locale", "-a"], capture_output=True, text=True, check=False).stdout.split()
    return [name for name in listed if name not in ("C", "POSIX", "C.utf8")]


def test_every_region_has_a_bundle_of_its_own(usual: dict[str, str]) -> None:
    assert set(usual) == {
        "acme-hashes", "acme-rules", "acme-indicators", "global", "us", "eu", "jp", "kr", "sg", "au", "row",
    }  # fmt: skip
    assert len(set(usual.values())) == len(usual)


def test_seeds_locales_zones_places_and_orders_have_no_say(usual: dict[str, str], tmp_path: Path) -> None:
    # Locales that are not installed fall back to C: tr_TR and th_TH are tried wherever they are.
    environments = [
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Pacific/Kiritimati"},
        {"PYTHONHASHSEED": "4294967295", "LC_ALL": "tr_TR.UTF-8", "TZ": "America/St_Johns", "PYTHONUTF8": "0"},
        {
            "PYTHONHASHSEED": "77",
            "LC_ALL": "POSIX",
            "LANG": "th_TH.UTF-8",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONUTF8": "0",
        },
        *({"PYTHONHASHSEED": "5", "LC_ALL": name} for name in _locales()[:3]),
    ]
    for number, environment in enumerate(environments):
        place = tmp_path / f"{'x' * number * 40}é{number}"
        feeds = copy(place / "feeds", backwards=bool(number % 2))
        temporary = place / "temporary"
        temporary.mkdir()
        made = build(feeds, place / "work", umask=(0o077, 0)[number % 2], TMPDIR=str(temporary), **environment)
        assert made == usual, environment


def test_one_changed_byte_changes_the_bundles(usual: dict[str, str], tmp_path: Path) -> None:
    feeds = copy(tmp_path / "feeds", backwards=False)
    file = feeds / "acme-hashes" / "acme.hdb"
    file.write_bytes(file.read_bytes().replace(b":Acme.", b":Acmf.", 1))
    made = build(feeds, tmp_path / "work")
    assert {name for name in usual if made[name] != usual[name]} == set(usual) - {"acme-rules", "acme-indicators"}


def _other_pythons() -> list[str]:
    """Interpreters of other versions, one for each: on the path, and where pyenv keeps them."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found: dict[str, str] = {}
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for version in ("3.11", "3.12", "3.13", "3.14"):
        kept = sorted(versions.glob(f"{version}.*/bin/python{version}")) if versions.is_dir() else []
        named = shutil.which(f"python{version}")
        for python in (*map(str, kept), *([named] if named else [])):
            works = subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False)
            if version != here and works.returncode == 0:
                found.setdefault(version, python)
    return list(found.values())


def _requirements() -> str:
    """The locked requirements of what the assembler needs, with their hashes."""
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^[a-z0-9][^\n]*(?:(?<=\\)\n[^\n]*)*", text, re.MULTILINE)
    return "\n".join(one for one in entries if re.split(r"[=\[ ;]", one, maxsplit=1)[0] in NEEDED) + "\n"


@pytest.mark.slow
def test_the_version_of_python_has_no_say(usual: dict[str, str], tmp_path: Path) -> None:
    pythons = _other_pythons()
    if not pythons:
        pytest.skip("there is no other version of Python here")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(_requirements(), encoding="utf-8")
    for number, python in enumerate(pythons):
        place = tmp_path / str(number)
        subprocess.run([python, "-m", "venv", str(place / "venv")], check=True, capture_output=True)
        inside = str(place / "venv" / "bin" / "python")
        install = [
            inside,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--require-hashes",
            "--only-binary",
            ":all:",
        ]
        done = subprocess.run([*install, "-r", str(requirements)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"its packages cannot be had: {done.stderr[-200:]}")
        assert build(copy(place / "feeds", backwards=True), place / "work", inside) == usual, python
