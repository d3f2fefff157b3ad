"""A Debian of the same release as this one with nothing on it, in a folder: made by mmdebstrap, entered by chroot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = "python3,python3-venv,adduser"


def codename() -> str:
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return ""


def make_root(folder: Path) -> Path:
    """The folder, filled. Skips where this is not possible, and says why."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    if os.getuid() != 0:
        pytest.skip("a clean root needs root")
    words = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", codename(), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Debian's packages cannot be had here: {done.stderr.strip().splitlines()[-1:]}")
    return folder


def inside(root: Path, *words: str, network: bool = True, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command in the root; without ``network`` not even a loopback is up."""
    command = ["chroot", str(root), *words]
    command = command if network else ["unshare", "-n", *command]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"}
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def everything(root: Path) -> dict[str, str]:
    """Every path of the root and what it is, but for what a package manager notes down for itself and what the test brings along."""
    out = {}
    own = (
        "var/lib/dpkg",
        "var/log",
        "var/cache",
        "var/lib/apt",
        "var/lib/systemd/deb-systemd",
        "proc",
        "sys",
        "dev",
        "tmp",
        "media",
        "run",
    )
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name.startswith(own) or (name.startswith("etc/") and name.endswith("-")):
            continue
        if path.is_symlink():
            out[name] = f"link to {os.readlink(path)}"  # noqa: PTH115
        else:
            out[name] = "folder" if path.is_dir() else f"file of {path.stat().st_size}"
    return out
