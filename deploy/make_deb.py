"""Makes the Debian packages with Debian's own tools: ``python -m deploy.make_deb --output dist`` (``make deb``).

This Debian's aiohttp is older than what keeps a client safe before a hostile mirror, so the packages carry the libraries they need: the
wheels that the locks name, each checked against its hash, in a directory that nothing else uses::

    /usr/bin/coldchain              a few lines: puts its own libraries before Debian's
    /usr/lib/coldchain/             coldchain, aiohttp, PyNaCl, zstandard …: client/requirements.lock
    /usr/lib/coldchain-server/      the same with coldchain_server: server/requirements.lock

Compiled wheels fit one version of Python: a package is for the Debian release whose python3 has the version of the Python that runs
this, and depends on it. First the wheels are fetched, then ``dpkg-buildpackage`` works without a network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.command_lines import VERSION

ROOT = Path(__file__).parents[1]
PARTS = ("client", "server", "deploy", "docs", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
DATE = "Thu, 26 Nov 2026 00:00:00 +0000"
LOCKS = ("client/requirements.lock", "server/requirements.lock")


def make(output: Path, work: Path) -> list[Path]:
    """Builds both packages in ``work`` and moves them to ``output``.

    Raises:
        SystemExit: a tool is missing, or Debian's Python is of another version.
        subprocess.CalledProcessError: a step failed; it has said why.
    """
    _check_tools()
    source = work / f"coldchain-{VERSION}"
    source.mkdir()
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(path, source / name)
    shutil.copytree(ROOT / "deploy" / "debian", source / "debian")
    (source / "debian" / "launcher").unlink()
    _wheels(source)
    _units(source)
    _server_completion(source / "own")
    codename = _os_release().get("VERSION_CODENAME", "unstable")
    (source / "debian" / "changelog").write_text(
        f"coldchain ({VERSION}) {codename}; urgency=medium\n\n  * See CHANGELOG.md.\n\n"
        f" -- Coldchain <coldchain@example.invalid>  {DATE}\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHON": sys.executable, "DEB_BUILD_OPTIONS": "nocheck"}
    _run(["dpkg-buildpackage", "--build=binary", "--no-sign"], source, environment)
    output.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.move(path, output / path.name)) for path in sorted(work.glob("*.deb"))]


def _check_tools() -> None:
    for tool in ("dpkg-buildpackage", "dh"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed: apt-get install debhelper dpkg-dev")
    asked = ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    debian = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if debian != own:
        raise SystemExit(f"this Debian's python3 is {debian}, and this is run by {own}: the wheels would not fit")


def _wheels(source: Path) -> None:
    """The locked wheels, checked; and our own two."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    for lock in LOCKS:
        fetch = ["download", "-q", "--require-hashes", "--only-binary", ":all:", "-d", str(source / "wheels")]
        _run([*pip, *fetch, "-r", str(ROOT / lock)], source)
    for project in (".", "./client"):
        _run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "own", project], source)


def _units(source: Path) -> None:
    """Under the names that debhelper looks for, and with the packages' own program."""
    for path in sorted((source / "deploy").glob("coldchain-*.*")):
        if path.suffix in (".service", ".timer"):
            package = "coldchain-server" if path.stem in ("coldchain-origin", "coldchain-witness") else "coldchain"
            text = path.read_text(encoding="utf-8").replace("/opt/coldchain/bin/", "/usr/bin/")
            (source / "debian" / f"{package}.{path.name}").write_text(text, encoding="utf-8")


def _server_completion(folder: Path) -> None:
    program = Path(sys.executable).with_name("coldchain-server")
    for shell in ("bash", "zsh", "fish"):
        environment = {**os.environ, "_COLDCHAIN_SERVER_COMPLETE": f"{shell}_source"}
        done = subprocess.run([program], capture_output=True, check=True, env=environment)
        (folder / f"coldchain-server.{shell}").write_bytes(done.stdout)


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stdout[-20_000:])
        done.check_returncode()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.make_deb", description="Make the Debian packages.")
    parser.add_argument("--output", type=Path, default=Path("dist"), metavar="DIR")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coldchain-deb-") as work:
        for path in make(options.output, Path(work)):
            sys.stdout.write(f"{path} ({path.stat().st_size:,} bytes)\n")


if __name__ == "__main__":
    main()
