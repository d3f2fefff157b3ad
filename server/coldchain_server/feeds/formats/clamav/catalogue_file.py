"""``cat``: a Windows security catalogue, a signed list of hashes of known good files, in DER.

::

    SEQUENCE { 1.2.840.113549.1.7.2 (signed data), [0] { SEQUENCE {
        INTEGER 1, SET { digest algorithms }, SEQUENCE { 1.3.6.1.4.1.311.10.1 (trust list), [0] { … } }, … } } }

The engine drops a catalogue it cannot read *without a word*, and one whose signer no ``crb`` line trusts. Here the frame is checked:
definite lengths, the two object identifiers, nothing after the end. Worked example: ``30 02 05 00`` is refused, for it begins with no
object identifier. Sources: libclamav/asn1.c asn1_load_mscat; ITU-T X.690; RFC 2315.
"""

from __future__ import annotations

from collections.abc import Iterator

from coldchain_server.feeds.formats.clamav.grammar import PlacedError, Remark

SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
TRUST_LIST = bytes.fromhex("2b0601040182370a01")
_SEQUENCE, _SET, _INTEGER, _IDENTIFIER, _CONTEXT = 0x30, 0x31, 0x02, 0x06, 0xA0
_AGAIN = "get the file from its source again"


def _fail(message: str) -> PlacedError:
    return PlacedError(0, 0, "bad-catalogue", f"not a security catalogue: {message}", _AGAIN)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of DER content: tag and content, whole. Raises :class:`PlacedError`."""
    at = 0
    while at < len(data):
        tag, first = data[at], data[at + 1 : at + 2]
        if not first or tag & 0x1F == 0x1F:
            raise _fail("an element ends early")
        length, at = first[0], at + 2
        if length > 0x80:
            count = length - 0x80
            text = data[at : at + count]
            if count > 4 or len(text) != count or not text[0] or (count == 1 and text[0] < 0x80):
                raise _fail("a length is not written as DER wants")
            length, at = int.from_bytes(text, "big"), at + count
        elif length == 0x80:
            raise _fail("a length is indefinite")
        if at + length > len(data):
            raise _fail("an element ends early")
        yield tag, data[at : at + length]
        at += length


def _expect(elements: Iterator[tuple[int, bytes]], tag: int, what: str) -> bytes:
    found = next(elements, None)
    if found is None or found[0] != tag:
        raise _fail(f"{what} is missing")
    return found[1]


def check_catalogue(data: bytes, remarks: list[Remark]) -> int:
    """Checks a catalogue's frame; returns 1. Raises :class:`PlacedError`."""
    outer = _elements(data)
    whole = _elements(_expect(outer, _SEQUENCE, "the outer sequence"))
    if next(outer, None) is not None:
        raise _fail("something follows its end")
    if _expect(whole, _IDENTIFIER, "the content's type") != SIGNED_DATA:
        raise _fail("it is not signed data")
    content = _elements(_expect(whole, _CONTEXT, "the content"))
    signed = _elements(_expect(content, _SEQUENCE, "the signed data"))
    if _expect(signed, _INTEGER, "the version") != b"\x01":
        raise _fail("its version is not 1")
    _expect(signed, _SET, "the list of digest algorithms")
    inner = _elements(_expect(signed, _SEQUENCE, "the trust list"))
    if _expect(inner, _IDENTIFIER, "the trust list's type") != TRUST_LIST:
        raise _fail("it signs no trust list")
    _expect(inner, _CONTEXT, "the trust list's content")
    remarks.append(
        Remark(0, "flag", "trusts-files", "makes files known good by their hashes, if a crb line trusts its signer",
               "have a person decide, or leave it out")
    )  # fmt: skip
    return 1
