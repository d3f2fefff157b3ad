"""An approval: the customer's own security team says of one release, to the bit, that its endpoints may apply it.

A C2SP signed note whose text is eight lines, signed with a key of the customer's own::

    coldchain-approval-1
    product coldchain
    region us
    channel stable
    release 42
    bundle 5c1f0a9e…                    SHA-256 of bundle.json, 64 lower-case hexadecimal digits
    manifest 9a0e12cd…                  SHA-256 of the release's manifest, the entry of the public log
    approved 2026-06-02T09:00:00Z       when, by the clock of whoever approved; nothing is decided by it

    — security.example.com/fleet 0mJ2…  one line for each key that signed

It is published as ``us-stable-42.approval`` (:func:`file_name`), on the customer's own server or on a stick; the publisher has no
part in it. The key is a vkey of kind 1 (:mod:`coldchain.tlog.vkey`). A log or a witness never signs a text that begins like this
one, and an approval is no checkpoint, so a signature of one kind cannot pass as one of the other.

What it proves: whoever holds the key looked at exactly these bytes, by whatever means the customer has set up. What it does not:
anything about the publisher; the endpoint checks all signatures and the public log besides, approved or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from coldchain.bundle.description import check_token
from coldchain.canonical import is_sha256
from coldchain.errors import EvidenceError, MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.note import SignedNote, open_note, parse_note, sign_text
from coldchain.tlog.vkey import NoteKey
from coldchain.verify import RegionRelease

FORMAT: Final = "coldchain-approval-1"
SUFFIX: Final = ".approval"
_FAMILY: Final = "coldchain-approval-"
_NAMES: Final = ("product", "region", "channel", "release", "bundle", "manifest", "approved")
_NUMBER = re.compile(r"[1-9][0-9]{0,14}\Z")
_WHEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Approval:
    """What is approved: one region's bundle of one release, and the manifest that the public log holds of it."""

    product: str
    region: str
    channel: str
    release: int
    bundle: str
    manifest: str
    approved: datetime

    @property
    def text(self) -> str:
        """The note's text."""
        values = (self.product, self.region, self.channel, str(self.release), self.bundle, self.manifest)
        lines = [FORMAT, *map(" ".join, zip(_NAMES, (*values, f"{self.approved:{_TIME}}"), strict=True))]
        return "".join(f"{line}\n" for line in lines)

    def sign(self, key: NoteKey, sign: Callable[[bytes], bytes]) -> bytes:
        """The file.

        Args:
            key: whose signature it becomes.
            sign: makes the 64-byte Ed25519 signature of a message with the private half of ``key``.
        """
        return SignedNote(self.text, (sign_text(self.text, key, sign),)).encode()


def approve(release: RegionRelease, at: datetime) -> Approval:
    """The approval of a release that was verified; ``at`` is UTC."""
    return Approval(
        release.product,
        release.region,
        release.channel,
        release.release,
        release.bundle,
        release.manifest,
        at.replace(microsecond=0),
    )


def file_name(region: str, channel: str, release: int) -> str:
    """What the file is called, e.g. ``us-stable-42.approval``."""
    return f"{region}-{channel}-{release}{SUFFIX}"


def parse_approval(data: bytes, key: NoteKey, limits: Limits = LIMITS) -> Approval:
    """An approval from foreign bytes, signed by ``key``.

    Raises:
        MalformedError: not the form above.
        SignatureError: the key did not sign it, or its signature is bad.
        NewerFormatError: a later version of the format.
    """
    if len(data) > limits.approval_bytes:
        raise MalformedError(f"approval: longer than {limits.approval_bytes} bytes")
    text = open_note(parse_note(data, limits), [key]).text
    first, *lines = text.split("\n")
    if first != FORMAT:
        if first.startswith(_FAMILY):
            raise NewerFormatError(f"approval: format {first[:64]!r}", todo="install a newer client")
        raise MalformedError("approval: its first line is not coldchain-approval-1")
    words = [line.split(" ") for line in lines[:-1]]  # the text ends with a line break
    if len(words) != len(_NAMES) or any(len(one) != 2 for one in words) or tuple(one[0] for one in words) != _NAMES:
        raise MalformedError(f"approval: not the lines {', '.join(_NAMES)}")
    product, region, channel, release, bundle, manifest, approved = (one[1] for one in words)
    if not _NUMBER.match(release) or not is_sha256(bundle) or not is_sha256(manifest):
        raise MalformedError("approval: not a release's number, or not SHA-256 digests")
    try:
        if not _WHEN.match(approved):
            raise ValueError
        when = datetime.strptime(approved, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise MalformedError("approval: 'approved' is not a time in UTC such as 2026-06-02T09:00:00Z") from error
    for name, token in (("product", product), ("region", region), ("channel", channel)):
        check_token(token, name)
    return Approval(product, region, channel, int(release), bundle, manifest, when)


def check_approval(data: bytes, key: NoteKey, release: RegionRelease, limits: Limits = LIMITS) -> Approval:
    """An approval of exactly this release.

    Raises:
        EvidenceError: it is of something else.
        VerificationError: it is none, or the key did not sign it.
        NewerFormatError: a later version of the format.
    """
    found = parse_approval(data, key, limits)
    for name in ("product", "region", "channel", "release", "bundle"):
        if getattr(found, name) != getattr(release, name):
            raise EvidenceError(f"the approval is of {name} {str(getattr(found, name))[:80]}")
    if found.manifest != release.manifest:
        raise EvidenceError(f"the approval is of the manifest {found.manifest[:16]}…")
    return found
