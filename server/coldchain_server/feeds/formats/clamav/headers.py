"""How common file formats begin: a pattern that says no more than this meets every harmless file of the format.

Worked example: ``4d5a9000`` is how PE files begin, so a signature of these four bytes reports every program. The longer an
entry, the more of its prefixes are covered. Sources: the formats' own specifications and what common linkers write.
"""

_BINARY = tuple(
    bytes.fromhex(text)
    for text in (
        "7f454c4602010100000000000000000002003e0001000000",  # ELF, 64 bits, program
        "7f454c4602010100000000000000000003003e0001000000",  # ELF, 64 bits, shared
        "7f454c460201010300000000000000000200b70001000000",  # ELF, 64 bits, ARM
        "7f454c460101010000000000000000000200030001000000",  # ELF, 32 bits, program
        "7f454c460101010000000000000000000300030001000000",  # ELF, 32 bits, shared
        "7f454c460102010000000000000000000002000800000001",  # ELF, MIPS
        "4d5a90000300000004000000ffff0000b80000000000000040000000000000000000",  # PE as most linkers write it
        "4d5a50000200000004000f00ffff0000b80000000000000040001a00000000000000",  # PE as Delphi writes it
        "50450000",  # PE header
        "504500004c010000",
        "5045000064860000",
        "504b0304140000000800",  # ZIP
        "504b030414000600080000002100",  # Office
        "504b0304140008080800",  # JAR
        "504b03040a0000000000",
        "504b0506000000000000",
        "504b0102",
        "255044462d312e",  # PDF
        "d0cf11e0a1b11ae1000000000000000000000000000000003e000300feff0900",  # OLE2
        "526172211a070100",  # RAR 5
        "526172211a0700cf907300000d",
        "377abcaf271c0004",  # 7-Zip
        "1f8b0800000000000003",  # gzip
        "425a6839314159265359",  # bzip2
        "fd377a585a000004",  # xz
        "89504e470d0a1a0a0000000d49484452",  # PNG
        "474946383961",
        "474946383761",
        "ffd8ffe000104a46494600",  # JPEG
        "ffd8ffe1",
        "cafebabe00000034",  # Java class
        "feedface",
        "feedfacf",
        "cefaedfe07000001",
        "cffaedfe07000001",
        "4d534346000000",  # cabinet
        "49545346",
        "4c0000000114020000000000c000000000000004",  # shortcut
        "6465780a303335",  # Android program
        "52494646",
        "4f676753",
        "494433",
    )
)
_TEXT = (
    b"This program cannot be run in DOS mode.\r\r\n$",
    b"This program must be run under Win32\r\n$",
    b"!This program cannot be run in DOS mode",
    b"<!doctype html>",
    b"<!DOCTYPE html>",
    b"<!DOCTYPE HTML PUBLIC ",
    b"<html>",
    b"<HTML>",
    b'<?xml version="1.0" encoding="utf-8"?>',
    b'<?xml version="1.0" encoding="UTF-8"?>',
    b"<?php\n",
    b"<?php ",
    b"#!/bin/bash\n",
    b"#!/bin/sh\n",
    b"#!/usr/bin/env python",
    b"#!/usr/bin/perl",
    b"{\\rtf1\\ansi",
    b"[Content_Types].xml",
    b"word/document.xml",
    b"META-INF/MANIFEST.MF",
    b"!<arch>\n",
)

HEADERS: tuple[bytes, ...] = (*_BINARY, *_TEXT)
