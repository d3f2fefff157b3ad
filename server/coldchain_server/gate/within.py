"""Whether everything that one region's bundle finds is found by another's too, so that clean files need not be scanned twice.

That holds where the one is the other without some signatures, and these are of types that do nothing but detect: what is left cannot
find more than the whole. It does not hold when exceptions are left out (fp, ign2, …), when a line is a macro of others (``$``), or for
YARA, where a rule may speak of the rules beside it; then the files are scanned again.

Worked example: ``us`` has ``a.hdb`` (A-6 A-7 A-8) and ``b.fp``; ``jp`` leaves out A-7 and is within ``us``. Left out ``b.fp`` as well,
it would not be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from coldchain.bundle.description import Section
from coldchain.bundle.sections import blocks
from coldchain_server.gate.served import CANARIES, Group

DETECT: Final = frozenset({"hdb", "hsb", "hdu", "hsu", "mdb", "msb", "mdu", "msu", "ndb", "ndu", "ldb", "ldu"})
"""Types whose every line is a signature, and nothing but that."""


def is_within(one: Group, other: Group) -> bool:
    """Whether ``one`` is ``other`` without some plain signatures."""
    if one.kind != "clamav" or other.kind != "clamav":
        return False
    small = {section.name: section for section in one.sections if section.name != CANARIES["clamav"]}
    large = {section.name: section for section in other.sections if section.name != CANARIES["clamav"]}
    if not small.keys() <= large.keys():
        return False
    for name, whole in large.items():
        part = small.get(name)
        if part is not None and part.sha256 == whole.sha256:
            continue
        if whole.kind != "set" or name.rpartition(".")[2] not in DETECT or not _only_less(one, part, other, whole):
            return False
    return True


def _only_less(one: Group, part: Section | None, other: Group, whole: Section) -> bool:
    """Whether a section is another without some lines, none of which is a macro."""
    with other.bundle.open(whole.name) as file:
        if part is None:
            return all(b"$" not in line for line in _lines(file, whole.name))
        with one.bundle.open(part.name) as smaller:
            left = _lines(smaller, part.name)
            wanted = next(left, None)
            for line in _lines(file, whole.name):
                if line == wanted:
                    wanted = next(left, None)
                elif b"$" in line:
                    return False
            return wanted is None


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    for block in blocks(file, name):
        yield from block[:-1].split(b"\n")
