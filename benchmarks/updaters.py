"""The two programs that keep signatures current, as they are installed: Debian's freshclam, and ``coldchain update``.

Each has a directory, takes its data from one URL, and shows what an engine would load from it::

    freshclam   DatabaseCustomURL http://…/acme.hsb      DIR/acme.hsb
    coldchain   the published tree at http://…           DIR/current/acme-acme.hsb
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.origin_tree import PROGRAMS, OriginTree

FILE: Final = "acme.hsb"


@dataclass
class Freshclam:
    """``tests``: whether it loads a new database once before it is used, as Debian configures it."""

    folder: Path
    tests: bool = True
    name: str = "freshclam"
    data: Path = field(init=False)

    def __post_init__(self) -> None:
        self.data = self.folder / "db"

    @staticmethod
    def missing() -> str:
        """Why it cannot be run; empty when it can."""
        return "" if shutil.which("freshclam") else "freshclam is not installed"

    def prepare(self, url: str) -> None:
        """An empty directory that follows ``url``."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.data.mkdir(parents=True)
        self.follow(url)

    def follow(self, url: str) -> None:
        """Takes its data from ``url`` from now on. No name is looked up and no other server asked."""
        (self.folder / "freshclam.conf").write_text(
            f"DatabaseDirectory {self.data}\nDatabaseOwner root\nUpdateLogFile {self.folder / 'log'}\n"
            f"DatabaseMirror 127.0.0.1\nDatabaseCustomURL {url}/{FILE}\n"
            f"TestDatabases {'yes' if self.tests else 'no'}\n",
            encoding="utf-8",
        )

    @property
    def command(self) -> list[str]:
        """One update."""
        return [
            "freshclam",
            "--stdout",
            "--no-dns",
            f"--config-file={self.folder / 'freshclam.conf'}",
            "--update-db=custom",
        ]

    def active(self) -> bytes | None:
        """What an engine would load."""
        path = self.data / FILE
        return path.read_bytes() if path.exists() else None

    def installed_at(self, when: float) -> None:
        """As if what is there had been installed then: it asks for what is newer than its file."""
        os.utime(self.data / FILE, (when, when))

    def left_over(self) -> int:
        """Files that neither an engine nor the next run needs."""
        known = {self.data / FILE, self.data / "freshclam.dat"}
        return sum(1 for path in self.data.rglob("*") if path.is_file() and path not in known)


@dataclass
class Coldchain:
    """An endpoint without an engine: what it does before an engine is asked."""

    folder: Path
    origin: OriginTree
    name: str = "coldchain"
    data: Path = field(init=False)

    def __post_init__(self) -> None:
        self.data = self.folder / "endpoint"

    def prepare(self, url: str) -> None:
        """An empty directory that follows ``url``."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.follow(url)

    def follow(self, url: str) -> None:
        """Takes its data from ``url`` from now on."""
        self.origin.endpoint(self.data, url)

    @property
    def command(self) -> list[str]:
        """One update."""
        return [str(PROGRAMS / "coldchain"), "update", str(self.data)]

    def active(self) -> bytes | None:
        """What an engine would load."""
        path = self.data / "current" / f"acme-{FILE}"
        return path.read_bytes() if path.exists() else None

    def installed_at(self, _when: float) -> None:
        """It compares versions and digests, and no times of files."""

    def left_over(self) -> int:
        """Files that neither an engine nor the next run needs; the beginning of a download is needed by the next run."""
        links = {(self.data / name).resolve() for name in ("current", "previous")}
        versions = [path for path in (self.data / "versions").iterdir() if path.resolve() not in links]
        return len(versions) + sum(1 for path in self.data.rglob("*.tmp") if path.is_file())
