"""A real origin with two real witnesses, all on real sockets, and what a publisher who holds every key can do to them.

The origin is made once and copied for every test, with the witnesses' memories. Its policy names the witnesses' addresses, so those
belong to relays that listen as long as the tests run and lead to the witnesses of the present test.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coldchain.bundle.evidence_file import encode_evidence
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.monitor.directory import MonitorDirectory
from coldchain.monitor.report import Report
from coldchain.monitor.settings import WatchSettings
from coldchain.monitor.watch import watch
from coldchain.tlog.checkpoint import parse_checkpoint
from coldchain.tlog.policy import Policy
from coldchain.verify import EVIDENCE
from coldchain_server.founding import Founding, found
from coldchain_server.home import Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.log.public_log import PublicLog
from coldchain_server.release.drafts import Draft, measure
from coldchain_server.release.log import _put_files
from coldchain_server.release.publish import put_measured
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.log_policy import log_signer, policy_of
from coldchain_server.signing.roles import ChannelFacts, RoleState, load_state, next_region_role, sign
from coldchain_server.signing.rotation import publish_roles, role_signers
from coldchain_server.web.origin import running
from coldchain_server.witness.home import WitnessHome, found_witness
from coldchain_server.witness.service import witnessing
from tests.server import origins

NAMES = ("one", "two")
NOW = datetime.now(UTC).replace(microsecond=0)
REGIONS = (
    origins.REGIONS
    + """
[regions.kr]
jurisdiction = "South Korea"

