"""A publisher whose releases go to engines, and an endpoint with engines configured."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coldchain.agent.outcome import Outcome
from coldchain.agent.update import utc_now
from coldchain.engines.activation import EngineOutcome
from coldchain.engines.endpoint import EndpointEngines
from coldchain.engines.interface import canary_of
from coldchain.engines.settings import EngineSettings, OneEngine
from coldchain.install.directory import ClientDirectory
from coldchain.install.engine_memory import EngineMemory
from coldchain.install.versions import Version
from tests.client.agent.publisher import Publisher, hashes, run
from tests.client.engines.daemon import EICAR_RECORD, Daemon

RULE = b'rule Test_Eicar { strings: $a = "EICAR" ascii fullword condition: $a and filesize < 100 }\n'
GOOD: dict[str, bytes] = {"daily.hsb": hashes(*range(300)), "test.ndb": EICAR_RECORD, "rules.yar": RULE}
BETTER = GOOD | {"daily.hsb": hashes(*range(10, 320))}
BEST = GOOD | {"daily.hsb": hashes(*range(20, 330))}


def canary(release: int) -> tuple[str, bytes]:
    """Name and bytes of a release's canary for ClamAV."""
    made = canary_of("clamav", "coldchain", "us", "stable", release)
    return made.name, made.data


@dataclass
class Endpoint:
    """An endpoint's directory, the mirror it follows, and its engines."""

    publisher: Publisher
    directory: ClientDirectory
    mirror: Path
    engines: EngineSettings

    def publish(self, release: int, contents: Mapping[str, bytes], **rollout: Any) -> None:
        self.publisher.publish(release, contents, **rollout)
        self.publisher.write(self.mirror)

    def update(self, **options: object) -> Outcome:
        return asyncio.run(run(self.directory, str(self.mirror), engines=self.engines, **options))

    def force(self, release: int, contents: Mapping[str, bytes]) -> tuple[EngineOutcome, ...]:
        """What the engines do with a bundle that nobody checked: it is put among the versions, past every gate and the codec."""
        description = self.publisher.describe("us", release, contents)
        version = Version(
            self.directory.versions / f"{release}-{description.digest[:16]}", release, description.digest[:16]
        )
        version.path.mkdir()
        (version.path / "bundle.json").write_bytes(description.encode())
        for section in description.sections:
            (version.path / section.name).write_bytes(self.publisher.find(section.sha256).read_bytes())
        directory = self.directory
        with directory.locked():
            state = directory.state()

            def remember(memories: Mapping[str, EngineMemory]) -> None:
                directory.write_state(replace(state, engines=memories))

            engines = EndpointEngines(directory, directory.config(), self.engines, state.engines, remember, utc_now)
            engines.settle()
            return engines.follow(version)

    def view(self, name: str = "clamav") -> Path:
        return self.directory.path / "engines" / name / "current"

    def linked(self, name: str = "clamav") -> int | None:
        """The release that the engine's view names."""
        view = self.view(name)
        return int(view.readlink().name.split("-")[0]) if view.is_symlink() else None

    def memory(self, name: str = "clamav") -> EngineMemory:
        return self.directory.state().engines[name]


def make_endpoint(path: Path, *engines: OneEngine) -> Endpoint:
    """One that has nothing yet, and a publisher with release 1."""
    publisher = Publisher(path / "publisher", regions=("us",))
    directory = publisher.client(path / "endpoint", "http://placeholder.invalid")
    made = Endpoint(publisher, directory, path / "mirror", EngineSettings(engines))
    made.publish(1, GOOD)
    return made


def clamd_engine(daemon: Daemon, seconds: int = 20) -> OneEngine:
    return OneEngine("clamav", "clamav", socket=daemon.socket, proof_seconds=seconds)


def clamd_endpoint(path: Path, daemon: Daemon, *options: str, seconds: int = 20) -> Endpoint:
    """Release 1 is installed; clamd runs it, as was proved."""
    made = make_endpoint(path, clamd_engine(daemon, seconds))
    made.update()
    daemon.start(made.view(), *options)
    assert made.update().error is None
    return made
