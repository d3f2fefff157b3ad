"""What encoding and applying cost: peak memory of a process of its own, CPU in turns with ``cp`` and ``sha256sum``.

``cp`` copies the new bundle's files and ``sha256sum`` hashes them: the least that any way of installing a checked bundle does.
Their CPU is that of the whole small programs; ours is that of the work alone, without the start of the interpreter. Memory is our
process's peak less that of a bare interpreter.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.directories import lay_out
from benchmarks.figures import alternate
from benchmarks.history import Contents
from benchmarks.processes import own, run
from coldchain.bundle.description import BundleDescription

TURNS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one delta: bytes, encode CPU and memory, apply memory, apply CPU, that of cp + sha256sum, the median of the ratios."""

    delta: int
    encode_cpu: float
    encode_memory: int
    apply_memory: int
    apply_cpu: float
    copy_cpu: float
    ratio: float

    def as_json(self) -> dict[str, Any]:
        """For the results."""
        return {name: getattr(self, name) for name in self.__slots__}


def cost(old: BundleDescription | None, new: BundleDescription, contents: Contents, turns: int = TURNS) -> Cost:
    """Encodes in a child and applies in turns with cp + sha256sum; the digests are checked by applying itself."""
    bare = own("bare")[0].memory
    with tempfile.TemporaryDirectory(prefix="coldchain-bench-") as name:
        scratch = Path(name)
        (scratch / "old.json").write_bytes(old.encode() if old else b"")
        (scratch / "new.json").write_bytes(new.encode())
        delta = scratch / "delta"
        before = str(scratch / "old.json") if old else ""
        usage, figures = own("encode", str(contents.directory), before, str(scratch / "new.json"), str(delta))
        if old:
            lay_out(old, contents.directory, scratch / "old")
        lay_out(new, contents.directory, scratch / "wanted")
        ours: list[float] = []
        copies: list[float] = []
        memory = 0
        for _ in range(turns):
            applied, found = own(
                "apply", str(delta), str(scratch / "old") if old else "", str(scratch / "new"), new.digest
            )
            memory = max(memory, applied.memory - bare)
            ours.append(found["cpu"])
            copies.append(_copy(scratch / "wanted", scratch / "copy"))
            shutil.rmtree(scratch / "new")
        mine, theirs, ratio = alternate(ours, copies)
        return Cost(delta.stat().st_size, figures["cpu"], usage.memory - bare, memory, mine, theirs, ratio)


def _copy(source: Path, target: Path) -> float:
    """CPU of ``cp`` and ``sha256sum`` of a bundle's files."""
    target.mkdir()
    files = [str(path) for path in sorted(source.iterdir())]
    copied = run(["cp", "--reflink=never", "--no-preserve=all", *files, str(target)])
    hashed = run(["sha256sum", *(str(target / Path(file).name) for file in files)])
    shutil.rmtree(target)
    return copied.cpu + hashed.cpu
