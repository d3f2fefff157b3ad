"""The general tools we are measured against, each at its best setting, and each patch applied before its size counts.

==============  ====================================================================================================
zstd -19        ``zstd -19 --patch-from=OLD``
zstd -22        ``zstd --ultra -22 --long=31 --patch-from=OLD``
bsdiff          ``bsdiff`` 4.3
xdelta3         ``xdelta3 -9 -S lzma`` without file names and checksum (``-A= -n``), its source window as large as the old file
HDiffPatch      PyPI ``hdiffpatch``: one difference by suffix array (which finds more than its block mode ``-s-64``), packed by
                bzip2-9, zstd-22, lzma-9, lzma2-9 and brotli; the smallest counts
diff -e         ``diff -e | gzip -9``, what Debian's pdiffs are
==============  ====================================================================================================

A peer works on files. A bundle of several sections is given to it as a plain tar; see :mod:`benchmarks.steps`.
"""

from __future__ import annotations

import gzip
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.processes import ToolError

Argv = Callable[[str, str, str], list[str]]


@dataclass(frozen=True, slots=True)
class Peer:
    """One tool.

    ``encode(old, new, patch)`` and ``apply(old, patch, out)`` give the program to run; ``needs`` is a program on the path, or
    a module after ``python:``.
    """

    name: str
    needs: str
    encode: Argv
    apply: Argv

    def missing(self) -> str | None:
        """Why it cannot be measured here, or None."""
        kind, _, module = self.needs.partition(":")
        found = importlib.util.find_spec(module) if kind == "python" else shutil.which(self.needs)
        return None if found else "not installed"


def _child(program: str) -> Argv:
    return lambda first, second, third: [sys.executable, "-m", "benchmarks.child", program, first, second, third]


def _zstd(*level: str) -> Argv:
    return lambda old, new, patch: ["zstd", "-q", "-f", *level, f"--patch-from={old}", new, "-o", patch]


def _unzstd(old: str, patch: str, out: str) -> list[str]:
    return ["zstd", "-q", "-f", "-d", "--long=31", f"--patch-from={old}", patch, "-o", out]


def _window(old: str) -> str:
    """xdelta3's source window: a power of two that holds the old file, at least its own default of 64 MiB."""
    return str(min(1 << 31, max(1 << 26, 1 << Path(old).stat().st_size.bit_length())))


def _xdelta(old: str, new: str, patch: str) -> list[str]:
    return ["xdelta3", "-q", "-f", "-e", "-9", "-S", "lzma", "-n", "-A=", "-B", _window(old), "-s", old, new, patch]


def _unxdelta(old: str, patch: str, out: str) -> list[str]:
    return ["xdelta3", "-q", "-f", "-d", "-B", _window(old), "-s", old, patch, out]


HDIFFPATCH: Final = "HDiffPatch"
PEERS: Final = (
    Peer("zstd -19", "zstd", _zstd("-19"), _unzstd),
    Peer("zstd -22", "zstd", _zstd("--ultra", "-22", "--long=31"), _unzstd),
    Peer("bsdiff", "bsdiff", lambda o, n, p: ["bsdiff", o, n, p], lambda o, p, out: ["bspatch", o, out, p]),
    Peer("xdelta3", "xdelta3", _xdelta, _unxdelta),
    Peer(HDIFFPATCH, "python:hdiffpatch", _child("hdiffpatch-encode"), _child("hdiffpatch-apply")),
    Peer("diff -e", "diff", _child("ed-encode"), _child("ed-apply")),
)


def patch_size(peer: Peer, old: Path, new: Path, directory: Path) -> int:
    """Bytes of the peer's patch, which was applied and gave ``new``.

    Raises:
        ToolError: the tool failed, or its patch gives something else.
    """
    patch, out = directory / "patch", directory / "out"
    wanted = new.read_bytes()
    if peer.name == HDIFFPATCH:
        import hdiffpatch

        _, data = hdiffpatch_smallest(old.read_bytes(), wanted)
        result = hdiffpatch.apply(old.read_bytes(), data)
        size = len(data)
    elif peer.name == "diff -e":
        data = ed_script(old, new)
        result = apply_ed_script(old.read_bytes(), data)
        size = len(data)
    else:
        _call(peer.encode(str(old), str(new), str(patch)))
        _call(peer.apply(str(old), str(patch), str(out)))
        result, size = out.read_bytes(), patch.stat().st_size
    if result != wanted:
        raise ToolError(f"{peer.name}: its patch gives another file")
    return size


def _call(argv: list[str]) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise ToolError(
            f"{argv[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}"
        )


def hdiffpatch_smallest(old: bytes, new: bytes) -> tuple[str, bytes]:
    """(compressor, patch): the smallest that the binding makes of one difference."""
    import hdiffpatch as tool

    plain = tool.diff(old, new, tool.COMPRESSION_NONE, validate=False)
    forms = {
        "bzip2-9": tool.BZip2Config(9),
        "zstd-22": tool.ZStdConfig(level=22),
        "lzma-9": tool.LzmaConfig(level=9),
        "lzma2-9": tool.Lzma2Config(level=9),
        "brotli": tool.BrotliConfig.best_compression(),
    }
    packed = {"none": plain} | {name: tool.recompress(plain, form) for name, form in forms.items()}
    return min(packed.items(), key=lambda item: len(item[1]))


# -- diff -e -----------------------------------------------------------------------------------------------------------

_COMMAND = re.compile(rb"(\d+)(?:,(\d+))?([acd])\n\Z")


def ed_script(old: Path, new: Path) -> bytes:
    """``diff -e OLD NEW | gzip -9``. Both files must end with a line end, which scripts of ed cannot express otherwise."""
    argv = ["diff", "--text", "-e", str(old), str(new)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode not in (0, 1):
        raise ToolError(f"diff ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return gzip.compress(done.stdout, 9, mtime=0)


def apply_ed_script(old: bytes, packed: bytes) -> bytes:
    """What ed makes of ``old``: the commands that ``diff -e`` writes, which go from the last line to the first."""
    lines = _split(old)
    script = iter(_split(gzip.decompress(packed)))
    changes: list[tuple[int, int, list[bytes]]] = []
    for command in script:
        found = _COMMAND.match(command)
        if command == b"s/.//\n":  # the line before was "..", written so because a single dot ends a text
            changes[-1][2][-1] = changes[-1][2][-1][1:]
            continue
        if command == b"a\n":  # goes on after the dotted line
            changes[-1][2].extend(_text(script))
            continue
        if not found:
            raise ToolError(f"diff -e: unknown command {command[:40]!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        text = _text(script) if found[3] in b"ac" else []
        changes.append((first, last, text) if found[3] != b"a" else (first + 1, first, text))
    pieces: list[bytes] = []
    at = 0
    for first, last, text in reversed(changes):
        pieces += lines[at : first - 1]
        pieces += text
        at = last
    pieces += lines[at:]
    return b"".join(pieces)


def _split(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    rest = lines.pop()
    return [line + b"\n" for line in lines] + ([rest] if rest else [])


def _text(script: Iterator[bytes]) -> list[bytes]:
    out: list[bytes] = []
    for line in script:
        if line == b".\n":
            return out
        out.append(line)
    raise ToolError("diff -e: a text without its end")
