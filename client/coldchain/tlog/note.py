"""Signed notes: a text and lines that sign it. C2SP signed-note; everything the log signs has this form.

::

    log.example/test                                       the text: one or more lines, each ended by a line break
    3
    NmQuc8JUCrEh46a/lUWwokmCzYMOsT080Z3jzmwCHsE=
                                                           an empty line (the last one divides), then signatures:
    — log.example/test p0aM9s3lLZEcJdxP/6OB1ZSobtRWMLjKmY4NTAA+bTubH/nM5tqFoCkFTrVkoIMU11CNSdCMCuiO4ElmSyXa0ooi4QQ=
    — wit.example/one leMJpQAAAABlU/EAkqrwiuK3pOhYMv5ftpdbvRDJW+xCwT8Qt+xplPw1PT/5RZGQ0OLFA/jMazVgTWOFs5/kNjCVbOXKOEYXMykdAg==

    a line = E2 80 94 (em dash) 20 key name 20 base64( key id[4] || payload ) 0A

What is signed is the text with its last line break. UTF-8, no control character but the line break. Verifying
(:func:`open_note`) knows three kinds of signature: of a known key and good, of a known key and bad (the whole note is refused),
of an unknown key (ignored, since anybody may add a signature). A note without a good one is refused. A known key that signs
twice counts once, with its first line; the others must be good too.

A signature line with base64 in another spelling is a bad signature, not a malformed note: a witness answers 403 to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from coldchain.errors import MalformedError, SignatureError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.cosignature import check_cosignature, cosign
from coldchain.tlog.spellings import decode64, encode64
from coldchain.tlog.vkey import KEY_ID_BYTES, Kind, NoteKey, check_key_name

DASH: Final = "\N{EM DASH}"

_BASE64_SHAPE = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: whose it claims to be, and the bytes after the key id."""

    name: str
    key_id: bytes
    payload: bytes

    @property
    def line(self) -> str:
        """The line with its line break."""
        return f"{DASH} {self.name} {encode64(self.key_id + self.payload)}\n"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A note nobody has verified yet. ``text`` ends with a line break."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The bytes of the note."""
        return (self.text + "\n" + "".join(one.line for one in self.signatures)).encode()


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note with at least one good signature.

    Attributes:
        note: the note as it came.
        signed: the known keys whose signature is good, with the time a witness cosigned (None for other keys).
    """

    note: SignedNote
    signed: Mapping[NoteKey, int | None]

    @property
    def text(self) -> str:
        """What was signed."""
        return self.note.text


def parse_note(data: bytes, limits: Limits = LIMITS) -> SignedNote:
    """A note from foreign bytes; signatures are not verified.

    Raises:
        MalformedError: not the form above, or more than is allowed.
        SignatureError: a signature in another spelling than its own.
    """
    if len(data) > limits.note_bytes:
        raise MalformedError(f"note: more than {limits.note_bytes} bytes")
    text, blank, lines = _decode(data).rpartition("\n\n")
    if not blank:
        raise MalformedError("note: no empty line before the signatures")
    return SignedNote(text + "\n", _parse_lines(lines, limits))


def parse_signature_lines(data: bytes, limits: Limits = LIMITS) -> tuple[NoteSignature, ...]:
    """Signature lines alone, as a witness answers them.

    Raises:
        MalformedError: not one or more signature lines.
        SignatureError: a signature in another spelling than its own.
    """
    if len(data) > limits.note_bytes:
        raise MalformedError(f"signatures: more than {limits.note_bytes} bytes")
    return _parse_lines(_decode(data), limits)


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("note: not UTF-8") from error
    if _CONTROL.search(text):
        raise MalformedError("note: a control character")
    return text


def _parse_lines(text: str, limits: Limits) -> tuple[NoteSignature, ...]:
    *lines, rest = text.split("\n")
    if rest or not lines:
        raise MalformedError("note: the last line is not ended")
    if len(lines) > limits.note_signatures:
        raise MalformedError(f"note: more than {limits.note_signatures} signatures")
    return tuple(_parse_line(line) for line in lines)


def _parse_line(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != DASH:
        raise MalformedError("note: not a signature line")
    name = check_key_name(parts[1])
    what = f"note: signature of {name[:80]!r}"
    try:
        raw = decode64(parts[2], what)
    except MalformedError as error:
        if _BASE64_SHAPE.match(parts[2]):
            raise SignatureError(error.what) from error
        raise
    if len(raw) <= KEY_ID_BYTES:
        raise MalformedError(f"{what}: empty")
    return NoteSignature(name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


def check_text(text: str) -> str:
    """Returns ``text`` if it can be a note's.

    Raises:
        MalformedError: not ended by a line break, control characters, or not expressible in UTF-8.
    """
    try:
        _decode(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise MalformedError("note: not UTF-8") from error
    if not text.endswith("\n"):
        raise MalformedError("note: the text's last line is not ended")
    return text


def sign_text(text: str, key: NoteKey, sign: Callable[[bytes], bytes], time: int | None = None) -> NoteSignature:
    """Signs a note's text.

    Args:
        text: the text with its last line break.
        key: whose signature it becomes.
        sign: makes the 64-byte Ed25519 signature of a message with the private half of ``key``.
        time: Unix seconds, for a witness's key and only for it.

    Raises:
        MalformedError: the text cannot be signed, or a time is missing or out of place.
    """
    check_text(text)
    if (key.kind is Kind.COSIGNATURE) != (time is not None):
        raise MalformedError("note: a cosignature has a time, other signatures have none")
    payload = sign(text.encode()) if time is None else cosign(text, time, sign)
    return NoteSignature(key.name, key.key_id, payload)


def check_signature(text: str, signature: NoteSignature, key: NoteKey) -> int | None:
    """Checks one signature; returns the time of a cosignature, None for a plain one.

    Raises:
        SignatureError: it is not this key's signature of the text.
    """
    if (signature.name, signature.key_id) != (key.name, key.key_id):
        raise SignatureError(f"note: the signature of {signature.name[:80]!r} is not one of {key.name[:80]!r}")
    try:
        if key.kind is Kind.COSIGNATURE:
            return check_cosignature(text, signature.payload, key.key)
        if not key.key.verify(signature.payload, text.encode()):
            raise SignatureError("not one of this key")
    except SignatureError as error:
        raise SignatureError(f"note: the signature of {key.name[:80]!r} is bad") from error
    return None


def open_note(note: SignedNote, keys: Iterable[NoteKey]) -> OpenedNote:
    """Verifies a note with the keys one knows.

    Raises:
        SignatureError: a known key's signature is bad, or no known key signed.
    """
    known = {(key.name, key.key_id): key for key in keys}
    signed: dict[NoteKey, int | None] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            signed.setdefault(key, check_signature(note.text, signature, key))
    if not signed:
        raise SignatureError("note: no signature of a known key")
    return OpenedNote(note, signed)
