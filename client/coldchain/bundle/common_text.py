r"""Text that signature files share whatever their source: what a coder may refer to before it has seen anything of a bundle.

Part of the format: these bytes stand in front of every zstd dictionary (:mod:`coldchain.bundle.columns`) and of what the text model has
read (:mod:`coldchain.bundle.text_model`), so a change of one byte is a new version of the format. It holds the words of the engines'
own grammars (from their manuals), the licences rule files begin with, and common endings of names; nothing of any feed.

Worked example: ``COMMON_TEXT`` ends with ``.com`` and LF, because what is nearest to the text is the cheapest to refer to.
"""

from __future__ import annotations

from typing import Final

COMMON_TEXT: Final = b"""\
 * Redistribution and use in source and binary forms, with or without
 * modification, are permitted provided that the following conditions are met:
 *
 * 1. Redistributions of source code must retain the above copyright notice,
 * this list of conditions and the following disclaimer.
 *
 * 2. Redistributions in binary form must reproduce the above copyright notice,
 * this list of conditions and the following disclaimer in the documentation
 * and/or other materials provided with the distribution.
 *
 * THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
 * AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
 * IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE
 * ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE
 * LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR
 * CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF
 * SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS
 * INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN
 * CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE)
 * ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE
 * POSSIBILITY OF SUCH DAMAGE.
 */
// This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License
// Licensed under the Apache License, Version 2.0. Permission is hereby granted, free of charge, to any person obtaining a copy
ClamAV-VDB: Jan 2026 00-00 +0000:1:builder
DSIG:
.fp:.hdb:.hsb:.ldb:.mdb:.msb:.ndb:.sfp:.info:.ign2:.cfg:.crb:.cdb:.ftm:.idb:.hdu:.hsu:.ldu:.mdu:.msu:.ndu:
Win.Trojan.Agent-1000000-0;Engine:51-255,Target:1;(0&1&2)|(3&4);0:4d5a;EOF-1024:;EP+0:::i::w
Win.Malware.Generic-;Engine:81-255,Target:0;0&1&2;Unix.Trojan.Mirai-;Html.Phishing.;Js.Downloader.;Doc.Dropper.;Pdf.Exploit.CVE_20
/* Copyright (c) 2020-2026 All rights reserved. */
import "pe"
import "elf"
import "math"
import "hash"
private rule
rule
{
    meta:
        description = "Detects "
        author = "
        reference = "https://www.
        date = "2025-01-01"
        version = "1.0"
        hash = "
        license = "
        malware_family = "
        severity = 1
    strings:
        $mz = { 4D 5A }
        $s1 = "kernel32.dll" ascii wide nocase fullword
        $a0 = { 8B EC 83 EC ?? 53 56 57 E8 ?? ?? ?? ?? 85 C0 0F 84 (74 | 75) [2-4] FF 15 00 00 00 00 C3 }
        $re = /[a-z0-9]{8,16}\\.exe/ xor
    condition:
        uint16(0) == 0x5A4D and uint32(uint32(0x3C)) == 0x00004550 and filesize < 200KB and
        pe.is_pe and pe.number_of_signatures == 1 and pe.imphash() == "" and
        for any i in (0..pe.number_of_signatures - 1) : (
            pe.signatures[i].issuer contains "" and pe.signatures[i].serial == "00:01" and
            all of them and any of them and 2 of ($s*) and all of ($a*) and $mz at 0 or #s1 > 1 and not
        )
}
127.0.0.1:8080
http://192.168.0.1/index.php
https://www.example.com/login.html
update-online-secure.top
cdn.service-cloud.xyz
.duckdns.org
.ddns.net
.net
.org
.info
.ru
.cn
.co.uk
.com
"""
