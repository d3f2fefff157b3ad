r"""The evidence of a release in one small file: its manifest, and the proof that the public log holds it.

One zstd frame that declares its content's size. Unpacked it is text::

    coldchain-evidence-1\n                 the format
    {"assembler":{…},…}\n                  the manifest, one line of canonical JSON: the log's entry (bundle/manifest.py)
    c2sp.org/tlog-proof@v1\nindex 41\n…    its proof, to the end (tlog/proof.py); nothing, when no log holds it

so ``zstd -dc us/stable/evidence.zst | sed -n 2p`` shows the manifest to anybody. An endpoint unpacks it only once its length and
SHA-256 are known to be the ones that the region's role signs. Another zstd may pack the same text into other bytes; what is
compared is the text.

Worked example: the manifest ``{}`` without a proof is the text ``coldchain-evidence-1\n{}\n``, 24 bytes.
"""

from __future__ import annotations

from typing import Final

import zstandard

from coldchain.bundle.frame import unpack_frame
from coldchain.errors import MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits

FAMILY: Final = b"coldchain-evidence-"
FORMAT: Final = FAMILY + b"1"

_LEVEL = 19
_WHAT = "the evidence file"


def encode_evidence(manifest: bytes, proof: bytes | None) -> bytes:
    """The file.

    Args:
        manifest: canonical JSON, as it is logged.
        proof: a C2SP tlog-proof; None when no log holds the manifest.
    """
    text = FORMAT + b"\n" + manifest + b"\n" + (proof or b"")
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compress(text)


def read_evidence_file(data: bytes, limits: Limits = LIMITS) -> tuple[bytes, bytes | None]:
    """Manifest and proof, neither of them looked into. ``data`` must be as signed: it is decompressed.

    Raises:
        MalformedError: not such a file, or one beyond the bounds.
        NewerFormatError: of a later version.
    """
    most = len(FORMAT) + 2 + limits.manifest_bytes + limits.proof_bytes
    text = unpack_frame(data, most, _WHAT, limits=limits)
    form, first, rest = text.partition(b"\n")
    manifest, second, proof = rest.partition(b"\n")
    if form != FORMAT and form.startswith(FAMILY) and first:
        found = form[:64].decode("ascii", "backslashreplace")
        raise NewerFormatError(f"{_WHAT} has format {found!r}", todo="install a newer client")
    if form != FORMAT or not second:
        raise MalformedError(f"{_WHAT} does not begin with {FORMAT.decode()!r} and a line that is a manifest")
    if len(manifest) > limits.manifest_bytes or len(proof) > limits.proof_bytes:
        raise MalformedError(f"{_WHAT} holds a manifest or a proof longer than allowed")
    return manifest, proof or None
