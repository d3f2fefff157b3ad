"""A publisher with a log, a mirror of it, and what readers of the mirror find."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from coldchain.errors import ColdchainError
from coldchain.install import trusted
from coldchain.install.directory import ClientDirectory
from coldchain.mirror.directory import MirrorConfig, MirrorDirectory
from coldchain.mirror.pull import pull
from coldchain.mirror.pulled import Pulled, PullSettings
from tests.client.agent.publisher import Contents, Publisher, installed, run
from tests.client.tlog.memory_log import MemoryLog
from tests.client.tuf.repository import digest


class Scene:
    """``upstream`` is the published tree, ``mirror`` the mirror's directory; nothing is mirrored yet."""

    def __init__(self, path: Path, regions: tuple[str, ...] = ("us", "jp"), log: MemoryLog | None = None) -> None:
        self.path = path
        self.log = log or MemoryLog()
        self.publisher = Publisher(path / "publisher", regions=regions, log=self.log, packs=True)
        self.upstream, self.mirror = path / "upstream", MirrorDirectory(path / "mirror")
        self.config = MirrorConfig(
            "coldchain", ("us",), digest(self.publisher.repository.pinned), (str(self.upstream),)
        )
        self.later = timedelta()

    @property
    def now(self) -> datetime:
        return self.publisher.now + self.later

    def publish(self, release: int, contents: Contents) -> None:
        self.publisher.publish(release, contents)
        self.publisher.write(self.upstream)

    def prepare(self, mirror: MirrorDirectory, config: MirrorConfig, pinned: bytes | None = None) -> None:
        mirror.make()
        trusted.pin(mirror.own, pinned or self.publisher.repository.pinned)
        mirror.write_config(config)

    def pull(
        self, config: MirrorConfig | None = None, *, mirror: MirrorDirectory | None = None, check: bool = False
    ) -> Pulled:
        return asyncio.run(self.apull(config, mirror=mirror, check=check))

    async def apull(
        self, config: MirrorConfig | None = None, *, mirror: MirrorDirectory | None = None, check: bool = False
    ) -> Pulled:
        mirror, config = mirror or self.mirror, config or self.config
        self.prepare(mirror, config)
        with mirror.own.locked():
            return await pull(mirror, config, PullSettings(check=check, now=lambda: self.now))

    def client(self, name: str = "client", region: str = "us", url: str = "") -> ClientDirectory:
        return self.publisher.client(self.path / name, url or str(self.mirror.path), region=region)

    def update(self, client: ClientDirectory, *urls: str) -> int:
        return asyncio.run(run(client, *urls, now=lambda: self.now)).release

    def fresh_release(self, *urls: str) -> int:
        """What an endpoint that has nothing gets from the mirror."""
        shutil.rmtree(self.path / "throwaway", ignore_errors=True)
        return self.update(self.client("throwaway"), *urls)

    def refusal(self, client: ClientDirectory, *urls: str) -> ColdchainError | None:
        try:
            self.update(client, *urls)
        except ColdchainError as error:
            return error
        return None


def without_canaries(client: ClientDirectory) -> dict[str, bytes]:
    return {name: data for name, data in installed(client).items() if not name.startswith("coldchain-canary")}


def served(mirror: MirrorDirectory) -> dict[str, bytes]:
    """Every file that a web server over the mirror's directory would hand out, by path."""
    out = {}
    for folder in ("metadata", "targets", "manifests", "attestations", "log", "packs"):
        top = mirror.path / folder
        for one in sorted(top.rglob("*")) if top.exists() else ():
            if one.is_file():
                out[str(one.relative_to(mirror.path))] = one.read_bytes()
    for one in sorted((mirror.path / "metadata").iterdir()) if (mirror.path / "metadata").exists() else ():
        out[f"metadata/{one.name}"] = one.read_bytes()
    return out


def copied(paths: Sequence[Path], target: Path) -> None:
    """Restores directories as they were."""
    for one in paths:
        shutil.rmtree(target / one.name, ignore_errors=True)
        shutil.copytree(one, target / one.name, symlinks=True)
