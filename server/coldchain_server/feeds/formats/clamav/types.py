"""The table of ClamAV's file types: extension, kind, grammar, and how the engine treats the file around its lines.

Extensions and their loaders are those of cli_load in libclamav/readdb.c; one the table does not hold is no database.
``kind`` is *set* where the loader adds each line by itself, so that order and repetition carry no meaning; everything
else is *file* and is kept byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from coldchain_server.feeds.formats.clamav import body_lines, hash_lines, logical_lines
from coldchain_server.feeds.formats.clamav.grammar import FILE_BUFFER, LOGICAL_BUFFER, Grammar


@dataclass(frozen=True, slots=True)
class ClamavType:
    """One kind of database file.

    Attributes:
        extension: lower case, without the dot.
        kind: ``set`` where order carries no meaning, else ``file``.
        loads: whether clamd loads a file because of this extension.
        grammar: parses one line.
        comments: whether the loader skips lines that start with ``#``.
        buffer: bytes of the loader's line buffer; a line must be at least two bytes shorter (line end, zero byte).
        pua: loaded only where the engine runs with ``DetectPUA``.
        about: what the file holds, for a person.
    """

    extension: str
    kind: Literal["set", "file"]
    loads: bool
    grammar: Grammar
    comments: bool = True
    buffer: int = FILE_BUFFER
    pua: bool = False
    about: str = ""


def _types() -> dict[str, ClamavType]:
    hashes = {
        "hdb": "hashes of files",
        "hsb": "hashes of files",
        "hdu": "hashes of unwanted programs",
        "hsu": "hashes of unwanted programs",
        "mdb": "hashes of PE sections",
        "msb": "hashes of PE sections",
        "mdu": "hashes of PE sections of unwanted programs",
        "msu": "hashes of PE sections of unwanted programs",
        "imp": "hashes of PE import tables",
        "fp": "hashes of known good files",
        "sfp": "hashes of known good files",
    }
    bodies = {
        "ndb": "body patterns",
        "ndu": "body patterns of unwanted programs",
        "sdb": "body patterns of an engine's self-protection",
        "db": "body patterns in the oldest form",
    }
    grammars = {**hash_lines.GRAMMARS, **body_lines.GRAMMARS}
    logical = {"ldb": "logical signatures", "ldu": "logical signatures of unwanted programs"}
    types = {
        extension: ClamavType(extension, "set", True, grammars[extension], pua=extension.endswith("u"), about=about)
        for extension, about in {**hashes, **bodies}.items()
    }
    for extension, about in logical.items():
        grammar = logical_lines.GRAMMARS[extension]
        pua = extension.endswith("u")
        types[extension] = ClamavType(extension, "set", True, grammar, buffer=LOGICAL_BUFFER, pua=pua, about=about)
    return types


TYPES: Mapping[str, ClamavType] = MappingProxyType(_types())
