r"""The name that a policy knows a record by: what an engine reports, in every type of database.

Worked examples::

    44d8…b02f:68:Eicar-Test-Signature          hdb   Eicar-Test-Signature
    68:44d8…b02f:Eicar-Test-Signature          mdb   Eicar-Test-Signature
    Test.Body-1:0:*:deadbeef                   ndb   Test.Body-1
    Test.Logic-1;Target:0;0;deadbeef           ldb   Test.Logic-1
    Test.Old-1=deadbeef                        db    Test.Old-1
    192.0.2.7,Emotet                           list  192.0.2.7
    Eicar-Test-Signature                       ign2  none: the line switches off a signature of that name, and is none

This table decides whether a difference between two regions counts as declared, so it is written apart from the assembler's grammars:
what one of the two gets wrong, the other shows.

Source: the ClamAV manual, "Creating signatures for ClamAV".
"""

from __future__ import annotations

import re
from typing import Final

from coldchain.bundle.description import Section
from coldchain.records import extension

_PLACES: Final[dict[str, tuple[bytes, int]]] = {
    **dict.fromkeys(("hdb", "hsb", "hdu", "hsu", "fp", "sfp", "mdb", "msb", "mdu", "msu", "imp"), (b":", 2)),
    **dict.fromkeys(("ndb", "ndu", "sdb", "cdb", "zmd", "rmd", "idb"), (b":", 0)),
    **dict.fromkeys(("ldb", "ldu", "crb", "pwdb"), (b";", 0)),
    "db": (b"=", 0),
}
_VALUE: Final = re.compile(rb"[^\t,; ]+")


def policy_name(section: Section, line: bytes) -> str | None:
    """The name of a record of a ClamAV or list section; None for one that no policy can name.

    Args:
        section: where the record stands.
        line: the record, without its line end.
    """
    if section.engine == "list":
        found = _VALUE.match(line)
        return found.group().decode("ascii", "replace") if found else None
    place = _PLACES.get(extension(section.name))
    if place is None or line.startswith(b"#"):
        return None
    separator, index = place
    parts = line.split(separator, index + 1)
    if len(parts) <= index or (separator == b"=" and len(parts) < 2):
        return None
    return parts[index].decode("utf-8", "replace") or None
