"""What the public log costs the publisher, and what its evidence costs an endpoint.

``python -m benchmarks.log_cost [DIRECTORY]`` prints three tables::

    appends     entries a second into a log on the disk of DIRECTORY (default: the system's temporary one), every file fsynced
    a release   what logging adds to one release: processor time, files and bytes, asking three witnesses over loopback
    evidence    bytes of proof and manifest in a log of 10^6 entries, raw and compressed, and the time of the whole offline check

The release is a real one, of the feeds in ``fixtures/feeds``, through the server's own functions; witnesses are real services in
processes of their own. The log of 10^6 entries is simulated as in :mod:`benchmarks.log_proofs`; its proof is made by the real reader.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from nacl.signing import SigningKey

from benchmarks.log_proofs import microseconds, signing, simulated
from coldchain.bundle.evidence_file import encode_evidence, read_evidence_file
from coldchain.bundle.manifest import parse_manifest
from coldchain.evidence import check_evidence
from coldchain.keys import PublicKey
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import prove_inclusion
from coldchain.tlog.note import SignedNote, sign_text
from coldchain.tlog.policy import Policy, parse_policy
from coldchain.tlog.proof import OfflineProof
from coldchain.tlog.tiles import TileReader, edge_root, right_edge
from coldchain.tlog.vkey import Kind, NoteKey
from coldchain.verify import EVIDENCE, RegionRelease, Target
from coldchain_server.assembly.regions import DEFAULT
from coldchain_server.catalogue.interface import Feed
from coldchain_server.demo import free_port
from coldchain_server.founding import Founding, found
from coldchain_server.home import DEFAULT_SETTINGS, Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.log.public_log import PublicLog
from coldchain_server.release.approve import approve
from coldchain_server.release.build import build
from coldchain_server.release.log import log_release
from coldchain_server.release.publish import publish
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state, now_utc
from coldchain_server.storage.directory import DirectoryStorage
from coldchain_server.witness.home import found_witness

FEEDS = Path(__file__).resolve().parents[1] / "fixtures" / "feeds"
KINDS = {"acme-hashes": "clamav", "acme-rules": "yara", "acme-indicators": "list"}
WITNESSES = ("one", "two", "three")
ENTRY_BYTES = 4096
RELEASES = 12


def passphrase() -> str:
    """Of keys that live as long as the run."""
    return "benchmark"


# -- appends ----------------------------------------------------------------------------------------------------------


async def appends(folder: Path, batch: int, total: int) -> tuple[float, float]:
    """Entries a second by the clock, and milliseconds of processor time for each append."""
    key = SigningKey(b"\1" * 32)
    log_key = NoteKey("log.coldchain.example/benchmark", Kind.ED25519, PublicKey(key.verify_key.encode()))
    log = PublicLog(DirectoryStorage(folder / f"appends-{batch}"), log_key)
    entries = [hashlib.sha256(b"%d" % number).digest() * (ENTRY_BYTES // 32) for number in range(total)]
    started, processor = time.perf_counter(), time.process_time()
    for first in range(0, total, batch):
        await log.append(entries[first : first + batch], signing(key))
    rounds = -(-total // batch)
    return total / (time.perf_counter() - started), (time.process_time() - processor) / rounds * 1e3


# -- one release ------------------------------------------------------------------------------------------------------


@contextmanager
def witness_services(folder: Path, ports: dict[str, int], vkey: str) -> Iterator[None]:
    """One process each, as their operators run them."""
    program = str(Path(sys.executable).parent / "coldchain-server")
    environment = {**os.environ, "COLDCHAIN_PASSPHRASE": passphrase()}
    with ExitStack() as stack:
        for name, port in ports.items():
            words = [program, "witness", str(folder / name), "--log", vkey]
            subprocess.run([*words, "--no-serve"], env=environment, check=True, capture_output=True)
            served = subprocess.Popen(
                [program, "witness", str(folder / name), "--port", str(port)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(served.wait)
            stack.callback(served.terminate)
        asyncio.run(_all_listen(ports))
        yield


async def _all_listen(ports: dict[str, int]) -> None:
    for port in ports.values():
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            writer.close()
            break
        else:
            raise SystemExit("a witness did not come up within 20 seconds")


class Timed(HttpWitnesses):
    """Notes how long asking takes."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []
        self.looked: list[float] = []

    async def check_not_behind(self, *values: Any) -> None:
        """See the class."""
        started = time.perf_counter()
        await super().check_not_behind(*values)
        self.looked.append((time.perf_counter() - started) * 1e3)

    async def collect(self, *values: Any) -> tuple[SignedNote, None]:
        """See the class."""
        started = time.perf_counter()
        note, lacking = await super().collect(*values)
        self.asked.append((time.perf_counter() - started) * 1e3)
        if lacking is not None:
            raise lacking
        return note, None


