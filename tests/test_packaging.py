"""The two distributions agree with each other, and the verifier stands alone."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def project(path: str) -> dict[str, list[str]]:
    table: dict[str, list[str]] = tomllib.loads((ROOT / path).read_text())["project"]
    return table


def pins(path: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", (ROOT / path).read_text(), re.MULTILINE)
    return {name.lower(): version for name, version in found}


def test_the_server_has_every_client_dependency_with_the_same_bound() -> None:
    assert set(project("client/pyproject.toml")["dependencies"]) <= set(project("pyproject.toml")["dependencies"])


def test_the_verifier_has_two_mandatory_dependencies() -> None:
    names = {re.split(r"[<>=]", entry)[0] for entry in project("client/pyproject.toml")["dependencies"]}
    assert names == {"pynacl", "zstandard"}


def test_locks_agree_and_every_entry_has_a_hash() -> None:
    whole = pins("requirements.lock")
    for name, version in pins("client/requirements.lock").items():
        assert whole[name] == version
    for lock in ("requirements.lock", "client/requirements.lock", "benchmarks/requirements.lock"):
        for entry in re.split(r"\n(?=\S)", (ROOT / lock).read_text()):
            if not entry.startswith("#") and entry.strip():
                assert "--hash=sha256:" in entry, f"{lock}: {entry[:60]}"


def test_top_level_folders_are_not_importable_packages() -> None:
    assert not (ROOT / "client" / "__init__.py").exists()
    assert not (ROOT / "server" / "__init__.py").exists()


def test_no_tracked_file_names_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    marks = [b"/wo" + b"rk/", b"/ro" + b"ot/", b"pythonhosted" + b".org"]
    for name in tracked.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert not [mark for mark in marks if mark in content], name


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "-w", str(out), str(ROOT / "client")], check=True)
    (wheel,) = out.glob("coldchain-*.whl")
    return wheel


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory, client_wheel: Path) -> Path:
    """A new environment that holds the client's wheel, PyNaCl (with cffi) and zstandard, and nothing else.

    The dependencies' own files are linked in from the running environment, so the test needs no network.
    """
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(client_wheel) as archive:
        archive.extractall(site)
    import _cffi_backend  # type: ignore[import-untyped]  # a compiled module without stubs
    import nacl
    import zstandard

    for module in (nacl, zstandard):
        folder = Path(str(module.__file__)).parent
        (site / folder.name).symlink_to(folder)
    backend = Path(_cffi_backend.__file__)
    (site / backend.name).symlink_to(backend)
    return home / "bin" / "python"


# _sodium and _cffi_backend are the compiled halves of PyNaCl.
ALLOWED = {"coldchain", "nacl", "_sodium", "zstandard", "_cffi_backend"}

IMPORT_EVERYTHING = """
import pkgutil, sys, importlib, coldchain, json
before = set(sys.modules)
for module in pkgutil.walk_packages(coldchain.__path__, "coldchain."):
    importlib.import_module(module.name)
names = {name.partition(".")[0] for name in set(sys.modules)}
print(json.dumps(sorted(names - set(sys.stdlib_module_names))))
"""


def test_the_wheel_holds_the_verifier_only(client_wheel: Path) -> None:
    with zipfile.ZipFile(client_wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"coldchain"}


def test_the_verifier_imports_nothing_but_its_two_dependencies(bare_python: Path) -> None:
    run = subprocess.run([bare_python, "-I", "-c", IMPORT_EVERYTHING], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    import json

    found = {name for name in json.loads(run.stdout) if not name.startswith(("__", "_distutils", "_virtualenv"))}
    assert found <= ALLOWED