[[regions.kr.policy]]
action = "add"
kind = "signature"
name = "Win.Trojan.Agent-1007-0"
reason = "met only there"
"""
)


class Relay:
    """A port that stays, and leads to another one that changes; None leads nowhere."""

    def __init__(self) -> None:
        self.target: int | None = None
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._stop.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            if self.target is not None:
                back, forth = await asyncio.open_connection("127.0.0.1", self.target)
                await asyncio.gather(self._pump(reader, forth), self._pump(back, writer))
        writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    def __enter__(self) -> Relay:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@contextlib.contextmanager
def relays() -> Iterator[Mapping[str, Relay]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Relay()) for name in NAMES}


@contextlib.asynccontextmanager
async def witnesses(folder: Path, ways: Mapping[str, Relay]) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for name in NAMES:
            home = WitnessHome(folder / name)
            served = await stack.enter_async_context(witnessing(home, home.signer(lambda: origins.PASSPHRASE)))
            ways[name].target = served.port
        try:
            yield
        finally:
            for way in ways.values():
                way.target = None


async def make_template(folder: Path, ways: Mapping[str, Relay]) -> None:
    """An origin with two published releases in ``folder/origin``, its witnesses in ``folder/one`` and ``folder/two``."""
    made = {
        name: found_witness(folder / name, f"wit.example/{name}", lambda: origins.PASSPHRASE, DEMO) for name in NAMES
    }
    lines = [f"witness {name} {made[name].key.vkey} http://127.0.0.1:{ways[name].port}" for name in NAMES]
    policy = "".join(f"{line}\n" for line in [*lines, "group both 2 one two", "quorum both"]).encode()
    founding = Founding(origins.SETTINGS, REGIONS, lambda: origins.PASSPHRASE, DEMO, "log.example/watched", policy)
    home = await found(folder / "origin", founding, now=NOW)
    log = policy_of(await load_state(home.storage)).log_keys[0]
    for one in made.values():
        memory = one.memory()
        memory.follow(log.name, log.vkey)
        memory.close()
    async with witnesses(folder, ways):
        for files in (origins.FIRST, origins.SECOND):
            await origins.release(home, files, now=NOW)


@dataclass
class Watched:
    """An origin that is watched. ``url`` is its address."""

    home: Home
    folder: Path
    ways: Mapping[str, Relay]
    url: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> MonitorDirectory:
        return MonitorDirectory(self.folder / "monitor")

    async def run(self, **options: Any) -> Report:
        """One run of the monitor."""
        given: dict[str, Any] = {
            "url": self.url,
            "root": self.home.pinned_root(),
            "tries": 1,
            "now": lambda: NOW,
            **self.settings,
            **options,
        }
        return await watch(self.directory, WatchSettings(**given))

    async def state(self) -> RoleState:
        return await load_state(self.home.storage)

    async def policy(self) -> Policy:
        return policy_of(await self.state())

    async def log(self) -> PublicLog:
        return PublicLog(self.home.storage, (await self.policy()).log_keys[0])

    async def append(self, *entries: bytes, ask: bool = True) -> int:
        """Signs entries into the log with its own key, and has them cosigned; returns the first one's index."""
        log, keyring = await self.log(), origins.keyring(self.home)
        index, note = await log.append(entries, log_signer(keyring, log.key), pending=ask)
        if ask:
            head = parse_checkpoint(note.text)
            note, lacking = await HttpWitnesses().collect(
                note, await self.policy(), lambda size: log.growth(size, head), {}, NOW
            )
            assert lacking is None, lacking
            await log.publish(note)
        return index

    async def entries(self) -> list[bytes]:
        log = await self.log()
        return (await log.last_entries(await log.checkpoint()))[1]

    async def manifest(self) -> Manifest:
        """The newest one in the log."""
        return parse_manifest((await self.entries())[-1])

    async def release(self, **options: Any) -> int:
        return await origins.release(self.home, origins.THIRD, now=NOW, **options)

    async def draft(self, files: Mapping[str, bytes] = origins.THIRD) -> Manifest:
        """The next release, built, its files published, and neither logged nor signed."""
        built = await origins.only_build(self.home, files, now=NOW)
        async with self.home.catalogue() as catalogue:
            known = await catalogue.release("stable", built.number)
        assert known is not None
        draft = Draft(self.home.draft("stable", built.number))
        data = draft.read(draft.directory / "manifest.json")
        await _put_files(self.home, draft, built.manifest, data)
        return built.manifest

    async def offer(
        self, region: str, manifest: Manifest, *, full: Path | None = None, proof: bytes | None = None, named: str = ""
    ) -> None:
        """Signs, with every key, a region's role that offers this release, whether the log holds it or not."""
        state, keyring = await self.state(), origins.keyring(self.home)
        facts = manifest.regions[region].facts
        file = manifest.regions[region].full
        assert file is not None
        prefix = f"{region}/{manifest.channel}"
        data = manifest.encode()
        files = {EVIDENCE: encode_evidence(data, proof)}
        targets = {f"{prefix}/full.ccd": measure(full) if full else (file.bytes, file.sha256)}
        if full is not None:
            await put_measured(self.home, f"targets/{prefix}/{measure(full)[1]}.full.ccd", full, measure(full)[1])
        for name, content in files.items():
            path = self.folder / name
            path.write_bytes(content)
            targets[f"{prefix}/{name}"] = measure(path)
            sha256 = measure(path)[1]
            await put_measured(self.home, f"targets/{prefix}/{sha256}.{name}", path, sha256)
        channel = ChannelFacts(
            manifest.release, facts.bundle, facts.bytes, facts.records, named or manifest.digest, targets
        )
        role = next_region_role(state.delegated[region], manifest.channel, channel, NOW)
        sign(role, role_signers(state, keyring, region))
        await publish_roles(state, keyring, self.home.storage, {region: role}, NOW)

    def public(self, path: str) -> Path:
        return self.home.public / path

    def full(self, manifest: Manifest, region: str) -> Path:
        facts = manifest.regions[region].full
        assert facts is not None
        return self.public(f"targets/{region}/{manifest.channel}/{facts.sha256}.full.ccd")

    async def own_policy(self, quorum: str = "none", *more: str) -> bytes:
        """A policy of the customer's own: the root's log and witnesses, and another quorum."""
        policy = await self.policy()
        kept = replace(policy, groups={}, quorum="none").encode().decode().removesuffix("quorum none\n")
        return "".join([kept, *(f"{line}\n" for line in more), f"quorum {quorum}\n"]).encode()


@contextlib.asynccontextmanager
async def watched(template: Path, folder: Path, ways: Mapping[str, Relay]) -> AsyncIterator[Watched]:
    """A copy of the template, its origin and witnesses running."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    home = Home(folder / "origin")
    async with witnesses(folder, ways), running(home.storage) as origin:
        yield Watched(home, folder, ways, origin.url)


def kinds(report: Report) -> list[str]:
    return sorted({one.kind for one in report.alerts})
