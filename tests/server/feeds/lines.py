"""Good and bad lines of every type of ClamAV database; test_engine.py asks the engine whether they are.

``BAD`` names the code of the finding for each line.
"""

from __future__ import annotations

MD5 = b"44d88612fea8a8f36de82e1278abb02f"
SHA1 = b"3395856ce81f2b7382dee72602f798b642f14140"
SHA256 = b"275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
BODY = b"deadbeefcafe0123"
SPOT = b"0010101"
NARROW = b"001010"
ICON = b"20" + SPOT * 6 + NARROW * 12 + b"10101010"
MODULUS = b"c0ffee" * 43

_FILE_HASHES = [MD5 + b":68:Test.A-1", SHA1 + b":68:Test.A-2", SHA256 + b":68:Test.A-3", SHA256 + b":*:Test.A-4:73",
                MD5 + b":4294967294:Test.A-5", MD5 + b":1:Test.A-6:51", MD5 + b":1:Test A 7:51:255"]  # fmt: skip
_SECTION_HASHES = [b"68:" + MD5 + b":Test.A-1", b"68:" + SHA256 + b":Test.A-3", b"*:" + SHA256 + b":Test.A-4:73"]
_BODIES = [
    b"Test.B-1:0:*:" + BODY,
    b"Test.B-2:1:EP+0:" + BODY,
    b"Test.B-3:1:EP-16,64:" + BODY,
    b"Test.B-4:6:S0+4:" + BODY,
    b"Test.B-5:1:SL+0:" + BODY,
    b"Test.B-6:1:SE1:" + BODY,
    b"Test.B-7:0:EOF-100:" + BODY,
    b"Test.B-8:0:16,8:" + BODY,
    b"Test.B-9:3:*:deadbeef??cafe*{4}0123(aa|bb|cc)!(dd|ee)ff{4-8}aabb",
    b"Test.B-10:0:*:dead{-8}beef{8-}cafe[1-4]ff",
    b"Test.B-11:0:*:dead(B)beef:51:255",
    b"Test.B-12:1:VI:" + BODY,
    b"Test.B-13:0:*:deadbeef(aabb|cc)cafe",
    b"Test.B-14:0:*:dea?be?fcafe01",
    b"Test.B-15:0:$3$:deadbeefcafe",
    b"Test.B-16:12:*:" + BODY + b":51",
]
_LOGICAL = [
    b"Test.L-1;Target:0;0;" + BODY,
    b"Test.L-2;Engine:51-255,Target:1;0&1;" + BODY + b";EP+0,64:" + BODY,
    b"Test.L-3;Engine:81-255,Target:0;(0|1)&2;6d616c77;77617265;61626364::iw",
    b"Test.L-4;Engine:81-255,Target:0;0=2|1>3,2;6d616c77;77617265",
    b"Test.L-5;Engine:81-255,FileSize:10-2000,Target:0;0;" + BODY,
    b"Test.L-6;Engine:81-255,Container:CL_TYPE_ZIP,Target:0;0&1;" + BODY + b";0/ab[c-e]+f;x/i",
    b"Test.L-7;Engine:96-255,Target:0;0&1;" + BODY + b";0(>>4#he2#=16)",
    b"Test.L-8;Engine:81-255,Target:0;0;${6-7}12$",
    b"Test.L-9;Engine:150-255,Target:0;0;fuzzy_img#af2ad01ed42993c7#0",
    b"Test.L-10;Engine:81-255,IconGroup1:DOCUMENT,Target:1;0;" + BODY,
    b"Test.L-11;Engine:81-255,NumberOfSections:2-5,EntryPoint:100-200,Target:1;0=0&1;" + BODY + b";" + BODY,
    b"Test.L-12;Engine:81-255,Target:0;0;6d616c77::f",
]
_CONTAINERS = [
    b"Test.C-1:CL_TYPE_ZIP:*:Courrt.{1,15}\\.scr$:*:*:*:*:*:",
    b"Test.C-2:*:*:(?i)ship.{0,5}\\.exe\\.doc$:1-20:7:1:2:*:*:51:255",
    b"Test.C-3:CL_TYPE_RAR:100-200:*:*:*:0:*:1a2b:*",
]
_METADATA = [b"Test.M-1:1:.+\\.scr$:*:*:*:*:1:*", b"Test.M-2:*:*:100:50:1a2b3c4d:8:*:2"]
_CERTIFICATE = [
    b"Test.K-1;1;" + SHA1 + b";;" + MODULUS + b";010001;1;0;1;0;ours",
    b"Test.K-2;0;" + SHA1 + b";" + SHA1 + b";" + MODULUS + b";010001;1;1;0;1700000000;blocked;51;255",
]
_PHISHING = [
    b"H:bank.example",
    b"R:.+\\.bank\\.example([/?].*)?:.+\\.other\\.example([/?].*)?:17-",
    b"H01f:bank.example",
]
_URLS = [b"S:P:4d8bef53", b"S1:F:" + SHA256, b"S2:F:" + SHA256[::-1], b"S:W:" + SHA256]
_ALLOWED = [b"M:mail.bank.example:bank.example", b"X:.+\\.a\\.example([/?].*)?:.+\\.b\\.example:17-", b"Y:a\\.example:b\\.example",
            b"S:W:" + SHA256]  # fmt: skip
