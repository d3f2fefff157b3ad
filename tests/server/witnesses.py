"""A team of real witnesses for an origin: services on real sockets, each with a key of its own, that can stop and come back."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint
from coldchain.tlog.note import parse_note
from coldchain.tlog.policy import Policy
from coldchain.tlog.vkey import NoteKey
from coldchain_server.home import Home
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state
from coldchain_server.signing.rotation import set_log_policy
from coldchain_server.witness.home import WitnessHome, found_witness
from coldchain_server.witness.service import witnessing
from tests.client.tuf.repository import NOW
from tests.server import origins

PASSPHRASE = "tests only"
NAMES = ("zurich", "tokyo", "oslo")


def passphrase() -> str:
    return PASSPHRASE


@cache
def _template(name: str) -> Path:
    """Keys and commits cost some milliseconds each: made once for all tests."""
    directory = Path(mkdtemp(prefix="witness-template-")) / name
    found_witness(directory, f"wit.example/{name}", passphrase, DEMO)
    return directory


@dataclass
class Team:
    """Witnesses by name. A stopped one keeps its port and its memory."""

    folder: Path
    names: tuple[str, ...] = NAMES
    now: datetime = NOW
    ports: dict[str, int] = field(default_factory=dict)
    _running: dict[str, AsyncExitStack] = field(default_factory=dict)

    def home(self, name: str) -> WitnessHome:
        return WitnessHome(self.folder / name)

    async def start(self, names: Iterable[str] | None = None) -> None:
        for name in self.names if names is None else names:
            if not self.home(name).exists:
                shutil.copytree(_template(name), self.folder / name)
            stack = self._running[name] = AsyncExitStack()
            home = self.home(name)
            service = witnessing(
                home, home.signer(passphrase), port=self.ports.get(name, 0), now=lambda: int(self.now.timestamp())
            )
            self.ports[name] = (await stack.enter_async_context(service)).port

    async def stop(self, names: Iterable[str] | None = None) -> None:
        """Stops these; all when none are named."""
        for name in tuple(self._running if names is None else names):
            await self._running.pop(name).aclose()

    def follow(self, log: NoteKey) -> None:
        """What each witness's operator types when the log's vkey reaches him."""
        for name in self.names:
            memory = self.home(name).memory()
            memory.follow(log.name, log.vkey)
            memory.close()

    def held(self, name: str, log: NoteKey) -> Checkpoint | None:
        """The newest checkpoint that a witness has cosigned, with the log's good signature."""
        memory = self.home(name).memory()
        try:
            head = memory.head(log.name)
            return open_checkpoint(parse_note(head.note), [log]).checkpoint if head is not None and head.note else None
        finally:
            memory.close()

    def lines(self, need: int, names: Iterable[str] | None = None) -> bytes:
        """The policy file that the operator writes."""
        chosen = list(names or self.names)
        lines = [f"witness {name} {self.home(name).key.vkey} http://127.0.0.1:{self.ports[name]}" for name in chosen]
        return "\n".join([*lines, f"group q {need} {' '.join(chosen)}", "quorum q", ""]).encode()

    async def join(self, home: Home, need: int, names: Iterable[str] | None = None) -> NoteKey:
        """The root asks for them from now on, and they follow the log; returns its key."""
        await set_policy(home, self.lines(need, names), self.now)
        key = (await policy_in(home)).log_keys[0]
        self.follow(key)
        return key


async def set_policy(home: Home, lines: bytes, now: datetime = NOW) -> None:
    """``keys policy``."""
    async with home.catalogue() as catalogue, catalogue.publisher():
        state = await load_state(home.storage)
        keyring, name = origins.keyring(home), "log.example/new"
        await set_log_policy(state, keyring, home.storage, lines, log_name=name, now=now, strength=DEMO)


async def policy_in(home: Home) -> Policy:
    """The policy that the root carries now."""
    return policy_of(await load_state(home.storage))


@asynccontextmanager
async def team(folder: Path, *names: str, now: datetime = NOW) -> AsyncIterator[Team]:
    """Witnesses, all at work until the block ends."""
    found = Team(folder, names or NAMES, now)
    try:
        await found.start()
        yield found
    finally:
        await found.stop()
