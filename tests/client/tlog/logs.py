"""A log in memory and people who sign, for tests. Everything is deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from coldchain.keys import PublicKey
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import prove_consistency, prove_inclusion
from coldchain.tlog.note import NoteSignature, SignedNote, sign_text
from coldchain.tlog.proof import OfflineProof
from coldchain.tlog.tiles import Tile, TileReader, edge_root, grow, right_edge
from coldchain.tlog.vkey import Kind, NoteKey

SHARED = Path(__file__).parents[4] / "shared"
ORIGIN = "log.example/test"
SIGNED_AT = 1_700_000_000  # 2023-11-14 22:13:20 UTC


def vectors(name: str) -> Path:
    """A folder of the shared vectors; skips the test where they are not."""
    folder = SHARED / "vectors" / name
    if not folder.exists():
        pytest.skip(f"the shared test vectors are not here ({name})")
    return folder


@dataclass(frozen=True)
class Signer:
    """A named key with its private half: 32 times the byte ``seed``."""

    name: str
    kind: Kind
    seed: int

    @property
    def private(self) -> SigningKey:
        return SigningKey(bytes([self.seed]) * 32)

    @property
    def key(self) -> NoteKey:
        return NoteKey(self.name, self.kind, PublicKey(self.private.verify_key.encode()))

    @property
    def vkey(self) -> str:
        return self.key.vkey

    def sign(self, text: str, time: int = SIGNED_AT) -> NoteSignature:
        private = self.private
        return sign_text(
            text,
            self.key,
            lambda message: private.sign(message).signature,
            time if self.kind is Kind.COSIGNATURE else None,
        )


def witness(number: int) -> Signer:
    return Signer(f"wit.example/{number}", Kind.COSIGNATURE, number)


LOG = Signer(ORIGIN, Kind.ED25519, 0)
ONE = Signer("wit.example/one", Kind.COSIGNATURE, 1)


def signed(checkpoint: Checkpoint, *signers: Signer, time: int = SIGNED_AT) -> SignedNote:
    return SignedNote(checkpoint.text, tuple(signer.sign(checkpoint.text, time) for signer in signers))


@dataclass
class MemoryLog:
    """A log whose files lie in a dictionary."""

    origin: str = ORIGIN
    size: int = 0
    files: dict[Tile, bytes] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, count: int) -> MemoryLog:
        log = cls()
        log.append([b"entry %d" % number for number in range(count)])
        return log

    def append(self, entries: Sequence[bytes]) -> None:
        self.files.update(grow(self.size, entries, self.files.get))
        self.entries += entries
        self.size += len(entries)

    def root(self, size: int | None = None) -> bytes:
        return edge_root(right_edge(self.size if size is None else size, self.files.get))

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        return Checkpoint(self.origin, self.size if size is None else size, self.root(size))

    def reader(self, size: int | None = None) -> TileReader:
        return TileReader(self.size if size is None else size, self.root(size), self.files.get)

    def inclusion(self, index: int) -> tuple[bytes, ...]:
        return tuple(prove_inclusion(index, self.size, self.reader()))

    def consistency(self, old: int) -> tuple[bytes, ...]:
        return tuple(prove_consistency(old, self.size, self.reader()))

    def proof(self, index: int, *signers: Signer, time: int = SIGNED_AT, extra: bytes = b"") -> OfflineProof:
        return OfflineProof(index, self.inclusion(index), signed(self.checkpoint(), *signers, time=time), extra)


def example(docstring: str | None, first: str, last: str) -> str:
    """The worked example of a module: the docstring's lines from ``first`` up to ``last``, without indent and remarks."""
    assert docstring is not None
    lines = [line.removeprefix("    ").split("   ")[0].rstrip() for line in docstring.split("\n")]
    start = next(number for number, line in enumerate(lines) if line.startswith(first))
    end = next(number for number, line in enumerate(lines[start:], start) if line.startswith(last))
    return "\n".join(lines[start : end + 1]) + "\n"