_MAGIC = [
    b"0:0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP",
    b"1:*:3c6f626a656374:HTML data:CL_TYPE_ANY:CL_TYPE_HTML:51:255",
    b"4:1024:482b0004:HFS+:CL_TYPE_PART_ANY:CL_TYPE_PART_HFSPLUS:75",
    b"1:EOF-512:6b6f6c79:DMG:CL_TYPE_ANY:CL_TYPE_DMG",
]
_SETTINGS = [b"PE:0xbf7f:33:41", b"DOCUMENT:0xfb:54", b"ARCHIVE:0x3fbf", b"PCRE:0x1:81:255"]
_PASSWORDS = [b"Test.P-1;Engine:81-255;0;infected", b"Test.P-2;Engine:81-255,Container:CL_TYPE_ZIP;1;696e66",
              b"Test.P-3;Target:0;0;virus"]  # fmt: skip

GOOD: dict[str, list[bytes]] = {
    **dict.fromkeys(("hdb", "hsb", "hdu", "hsu", "fp", "sfp"), _FILE_HASHES),
    **dict.fromkeys(("mdb", "msb", "mdu", "msu"), _SECTION_HASHES),
    "imp": [MD5 + b":68:Test.I-1", MD5 + b":*:Test.I-2"],
    **dict.fromkeys(("ndb", "ndu", "sdb"), _BODIES),
    "db": [b"Test.D-1=" + BODY, b"Test.D-2=dead*beef{4}cafe"],
    **dict.fromkeys(("ldb", "ldu"), _LOGICAL),
    "idb": [
        b"Test.X-1:DOCUMENT:WORD:" + ICON,
        b"Test.X-2:*:*:" + b"18" + ICON[2:],
        b"Test.X-3:A:B:" + b"10" + b"0" * 122,
    ],
    "cdb": _CONTAINERS,
    "zmd": _METADATA,
    "rmd": _METADATA,
    "crb": _CERTIFICATE,
    "pdb": _PHISHING,
    "gdb": [*_URLS, *_PHISHING],
    "wdb": _ALLOWED,
    "ftm": _MAGIC,
    "cfg": _SETTINGS,
    "pwdb": _PASSWORDS,
    "ign": [b"daily.ndb:7:Test.A-1", b"Test.A-2"],
    "ign2": [b"Test.A-1", b"Test.A-2:" + MD5, b"xy"],
}

_BAD_LEVELS = {b":9999": "no-engine", b":300:400": "no-engine", b":1:50": "no-engine", b":255:51": "bad-levels",
               b":x": "bad-number", b":51:x": "bad-number", b":51:255:9": "field-count"}  # fmt: skip
