"""The offline proof: one file that shows an entry is in the log. C2SP tlog-proof, by custom ``NAME.tlog-proof``.

::

    c2sp.org/tlog-proof@v1
    extra AQI=                                       only if there is something; NOT authenticated by anything
    index 2
    sTeYX/SE+2ANuTEHx3sDZcgNePW0Kd7Q/Zc2HQd5mes=     inclusion proof, from the leaf's side up; 0 to 63 lines

    log.example/test                                 the checkpoint with all its signatures, as it came
    3
    NmQuc8JUCrEh46a/lUWwokmCzYMOsT080Z3jzmwCHsE=

    — log.example/test p0aM9s3lLZEcJdxP/6OB1ZSobtRWMLjKmY4NTAA+bTubH/nM5tqFoCkFTrVkoIMU11CNSdCMCuiO4ElmSyXa0ooi4QQ=
    — wit.example/one leMJpQAAAABlU/EA…

(In the log with the entries a, b, c: c is entry 2, its only sibling is the root of a and b.)

The size and root to check the proof against stand in the checkpoint and nowhere else: a size that came from beside it would
be nobody's. Reading the file believes nothing; :mod:`coldchain.tlog.offline` verifies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import parse_checkpoint
from coldchain.tlog.merkle import HASH_BYTES
from coldchain.tlog.note import SignedNote, parse_note
from coldchain.tlog.spellings import decode64, decode_number, encode64

HEADER: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class OfflineProof:
    """An entry's index, its inclusion proof, and the signed checkpoint it leads to. Nothing is verified yet."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: SignedNote
    extra: bytes = b""

    def encode(self) -> bytes:
        """The bytes of the file."""
        lines = [HEADER, f"index {self.index}", *encode_hashes(self.hashes), "", ""]
        if self.extra:
            lines.insert(1, f"extra {encode64(self.extra)}")
        return "\n".join(lines).encode() + self.checkpoint.encode()


def parse_proof(data: bytes, limits: Limits = LIMITS) -> OfflineProof:
    """A proof from foreign bytes.

    Raises:
        MalformedError: not the form above, or more than is allowed.
        SignatureError: a signature line in another spelling than its own.
    """
    head, blank, note = data.partition(b"\n\n")
    if not blank or len(head) > 2 * limits.proof_extra_bytes + 128 * limits.proof_hashes:
        raise MalformedError("proof: no checkpoint after an empty line")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise MalformedError("proof: not ASCII before the checkpoint") from error
    if lines.pop(0) != HEADER:
        raise MalformedError(f"proof: does not begin with {HEADER}")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = decode64(lines.pop(0).removeprefix("extra "), "proof: extra")
        if not 0 < len(extra) <= limits.proof_extra_bytes:
            raise MalformedError("proof: extra is empty or too long")
    if not lines or not lines[0].startswith("index "):
        raise MalformedError("proof: no index")
    index = decode_number(lines.pop(0).removeprefix("index "), "proof: index")
    proof = OfflineProof(index, parse_hashes(lines, limits), parse_note(note, limits), extra)
    parse_checkpoint(proof.checkpoint.text)
    return proof


def encode_hashes(hashes: Sequence[bytes]) -> list[str]:
    """A line for each hash, without line breaks."""
    return [encode64(one) for one in hashes]


def parse_hashes(lines: Sequence[str], limits: Limits = LIMITS) -> tuple[bytes, ...]:
    """The hashes of a proof, one a line.

    Raises:
        MalformedError: more than 63, or one that is not the base64 of 32 bytes.
    """
    if len(lines) > limits.proof_hashes:
        raise MalformedError(f"proof: more than {limits.proof_hashes} hashes")
    return tuple(decode64(line, "proof: hash", HASH_BYTES) for line in lines)
