"""A log and its witnesses in memory, all honest until told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nacl.signing import SigningKey

from coldchain.keys import PublicKey
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import prove_inclusion
from coldchain.tlog.note import NoteSignature, SignedNote, sign_text
from coldchain.tlog.proof import OfflineProof
from coldchain.tlog.tiles import Tile, TileReader, edge_root, grow, right_edge
from coldchain.tlog.vkey import Kind, NoteKey


@dataclass(frozen=True)
class Signing:
    """A named key with both halves."""

    public: NoteKey
    private: SigningKey

    @classmethod
    def make(cls, name: str, kind: Kind = Kind.ED25519) -> Signing:
        private = SigningKey(name.encode().ljust(32, b"*")[:32])
        return cls(NoteKey(name, kind, PublicKey(bytes(private.verify_key))), private)

    def sign(self, text: str, time: int | None = None) -> NoteSignature:
        return sign_text(text, self.public, lambda message: self.private.sign(message).signature, time)


@dataclass
class MemoryLog:
    """``files`` are the log's tiles by their path below the log's prefix, and its checkpoint."""

    origin: str = "log.example/test"
    witnesses: Sequence[str] = ("wit.example/one", "wit.example/two")
    need: int = 2
    files: dict[str, bytes] = field(default_factory=dict)
    size: int = 0

    def __post_init__(self) -> None:
        self.key = Signing.make(self.origin)
        self.keys = [Signing.make(name, Kind.COSIGNATURE) for name in self.witnesses]

    @property
    def policy(self) -> str:
        lines = [f"log {self.key.public.vkey}"]
        lines += [f"witness w{n} {key.public.vkey}" for n, key in enumerate(self.keys)]
        if not self.keys or not self.need:
            return "\n".join([*lines, "quorum none", ""])
        names = " ".join(f"w{n}" for n in range(len(self.keys)))
        return "\n".join([*lines, f"group all-of-us {self.need} {names}", "quorum all-of-us", ""])

    def _fetch(self, tile: Tile) -> bytes | None:
        return self.files.get(tile.path)

    def append(self, *entries: bytes) -> int:
        """The index of the first."""
        first = self.size
        for tile, data in grow(self.size, entries, self._fetch):
            self.files[tile.path] = data
        self.size += len(entries)
        self.files["checkpoint"] = self.note(0).encode()
        return first

    @property
    def head(self) -> Checkpoint:
        return Checkpoint(self.origin, self.size, edge_root(right_edge(self.size, self._fetch)))

    def note(self, cosigned: int | None = None, at: datetime | None = None) -> SignedNote:
        """The newest checkpoint with the cosignatures of the first so many witnesses (None: all)."""
        text = self.head.text
        time = int(at.timestamp()) if at else 1_780_000_000
        lines = [self.key.sign(text), *(key.sign(text, time) for key in self.keys[:cosigned])]
        return SignedNote(text, tuple(lines))

    def proof(self, index: int, cosigned: int | None = None, at: datetime | None = None) -> bytes:
        """The offline proof of an entry under the newest checkpoint."""
        head = self.head
        hashes = prove_inclusion(index, head.size, TileReader(head.size, head.root, self._fetch))
        return OfflineProof(index, tuple(hashes), self.note(cosigned, at)).encode()
