"""Two published releases, and endpoints that stand before either: made once, copied for every test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coldchain.install.directory import ClientDirectory
from coldchain.tuf.trusted_set import pinned_root
from tests.client.agent.publisher import FIRST, SECOND, Publisher, installed, run

Files = Mapping[str, bytes]


@dataclass
class World:
    """``one`` and ``two`` are the published tree with release 1, and with 2 after it."""

    publisher: Publisher
    one: Files
    two: Files
    names: Mapping[str, str]
    fresh: Path
    first: Path

    def copy(self, template: Path, path: Path) -> ClientDirectory:
        """An endpoint: ``fresh`` holds nothing, ``first`` release 1."""
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(template, path, symlinks=True)
        return ClientDirectory(path)


def make_world(path: Path) -> World:
    publisher = Publisher(path / "publisher", regions=("us",))
    publisher.publish(1, FIRST)
    one = dict(publisher.files)
    fresh = publisher.client(path / "fresh", "http://placeholder.invalid")
    mirror = publisher.write(path / "mirror")
    first = publisher.client(path / "first", "http://placeholder.invalid")
    asyncio.run(run(first, str(mirror)))
    publisher.publish(2, SECOND)
    names = {
        "timestamp": "metadata/timestamp.json",
        **{role: publisher.repository.name(role) for role in ("snapshot", "targets", "us", "rollout")},
        "evidence": publisher.target("evidence.zst"),
        "delta": publisher.target("from-1.ccd"),
        "full": publisher.target("full.ccd"),
    }
    assert pinned_root(publisher.repository.pinned).version == 1
    return World(publisher, one, dict(publisher.files), names, fresh.path, first.path)


def contents(directory: ClientDirectory) -> dict[str, bytes]:
    """What is installed, without canaries."""
    return {name: data for name, data in installed(directory).items() if not name.startswith("coldchain-canary")}


def left_over(directory: ClientDirectory) -> list[str]:
    """What an update must not leave behind once it has ended well."""
    versions = {path.resolve().name for path in (directory.current, directory.previous) if path.is_symlink()}
    out = [f"staging/{one.name}" for one in directory.staging.iterdir()]
    out += [f"versions/{one.name}" for one in directory.versions.iterdir() if one.name not in versions]
    links = {one.name: one.readlink().name for one in directory.signed.iterdir() if one.is_symlink()}
    out += [f"signed/{name}" for name in links if name not in versions]
    out += [f"signed/{one.name}" for one in directory.signed.iterdir() if one.name not in {*links, *links.values()}]
    return out + [str(one) for one in directory.path.rglob("*.tmp")]
