"""A power cut: what was not synced is lost. Needs root and loop devices.

Work runs on an ext4 image mounted through a loop device and dies at one of its C calls (:mod:`tests.faults.crashpoints`). The image
file is copied *without a sync*: it holds what the file system had written, and nothing of the page cache. The copy is mounted, its
journal replayed, as after the cut. ``noauto_da_alloc``, because ext4 otherwise forgives a rename without an fsync.

::

    with Disk(folder) as disk:
        make_something(disk.mounted)             # the start of every run
        disk.keep()
        for point in ...:
            with disk.run() as mounted:          # a fresh copy of the start
                ending = crashpoints.run(lambda: work(mounted), point)
                disk.cut()
            with disk.after_the_cut() as mounted:
                check(mounted)
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MEGABYTES = 32


class Disk:
    """One image, its start and its state at the cut, in ``folder``; mounted at ``folder/mounted``."""

    def __init__(self, folder: Path) -> None:
        self.mounted = folder / "mounted"
        self._start, self._run, self._cut = (folder / name for name in ("start.img", "run.img", "cut.img"))

    def __enter__(self) -> Disk:
        if os.geteuid() != 0:
            pytest.skip("mounting needs root")
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("there is no mkfs.ext4")
        self.mounted.mkdir()
        with self._run.open("wb") as image:
            image.truncate(MEGABYTES << 20)
        _call("mkfs.ext4", "-q", "-b", "1024", str(self._run))
        tried = subprocess.run(
            ["mount", "-o", "loop", str(self._run), str(self.mounted)], capture_output=True, text=True, check=False
        )
        if tried.returncode != 0:
            pytest.skip(f"no loop device can be mounted here: {tried.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        if self.mounted.is_mount():
            _call("umount", str(self.mounted))

    def keep(self) -> None:
        """What is on the disk now is the start of every run."""
        _call("umount", str(self.mounted))
        shutil.copyfile(self._run, self._start)

    @contextmanager
    def _mount(self, image: Path, options: str) -> Iterator[Path]:
        _call("mount", "-o", options, str(image), str(self.mounted))
        try:
            yield self.mounted
        finally:
            _call("umount", str(self.mounted))

    @contextmanager
    def run(self) -> Iterator[Path]:
        """Mounts a fresh copy of the start."""
        shutil.copyfile(self._start, self._run)
        with self._mount(self._run, "loop,noauto_da_alloc") as mounted:
            yield mounted

    def cut(self) -> None:
        """The power goes: the image as it stands, without what only memory holds."""
        shutil.copyfile(self._run, self._cut)

    @contextmanager
    def after_the_cut(self) -> Iterator[Path]:
        """Mounts what is left."""
        with self._mount(self._cut, "loop") as mounted:
            yield mounted


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
