"""An endpoint whose mirror is a directory: no network, so that only the disk is at work."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldchain.agent.outcome import Outcome
from coldchain.install.directory import ClientDirectory
from tests.client.agent.publisher import FIRST, Publisher, run

Picture = dict[str, bytes | str]


def snapshot(path: Path) -> Picture:
    """Everything below a directory, links not followed."""
    out: Picture = {}
    for one in sorted(path.rglob("*")):
        name = str(one.relative_to(path))
        if one.is_symlink():
            out[name] = f"-> {one.readlink()}"
        else:
            out[name] = one.read_bytes() if one.is_file() else "directory"
    return out


@dataclass
class Endpoint:
    """A publisher, the copy of its tree in ``mirror``, and a client of it."""

    publisher: Publisher
    mirror: Path
    directory: ClientDirectory

    @classmethod
    def at(cls, path: Path, **options: Any) -> Endpoint:
        publisher = Publisher(path / "publisher", **options)
        mirror = path / "mirror"
        return cls(publisher, mirror, publisher.client(path / "endpoint", str(mirror)))

    def publish(self, release: int, contents: dict[str, bytes], **options: Any) -> None:
        self.publisher.publish(release, contents, **options)
        self.copy()

    def copy(self) -> None:
        """Brings the mirror to what is published."""
        shutil.rmtree(self.mirror, ignore_errors=True)
        self.publisher.write(self.mirror)

    def update(self, **options: object) -> Outcome:
        return asyncio.run(run(self.directory, **options))

    @property
    def version(self) -> Path:
        """The running version's folder."""
        return self.directory.current.resolve()

    def replace(self, name: str, data: bytes) -> None:
        """Another content of an installed (read-only) file, under a name of its own: no other link to it changes."""
        (self.version / name).unlink()
        (self.version / name).write_bytes(data)


def installed_endpoint(path: Path, **options: Any) -> Endpoint:
    """With release 1 of FIRST installed."""
    made = Endpoint.at(path, **options)
    made.publish(1, FIRST)
    made.update()
    return made