_BAD_FILE_HASHES = {
    b"garbage:not:a:valid:line": "bad-size",
    MD5[:-1] + b":68:Test.A-1": "bad-hash",
    MD5[:-1] + b"g:68:Test.A-1": "bad-hash",
    MD5 + b"00:68:Test.A-1": "bad-hash",
    MD5 + b":0:Test.A-1": "bad-size",
    MD5 + b":4294967295:Test.A-1": "bad-size",
    MD5 + b":-5:Test.A-1": "bad-size",
    MD5 + b":*:Test.A-1": "wildcard-level",
    MD5 + b":*:Test.A-1:72": "wildcard-level",
    MD5 + b":68": "field-count",
    MD5 + b":68:": "empty-name",
    MD5 + b":68:Test\x01A": "bad-name",
    **{MD5 + b":68:Test.A-1" + levels: code for levels, code in _BAD_LEVELS.items()},
}
_BAD_SECTION_HASHES = {
    MD5 + b":68:Test.A-1": "bad-size",
    b"68:" + MD5[:-1] + b":Test.A-1": "bad-hash",
    b"0:" + MD5 + b":Test.A-1": "bad-size",
    b"*:" + MD5 + b":Test.A-1": "wildcard-level",
    b"68:" + MD5: "field-count",
    b"68:" + MD5 + b":": "empty-name",
    **{b"68:" + MD5 + b":Test.A-1" + levels: code for levels, code in _BAD_LEVELS.items()},
}
_BAD_BODIES = {
    b"Test.B-1:0:*": "field-count",
    b":0:*:" + BODY: "empty-name",
    b"Test.B-1:x:*:" + BODY: "bad-target",
    b"Test.B-1:15:*:" + BODY: "bad-target",
    b"Test.B-1:0:EP+0:" + BODY: "bad-offset",
    b"Test.B-1:0:-5:" + BODY: "bad-offset",
    b"Test.B-1:1:SX+1:" + BODY: "bad-offset",
    b"Test.B-1:0:*,4:" + BODY: "bad-offset",
    b"Test.B-1:0:$32$:" + BODY: "bad-offset",
    b"Test.B-1:0:*:": "too-short",
    b"Test.B-1:0:*:41": "too-short",
    b"Test.B-1:0:*:4142": "too-short",
    b"Test.B-1:0:*:deadbeef*41": "too-short",
    b"Test.B-1:0:*:deadbee": "odd-hex",
    b"Test.B-1:0:*:deadbxef": "bad-hex",
    b"Test.B-1:0:*:de??ad??be??": "no-static-part",
    b"Test.B-1:0:*:dead{beef": "bad-jump",
    b"Test.B-1:0:*:dead{}beef": "bad-jump",
    b"Test.B-1:0:*:dead{x}beef": "bad-jump",
    b"Test.B-1:0:*:deadbeef(aa|bb": "unclosed-group",
    b"Test.B-1:0:*:deadbeef()": "empty-group",
    b"Test.B-1:0:*:deadbeef(aa|b)": "odd-hex",
    b"Test.B-1:0:*:deadbeef(aa|*)": "bad-alternative",
    b"Test.B-1:0:*:de[33]adbeef": "bad-bracket",
    b"Test.B-1:0:*:dead[1-4]beef": "bad-bracket",
    b"Test.B-1:0:*:7f454c46": "magic-only",
    b"Test.B-1:0:*:4d5a9000": "magic-only",
    b"Test.B-1:0:0:504b0304": "magic-only",
    **{b"Test.B-1:0:*:" + BODY + levels: code for levels, code in _BAD_LEVELS.items()},
}
_BAD_LOGICAL = {
    b"Test.L-1;Target:0;0": "field-count",
    b";Target:0;0;" + BODY: "empty-name",
    b"Test.L-1;20191220Engine:81-255,Target:0;0;" + BODY: "unknown-attribute",
    b"Test.L-1;Engine:81-255;0;" + BODY: "bad-attribute",
    b"Test.L-1;Engine:81,Target:0;0;" + BODY: "bad-attribute",
    b"Test.L-1;Engine:300-400,Target:0;0;" + BODY: "no-engine",
    b"Test.L-1;Engine:1-50,Target:0;0;" + BODY: "no-engine",
    b"Test.L-1;Target:99;0;" + BODY: "bad-target",
    b"Test.L-1;Engine:81-255,Container:CL_TYPE_NONE,Target:0;0;" + BODY: "unknown-type",
    b"Test.L-1;FileSize:1-2,Target:0;0;" + BODY: "bad-attribute",
    b"Test.L-1;Engine:81-255,EntryPoint:1-2,Target:0;0;" + BODY: "bad-attribute",
    b"Test.L-1;Engine:81-255,IconGroup1:A,Target:0;0;" + BODY: "bad-attribute",
    b"Test.L-1;Target:0;1;" + BODY: "subsignature-count",
    b"Test.L-1;Target:0;0;" + BODY + b";" + BODY: "subsignature-count",
    b"Test.L-1;Target:0;0&;" + BODY: "bad-logic",
    b"Test.L-1;Target:0;(0;" + BODY: "bad-logic",
    b"Test.L-1;Target:0;0>;" + BODY: "bad-logic",
    b"Test.L-1;Target:0;;" + BODY: "bad-logic",
    b"Test.L-1;Target:0;0;" + BODY + b"::q": "bad-modifier",
    b"Test.L-1;Target:0;0;EP+0:" + BODY: "bad-offset",
    b"Test.L-1;Target:0;0;deadbee": "odd-hex",
    b"Test.L-1;Engine:81-255,Target:0;0&1;" + BODY + b";0/ab(c/": "bad-regex",
    b"Test.L-1;Engine:81-255,Target:0;0&1;" + BODY + b";/abc/": "bad-regex",
    b"Test.L-1;Engine:81-255,Target:0;0&1;" + BODY + b";1/abc/": "bad-reference",
    b"Test.L-1;Engine:96-255,Target:0;0&1;" + BODY + b";0(>>4#he2=16)": "odd-hex",
    b"Test.L-1;Engine:96-255,Target:0;0&1;" + BODY + b";0(>>4#xx2#=16)": "bad-comparison",
    b"Test.L-1;Engine:96-255,Target:0;0&1;" + BODY + b";7(>>4#he2#=16)": "bad-reference",
    b"Test.L-1;Engine:81-255,Target:0;0;${9-7}12$": "bad-macro",
    b"Test.L-1;Engine:81-255,Target:0;0;${6-7}32$": "bad-macro",
    b"Test.L-1;Engine:150-255,Target:0;0;fuzzy_img#af2ad01ed42993c#0": "bad-image-hash",
    b"Test.L-1;Engine:81-255,Target:0;0=0;" + BODY: "matches-without",
    b"Test.L-1;Engine:81-255,Target:0;0|1;7f454c46;" + BODY: "magic-only",
}
_BAD_CONTAINERS = {
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:*:*:*:*:*": "field-count",
    b":CL_TYPE_ZIP:*:a\\.scr$:*:*:*:*:*:": "empty-name",
    b"Test.C-1:CL_TYPE_NONE:*:a\\.scr$:*:*:*:*:*:": "unknown-type",
    b"Test.C-1:CL_TYPE_ZIP:*:a(\\.scr$:*:*:*:*:*:": "bad-regex",
    b"Test.C-1:CL_TYPE_ZIP:*:*a:*:*:*:*:*:": "bad-regex",
    b"Test.C-1:CL_TYPE_ZIP:*::*:*:*:*:*:": "bad-regex",
    b"Test.C-1:CL_TYPE_ZIP:x:a\\.scr$:*:*:*:*:*:": "bad-number",
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:1-:*:*:*:*:": "bad-range",
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:1-2x:*:*:*:*:": "bad-range",
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:*:*:2:*:*:": "bad-encrypted",
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:*:*:*:*:zz:": "bad-number",
    b"Test.C-1:CL_TYPE_ZIP:*:*:*:*:*:*:*:": "matches-without",
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:*:*:*:*:*::9999": "no-engine",
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:*:*:*:*:*::1:50": "no-engine",
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:*:*:*:*:*::x": "bad-number",
    b"Test.C-1:CL_TYPE_ZIP:*:a\\.scr$:*:*:*:*:*::51:255:9": "field-count",
}
_BAD_METADATA = {
    b"Test.M-1:1:a:*:*:*:*:1": "field-count",
    b":1:a:*:*:*:*:1:*": "empty-name",
    b"Test.M-1:x:a:*:*:*:*:1:*": "bad-encrypted",
    b"Test.M-1:1:a(:*:*:*:*:1:*": "bad-regex",
    b"Test.M-1:1:a:x:*:*:*:1:*": "bad-number",
    b"Test.M-1:1:a:*:x:*:*:1:*": "bad-number",
    b"Test.M-1:1:a:*:*:xyz:*:1:*": "bad-number",
    b"Test.M-1:1:a:*:*:*:x:1:*": "bad-number",
    b"Test.M-1:1:a:*:*:*:*:x:*": "bad-number",
    b"Test.M-1:1:a:*:*:*:*:1:x": "bad-number",
    b"Test.M-1:*:*:*:*:*:*:*:*": "matches-without",
}
_K = b";" + MODULUS + b";010001;1;0;1;0;ours"
_BAD_CERTIFICATES = {
    b"Test.K-1;1;" + SHA1 + b";;" + MODULUS: "field-count",
    b"Test.K-1;2;" + SHA1 + b";" + _K: "bad-flag",
    b"Test.K-1;;" + SHA1 + b";" + _K: "bad-flag",
    b"Test.K-1;1;" + SHA1[:-1] + b";" + _K: "bad-hash",
    b"Test.K-1;1;" + SHA1[:-1] + b"x;" + _K: "bad-hash",
    b"Test.K-1;1;" + SHA1 + b";abc" + _K: "bad-hash",
    b"Test.K-1;1;" + SHA1 + b";;xyz;010001;1;0;1;0;ours": "bad-key",
    b"Test.K-1;1;" + SHA1 + b";;" + MODULUS + b";010001;x;0;1;0;ours": "bad-flag",
    b"Test.K-1;1;" + SHA1 + b";;" + MODULUS + b";010001;1;x;1;0;ours": "bad-flag",
    b"Test.K-1;1;" + SHA1 + b";;" + MODULUS + b";010001;1;0;x;0;ours": "bad-flag",
    b"Test.K-1;1;" + SHA1 + b";" + _K + b";x": "bad-number",
    b"Test.K-1;1;" + SHA1 + b";" + _K + b";51;x": "bad-number",
    b"Test.K-1;1;" + SHA1 + b";" + _K + b";9999": "no-engine",
}
_BAD_PHISHING = {
    b"H:bank.exampl\xbb": "not-ascii",
    b"R:bank\\.exampl\xbb$": "not-ascii",
    b"bank.example": "bad-kind",
    b"Z:bank.example": "bad-kind",
    b"Hxyz:bank.example": "bad-kind",
    b"H:": "bad-host",
    b"H:bank example": "bad-host",
    b"H:http://bank.example": "bad-host",
    b"R:": "bad-regex",
    b"R:a(b": "bad-regex",
    b"R:*a": "bad-regex",
    b"H:bank.example:9999-": "no-engine",
    b"H:bank.example:1-50": "no-engine",
    b"S:P:4d8bef5": "bad-hash",
    b"S:P:4d8bef5x": "bad-hash",
    b"S:P:4d8bef5300": "bad-hash",
    b"S:F:4d8bef53": "bad-hash",
    b"S:Q:4d8bef53": "bad-hash",
    b"S9:P:4d8bef53": "bad-kind",
}
_BAD_ALLOWED = {
    b"M:a.example:b\xc3\xa9": "not-ascii",
    b"X:a\\.example:b\xbb": "not-ascii",
    b"H:bank.example": "bad-kind",
    b"bank.example": "bad-kind",
    b"M:bank.example": "field-count",
    b"M:bank.example:": "bad-host",
    b"M:bank.example:http://x": "bad-host",
    b"X:a(b:c": "bad-regex",
    b"X:": "bad-regex",
    b"S:F:" + SHA256: "bad-hash",
    b"S:W:4d8bef53": "bad-hash",
    b"X:a:b:9999-": "no-engine",
}
_BAD_MAGIC = {
    b"0:0:504b0304:ZIP:CL_TYPE_ANY": "field-count",
    b"x:0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP": "bad-kind",
    b"2:0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP": "bad-kind",
    b"0:x:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP": "bad-number",
    b"0:0:504b030:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP": "bad-hex",
    b"0:0:50??:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP": "bad-hex",
    b"0:0:504b0304:ZIP:CL_TYPE_NONE:CL_TYPE_ZIP": "unknown-type",
    b"0:0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_NONE": "unknown-type",
    b"1:EP+0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP": "bad-offset",
    b"1:*:504b030:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP": "odd-hex",
    b"1:*:50:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP": "too-short",
    b"0:0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP:x": "bad-number",
    b"0:0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP:9999": "no-engine",
    b"0:0:504b0304:ZIP:CL_TYPE_ANY:CL_TYPE_ZIP:1:50": "no-engine",
}
_BAD_SETTINGS = {
    b"PEE:0x1": "unknown-part",
    b"nonsense": "unknown-part",
    b"PE:1f": "bad-number",
    b"PE:0xzz": "bad-number",
    b"PE:0x1:9:5": "bad-levels",
    b"PE:0x1:x": "bad-number",
    b"PE:0x1:51:255:9": "field-count",
}
_BAD_PASSWORDS = {
    b"Test.P-1;Engine:81-255;0": "field-count",
    b"Test.P-1;Engine:81-255;x;infected": "bad-kind",
    b"Test.P-1;Engine:81-255;7;infected": "bad-kind",
    b"Test.P-1;Engine:81-255;1;696": "bad-hex",
    b"Test.P-1;Engine:81-255;0;": "bad-password",
    b"Test.P-1;Engine:81-255,Container:CL_TYPE_7Z;0;infected": "bad-attribute",
    b"Test.P-1;Engine:81-255,Container:CL_TYPE_NONE;0;infected": "unknown-type",
    b"Test.P-1;Engine:300-400;0;infected": "no-engine",
}
_BAD_IGNORES = {
    b"a:b:c:d": "field-count",
    b"Test.A-1:xyz": "bad-hash",
    b"Test.A-1:" + MD5[:-1] + b"x": "bad-hash",
    b"daily.ndb:x:Test.A-1": "bad-number",
    b"daily.ndb:7:": "empty-name",
    b"Test.A-1.UNOFFICIAL": "switches-nothing-off",
    b"YARA.Rule": "switches-nothing-off",
}
_BAD_ICONS = {
    b"Test.X-1:DOCUMENT:" + ICON: "field-count",
    b":A:B:" + ICON: "empty-name",
    b"Test.X-1::B:" + ICON: "empty-group-name",
    b"Test.X-1:A:B:" + ICON[:-1]: "bad-metrics",
    b"Test.X-1:A:B:" + ICON[:-1] + b"x": "bad-metrics",
    b"Test.X-1:A:B:21" + ICON[2:]: "bad-metrics",
    b"Test.X-1:A:B:20fff" + ICON[5:]: "bad-metrics",
    b"Test.X-1:A:B:20001ff" + ICON[7:]: "bad-metrics",
    b"Test.X-1:A:B:" + ICON[:-8] + b"ff101010": "bad-metrics",
    b"Test.X-1:A:B:" + ICON[:-8] + b"101010ff": "bad-metrics",
}

