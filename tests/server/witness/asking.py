"""A witness in a directory of its own, and questions to it: honest ones, forked ones, and any between."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from coldchain.tlog.add_checkpoint import Question
from coldchain.tlog.merkle import prove_consistency
from coldchain.tlog.note import SignedNote
from coldchain.tlog.vkey import NoteKey
from coldchain_server.signing.key_files import DEMO
from coldchain_server.witness.home import WitnessHome, found_witness
from tests.client.tlog.logs import LOG, SIGNED_AT, MemoryLog, Signer, signed

NAME = "wit.example/fleet"
PASSPHRASE = "tests only"
ORIGIN_ID = "532213b32bedae37190eb28363b6649263a853635665635438635cced0bf4be0"  # SHA-256 of log.example/test


def grown(entries: Iterable[bytes]) -> MemoryLog:
    """A log that had every size up to its own, so that it proves from each to each."""
    log = MemoryLog()
    for entry in entries:
        log.append([entry])
    return log


LONG = grown(b"entry %d" % number for number in range(40))


def passphrase() -> str:
    return PASSPHRASE


@cache
def _template(*logs: NoteKey) -> Path:
    """One for all tests: keys and commits cost some milliseconds each."""
    directory = Path(mkdtemp(prefix="witness-template-")) / "witness"
    if logs:
        shutil.copytree(_template(), directory)
        memory = WitnessHome(directory).memory()
        for log in logs:
            memory.follow(log.name, log.vkey)
        memory.close()
    else:
        found_witness(directory, NAME, passphrase, DEMO)
    return directory


def make_witness(directory: Path, logs: Iterable[NoteKey] = (LOG.key,)) -> WitnessHome:
    """A witness in ``directory`` that follows these logs. All that are made here have the same key."""
    shutil.copytree(_template(*logs), directory)
    return WitnessHome(directory)


def fork(at: int, size: int) -> MemoryLog:
    """A log whose first ``at`` entries are those of :data:`LONG`, and no others."""
    return grown([*LONG.entries[:at], *(b"forked %d" % number for number in range(at, size))])


def proof(log: MemoryLog, old: int, size: int) -> tuple[bytes, ...]:
    return tuple(prove_consistency(old, size, log.reader(size)))


def note(log: MemoryLog = LONG, size: int | None = None, *signers: Signer) -> SignedNote:
    return signed(log.checkpoint(size), *(signers or (LOG,)))


def ask(
    old: int,
    size: int,
    log: MemoryLog = LONG,
    *,
    hashes: Sequence[bytes] | None = None,
    signers: Sequence[Signer] = (LOG,),
) -> bytes:
    """The body of a question: from ``old`` to the log's first ``size`` entries."""
    found = tuple(hashes) if hashes is not None else proof(log, old, size) if old <= size else ()
    return Question(old, found, note(log, size, *signers)).encode()


@dataclass(frozen=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def short(self) -> tuple[int, bytes]:
        return self.status, self.body


@dataclass
class Client:
    """Raw requests, one connection each."""

    port: int

    async def send(self, data: bytes, method: str = "GET") -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1")[:-4].split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(fields.get("content-length", 0)) if method != "HEAD" else 0
            return Answer(int(first.split()[1]), fields, await reader.readexactly(length))
        finally:
            writer.transport.abort()

    async def post(self, body: bytes, path: str = "/add-checkpoint") -> Answer:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        return await self.send(head + body)

    async def get(self, path: str, method: str = "GET") -> Answer:
        return await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), method)


@asynccontextmanager
async def serving(home: WitnessHome, now: int = SIGNED_AT) -> AsyncIterator[Client]:
    """The service of a witness on a real socket."""
    from coldchain_server.witness.service import witnessing

    async with witnessing(home, home.signer(passphrase), now=lambda: now) as server:
        yield Client(server.port)
