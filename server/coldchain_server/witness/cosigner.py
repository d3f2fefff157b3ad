"""What a witness does with a question: the rules, one after the other. C2SP tlog-witness, ``add-checkpoint``.

::

    step                                                     else          body
    1  the body is a question: old, proof, signed checkpoint 400, 403      why
    2  the checkpoint's origin is followed                   404           why
    3  a key of that log signed it, and none of them badly   403           why
    4  old is the size remembered                            409           that size, as text/x.tlog.size
    5  an empty log has the root of one; the proof leads     422           why
       from what is remembered to the checkpoint
    6  remembered, durably, if step 4 still holds            409           the size that is there now
    7  200 with the cosignature's line

A clock that stands before 1970 is answered 503 after step 3: a cosignature cannot say such a time. One that is merely wrong is the
log's to notice.

Worked example, a witness that remembers size 2: ``old 1`` is answered ``409`` with ``2``; the log sends ``old 2`` with the proof from
2 to 3, and gets one line.

Nothing is signed that is not remembered: the signature is made before step 6, because the memory keeps it for whoever asks,
and it leaves this module only after step 6 is on the disk. Between steps 4 and 6 another process may have come first; the
comparison of step 6 notices.

A good signature of the log on a second root for one size is the proof that the log has forked. Both checkpoints go to the log
of this program then, as an error: whoever runs the witness holds the proof in hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from coldchain.errors import EvidenceError, MalformedError, SignatureError
from coldchain.tlog.add_checkpoint import SIZE_TYPE, Question, encode_answer, encode_size, parse_question
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import check_consistency
from coldchain.tlog.note import NoteSignature, SignedNote, open_note, sign_text
from coldchain.tlog.vkey import NoteKey, parse_vkey
from coldchain_server.witness.home import Sign
from coldchain_server.witness.memory import Head, Memory

TEXT: Final = "text/plain; charset=utf-8"

_log = logging.getLogger("coldchain.witness")


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: status, body and its type; ``word`` names the reason, for counting."""

    status: HTTPStatus
    body: bytes
    word: str
    content_type: str = TEXT


class Refused(Exception):  # noqa: N818  an answer, not an error
    """The question is answered with something else than a cosignature."""

    def __init__(self, status: HTTPStatus, word: str, why: str) -> None:
        self.reply = Reply(status, f"{why}\n".encode(), word)


def stale(size: int) -> Reply:
    """Another size is remembered than the log believes."""
    return Reply(HTTPStatus.CONFLICT, encode_size(size), "stale", SIZE_TYPE)


class Cosigner:
    """One witness: its memory, its key.

    Args:
        memory: what it remembers.
        key: its name and public key.
        sign: makes signatures with the private half.
        now: Unix seconds.
    """

    def __init__(self, memory: Memory, key: NoteKey, sign: Sign, now: Callable[[], int]) -> None:
        self._memory = memory
        self._key = key
        self._sign = sign
        self._now = now

    def add_checkpoint(self, body: bytes) -> Reply:
        """Answers a question.

        Raises:
            StorageError: the memory refused; nothing was cosigned.
        """
        try:
            question = self._understand(body)
            checkpoint = question.checkpoint
            keys = self._keys(checkpoint.origin)
            self._verify(question.note, keys)
            now = self._time()
        except Refused as refused:
            return refused.reply
        head = self._memory.head(checkpoint.origin)
        assert head is not None  # it has keys, so it is followed, and heads stay
        if question.old != head.size:
            return stale(head.size)
        try:
            check_consistency(question.proof, head.size, head.root, checkpoint.size, checkpoint.root)
        except EvidenceError as error:
            self._tell_fork(head, checkpoint, question.note)
            return Reply(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error.what}\n".encode(), "inconsistent")
        signature = sign_text(question.note.text, self._key, self._sign, now)
        shown = SignedNote(question.note.text, (*_of(question.note, keys), signature)).encode()
        if not self._memory.advance(head, Head(checkpoint.origin, checkpoint.size, checkpoint.root, shown)):
            there = self._memory.head(checkpoint.origin)
            assert there is not None
            return stale(there.size)
        _log.info("cosigned", extra={"origin": checkpoint.origin, "size": checkpoint.size, "old": head.size})
        return Reply(HTTPStatus.OK, encode_answer([signature]), "cosigned")

    def _understand(self, body: bytes) -> Question:
        try:
            return parse_question(body)
        except MalformedError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "malformed", error.what) from error
        except SignatureError as error:
            raise Refused(HTTPStatus.FORBIDDEN, "signature", error.what) from error

    def _keys(self, origin: str) -> list[NoteKey]:
        keys = [key for vkey in self._memory.vkeys(origin) if (key := parse_vkey(vkey)) is not None]
        if not keys:
            raise Refused(HTTPStatus.NOT_FOUND, "unknown", "this witness does not follow that log")
        return keys

    def _time(self) -> int:
        now = self._now()
        if now <= 0:  # a cosignature cannot say it
            _log.error("the clock stands before 1970; nothing is cosigned until it is set")
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "clock", "this witness's clock is not set")
        return now

    def _verify(self, note: SignedNote, keys: list[NoteKey]) -> None:
        try:
            open_note(note, keys)
        except SignatureError as error:
            raise Refused(HTTPStatus.FORBIDDEN, "signature", error.what) from error

    def _tell_fork(self, head: Head, checkpoint: Checkpoint, note: SignedNote) -> None:
        if head.note is not None and checkpoint.size == head.size and checkpoint.root != head.root:
            _log.error(
                "the log has forked: two roots for one size, both signed by it",
                extra={
                    "origin": head.origin,
                    "size": head.size,
                    "cosigned": head.note.decode(),
                    "refused": note.encode().decode(),
                },
            )


def _of(note: SignedNote, keys: list[NoteKey]) -> list[NoteSignature]:
    known = {(key.name, key.key_id) for key in keys}
    return [one for one in note.signatures if (one.name, one.key_id) in known]
