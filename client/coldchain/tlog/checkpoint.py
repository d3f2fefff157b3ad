"""A checkpoint: how large the log is, and its root. C2SP tlog-checkpoint; the text of a signed note (see ``note``).

::

    log.example/test                                 origin: which log this is; by custom the name of its key
    3                                                size: entries, decimal, "0" for none
    NmQuc8JUCrEh46a/lUWwokmCzYMOsT080Z3jzmwCHsE=     root: base64 of 32 bytes

More lines may follow ("extensions", none empty). They are kept, since they are signed, and this project writes none.

A log must never sign two checkpoints of which neither begins with the other. :func:`check_extends` says so when it did; the
two signed checkpoints are then the proof of a fork that needs nobody's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coldchain.errors import EvidenceError, MalformedError, SignatureError
from coldchain.tlog.merkle import EMPTY_ROOT, HASH_BYTES, check_consistency
from coldchain.tlog.note import OpenedNote, SignedNote, check_text, open_note
from coldchain.tlog.spellings import decode64, decode_number, encode64
from coldchain.tlog.vkey import NoteKey


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's state. Equal checkpoints have equal texts."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text to sign."""
        return "\n".join([self.origin, str(self.size), encode64(self.root), *self.extensions, ""])


def parse_checkpoint(text: str) -> Checkpoint:
    """A checkpoint from a note's text.

    Raises:
        MalformedError: not the form above.
    """
    lines = check_text(text).split("\n")[:-1]
    if len(lines) < 3 or "" in lines:
        raise MalformedError("checkpoint: not origin, size, root and lines that say something")
    size = decode_number(lines[1], "checkpoint: size")
    return Checkpoint(lines[0], size, decode64(lines[2], "checkpoint: root", HASH_BYTES), tuple(lines[3:]))


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint that one of the expected logs signed, and everybody known who signed it too."""

    checkpoint: Checkpoint
    opened: OpenedNote
    log: NoteKey

    @property
    def note(self) -> SignedNote:
        """The note with all its signatures, as it came."""
        return self.opened.note


def open_checkpoint(note: SignedNote, logs: Iterable[NoteKey], others: Iterable[NoteKey] = ()) -> OpenedCheckpoint:
    """Verifies a checkpoint's origin and signatures.

    Args:
        note: the signed checkpoint.
        logs: keys of the logs to accept; the name of each is the origin it may sign for.
        others: keys whose signatures are reported too (witnesses), and must be good if they are there.

    Raises:
        MalformedError: the text is no checkpoint.
        EvidenceError: it is another log's, or an empty log's with a root.
        SignatureError: no signature of the log, or a known key's signature is bad.
    """
    checkpoint = parse_checkpoint(note.text)
    keys = [key for key in logs if key.name == checkpoint.origin]
    if not keys:
        raise EvidenceError(f"checkpoint: {checkpoint.origin[:80]!r} is not a log that is known here")
    opened = open_note(note, [*keys, *others])
    log = next((key for key in keys if key in opened.signed), None)
    if log is None:  # whoever else signed, it is the log that says what is in it
        raise SignatureError("checkpoint: no signature of the log")
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise EvidenceError("checkpoint: an empty log has another root")
    return OpenedCheckpoint(checkpoint, opened, log)


def check_extends(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Checks that ``new`` continues the log that ``old`` described.

    Raises:
        MalformedError: a hash that is not 32 bytes.
        EvidenceError: another origin, a smaller tree, or a proof that does not lead from one root to the other.
    """
    if old.origin != new.origin:
        raise EvidenceError(f"checkpoint: of {new.origin[:80]!r}, not of {old.origin[:80]!r}")
    check_consistency(proof, old.size, old.root, new.size, new.root)
