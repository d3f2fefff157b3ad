"""Encoded parts of deltas, kept by what they were made from.

A block of added records and a group of files are pure functions of their inputs, and packing them (every coder, every form) is most
of the work of a release. Regions whose policies do not touch a section share its parts word for word, and the blocks of an unchanged
section come back in every full bundle; so each part is encoded once. A store is a directory that may be deleted at any time::

    <SHA-256 of the inputs>     SHA-256 of the part (32 bytes), then the part

The inputs' digest covers the program's and the packers' versions, so a newer encoder starts anew. An entry that is torn or damaged
counts as none. Nothing here is trusted: each finished file is applied with the client's code before anything is signed.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import zstandard

import coldchain
from coldchain.bundle.common_text import COMMON_TEXT

ENCODER: Final = (
    f"{coldchain.__version__} zstd {zstandard.ZSTD_VERSION} lzma {lzma.FORMAT_RAW} 2 "
    f"{hashlib.sha256(COMMON_TEXT).hexdigest()}"
)
_DIGEST_BYTES: Final = 32

Encode = Callable[[], bytes]


class Encoded:
    """The parts of one run of builds; :meth:`forget` at its end removes what it did not use.

    Args:
        directory: of the entries; made when the first is kept.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._used: set[str] = set()

    def __call__(self, inputs: Iterable[bytes], encode: Encode) -> bytes:
        """The part made from ``inputs``: a kept one, or what ``encode`` returns.

        Args:
            inputs: everything that decides the part; each counts with its length, so that no two sequences are alike.
            encode: makes the part.
        """
        digest = hashlib.sha256(ENCODER.encode())
        for one in inputs:
            digest.update(len(one).to_bytes(8, "big"))
            digest.update(one)
        name = digest.hexdigest()
        self._used.add(name)
        kept = self._recall(name)
        if kept is None:
            kept = encode()
            self._keep(name, kept)
        return kept

    def _recall(self, name: str) -> bytes | None:
        try:
            data = (self.directory / name).read_bytes()
        except OSError:
            return None
        part = data[_DIGEST_BYTES:]
        return part if hashlib.sha256(part).digest() == data[:_DIGEST_BYTES] else None

    def _keep(self, name: str, part: bytes) -> None:
        # A store that cannot be written costs time and nothing else; it is not synced, because a torn entry is noticed.
        with contextlib.suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary = self.directory / f".{name}.{os.getpid()}"
            temporary.write_bytes(hashlib.sha256(part).digest() + part)
            temporary.rename(self.directory / name)

    def forget(self) -> int:
        """Removes every entry that was not asked for since this object was made; returns how many."""
        gone = 0
        with contextlib.suppress(OSError):
            for file in list(self.directory.iterdir()):
                if file.name not in self._used:
                    file.unlink(missing_ok=True)
                    gone += 1
        return gone


def encoded_anew(inputs: Iterable[bytes], encode: Encode) -> bytes:
    """In place of an :class:`Encoded` where nothing is kept."""
    return encode()