BAD: dict[str, dict[bytes, str]] = {
    **dict.fromkeys(("hdb", "hsb", "hdu", "hsu", "fp", "sfp"), _BAD_FILE_HASHES),
    **dict.fromkeys(("mdb", "msb", "mdu", "msu"), _BAD_SECTION_HASHES),
    "imp": {MD5[:-1] + b":68:Test.I-1": "bad-hash", MD5 + b":x:Test.I-1": "bad-size", MD5 + b":68": "field-count"},
    **dict.fromkeys(("ndb", "ndu", "sdb"), _BAD_BODIES),
    "db": {
        b"Test.D-1": "field-count",
        b"=" + BODY: "empty-name",
        b"Test.D-1=41": "too-short",
        b"Test.D-1=dead*": "too-short",
    },
    **dict.fromkeys(("ldb", "ldu"), _BAD_LOGICAL),
    "idb": _BAD_ICONS,
    "cdb": _BAD_CONTAINERS,
    "zmd": _BAD_METADATA,
    "rmd": _BAD_METADATA,
    "crb": _BAD_CERTIFICATES,
    "pdb": _BAD_PHISHING,
    "gdb": _BAD_PHISHING,
    "wdb": _BAD_ALLOWED,
    "ftm": _BAD_MAGIC,
    "cfg": _BAD_SETTINGS,
    "pwdb": _BAD_PASSWORDS,
    "ign": _BAD_IGNORES,
    "ign2": _BAD_IGNORES,
}
