"""The images, really built by buildah on a base of Debian's packages, and used: minutes, so not part of the quick run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import coldchain
from tests.client.agent.publisher import FIRST, Publisher
from tests.client.tlog.memory_log import MemoryLog
from tests.interop.clean_root import make_root

pytestmark = [pytest.mark.interop, pytest.mark.faults, pytest.mark.timeout(3600)]
ROOT = Path(__file__).parents[2]


class Buildah:
    """buildah without a daemon, with a store of its own; steps run in a chroot and see this machine's network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fixed = [
            "buildah",
            "--storage-driver",
            "vfs",
            "--root",
            str(folder / "store"),
            "--runroot",
            str(folder / "run"),
        ]
        # certificates and the settings of pip that this machine needs to reach its registry
        settings = [path for path in ("/etc/ssl/certs", "/etc/xdg/pip", "/etc/pip.conf") if Path(path).exists()]
        self.volumes = [f"--volume={path}:{path}:ro" for path in settings]

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self.fixed, *words], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def base(self, root: Path) -> None:
        container = self("from", "scratch")
        self("copy", container, str(root), "/")
        self("commit", "-q", container, "localhost/base")
        self("rm", container)

    def build(self, name: str) -> str:
        words = [
            "--isolation=chroot",
            "--format=docker",
            "--pull-never",
            "--build-arg=BASE=localhost/base",
            *self.volumes,
        ]
        self("build", *words, "-f", f"deploy/containers/{name}.Containerfile", "-t", f"localhost/{name}", ".")
        return self("from", "--pull-never", f"localhost/{name}")

    def run(self, container: str, *words: str, volume: Path | None = None) -> str:
        mount = [f"--volume={volume}:/data"] if volume else []
        return self("run", "--isolation=chroot", *mount, container, "--", *words)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed")
    folder = tmp_path_factory.mktemp("buildah")
    made = Buildah(folder)
    made.base(make_root(folder / "debian"))
    yield made
    subprocess.run([*made.fixed, "rm", "--all"], capture_output=True, check=False)


def test_the_agent_s_image_updates_and_mirrors(buildah: Buildah, tmp_path: Path) -> None:
    container = buildah.build("agent")
    assert buildah.run(container, "coldchain", "--version") == f"coldchain {coldchain.__version__}"
    assert buildah.run(container, "python3", "-c", "import os, aiohttp; print(os.getuid())") == "10001"
    publisher = Publisher(tmp_path / "publisher", regions=("us",), log=MemoryLog())
    publisher.publish(1, FIRST)
    data = tmp_path / "data"
    publisher.write(data / "stick")
    (data / "root.json").write_bytes(publisher.repository.pinned)
    data.chmod(0o777)
    follow = ["--root", "/data/root.json", "--region", "us", "--url", "/data/stick"]
    buildah.run(container, "coldchain", "mirror", "/data/mirror", *follow, volume=data)
    follow[-1] = "/data/mirror"
    buildah.run(container, "coldchain", "init", "/data/endpoint", *follow, volume=data)
    assert "installed: release 1" in buildah.run(container, "coldchain", "update", "/data/endpoint", volume=data)
    assert (data / "endpoint/current/main.hsb").read_bytes() == FIRST["main.hsb"]


def test_the_origin_s_and_the_witness_s_images_start(buildah: Buildah, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    container = buildah.build("origin")
    made = ["env", "COLDCHAIN_PASSPHRASE=a passphrase", "coldchain-server", "init", "/data/origin", "--demo-keys"]
    buildah.run(container, *made, volume=tmp_path / "data")
    assert (tmp_path / "data/origin/root.json").exists()
    container = buildah.build("witness")
    words = ["coldchain-server", "witness", "/data/witness", "--name", "w.example/x", "--demo-keys", "--no-serve"]
    buildah.run(container, "env", "COLDCHAIN_PASSPHRASE=a passphrase", *words, volume=tmp_path / "data")
    assert (tmp_path / "data/witness/vkey").read_text().startswith("w.example/x+")


def test_the_edge_s_image_has_a_web_server_that_takes_its_configuration(buildah: Buildah) -> None:
    container = buildah.build("edge")
    buildah.run(container, "nginx", "-t", "-c", "/etc/coldchain-edge/edge.conf")
    assert "listen 8080;" in buildah.run(container, "cat", "/etc/coldchain-edge/mirror.conf")
