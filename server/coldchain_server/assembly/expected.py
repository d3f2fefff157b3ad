"""How many signatures an engine must report for a set of sections: what it loads short of this it has dropped without a word.

ClamAV counts the lines of most databases, those of known good files (fp, sfp) with them, but not exceptions, certificates, file magic,
settings, passwords, or pairs of hosts that are well; lines whose names a section of exceptions (ign, ign2) switches off are not loaded.
Worked example: ``a.hdb`` with the signatures A and B, ``a.ign2`` with the name B: one. Types for unwanted programs (``hdu``, …) count
only where the engine runs with ``DetectPUA``. Tried against clamscan for every type (tests/server/feeds/test_samples.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from coldchain.bundle.description import Section
from coldchain_server.feeds.formats.clamav import TYPES, signature_name


def expected_signatures(sections: Iterable[Section], content: Callable[[str], bytes], *, unwanted: bool = True) -> int:
    """The number ClamAV must call its known viruses.

    Args:
        sections: a bundle's; those of other engines are passed over.
        content: SHA-256 -> the bytes.
        unwanted: whether the engine detects unwanted programs.
    """
    clamav = [(section, section.name.rpartition(".")[2]) for section in sections if section.engine == "clamav"]
    off = _switched_off([content(section.sha256) for section, kind in clamav if TYPES[kind].switches_off])
    total = 0
    for section, kind in clamav:
        if not TYPES[kind].counted or (TYPES[kind].pua and not unwanted):
            continue
        total += section.records
        if off:
            total -= sum(_is_off(kind, line, off) for line in content(section.sha256).split(b"\n") if line)
    return total


def _switched_off(files: list[bytes]) -> dict[str, set[bytes]]:
    """Names that are switched off, and the MD5 sums that their lines must have (none: any line)."""
    off: dict[str, set[bytes]] = {}
    for line in b"\n".join(files).split(b"\n"):
        parts = line.split(b":")
        name = (parts[2] if len(parts) == 3 else parts[0]).decode("utf-8", "replace")
        sums = off.setdefault(name, set())
        sums.add(parts[1].lower() if len(parts) == 2 else b"")
    off.pop("", None)
    return off


def _is_off(kind: str, line: bytes, off: dict[str, set[bytes]]) -> bool:
    sums = off.get(signature_name(kind, line) or "")
    if not sums:
        return False
    return b"" in sums or hashlib.md5(line, usedforsecurity=False).hexdigest().encode() in sums
