"""The question to a witness and its answer. C2SP tlog-witness, ``POST <submission prefix>/add-checkpoint``.

::

    old 2                                            the size the log believes the witness has; "old 0" at first contact
    WX/LMSgtNGVMIA00GPylcFxkjr8ybsc9jd7xGEH4dtg=     consistency proof from there, 0 to 63 lines

    log.example/test                                 the checkpoint with the log's signature
    3
    NmQuc8JUCrEh46a/lUWwokmCzYMOsT080Z3jzmwCHsE=

    — log.example/test p0aM9s3l…

Answers: 200 with one or more cosignature lines and nothing else (:func:`parse_answer`); 409 with the size the witness really
has and a line break, as ``text/x.tlog.size`` (:func:`parse_size`). Some witnesses in use send 409 with an empty body for a fork;
then there is no size, and the answer is a refusal.

What a witness does with a question, and the status it answers when the step fails::

    parse_question                      400 MalformedError, 403 SignatureError (a signature in another spelling)
    origin known                        404
    open_checkpoint                     403 SignatureError, 422 EvidenceError (an empty log with a root)
    old is the stored size              409 with encode_size(stored)
    check_consistency with what is stored   422 EvidenceError; it also refuses two roots for one size
    compare-and-swap, then cosign       200 with encode_answer
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coldchain.errors import MalformedError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import Checkpoint, parse_checkpoint
from coldchain.tlog.note import NoteSignature, SignedNote, open_note, parse_note, parse_signature_lines
from coldchain.tlog.proof import encode_hashes, parse_hashes
from coldchain.tlog.spellings import decode_number
from coldchain.tlog.vkey import Kind, NoteKey

SIZE_TYPE = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Question:
    """The body of an add-checkpoint request. Nothing is verified yet.

    Attributes:
        old: the size the log believes the witness has.
        proof: consistency proof from there to the checkpoint.
        note: the signed checkpoint.
    """

    old: int
    proof: tuple[bytes, ...]
    note: SignedNote

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note's text says."""
        return parse_checkpoint(self.note.text)

    def encode(self) -> bytes:
        """The bytes of the body."""
        return "\n".join([f"old {self.old}", *encode_hashes(self.proof), "", ""]).encode() + self.note.encode()


def parse_question(data: bytes, limits: Limits = LIMITS) -> Question:
    """A question from foreign bytes.

    Raises:
        MalformedError: not the form above, or a checkpoint smaller than ``old``.
        SignatureError: a signature line in another spelling than its own.
    """
    head, blank, note = data.partition(b"\n\n")
    if not blank or len(head) > 128 * (1 + limits.proof_hashes):
        raise MalformedError("add-checkpoint: no checkpoint after an empty line")
    try:
        first, *hashes = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise MalformedError("add-checkpoint: not ASCII before the checkpoint") from error
    if not first.startswith("old "):
        raise MalformedError("add-checkpoint: no old size")
    old = decode_number(first.removeprefix("old "), "add-checkpoint: old size")
    question = Question(old, parse_hashes(hashes, limits), parse_note(note, limits))
    if old > question.checkpoint.size:
        raise MalformedError(f"add-checkpoint: the checkpoint has {question.checkpoint.size} entries, fewer than {old}")
    return question


def encode_answer(signatures: Iterable[NoteSignature]) -> bytes:
    """The body of a witness's 200."""
    return "".join(one.line for one in signatures).encode()


def parse_answer(
    data: bytes, note: SignedNote, witnesses: Sequence[NoteKey], limits: Limits = LIMITS
) -> Mapping[NoteSignature, int]:
    """The good cosignatures in a witness's answer, with their times (Unix seconds).

    Signatures of keys that are not asked about are left out: a witness may sign with a new key beside the old one.

    Args:
        data: the body of a 200.
        note: the checkpoint that was sent.
        witnesses: the keys to expect here.
        limits: bounds.

    Raises:
        MalformedError: not signature lines.
        SignatureError: a bad signature by one of these keys, or none by any of them.
    """
    lines = parse_signature_lines(data, limits)
    opened = open_note(SignedNote(note.text, lines), [key for key in witnesses if key.kind is Kind.COSIGNATURE])
    by_key = {(key.name, key.key_id): time for key, time in opened.signed.items() if time is not None}
    found: dict[NoteSignature, int] = {}
    for line in lines:
        time = by_key.pop((line.name, line.key_id), None)
        if time is not None:
            found[line] = time
    return found


def encode_size(size: int) -> bytes:
    """The body of a witness's 409."""
    return b"%d\n" % size


def parse_size(data: bytes) -> int:
    """The size a witness has, from the body of its 409; the line break may be missing.

    Raises:
        MalformedError: anything but a number; the witness refuses and does not say more.
    """
    if len(data) > 64 or not data.isascii():
        raise MalformedError("add-checkpoint: the witness names no size")
    return decode_number(data.decode("ascii").removesuffix("\n"), "add-checkpoint: the witness's size")
