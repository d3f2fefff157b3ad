"""One step of a history, by us and by every peer, on the same bytes; every patch is applied and compared before its size counts.

Ours is one delta of the whole bundle. Peers work on single files, so where more than one section is concerned each may choose, step
by step, whichever of three ways of handing it the bundle gives its smallest result:

* *whole*: a plain tar of all sections, old and new (so unchanged neighbours can be copied from);
* *changed*: a plain tar of the sections that are not in both alike;
* *apart*: a patch for each changed section, each new one against nothing, summed (their names and the list of what goes are free).

So no peer pays for a container that does not suit it. ``apart`` is left out where more than :data:`APART` sections change.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.directories import DirectoryBundle, NewDirectory, lay_out
from benchmarks.figures import Step
from benchmarks.history import Contents, tar_bytes
from benchmarks.peers import Peer, patch_size
from benchmarks.processes import ToolError
from benchmarks.series import Pair
from coldchain.bundle.delta import apply_delta
from coldchain.bundle.description import BundleDescription, Section
from coldchain_server.deltas.changes import BundleChange
from coldchain_server.deltas.diff import diff_bundles, diff_lines
from coldchain_server.deltas.encode import encode_delta

APART = 24


def measure(pair: Pair, contents: Contents, peers: Sequence[Peer], failures: dict[str, str]) -> Step:
    """Our delta and the peers' patches of one step; a peer that fails is told of in ``failures`` and has no size."""
    with tempfile.TemporaryDirectory(prefix="coldchain-bench-") as name:
        scratch = Path(name)
        started = time.process_time()
        change = diff_bundles(pair.old, pair.new, contents)
        delta = scratch / "delta"
        with delta.open("wb") as out:
            encode_delta(change, contents, out)
        cpu = time.process_time() - started
        _check(delta, pair, contents, scratch)
        sizes: dict[str, int] = {}
        ways = list(_ways(pair, contents, scratch)) if peers else []
        for peer in peers:
            reason = ""
            found = []
            for way in ways:
                try:
                    found.append(sum(patch_size(peer, *files, scratch) for files in way))
                except ToolError as error:
                    reason = str(error)
            if found:
                sizes[peer.name] = min(found)
            else:
                failures[f"{peer.name} on {pair.version}"] = reason
        sections = sum(1 for old, new in change.pairs() if old != new)
        return Step(pair.version, sections, records(change, contents), delta.stat().st_size, cpu, sizes)


def records(change: BundleChange, contents: Contents) -> int:
    """Records added and removed; of a file that changed its lines, as sets."""
    total = 0
    counts = change.counts()
    for old, new in change.pairs():
        if old and new and old.sha256 == new.sha256:
            continue
        if old and new and new.kind == "set":
            total += sum(counts[new.name])
            continue
        before, after = (_sorted_lines(section, contents) for section in (old, new))
        removed, added = diff_lines(before, after)
        total += len(removed) + len(added)
    return total


def _sorted_lines(section: Section | None, contents: Contents) -> bytes:
    lines = set(contents(section.sha256).read_bytes().split(b"\n")) - {b""} if section else set()
    return b"".join(line + b"\n" for line in sorted(lines))


def _check(delta: Path, pair: Pair, contents: Contents, scratch: Path) -> None:
    lay_out(pair.old, contents.directory, scratch / "old")
    old = DirectoryBundle(scratch / "old")
    with delta.open("rb") as file:
        made = apply_delta(file, old, NewDirectory(scratch / "new", old), expected=pair.new.digest)
    if made != pair.new:
        raise SystemExit(f"our own delta to {pair.version} gives another bundle")


def _ways(pair: Pair, contents: Contents, scratch: Path) -> Iterator[list[tuple[Path, Path]]]:
    olds, news = (_by_name(bundle) for bundle in (pair.old, pair.new))
    if len(olds) == len(news) == 1 and olds.keys() == news.keys():
        yield [(contents(pair.old.sections[0].sha256), contents(pair.new.sections[0].sha256))]
        return
    gone = [section for section in pair.old.sections if news.get(section.name) != section]
    come = [section for section in pair.new.sections if olds.get(section.name) != section]
    for way, before, after in (("whole", pair.old.sections, pair.new.sections), ("changed", gone, come)):
        files = scratch / f"{way}.old", scratch / f"{way}.new"
        for path, sections in zip(files, (before, after), strict=True):
            # With a line end after it, without which diff -e refuses it; no other peer minds the byte.
            path.write_bytes(tar_bytes(list(sections), contents) + b"\n")
        yield [files]
    if come and len(come) <= APART:
        nothing = scratch / "nothing"
        nothing.write_bytes(b"\n")  # bsdiff cannot map an empty file
        yield [(contents(olds[new.name].sha256) if new.name in olds else nothing, contents(new.sha256)) for new in come]


def _by_name(bundle: BundleDescription) -> dict[str, Section]:
    return {section.name: section for section in bundle.sections}
