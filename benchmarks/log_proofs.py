"""What evidence from the public log costs: bytes of an offline proof, and the processor's time to verify it.

``python -m benchmarks.log_proofs`` prints a table for logs of 10^3, 10^6 and 10^9 entries. The logs are simulated: all entries but
one are the same, so that any tile can be computed when it is read; proofs are made by the real reader from these tiles.
The check is the whole of ``verify_proof`` from the file's bytes, for an entry of 4 KiB and three witnesses of which two are needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from unittest import mock

from nacl.signing import SigningKey

from coldchain.keys import PublicKey
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import leaf_hash, node_hash, prove_consistency, prove_inclusion
from coldchain.tlog.note import SignedNote, sign_text
from coldchain.tlog.offline import verify_proof
from coldchain.tlog.policy import parse_policy
from coldchain.tlog.proof import OfflineProof
from coldchain.tlog.tiles import Tile, TileReader, edge_root, right_edge
from coldchain.tlog.vkey import Kind, NoteKey

ENTRY = b"m" * 4096
ROUNDS = 2000


def simulated(index: int, entry: bytes = ENTRY) -> Callable[[Tile], bytes]:
    """Tiles of a log whose entry ``index`` is this one and all others are empty."""

    @cache
    def same(level: int) -> bytes:
        return node_hash(same(level - 1), same(level - 1)) if level else leaf_hash(b"")

    @cache
    def special(level: int) -> bytes:
        if not level:
            return leaf_hash(entry)
        left, right = special(level - 1), same(level - 1)
        return node_hash(right, left) if index >> (level - 1) & 1 else node_hash(left, right)

    def fetch(tile: Tile) -> bytes:
        level = 8 * tile.level
        nodes = range(tile.index * 256, tile.index * 256 + tile.width)
        return b"".join(special(level) if node == index >> level else same(level) for node in nodes)

    return fetch


def signing(key: SigningKey) -> Callable[[bytes], bytes]:
    """Signs a message with ``key``."""
    return lambda message: key.sign(message).signature


def microseconds(work: Callable[[], object]) -> float:
    """Processor time of one run, the best of five batches."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(ROUNDS // 5):
            work()
        best = min(best, (time.process_time() - start) / (ROUNDS // 5))
    return best * 1e6


def main() -> None:
    """Prints the table."""
    log, *witnesses = (SigningKey(bytes([seed]) * 32) for seed in range(4))
    log_key = NoteKey("log.coldchain.example/stable", Kind.ED25519, PublicKey(log.verify_key.encode()))
    keys = [
        NoteKey(f"witness-{number}.coldchain.example", Kind.COSIGNATURE, PublicKey(one.verify_key.encode()))
        for number, one in enumerate(witnesses)
    ]
    names = " ".join(f"w{number}" for number in range(len(keys)))
    listed = "".join(f"witness w{number} {key.vkey}\n" for number, key in enumerate(keys))
    policy = parse_policy(f"log {log_key.vkey}\n{listed}group g 2 {names}\nquorum g\n".encode())
    now = datetime(2026, 6, 1, tzinfo=UTC)
    at = int(now.timestamp())
    print("entries  hashes  proof bytes  whole check  without Ed25519  consistency hashes")
    for size in (1_000, 1_000_000, 1_000_000_000):
        index = size * 2 // 3
        fetch = simulated(index)
        root = edge_root(right_edge(size, fetch))
        reader = TileReader(size, root, fetch)
        text = Checkpoint(log_key.name, size, root).text
        signatures = [sign_text(text, log_key, signing(log))]
        signatures += [sign_text(text, key, signing(one), at) for key, one in zip(keys, witnesses, strict=True)]
        hashes = prove_inclusion(index, size, reader)
        data = OfflineProof(index, tuple(hashes), SignedNote(text, tuple(signatures))).encode()

        def check(data: bytes = data) -> object:
            return verify_proof(ENTRY, data, policy, now)

        whole = microseconds(check)
        with mock.patch.object(PublicKey, "verify", return_value=True):
            rest = microseconds(check)
        grown = len(prove_consistency(size * 9 // 10 + 1, size, reader))
        print(f"{size:>13,} {len(hashes):>5} {len(data):>8} {whole:>10.0f} µs {rest:>10.0f} µs {grown:>12}")


if __name__ == "__main__":
    main()