async def found_origin(folder: Path, ports: dict[str, int], regions: str = DEFAULT) -> tuple[Home, str]:
    """An origin with the feeds of the fixtures, and witnesses of which two of three are asked for; and its log's vkey."""
    made = {name: found_witness(folder / name, f"{name}.example/witness", passphrase, DEMO) for name in ports}
    lines = [f"witness {name} {made[name].key.vkey} http://127.0.0.1:{port}" for name, port in ports.items()]
    policy = "\n".join([*lines, f"group q 2 {' '.join(ports)}", "quorum q", ""]).encode()
    settings = DEFAULT_SETTINGS + '[gate]\nengines = []\nwithout = "a benchmark of the log"\n'
    founding = Founding(settings, regions, passphrase, DEMO, "log.coldchain.example/benchmark", policy)
    home = await found(folder / "origin", founding, now=now_utc())
    async with home.catalogue() as catalogue:
        for name, kind in KINDS.items():
            await catalogue.put_feed(Feed(name, kind, str(FEEDS / "v1" / name), False))
    return home, policy_of(await load_state(home.storage)).logs[0].vkey


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """By path: inode and length. Every file that is written gets another inode."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


async def one_release(home: Home, number: int) -> dict[str, float]:
    """What logging this release took."""
    keyring, witnesses = Keyring(home.keys, passphrase), Timed()
    async with home.catalogue() as catalogue:
        for feed in await catalogue.feeds():
            await catalogue.put_feed(Feed(feed.name, feed.kind, str(FEEDS / f"v{1 + number % 2}" / feed.name), False))
        await build(home, catalogue, channel="stable", now=now_utc())
        before = sizes(home.public)
        started, processor = time.perf_counter(), time.process_time()
        logged = await log_release(home, catalogue, keyring, witnesses, "stable", number, now=now_utc())
        wall, used = time.perf_counter() - started, time.process_time() - processor
        written = {
            path: size for path, (node, size) in sizes(home.public).items() if before.get(path, (0, 0))[0] != node
        }
        for _ in range(2):
            if (await approve(home, catalogue, keyring, "stable", number, now=now_utc()))[1]:
                break
        await publish(home, catalogue, keyring, "stable", number, now=now_utc())
    ours = {path: size for path, size in written.items() if path.startswith(("log/", "manifests/"))}
    return {
        "whole step, wall ms": wall * 1e3,
        "whole step, processor ms": used * 1e3,
        "of it: looking at 3 witnesses, wall ms": witnesses.looked[0],
        "of it: 3 cosignatures, wall ms": witnesses.asked[0],
        "log and manifest: files written": len(ours),
        "log and manifest: bytes written": sum(ours.values()),
        "proof: bytes": logged.proof_bytes,
    }


# -- evidence ---------------------------------------------------------------------------------------------------------


def proved(manifest: bytes, index: int, size: int, now: datetime) -> tuple[bytes, Policy]:
    """A manifest's proof in a simulated log of that size, with three cosignatures; and the policy that takes it."""
    log, *keys = (SigningKey(bytes([seed]) * 32) for seed in range(4))
    log_key = NoteKey("log.coldchain.example/benchmark", Kind.ED25519, PublicKey(log.verify_key.encode()))
    witnesses = [
        NoteKey(f"{name}.example/witness", Kind.COSIGNATURE, PublicKey(key.verify_key.encode()))
        for name, key in zip(WITNESSES, keys, strict=True)
    ]
    lines = "".join(f"witness {name} {key.vkey}\n" for name, key in zip(WITNESSES, witnesses, strict=True))
    policy = parse_policy(f"log {log_key.vkey}\n{lines}group q 2 {' '.join(WITNESSES)}\nquorum q\n".encode())
    fetch = simulated(index, manifest)
    root = edge_root(right_edge(size, fetch))
    text = Checkpoint(log_key.name, size, root).text
    signatures = [sign_text(text, log_key, signing(log))]
    at = int(now.timestamp())
    signatures += [sign_text(text, key, signing(one), at) for key, one in zip(witnesses, keys, strict=True)]
    hashes = prove_inclusion(index, size, TileReader(size, root, fetch))
    return OfflineProof(index, tuple(hashes), SignedNote(text, tuple(signatures))).encode(), policy


