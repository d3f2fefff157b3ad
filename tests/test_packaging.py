"""The two distributions agree with each other, and the verifier stands alone."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from coldchain.agent.make_pack import Wanted, make_pack
from tests.client.agent.publisher import FIRST, SECOND, Publisher, run
from tests.client.tlog.memory_log import MemoryLog

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
    for lock in ("client/requirements.lock", "server/requirements.lock", "deploy/build-requirements.lock"):
        for name, version in pins(lock).items():
            assert whole[name] == version
    wanted = {re.split(r"[<>=;]", entry)[0].lower() for entry in project("pyproject.toml")["dependencies"]}
    assert wanted <= pins("server/requirements.lock").keys()
    for lock in (
        "requirements.lock",
        *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*/*requirements.lock")),
    ):
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
    found = {name for name in json.loads(run.stdout) if not name.startswith(("__", "_distutils", "_virtualenv"))}
    assert found <= ALLOWED


@pytest.fixture(scope="module")
def installed_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An endpoint's directory with two releases behind it, installed by the whole product."""
    path = tmp_path_factory.mktemp("endpoint")
    publisher = Publisher(path / "publisher", regions=("us",))
    publisher.publish(1, FIRST)
    directory = publisher.client(path / "endpoint", "https://coldchain.invalid")
    asyncio.run(run(directory, str(publisher.write(path / "mirror"))))
    publisher.publish(2, SECOND)
    asyncio.run(run(directory, str(publisher.write(path / "mirror"))))
    return directory.path


COMMAND = """
import sys
before = set(sys.modules)  # what the interpreter of this machine brings along
from coldchain.cli import main
try:
    main()
finally:
    print("modules:", *sorted({name.partition(".")[0] for name in set(sys.modules) - before}), file=sys.stderr)
"""


def coldchain(bare_python: Path, *words: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
    """The command of the bare environment; ``offline`` in a network namespace of its own, where not even a loopback is up."""
    command = [str(bare_python), "-I", "-c", COMMAND, *words]
    return subprocess.run(
        ["unshare", "-rn", *command] if offline else command, capture_output=True, text=True, check=False
    )


def imported(stderr: str) -> set[str]:
    """The packages outside the standard library that the command had imported at its end."""
    return set(stderr.rpartition("modules:")[2].split()) - set(sys.stdlib_module_names)


@pytest.fixture(scope="module")
def offline() -> bool:
    """Whether this machine lets a test take its own network away."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0


def test_a_bare_verifier_verifies_offline(bare_python: Path, installed_directory: Path, offline: bool) -> None:
    done = coldchain(bare_python, "verify", str(installed_directory), offline=offline)
    assert done.returncode == 0, done.stderr
    assert "release 2 is exactly what was signed" in done.stdout
    assert {"nacl", "coldchain"} <= imported(done.stderr) <= ALLOWED
    if not offline:
        pytest.skip("verified, but this machine has no unshare -rn to prove that no network was needed")


def test_a_bare_verifier_finds_one_changed_byte(
    bare_python: Path, installed_directory: Path, tmp_path: Path, offline: bool
) -> None:
    shutil.copytree(installed_directory, tmp_path / "endpoint", symlinks=True)
    path = (tmp_path / "endpoint" / "current").resolve() / "main.hsb"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    done = coldchain(bare_python, "verify", "--json", str(tmp_path / "endpoint"), offline=offline)
    assert done.returncode == 40
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert [check["name"] for check in found["checks"] if not check["ok"]] == ["section main.hsb"]


def test_a_bare_verifier_tells_its_status(bare_python: Path, installed_directory: Path) -> None:
    done = coldchain(bare_python, "status", str(installed_directory))
    assert done.returncode == 0, done.stderr
    assert "release      2" in done.stdout
    assert imported(done.stderr) <= ALLOWED


def test_a_bare_verifier_says_what_a_rebuild_needs(bare_python: Path) -> None:
    done = coldchain(bare_python, "rebuild", "https://coldchain.invalid", "42")
    assert done.returncode == 2
    assert "`coldchain rebuild` needs coldchain-server, which is not installed here" in done.stderr
    done = coldchain(bare_python, "--help")
    assert "update" in done.stdout
    assert "rebuild" not in done.stdout
    assert imported(done.stderr) <= ALLOWED


def test_a_bare_verifier_updates_from_a_directory_and_says_what_a_server_needs(
    bare_python: Path, installed_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(installed_directory, tmp_path / "endpoint", symlinks=True)
    done = coldchain(bare_python, "update", str(tmp_path / "endpoint"))
    assert done.returncode == 2
    assert "aiohttp, which is not installed" in done.stderr
    assert "pip install 'coldchain[agent]'" in done.stderr
    assert "kept: what is installed stays in use" in done.stderr
    mirror = installed_directory.parent / "mirror"
    done = coldchain(bare_python, "update", "--repair", "--url", str(mirror), str(tmp_path / "endpoint"))
    assert done.returncode == 0, done.stderr
    assert "repaired: release 2" in done.stdout
    assert {"zstandard", "nacl"} <= imported(done.stderr) <= ALLOWED


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What crosses an air gap: an endpoint at release 1, a pack with release 2, and the root."""
    path = tmp_path_factory.mktemp("carried")
    publisher = Publisher(path / "publisher", regions=("us",), log=MemoryLog())
    (path / "root.json").write_bytes(publisher.repository.pinned)
    publisher.publish(1, FIRST)
    directory = publisher.client(path / "endpoint", "https://coldchain.invalid")
    mirror = str(publisher.write(path / "mirror"))
    asyncio.run(run(directory, mirror))
    publisher.publish(2, SECOND)
    publisher.write(path / "mirror")
    asyncio.run(make_pack(mirror, publisher.repository.pinned, path / "a.pack", Wanted("us", start=1), publisher.now))
    return path


def test_a_bare_verifier_crosses_the_air_gap(bare_python: Path, carried: Path, offline: bool) -> None:
    """Verify a pack, update from it, make a receipt and check it: two dependencies, no network."""
    pack, root, endpoint, receipt = (
        str(carried / name) for name in ("a.pack", "root.json", "endpoint", "receipt.json")
    )
    for words, told in (
        (["verify", pack, "--root", root, "--region", "us"], "the pack brings release 2 of region us"),
        (["update", endpoint, "--pack", pack], "updated: release 2, was 1, as a delta"),
        (["verify", endpoint], "release 2 is exactly what was signed"),
        (["receipt", endpoint, "-o", receipt], "check it: coldchain receipt --check"),
        (["receipt", "--check", receipt, "--root", root], "the receipt holds"),
    ):
        done = coldchain(bare_python, *words, offline=offline)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
        assert {"nacl", "coldchain"} <= imported(done.stderr) <= ALLOWED
    if not offline:
        pytest.skip("it worked, but this machine has no unshare -rn to prove that no network was needed")
