"""A witness of somebody else's follows our log: sigsum-witness 0.11 cosigns it as it grows and refuses its fork.

The program is Debian's package ``sigsum-go`` (in bookworm among the backports). It is started with ``GODEBUG=httpmuxgo121=0``: without
that its routes, which name their methods, are not found when Debian's Go compiled it. It follows logs whose origin is
``sigsum.org/v1/tree/<SHA-256 of the log's public key>`` and nothing else, so the log here has that name.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from coldchain.errors import EvidenceError
from coldchain.keys import PublicKey
from coldchain.tlog.merkle import prove_consistency
from coldchain.tlog.note import SignedNote
from coldchain.tlog.policy import Policy, parse_policy
from coldchain.tlog.vkey import Kind, NoteKey
from coldchain_server.log.witness_client import Cosigned, collect
from tests.client.tlog.logs import LOG, MemoryLog, Signer, signed
from tests.server.witness.asking import make_witness, passphrase

pytestmark = pytest.mark.interop

PROGRAM = shutil.which("sigsum-witness")
PUBLIC = LOG.key.key.raw
ORIGIN = f"sigsum.org/v1/tree/{hashlib.sha256(PUBLIC).hexdigest()}"
OUR_LOG = Signer(ORIGIN, Kind.ED25519, LOG.seed)


def grown(entries: Sequence[bytes]) -> MemoryLog:
    log = MemoryLog(ORIGIN)
    for entry in entries:
        log.append([entry])
    return log


HONEST = grown([b"entry %d" % number for number in range(300)])


def ssh_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def public_key_file(public: bytes) -> str:
    return "ssh-ed25519 " + base64.b64encode(ssh_string(b"ssh-ed25519") + ssh_string(public)).decode() + " test\n"


def private_key_file(seed: bytes) -> str:
    """A key without a passphrase, as OpenSSH writes it (PROTOCOL.key)."""
    public = bytes(SigningKey(seed).verify_key)
    blob = ssh_string(b"ssh-ed25519") + ssh_string(public)
    secret = bytes(8) + blob + ssh_string(seed + public) + ssh_string(b"test")
    secret += bytes(range(1, 1 + -len(secret) % 8))
    whole = b"openssh-key-v1\0" + ssh_string(b"none") * 2 + ssh_string(b"") + struct.pack(">I", 1)
    body = base64.encodebytes(whole + ssh_string(blob) + ssh_string(secret)).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}-----END OPENSSH PRIVATE KEY-----\n"


SEED = bytes([9]) * 32
WITNESS_PUBLIC = bytes(SigningKey(SEED).verify_key)
WITNESS = NoteKey(
    f"sigsum.org/v1/witness/{hashlib.sha256(WITNESS_PUBLIC).hexdigest()}", Kind.COSIGNATURE, PublicKey(WITNESS_PUBLIC)
)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def sigsum(directory: Path) -> AsyncIterator[Policy]:
    """The program, until the block ends; its state stays in the directory."""
    if PROGRAM is None:
        pytest.skip("sigsum-witness is not installed (Debian's sigsum-go, in bookworm among the backports)")
    (directory / "log.pub").write_text(public_key_file(PUBLIC))
    key = directory / "witness.key"
    key.write_text(private_key_file(SEED))
    key.chmod(0o600)
    port = free_port()
    program = await asyncio.create_subprocess_exec(
        *(PROGRAM, "-k", str(key), "--log-key", str(directory / "log.pub")),
        *("--state-file", str(directory / "state"), f"127.0.0.1:{port}"),
        env={**os.environ, "GODEBUG": "httpmuxgo121=0"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            while not await _listens(port):
                assert program.returncode is None, (await program.communicate())[0]
        yield parse_policy(
            f"log {OUR_LOG.vkey}\nwitness sigsum {WITNESS.vkey} http://127.0.0.1:{port}\nquorum sigsum\n".encode()
        )
    finally:
        if program.returncode is None:
            program.kill()
        await program.communicate()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        await asyncio.sleep(0.05)
        return False
    writer.close()
    await writer.wait_closed()
    return True


def checkpoint(log: MemoryLog, size: int) -> SignedNote:
    return signed(log.checkpoint(size), OUR_LOG)


async def cosign(rules: Policy, log: MemoryLog, size: int, sizes: dict[str, int]) -> Cosigned:
    async def prove(old: int) -> list[bytes]:
        return prove_consistency(old, size, log.reader(size))

    return await collect(checkpoint(log, size), rules, prove, sizes, datetime.now(UTC))


async def test_it_cosigns_our_log_and_refuses_our_fork(tmp_path: Path) -> None:
    async with sigsum(tmp_path) as rules:
        sizes: dict[str, int] = {}
        for size in (1, 2, 3, 7, 8, 8, 255, 256, 257):
            cosigned = await cosign(rules, HONEST, size, sizes)
            cosigned.require()
            assert abs(cosigned.verdict.counted["sigsum"] - time.time()) < 24 * 3600
            sizes = cosigned.sizes
            assert sizes == {"sigsum": size}
        (await cosign(rules, HONEST, 280, {})).require()  # it tells us its size, since we forgot
        for at in (0, 100, 256, 279):
            forked = grown([*HONEST.entries[:at], *(b"forked %d" % number for number in range(at, 300))])
            for size in (280, 281, 300):
                refused = await cosign(rules, forked, size, {"sigsum": 280})
                assert refused.note == checkpoint(forked, size)
                with pytest.raises(
                    EvidenceError, match="no quorum of witnesses for this checkpoint: sigsum: it answers 4"
                ):
                    refused.require()
        old_copy = await cosign(rules, HONEST, 100, {"sigsum": 100})
        assert "holds 280 entries, and this checkpoint has 100" in old_copy.answers["sigsum"].problem


async def test_what_it_cosigned_binds_it_after_it_was_killed(tmp_path: Path) -> None:
    async with sigsum(tmp_path) as rules:
        (await cosign(rules, HONEST, 100, {})).require()
    async with sigsum(tmp_path) as rules:
        forked = grown([*HONEST.entries[:50], *(b"forked %d" % number for number in range(50, 200))])
        assert not (await cosign(rules, forked, 200, {"sigsum": 100})).verdict.satisfied
        (await cosign(rules, HONEST, 200, {"sigsum": 100})).require()


async def test_its_witness_and_ours_are_a_quorum_together(tmp_path: Path) -> None:
    from coldchain_server.witness.service import witnessing

    (tmp_path / "sigsum").mkdir()
    home = make_witness(tmp_path / "ours", [OUR_LOG.key])
    async with sigsum(tmp_path / "sigsum") as theirs, witnessing(home, home.signer(passphrase)) as ours:
        line = theirs.encode().decode().splitlines()[1]
        rules = parse_policy(
            f"log {OUR_LOG.vkey}\n{line}\nwitness ours {home.key.vkey} {ours.url}\n"
            "group both all sigsum ours\nquorum both\n".encode()
        )
        sizes: dict[str, int] = {}
        for size in (5, 200):
            cosigned = await cosign(rules, HONEST, size, sizes)
            sizes = cosigned.sizes
            assert len(cosigned.require().signatures) == 3
            assert set(cosigned.verdict.counted) == {"sigsum", "ours"}
