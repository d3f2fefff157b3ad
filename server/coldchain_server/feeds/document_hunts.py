"""Signatures that look for documents or keywords rather than malware.

In 2017 an anti-virus product was accused of silent signatures that found files by their words, such as ``TOP SECRET``. What the
words of a signature mean is for people to decide; this module makes sure that a person sees them: markings of confidentiality,
and names that say so. It flags and never refuses.

Worked example: the strings ``"TOP SECRET//"`` and ``"NOFORN"`` in a rule give ``["top secret", "noforn"]``.
"""

from __future__ import annotations

import re
from typing import Final

MARKINGS: Final = (
    "top secret", "topsecret", "top_secret", "noforn", "classified", "orcon", "eyes only", "strictly confidential",
    "confidential", "restricted data", "for official use only", "internal use only", "not for distribution",
    "trade secret", "attorney-client", "секретно", "совершенно секретно", "vs-nfd", "verschlusssache", "机密", "绝密",
    "極秘", "社外秘", "대외비", "confidentiel", "très secret", "confidencial", "riservato",
)  # fmt: skip
"""Markings of confidentiality, in lower case, of the languages the regions read."""

_NAMES: Final = re.compile(
    r"(?:doc(?:ument)?[._-]?(?:hunt|find|search|grab|marking)|keyword|leak(?:ed)?[._-]?doc|watchword)", re.I
)
_PATTERNS: Final = [(word, re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")) for word in MARKINGS]


def hunts_documents(name: str, content: bytes) -> list[str]:
    """The markings that a signature's name or plain text holds, in the order of :data:`MARKINGS`; empty when there is none.

    Args:
        name: the signature's name.
        content: the text it looks for (a rule's source, a pattern's decoded bytes); NUL bytes are dropped, so that UTF-16 is seen.
    """
    text = content.replace(b"\x00", b"").decode("utf-8", "replace").lower()
    found = [word for word, pattern in _PATTERNS if pattern.search(text)]
    if _NAMES.search(name):
        found.append(f"the name {name[:60]}")
    return found
