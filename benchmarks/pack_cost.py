"""What a published pack costs over the delta in it, and what packs cost the publisher.

``python -m benchmarks.pack_cost [OLDER ...]`` publishes real releases with eight regions and three cosigning witnesses, in logs that
held OLDER entries before (100 and 1,000), and prints for each::

    from       the release an endpoint has, counted back from the newest (0: has it, and a rollout went a step on)
    pack       bytes of the whole answer's body
    delta      of which the delta is
    over       the rest, of which
    manifests  how many manifests are in it: one for each release between
    in 2^20    what the rest would be in a log of 1,048,576 entries, where proofs are as long as they get for a while

and the processor time and the wall time of all packs of one snapshot, as they are made and placed by a publish.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.log_cost import WITNESSES, found_origin, one_release, passphrase, proved, witness_services
from coldchain.bundle.evidence_file import encode_evidence, read_evidence_file
from coldchain.bundle.pack import HEAD_BYTES, Pack, encode_head, frame_length, parse_head
from coldchain_server.assembly.regions import DEFAULT
from coldchain_server.demo import free_port
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import log_signer, policy_of
from coldchain_server.signing.packs import put_packs
from coldchain_server.signing.roles import ROLLOUT, check_as_client, load_state, now_utc

EIGHTH = '\n[regions.ch]\njurisdiction = "Switzerland"\nwave = 1\n'
RELEASES = 20
SHOWN = (0, 1, 2, 4, 8, 16)
MILLION = 1 << 20


async def grow(home: Home, older: int) -> None:
    """Entries that were in the log before."""
    key = policy_of(await load_state(home.storage)).log_keys[0]
    sign = log_signer(Keyring(home.keys, passphrase), key)
    await PublicLog(home.storage, key).append([b"an older entry %d" % number for number in range(older)], sign)


def opened(data: bytes) -> Pack:
    """A pack's head."""
    frame = data[HEAD_BYTES : HEAD_BYTES + frame_length(data[:HEAD_BYTES])]
    return parse_head(data[:HEAD_BYTES], frame, whole=False)


def in_a_million(pack: Pack) -> int:
    """The length of the same pack's head in a log of so many entries."""
    parts = []
    for path, data in pack.parts.items():
        if path.endswith(".evidence.zst"):
            manifest = read_evidence_file(data)[0]
            proof, _ = proved(manifest, MILLION - 1, MILLION, now_utc())
            parts.append((path, encode_evidence(manifest, proof)))
        elif path.startswith("log/consistency/"):
            parts.append((path, (data * 20)[: 32 * 20]))
        else:
            parts.append((path, data))
    return len(encode_head(parts, pack.content, pack.length, whole=False))


async def placed(home: Home) -> tuple[float, float, int, int]:
    """All packs of the published snapshot anew: seconds of the processor and of the clock, their number and bytes."""
    state = await load_state(home.storage)
    regions = [name for name in state.delegated if name != ROLLOUT]
    found = await check_as_client(home.storage, {}, [*regions, ROLLOUT], now_utc())
    wall, used = time.perf_counter(), time.process_time()
    await put_packs(home.storage, state, found, {})
    used, wall = time.process_time() - used, time.perf_counter() - wall
    sizes = [path.stat().st_size for path in (home.public / "packs").rglob(f"{found.snapshot.version}.*.pack")]
    return used, wall, len(sizes), sum(sizes)


def measure(folder: Path, older: int) -> None:
    """One log; prints its table."""
    ports = {witness: free_port() for witness in WITNESSES}
    home, vkey = asyncio.run(found_origin(folder, ports, DEFAULT + EIGHTH))
    if older:
        asyncio.run(grow(home, older))
    with witness_services(folder, ports, vkey):
        for number in range(1, RELEASES + 1):
            asyncio.run(one_release(home, number))
    snapshot = asyncio.run(load_state(home.storage)).snapshot.signed.version
    print(f"\na log of {older:,} older entries, {RELEASES} releases, 8 regions, 3 cosignatures")
    print("  from       pack      delta       over  manifests    in 2^20")
    for back in SHOWN:
        data = (home.public / f"packs/us/stable/{snapshot}.from-{RELEASES - back}.pack").read_bytes()
        pack = opened(data)
        manifests = sum(path.startswith("manifests/") for path in pack.parts)
        over = len(data) - pack.length
        print(f"{back:>6} {len(data):>10,} {pack.length:>10,} {over:>10,} {manifests:>10} {in_a_million(pack):>10,}")
    used, wall, count, size = asyncio.run(placed(home))
    print(f"  {count} packs of a snapshot, {size:,} bytes: {used:.2f} s of the processor, {wall:.2f} s of the clock")


def main() -> None:
    """Prints the tables."""
    for older in [int(word) for word in sys.argv[1:]] or [100, 1000]:
        with tempfile.TemporaryDirectory(prefix="coldchain-pack-cost-") as name:
            measure(Path(name), older)


if __name__ == "__main__":
    main()
