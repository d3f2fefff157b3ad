"""A sample history as a feed: each version goes through the whole path, from the feed's files to an endpoint.

One origin and one endpoint per series. A step lays the version's files where the feed points, then pulls, builds, approves and
publishes with the code behind the commands, and updates and verifies the endpoint over the origin's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.history import Files
from coldchain import cli
from coldchain.agent.outcome import Outcome
from coldchain.agent.update import update
from coldchain.bundle.description import FILE_NAME, BundleDescription
from coldchain.install.directory import ClientDirectory
from coldchain_server.catalogue.interface import Catalogue, Feed
from coldchain_server.feeds.pull import pull
from coldchain_server.founding import Founding, found
from coldchain_server.home import DEFAULT_SETTINGS, Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.release.approve import approve
from coldchain_server.release.build import Built, build
from coldchain_server.release.bundle_files import load_description
from coldchain_server.release.log import log_release
from coldchain_server.release.publish import publish
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import now_utc, utc_text
from coldchain_server.web.origin import running
from tests.server.origins import NO_ENGINES

REGION = "us"


@dataclass(frozen=True)
class Part:
    """A feed that takes the files with these extensions; ``bad`` are the findings that it leaves out lines for."""

    name: str
    kind: str
    extensions: tuple[str, ...]
    bad: frozenset[str] = frozenset()

    def of(self, files: Files) -> Files:
        """The part's files."""
        return {path: data for path, data in files.items() if path.endswith(self.extensions)}


@dataclass(frozen=True)
class Step:
    """What one version cost: ``delta`` in bytes (None for the first), ``full`` likewise, and what was left out, by code."""

    outcome: Outcome
    built: Built
    delta: int | None
    full: int

    @property
    def left_out(self) -> set[str]:
        """Codes of the findings for which lines were left out."""
        return {code for report in self.built.reports for code in report.reasons}


class Replay:
    """An origin, its feeds and one endpoint."""

    def __init__(
        self, directory: Path, home: Home, catalogue: Catalogue, keyring: Keyring, parts: Sequence[Part]
    ) -> None:
        self.directory, self.home, self.catalogue, self.keyring, self.parts = directory, home, catalogue, keyring, parts
        self.endpoint = ClientDirectory(directory / "endpoint")
        self.checked = directory / "approver"
        self._laid: dict[str, Files] = {part.name: {} for part in parts}

    def lay(self, part: Part, files: Files) -> Path:
        """The feed's directory holds exactly these files then."""
        source = self.directory / "feeds" / part.name
        before = self._laid[part.name]
        for path in before.keys() - files.keys():
            (source / path).unlink()
        for path, data in files.items():
            if before.get(path) != data:
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                (source / path).write_bytes(data)
        self._laid[part.name] = files
        return source

    async def release(self, files: Files) -> Built:
        """Pulled, built, approved, published. A feed joins with its first files."""
        for part in self.parts:
            found = part.of(files)
            if found or self._laid[part.name]:
                source = self.lay(part, found)
                feed = Feed(part.name, part.kind, os.fspath(source), bool(part.bad), "")
                await pull(self.home, self.catalogue, feed, taken=utc_text(now_utc()))
        built = await build(self.home, self.catalogue, channel="stable", now=now_utc(), pull_feeds=False)
        asked = HttpWitnesses()
        await log_release(self.home, self.catalogue, self.keyring, asked, "stable", built.number, now=now_utc())
        signed, complete = await approve(
            self.home, self.catalogue, self.keyring, "stable", built.number, now=now_utc(), cache=self.checked
        )
        assert signed
        assert complete
        await publish(self.home, self.catalogue, self.keyring, "stable", built.number, now=now_utc())
        return built

    async def step(self, files: Files) -> Step:
        """A release and the endpoint's update to it, which must end on the signed bundle to the byte."""
        built = await self.release(files)
        outcome = await update(self.endpoint)
        assert outcome.release == built.number
        assert await asyncio.to_thread(cli.run, ["verify", str(self.endpoint.path), "--json"]) == 0
        await self._same_bytes(built)
        sizes = built.sizes[REGION]
        return Step(outcome, built, sizes.get(f"from-{built.number - 1}.ccd"), sizes["full.ccd"])

    async def _same_bytes(self, built: Built) -> None:
        description = await self.assembled(built)
        there = {one.name: one.read_bytes() for one in self.endpoint.current.iterdir()}
        assert there.pop(FILE_NAME) == description.encode()
        assert there.keys() == {section.name for section in description.sections}
        for section in description.sections:
            assert there[section.name] == self.home.content.get(section.sha256)

    async def assembled(self, built: Built) -> BundleDescription:
        """The region's bundle as the assembler described it."""
        rows = await self.catalogue.bundles("stable", built.number)
        (digest,) = [row.digest for row in rows if row.region == REGION]
        return load_description(self.home.content, digest)


def regions_toml(names: Sequence[str]) -> str:
    """Regions without policies."""
    tables = [f'[regions.{name}]\njurisdiction = "{name}"\nwave = 1\n' for name in names]
    return 'neutral = "ch"\n\n' + "\n".join(tables)


@contextlib.asynccontextmanager
async def replaying(
    directory: Path, parts: Sequence[Part], *, regions: str, settings: str = DEFAULT_SETTINGS + NO_ENGINES
) -> AsyncIterator[Replay]:
    """An origin that serves and has no feed yet, and an endpoint of region us that follows it."""
    founding = Founding(settings, regions, lambda: "a passphrase of the test", DEMO)
    home = await found(directory / "origin", founding, now=now_utc())
    keyring = Keyring(home.keys, founding.passphrase)
    async with home.catalogue() as catalogue, running(home.storage) as origin:
        words = ["init", str(directory / "endpoint"), "--root", str(home.directory / "root.json")]
        assert cli.run([*words, "--region", REGION, "--url", origin.url]) == 0
        yield Replay(directory, home, catalogue, keyring, parts)
