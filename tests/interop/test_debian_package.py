"""The Debian packages: built by Debian's tools, installed in a Debian with nothing on it, used there for real, and removed again.

Slow (minutes), so not part of the quick run; what can be said without building them is in tests/deploy/test_debian.py.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import coldchain
from tests.client.agent.publisher import FIRST, SECOND, Publisher
from tests.client.tlog.memory_log import MemoryLog
from tests.interop.clean_root import everything, inside, make_root

pytestmark = [pytest.mark.interop, pytest.mark.faults, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if shutil.which("dpkg-buildpackage") is None or shutil.which("dh") is None:
        pytest.skip("debhelper is not installed")
    from deploy.make_deb import make

    made = make(tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("build"))
    return {path.name.partition("_")[0]: path for path in made}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("root") / "debian")


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Publisher:
    """Its tree lies in the root, as a mirror on a stick that is mounted there."""
    made = Publisher(tmp_path_factory.mktemp("publisher"), regions=("us",), log=MemoryLog())
    made.publish(1, FIRST)
    made.write(root / "media" / "stick")
    (root / "media" / "root.json").write_bytes(made.repository.pinned)
    return made


def test_the_tools_find_nothing_wrong(packages: dict[str, Path]) -> None:
    assert set(packages) == {"coldchain", "coldchain-server"}
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    paths = map(str, packages.values())
    done = subprocess.run(
        ["lintian", "--fail-on", "error,warning", *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_what_is_in_them(packages: dict[str, Path]) -> None:
    listed = {
        name: subprocess.run(["dpkg-deb", "-c", str(path)], capture_output=True, text=True, check=True).stdout
        for name, path in packages.items()
    }
    for name, wanted in {
        "coldchain": (
            "/usr/bin/coldchain\n",
            "/coldchain-agent.service",
            "/coldchain-mirror.timer",
            "/man1/coldchain-update.1.gz",
        ),
        "coldchain-server": ("/usr/bin/coldchain-server\n", "/coldchain-origin.service", "/coldchain-witness.service"),
    }.items():
        for path in wanted:
            assert path in listed[name]
    assert "clamav-daemon.service.d/coldchain.conf" in listed["coldchain"]
    assert "coldchain_server" not in listed["coldchain"]
    for text in listed.values():
        assert "__pycache__" not in text
        for line in text.splitlines():
            mode, owner = line.split()[:2]
            assert owner == "root/root"
            assert "w" not in mode[4:] or mode.startswith("l"), line
    for package in packages.values():
        units = subprocess.run(
            f"dpkg-deb --fsys-tarfile {package} | tar xO --wildcards './lib/systemd/system/coldchain-*.service'",
            shell=True, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "/opt/" not in units
        assert "ExecStart=/usr/bin/coldchain" in units


def test_installed_used_and_removed(packages: dict[str, Path], root: Path, publisher: Publisher) -> None:
    """A version, a real update without a network, a real one over HTTP, a mirror; then nothing is left."""
    before, accounts = everything(root), (root / "etc/passwd").read_text()
    shutil.copy(packages["coldchain"], root / "tmp" / "coldchain.deb")
    inside(root, "dpkg", "-i", "/tmp/coldchain.deb")
    assert inside(root, "coldchain", "--version").stdout == f"coldchain {coldchain.__version__}\n"
    assert (root / "var/lib/coldchain").stat().st_uid != 0
    follow = ["--root", "/media/root.json", "--region", "us", "--url", "file:///media/stick"]
    as_user = ["setpriv", "--reuid=coldchain", "--regid=coldchain", "--clear-groups"]
    inside(root, *as_user, "coldchain", "init", "/var/lib/coldchain", *follow, network=False)
    done = inside(root, *as_user, "coldchain", "update", "/var/lib/coldchain", network=False)
    assert done.stdout.startswith("installed: release 1")
    assert inside(root, *as_user, "coldchain", "verify", "/var/lib/coldchain", network=False).returncode == 0

    publisher.publish(2, SECOND)
    publisher.write(root / "media" / "stick")

    async def over_http() -> str:
        async with publisher.origin() as url:
            words = [*as_user, "coldchain", "update", "/var/lib/coldchain", "--url", url, "--json"]
            return (await asyncio.to_thread(inside, root, *words)).stdout

    found = json.loads(asyncio.run(over_http()))
    assert (found["action"], found["release"], found["way"]) == ("updated", 2, "delta")
    current = (root / "var/lib/coldchain/current").readlink()
    assert (root / "var/lib/coldchain" / current / "daily.hsb").read_bytes() == SECOND["daily.hsb"]

    inside(root, "coldchain", "mirror", "/srv/mirror", *follow, network=False)
    inside(root, *as_user, "coldchain", "update", "/var/lib/coldchain", "--url", "/srv/mirror", network=False)
    assert inside(root, "coldchain", "update", "/nowhere", check=False).returncode == 41
    shutil.rmtree(root / "srv/mirror")

    during = everything(root)
    assert any("__pycache__" in name for name in during.keys() - before.keys())  # compiled for this Python
    inside(root, "dpkg", "--remove", "coldchain")
    assert (root / "var/lib/coldchain/coldchain.json").exists()  # removing is not purging
    inside(root, "dpkg", "--purge", "coldchain")
    assert everything(root) == before
    assert (root / "etc/passwd").read_text() == accounts


def test_the_publishing_side(packages: dict[str, Path], root: Path) -> None:
    """The whole journey, with real keys and sockets, by the package's own program; a witness's memory outlives a purge."""
    before = everything(root)
    shutil.copy(packages["coldchain-server"], root / "tmp" / "server.deb")
    inside(root, "dpkg", "-i", "/tmp/server.deb")
    assert coldchain.__version__ in inside(root, "coldchain-server", "--version").stdout
    witness = [
        "coldchain-server",
        "witness",
        "/var/lib/coldchain-witness",
        "--name",
        "witness.example/x",
        "--demo-keys",
        "--no-serve",
    ]
    inside(root, "env", "COLDCHAIN_PASSPHRASE=a passphrase", *witness)
    done = inside(root, "dpkg", "--purge", "coldchain-server")
    assert "holds keys or a witness's memory and is left in place" in done.stdout + done.stderr
    assert (root / "var/lib/coldchain-witness/vkey").exists()
    left = everything(root).keys() - before.keys()
    assert all(name.startswith(("var/lib/coldchain-witness", "tmp")) for name in left), left
    shutil.rmtree(root / "var/lib/coldchain-witness")
    inside(root, "dpkg", "-i", "/tmp/server.deb")
    inside(root, "dpkg", "--purge", "coldchain-server")
    assert everything(root).keys() == before.keys()