def evidence(manifest: bytes) -> list[tuple[str, str]]:
    """Rows about a real manifest in a log of a million entries."""
    now = datetime(2026, 6, 1, tzinfo=UTC)
    proof, policy = proved(manifest, 666_666, 1_000_000, now)
    release = release_of(manifest)

    def check() -> object:
        return check_evidence(manifest, proof, release, policy, now)

    whole = microseconds(check)
    with mock.patch.object(PublicKey, "verify", return_value=True):
        rest = microseconds(check)
    file = encode_evidence(manifest, proof)
    if read_evidence_file(file) != (manifest, proof):
        raise SystemExit("the evidence file does not hold what went in")
    return [
        ("proof, bytes", f"{len(proof):,}"),
        ("manifest, bytes", f"{len(manifest):,}"),
        ("proof and manifest, bytes", f"{len(proof) + len(manifest):,}"),
        ("evidence file, as fetched, bytes", f"{len(file):,}"),
        ("whole check, processor µs", f"{whole:,.0f}"),
        ("of it beyond Ed25519, processor µs", f"{rest:,.0f}"),
    ]


def release_of(manifest: bytes) -> RegionRelease:
    """What a region's role would sign of it."""
    found = parse_manifest(manifest)
    region = sorted(found.regions)[0]
    facts, full = found.regions[region].facts, found.regions[region].full
    if full is None:
        raise SystemExit("the manifest names no full bundle")
    return RegionRelease(
        found.product,
        region,
        found.channel,
        found.release,
        facts.bundle,
        facts.bytes,
        facts.records,
        found.digest,
        Target(f"{region}/{found.channel}/{EVIDENCE}", 1, found.digest),
        Target(f"{region}/{found.channel}/full.ccd", full.bytes, full.sha256),
        {},
        1,
    )


def main() -> None:
    """Prints the tables."""
    where = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=where, prefix="coldchain-log-cost-") as name:
        folder = Path(name)
        print(f"appends of {ENTRY_BYTES:,} bytes each, every file fsynced")
        print("   batch   entries a second   processor ms an append")
        for batch, total in ((1, 300), (16, 1600), (256, 5120)):
            speed, cost = asyncio.run(appends(folder, batch, total))
            print(f"{batch:>8} {speed:>18,.0f} {cost:>24.1f}")
        ports = {witness: free_port() for witness in WITNESSES}
        home, vkey = asyncio.run(found_origin(folder, ports))
        with witness_services(folder, ports, vkey):
            rows = [asyncio.run(one_release(home, number)) for number in range(1, RELEASES + 1)]
        print(f"\nlogging one release: median of releases 2 to {RELEASES}")
        for what in rows[0]:
            print(f"  {what:<42} {statistics.median(row[what] for row in rows[1:]):>10,.1f}")
        state = asyncio.run(load_state(home.storage))
        facts = state.channel("us", "stable")
        if facts is None:
            raise SystemExit("nothing was published")
        print("\nevidence of that release's manifest in a log of 1,000,000 entries, three cosignatures")
        for label, value in evidence(home.content.get(facts["manifest"])):
            print(f"  {label:<42} {value:>10}")


if __name__ == "__main__":
    main()
