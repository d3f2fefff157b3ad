"""Deltas laid out in directories and applied in a process of their own, for the tests that count memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.directories import lay_out
from coldchain.bundle.description import BundleDescription
from tests.client.bundle.bundles import Store

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Applied:
    """What a process took and how it ended; ``new`` is the directory it wrote."""

    error: str | None
    above_bare: int
    above_loaded: int
    new: Path


def apply_apart(data: bytes, old: BundleDescription | None, expected: str, store: Store, folder: Path) -> Applied:
    """Applies ``data`` in a new process; ``folder`` must be empty."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of an address space is read from /proc/self/status, which needs Linux")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "delta.ccd").write_bytes(data)
    if old is not None:
        lay_out(old, store.path, folder / "old")
    command = [sys.executable, "-m", "tests.client.bundle.apply_child", str(folder / "delta.ccd")]
    command += [str(folder / "old") if old else "", str(folder / "new"), expected]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout)
    peak = figures["peak"]
    return Applied(figures["error"], peak - figures["bare"], peak - figures["loaded"], folder / "new")
