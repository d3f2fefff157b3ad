r"""From a feed's good lines to a section: canonical bytes, and one safe name.

Worked example: the lines ``b``, ``a``, ``b`` of ``db/main.hdb`` in feed ``acme`` become the section ``acme-db-main.hdb`` with the
four bytes ``a\nb\n``. Lines are compared as bytes, so neither locale nor Python version has a say.

Names: feed, a dash, the path with its slashes as dashes; every byte outside ``[A-Za-z0-9._-]`` becomes ``_``; the extension in lower
case, because engines decide by it; lists end in ``.list``, which no engine loads. A name over :data:`LONGEST` bytes keeps its end and
gets eight digits of its path's SHA-256 for the rest, a *mark*. So does the name of a file that differs from one before it in nothing
but the case of its letters, or in bytes that are not kept (:func:`section_names`): feeds do hold ``rule_X.yar`` beside ``rule_x.yar``,
and some file systems do not tell them apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from coldchain.bundle.description import Engine

LONGEST: Final = 112
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_LIST_EXTENSION = re.compile(r"\.(txt|csv|list|lst|netset|ipset)\Z", re.IGNORECASE)


def canonical_set(lines: Iterable[bytes]) -> tuple[bytes, int]:
    """Sorted, unique, LF-terminated lines and their number; lines come without line ends."""
    ordered = sorted(set(lines))
    return b"".join([line + b"\n" for line in ordered]), len(ordered)


def section_name(feed: str, path: str, engine: Engine, *, marked: bool = False) -> str:
    """The section of a feed's file, if need be with its mark. See the module for the rule."""
    flat = _UNSAFE.sub("_", path.replace("/", "-")).lstrip(".")
    if engine == "list":
        flat = _LIST_EXTENSION.sub("", flat) + ".list"
    else:
        stem, dot, extension = flat.rpartition(".")
        flat = stem + dot + extension.lower()
    name = f"{feed}-{flat}"
    if marked or len(name) > LONGEST:
        mark = hashlib.sha256(path.encode()).hexdigest()[:8]
        name = f"{feed}-{mark}-" + flat[-(LONGEST - len(feed) - 10) :].lstrip(".")
    return name


def section_names(feed: str, files: Iterable[tuple[str, Engine]]) -> list[str]:
    """The sections of a feed's files, given in bytewise order of their paths: one name each, whatever the case of letters."""
    names: list[str] = []
    taken: set[str] = set()
    for path, engine in files:
        name = section_name(feed, path, engine)
        if name.lower() in taken:
            name = section_name(feed, path, engine, marked=True)
        taken.add(name.lower())
        names.append(name)
    return names
