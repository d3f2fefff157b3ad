"""A real origin for measurements: made, fed, approved and published by ``coldchain-server`` itself, all regions but one left out.

::

    tree = OriginTree(folder)
    tree.publish({"acme.hsb": data})        # release 1, then 2, …
    tree.public                             # the published tree, to serve or to read
    tree.endpoint(folder / "endpoint", url) # a directory as `coldchain init` makes it
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PROGRAMS: Final = Path(sys.executable).parent
REGIONS: Final = '[regions.us]\njurisdiction = "United States"\n'


class OriginTree:
    """See the module; ``folder`` is new."""

    def __init__(self, folder: Path) -> None:
        self.home, self.feed = folder / "origin", folder / "acme"
        self.release = 0
        folder.mkdir(parents=True)
        regions = folder / "regions.toml"
        regions.write_text(REGIONS, encoding="utf-8")
        self._server("init", str(self.home), "--demo-keys", "--regions", str(regions), "--log-name", "example.org/log")
        with (self.home / "settings.toml").open("a", encoding="utf-8") as settings:
            settings.write('[gate]\nengines = []\nwithout = "a measurement of something else"\n')

    @property
    def public(self) -> Path:
        """The published tree."""
        return self.home / "public"

    @property
    def root(self) -> Path:
        """The root.json that endpoints pin."""
        return self.home / "root.json"

    def publish(self, files: Mapping[str, bytes]) -> int:
        """The next release, of these signature files; returns its number."""
        shutil.rmtree(self.feed, ignore_errors=True)
        self.feed.mkdir()
        for name, data in files.items():
            (self.feed / name).write_bytes(data)
        self._server("feed", "add", "acme", str(self.feed), "--kind", "clamav", "--home", str(self.home))
        self.release += 1
        self._server("release", "build", "--home", str(self.home))
        for step in ("approve", "publish"):
            self._server("release", step, str(self.release), "--home", str(self.home))
        return self.release

    def endpoint(self, folder: Path, url: str) -> Path:
        """A directory that follows the origin at ``url``."""
        words = ["init", str(folder), "--root", str(self.root), "--region", "us", "--url", url]
        _run([str(PROGRAMS / "coldchain"), *words])
        return folder

    def _server(self, *words: str) -> None:
        _run([str(PROGRAMS / "coldchain-server"), *words])


def _run(command: list[str]) -> None:
    environment = os.environ | {"COLDCHAIN_PASSPHRASE": "a passphrase for measurements"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
