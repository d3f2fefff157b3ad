"""Which request targets name a published file, and what may be said of it.

Only these seven prefixes are served; everything else does not exist. The target is judged as it came, before any decoding:
components of ``[A-Za-z0-9._-]`` that do not start with a dot, no query, no ``%``, at most 10 components and 512 bytes.

=============================================  ===========  =========================
target                                         cached       ETag from
=============================================  ===========  =========================
``/metadata/timestamp.json``                   no-cache     its bytes
``/metadata/7.us.json``                        immutable    its bytes
``/targets/us/stable/<sha256>.from-41.ccd``    immutable    the name
``/snapshots/<sha256>``                        immutable    the name
``/manifests/<sha256>.json``                   immutable    the name
``/attestations/<sha256>/<keyid>.dsse.json``    no-cache     its bytes
``/packs/us/stable/107.from-41.pack``          immutable    its bytes
``/packs/us/stable/latest.pack``               no-cache     its bytes
``/log/checkpoint``                            no-cache     its bytes
``/log/pending``                               (not served: it has no quorum yet)
``/log/tile/0/x001/067``                       immutable    its bytes
=============================================  ===========  =========================

Source: the published tree of docs/formats.md; consistent snapshots of the TUF specification 1.0.34, 6.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TARGET: Final = re.compile(
    r"/((metadata|targets|packs|log|manifests|snapshots|attestations)(?:/(?!\.)[A-Za-z0-9._-]{1,128}){1,9})\Z"
)
_TARGET_CHARACTERS: Final = 512
_CONTENT_ADDRESSED: Final = re.compile(r"([0-9a-f]{64})(?:\.[A-Za-z0-9._-]*)?\Z")
_IMMUTABLE: Final = {
    "metadata": re.compile(r"metadata/[0-9]+\.[A-Za-z0-9_-]+\.json\Z"),
    "packs": re.compile(r"packs/(?:[A-Za-z0-9._-]+/)+[0-9]+\.[A-Za-z0-9._-]+\Z"),
    "log": re.compile(r"log/tile/"),
}

_PENDING: Final = "log/pending"

FOREVER: Final = "public, max-age=31536000, immutable"
ASK_FIRST: Final = "no-cache"


@dataclass(frozen=True, slots=True)
class PublishedPath:
    """A path of the storage that may be served.

    Attributes:
        path: relative, as the storage wants it.
        content_type: of its bytes.
        cache_control: :data:`FOREVER` or :data:`ASK_FIRST`.
        sha256: lower-case hex of its content when the name states it, else None.
    """

    path: str
    content_type: str
    cache_control: str
    sha256: str | None


def published_path(target: str) -> PublishedPath | None:
    """Judges a request target (as in the request line, undecoded); None when nothing is published under it."""
    if len(target) > _TARGET_CHARACTERS:
        return None
    match = _TARGET.match(target)
    if match is None:
        return None
    path, room = match.group(1), match.group(2)
    if path == _PENDING:
        return None
    name = path.rsplit("/", 1)[1]
    sha256 = None
    if room in ("targets", "manifests", "snapshots"):
        addressed = _CONTENT_ADDRESSED.match(name)
        sha256 = addressed.group(1) if addressed else None
    pattern = _IMMUTABLE.get(room)
    immutable = sha256 is not None or (pattern is not None and pattern.match(path) is not None)
    return PublishedPath(path, _content_type(room, name), FOREVER if immutable else ASK_FIRST, sha256)


def _content_type(room: str, name: str) -> str:
    if room == "metadata" or (room != "targets" and name.endswith(".json")):
        return "application/json"
    return "text/plain; charset=utf-8" if (room, name) == ("log", "checkpoint") else "application/octet-stream"
