"""A synthetic hash database grown by a release: bytes against the information limit and against every peer, cost of both ends."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.applying import cost
from benchmarks.figures import megabytes, seconds, size, table, times
from benchmarks.history import Contents, describe
from benchmarks.peers import Peer
from benchmarks.processes import ToolError, run
from benchmarks.synthetic import Limit, Model, removal_bytes
from coldchain.bundle.description import BundleDescription, Section

RECORDS: Final = 500_000
WIDTHS: Final = (32, 16)
KINDS: Final = {32: "sha256", 16: "md5"}
PEER_SECONDS: Final = 120.0
FULL_RECORDS: Final = 1_000_000
"""Above so many records the full bundle is not encoded, because a run should end."""


def change_of(records: int) -> tuple[int, int]:
    """(added, removed) of the release: 2,000 and 20 of 500,000 records, 5,000 and 50 of 5 million."""
    added = min(5000, max(10, records // 250))
    return added, max(1, added // 100)


def measure(
    width: int, records: int, peers: Sequence[Peer], scratch: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Everything about one database of hashes of ``width`` bytes."""
    say(f"synthetic {KINDS[width]}: making {records:,} records")
    contents = Contents(scratch / f"synthetic-{width}")
    contents.directory.mkdir()
    added, removed = change_of(records)
    old, new, limit, full_limit = make(width, records, added, removed, contents)
    say(f"synthetic {KINDS[width]}: our delta")
    result: dict[str, Any] = {"kind": KINDS[width], "records": records, "added": added, "removed": removed}
    result["delta"] = cost(old, new, contents).as_json() | _limits(limit)
    if records <= FULL_RECORDS:
        result["full"] = cost(None, new, contents, 1).as_json() | _limits(full_limit)
    result["peers"] = {}
    files = [contents(bundle.sections[0].sha256) for bundle in (old, new)]
    for peer in peers:
        say(f"synthetic {KINDS[width]}: {peer.name}")
        result["peers"][peer.name] = _peer(peer, *files)
    say("")
    done = [found["bytes"] for found in result["peers"].values() if "bytes" in found]
    result["ratio"] = result["delta"]["delta"] / min(done) if done else None
    return result


def make(
    width: int, records: int, added: int, removed: int, contents: Contents
) -> tuple[BundleDescription, BundleDescription, Limit, Limit]:
    """Old and new bundle, the limit of the delta and that of the full bundle."""
    model = Model(width)
    base = model.records(records)
    lines = sorted(model.lines(base))
    more = model.records(added)
    gone = set(random.Random(width).sample(range(records), removed))
    later = sorted([line for i, line in enumerate(lines) if i not in gone] + model.lines(more))
    limit, full = model.limit(more), model.limit(base, compressors=False)
    rest = removal_bytes(records, removed)
    assert limit.compressors is not None
    exact = Limit(limit.exact + rest, limit.compressors + rest)
    return _bundle(lines, 1, contents), _bundle(later, 2, contents), exact, full


def _bundle(lines: list[bytes], release: int, contents: Contents) -> BundleDescription:
    data = b"".join([line + b"\n" for line in lines])
    return describe([Section("synthetic.hsb", "set", "clamav", len(lines), len(data), contents.put(data))], release)


def _limits(limit: Limit) -> dict[str, float | None]:
    return {"exact limit": limit.exact, "compressors limit": limit.compressors}


def _peer(peer: Peer, old: Path, new: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="coldchain-bench-") as name:
        patch, out = Path(name) / "patch", Path(name) / "out"
        started = time.monotonic()
        try:
            encoded = run(peer.encode(str(old), str(new), str(patch)), timeout=PEER_SECONDS)
            applied = run(peer.apply(str(old), str(patch), str(out)), timeout=PEER_SECONDS)
            if out.read_bytes() != new.read_bytes():
                raise ToolError("its patch gives another file")
        except ToolError as error:
            return {"failed": str(error), "wall": time.monotonic() - started}
        memory = applied.memory
        if applied.output.startswith("{"):
            memory = json.loads(applied.output)["memory"]
        return {
            "bytes": patch.stat().st_size,
            "encode_cpu": encoded.cpu,
            "apply_cpu": applied.cpu,
            "apply_memory": memory,
        }


def tables(found: dict[str, Any]) -> str:
    """The Markdown of one database."""
    delta = found["delta"]
    head = f"### {found['records']:,} {found['kind']} records, +{found['added']:,} −{found['removed']:,}"
    rows = [
        [
            "ours",
            size(delta["delta"]),
            seconds(delta["encode_cpu"]),
            seconds(delta["apply_cpu"]),
            megabytes(delta["apply_memory"]),
        ]
    ]
    for name, peer in found["peers"].items():
        if "failed" in peer:
            rows.append([f"{name}: {peer['failed'][:60]}", "–", "–", "–", "–"])
        else:
            rows.append(
                [
                    name,
                    size(peer["bytes"]),
                    seconds(peer["encode_cpu"]),
                    seconds(peer["apply_cpu"]),
                    megabytes(peer["apply_memory"]),
                ]
            )
    notes = []
    for what in ("delta", "full"):
        if what in found:
            part = found[what]
            ratios = [
                f"{times3(part['delta'] / part[key])} the limit {how} ({size(part[key])} B)"
                for key, how in (("compressors limit", "by compressors"), ("exact limit", "by the model"))
                if part[key]
            ]
            notes.append(
                f"{what}: {size(part['delta'])} B, {' and '.join(ratios)}; encode {seconds(part['encode_cpu'])} and "
                f"{megabytes(part['encode_memory'])}; apply {times(part['ratio'])} of cp + sha256sum."
            )
    best = f"Ratio to the best peer: {times(found['ratio'])}."
    return "\n\n".join([head, table(["", "bytes", "encode CPU", "apply CPU", "apply memory"], rows), *notes, best])


def times3(number: float) -> str:
    """A ratio near one."""
    return f"{number:.3f}x"
