"""The table of ClamAV's file types: extension, kind, grammar, and how the engine treats the file around its lines.

Extensions and their loaders are those of cli_load in libclamav/readdb.c; one the table does not hold is no database.
``kind`` is *set* where the loader adds each line by itself, so that order and repetition carry no meaning; everything
else is *file* and is kept byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from coldchain_server.feeds.formats.clamav import (
    body_lines,
    certificate_lines,
    container_lines,
    hash_lines,
    icon_lines,
    ignore_lines,
    logical_lines,
    magic_lines,
    password_lines,
    phishing_lines,
    settings_lines,
)
from coldchain_server.feeds.formats.clamav.bytecode import check_bytecode
from coldchain_server.feeds.formats.clamav.catalogue_file import check_catalogue
from coldchain_server.feeds.formats.clamav.grammar import FILE_BUFFER, LOGICAL_BUFFER, Grammar, WholeCheck


@dataclass(frozen=True, slots=True)
class ClamavType:
    """One kind of database file.

    Attributes:
        extension: lower case, without the dot.
        kind: ``set`` where order carries no meaning, else ``file``.
        grammar: parses one line; None for files that are no list of lines.
        whole: checks a file as a whole, where there is no grammar of lines.
        comments: whether the loader skips lines that start with ``#``.
        blanks: whether the loader skips blank lines; it refuses the whole file for one elsewhere.
        buffer: bytes of the loader's line buffer; a line must be at least two bytes shorter (line end, zero byte).
        pua: loaded only where the engine runs with ``DetectPUA``.
        counted: whether the engine counts its records among the known signatures.
        switches_off: its lines take signatures out of the whole set.
        single: the engine keeps only the last file of this type, so a bundle holds at most one.
        about: what the file holds, for a person.
    """

    extension: str
    kind: Literal["set", "file"]
    grammar: Grammar | None = None
    whole: WholeCheck | None = None
    comments: bool = True
    blanks: bool = False
    buffer: int = FILE_BUFFER
    pua: bool = False
    counted: bool = True
    switches_off: bool = False
    single: bool = False
    about: str = ""


NOT_TAKEN: Mapping[str, str] = MappingProxyType(
    {
        "ioc": "OpenIOC is not checked here, so it is not taken; write its hashes as hdb or hsb",
    }
)
"""Databases that engines would load and this program does not take, and what to do about them: they refuse the feed."""

LEFT_BEHIND: Mapping[str, str] = MappingProxyType(
    {
        "info": "describes the container it came in; engines refuse it outside of one",
    }
)
"""Files that belong to a container and mean nothing outside of it."""


def _line_types() -> Iterator[ClamavType]:
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
    containers = {
        "cdb": "files in archives, by name and size",
        "zmd": "files in ZIP archives, in the oldest form",
        "rmd": "files in RAR archives, in the oldest form",
    }
    simple = {**hash_lines.GRAMMARS, **body_lines.GRAMMARS, **container_lines.GRAMMARS}
    for extension, about in {**hashes, **bodies, **containers}.items():
        yield ClamavType(extension, "set", simple[extension], pua=extension.endswith("u"), about=about)
    for extension, about in {"ldb": "logical signatures", "ldu": "logical signatures of unwanted programs"}.items():
        grammar, pua = logical_lines.GRAMMARS[extension], extension.endswith("u")
        yield ClamavType(extension, "set", grammar, buffer=LOGICAL_BUFFER, pua=pua, about=about)
    yield ClamavType("idb", "set", icon_lines.parse_icon_line, single=True, about="icons of programs")
    for extension in ("ign", "ign2"):
        grammar = ignore_lines.GRAMMARS[extension]
        yield ClamavType(extension, "set", grammar, counted=False, switches_off=True, about="signatures switched off")
    crb = certificate_lines.parse_certificate_line
    yield ClamavType("crb", "set", crb, blanks=True, counted=False, about="certificates of code signing")
    yield from _phishing_types()


def _phishing_types() -> Iterator[ClamavType]:
    parse, buffer = phishing_lines.GRAMMARS, FILE_BUFFER - 2  # the engine appends a slash
    about = "hosts that phishing imitates"
    yield ClamavType("pdb", "set", parse["pdb"], blanks=True, buffer=buffer, about=about)
    about = "pairs of hosts that are well"
    yield ClamavType("wdb", "set", parse["wdb"], blanks=True, buffer=buffer, counted=False, about=about)
    # A URL that is well must stand before the same URL as a bad one: the order carries meaning.
    yield ClamavType("gdb", "file", parse["gdb"], blanks=True, buffer=buffer, about="hashes of URLs")


def _file_types() -> Iterator[ClamavType]:
    yield ClamavType("ftm", "file", magic_lines.parse_magic_line, counted=False, about="how files begin, by type")
    cfg = settings_lines.parse_setting_line
    yield ClamavType("cfg", "file", cfg, blanks=True, counted=False, about="parts of the engine, on and off")
    pwdb = password_lines.parse_password_line
    yield ClamavType("pwdb", "file", pwdb, counted=False, about="passwords to try on archives")
    yield ClamavType("cbc", "file", whole=check_bytecode, counted=False, about="a bytecode program")
    yield ClamavType("cat", "file", whole=check_catalogue, counted=False, about="a Windows security catalogue")


TYPES: Mapping[str, ClamavType] = MappingProxyType({one.extension: one for one in (*_line_types(), *_file_types())})
