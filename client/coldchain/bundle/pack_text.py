r"""The text of a pack's head: digests taken out of the words around them, and the words that all such text has in common.

Roles and manifests are mostly digests, keys' names and signatures in hexadecimal, which no compressor makes smaller than half. So they
leave the text and stand in a row of their own, as the bytes they are::

    "sha256":"5c1f…64 digits…"        text  "sha256":"\x01"      digests  5c 1f … 32 bytes
    "sig":"07ab…128 digits…"          text  "sig":"\x02"         digests  07 ab … 64 bytes

What is left is nearly the same in every release. :data:`COMMON` is what a compressor of that text may refer to before it has seen any;
it is part of version 2 of the pack: a change of one byte is a new version. It holds the words of our own formats and nothing of any
release. What is nearest to the end is cheapest to refer to, so the roles that every pack holds come last.
"""

from __future__ import annotations

import re
from typing import Final

from coldchain.bundle.varint import Reader
from coldchain.errors import MalformedError

SHORT: Final = b"\x01"
LONG: Final = b"\x02"
_DIGITS: Final = re.compile(rb"[0-9a-f]{128}|[0-9a-f]{64}")
_MARKS: Final = re.compile(rb"[\x01\x02]")

COMMON: Final = (
    (
        rb"log/consistency/"
        rb'metadata/2.root.json{"signatures":[{"keyid":"#","sig":"~"},{"keyid":"#","sig":"~"}],"signed":{"_type":"root","coldch'
        rb'ain":{"format":"coldchain-root-1","log_policy":["log ","witness ","group q 2 ","quorum q"]},"consistent_snapshot":tr'
        rb'ue,"expires":"2027-06-01T12:00:00Z","keys":{"#":{"keytype":"ed25519","keyval":{"public":"#"},"scheme":"ed25519"}},"r'
        rb'oles":{"root":{"keyids":["#","#","#"],"threshold":2},"snapshot":{"keyids":["#"],"threshold":1},"targets":{"keyids":['
        rb'"#","#","#"],"threshold":2},"timestamp":{"keyids":["#"],"threshold":1}},"spec_version":"1.0.31","version":2}}'
        rb'metadata/timestamp.json"meta":{"snapshot.json":{"version":'
        rb'metadata/1.targets.json"signed":{"_type":"targets","delegations":{"keys":{"#":{"keytype":"ed25519","keyval":{"public'
        rb'":"#"},"scheme":"ed25519"},"#":{"keytype":"ed25519","keyval":{"public":"#"},"scheme":"ed25519"}},"roles":[{"keyids":'
        rb'["#","#","#"],"name":"us","paths":["us/*/*"],"terminating":true,"threshold":2},{"keyids":["#","#","#"],"name":"eu","'
        rb'paths":["eu/*/*"],"terminating":true,"threshold":2},{"keyids":["#"],"name":"rollout","paths":["rollout/*"],"terminat'
        rb'ing":true,"threshold":1}]},"expires":"2027-06-01T12:00:00Z","spec_version":"1.0.31","targets":{},"version":'
        rb'manifests/#.json{"assembler":{"source":"#","version":"0.1.0"},"changes":{"global":{"":{"added":1,"removed":1}}},"cha'
        rb'nnel":"stable","created":"2026-06-01T12:00:00Z","feeds":[{"files":2,"name":"","records":1000,"skipped":{},"snapshot"'
        rb':"#"},{"files":1,"name":"","records":100,"skipped":{},"snapshot":"#"}],"format":"coldchain-manifest-1","gate":[{"che'
        rb'ck":"lint","detail":" records good, 0 left out as bad, 0 flagged for a person; 10 sections as they will be served, l'
        rb'ine by line","result":"passed"},{"check":"load-clamav","detail":"","result":"passed"},{"check":"load-yara","detail":'
        rb'"no bundle has a section for YARA","result":"passed"},{"check":"canary","detail":"","result":"passed"},{"check":"cle'
        rb'an","detail":"","result":"passed"},{"check":"own-files","detail":"","result":"passed"},{"check":"must-detect","detai'
        rb'l":"","result":"passed"},{"check":"new-detections","detail":"","result":"passed"},{"check":"without-gate","detail":"'
        rb'","result":"not-run"}],"global":{"bundle":"#","bytes":10000,"records":1000},"previous":"#","product":"coldchain","re'
        rb'gions":{"us":{"bundle":"#","bytes":10000,"full":{"bytes":1000,"sha256":"#"},"policy":[],"records":1000},"jp":{"bundl'
        rb'e":"#","bytes":10000,"full":{"bytes":1000,"sha256":"#"},"policy":[{"action":"leave-out","kind":"signature","name":""'
        rb',"reason":"","records":1}],"records":1000}},"release":10}'
        rb"targets/us/stable/#.evidence.zsttargets/us/stable/#.full.ccdtargets/us/stable/#.from-"
        rb'metadata/1.snapshot.json{"signatures":[{"keyid":"#","sig":"~"}],"signed":{"_type":"snapshot","expires":"2026-06-15T1'
        rb'2:00:00Z","meta":{"au.json":{"version":1},"br.json":{"version":1},"ca.json":{"version":1},"ch.json":{"version":1},"e'
        rb'u.json":{"version":1},"gb.json":{"version":1},"in.json":{"version":1},"jp.json":{"version":1},"kr.json":{"version":1'
        rb'},"rollout.json":{"version":1},"sg.json":{"version":1},"targets.json":{"version":1},"us.json":{"version":1}},"spec_v'
        rb'ersion":"1.0.31","version":1}}'
        rb'metadata/1.rollout.json{"signatures":[{"keyid":"#","sig":"~"}],"signed":{"_type":"targets","coldchain":{"format":"co'
        rb'ldchain-rollout-1","regions":{"au":{"stable":{"held":false,"release":1,"share":100}},"eu":{"early":{"held":false,"re'
        rb'lease":1,"share":100},"stable":{"held":true,"release":1,"share":100,"withdrawn":[1]}},"us":{"stable":{"held":false,"'
        rb'release":1,"share":100}}}},"coldchain-schedules":{"stable":{"emergency":false,"release":1,"since":"2026-06-01T12:00:'
        rb'00Z"}},"expires":"2026-06-15T12:00:00Z","spec_version":"1.0.31","targets":{},"version":1}}'
        rb'metadata/1.us.json{"signatures":[{"keyid":"#","sig":"~"},{"keyid":"#","sig":"~"}],"signed":{"_type":"targets","coldc'
        rb'hain":{"channels":{"stable":{"bundle":"#","bytes":10000,"manifest":"#","records":1000,"release":1}},"format":"coldch'
        rb'ain-region-1","product":"coldchain","region":"us"},"expires":"2026-11-28T12:00:00Z","spec_version":"1.0.31","targets'
        rb'":{"us/stable/evidence.zst":{"hashes":{"sha256":"#"},"length":2000},"us/stable/from-1.ccd":{"hashes":{"sha256":"#"},'
        rb'"length":300},"us/stable/from-2.ccd":{"hashes":{"sha256":"#"},"length":500},"us/stable/full.ccd":{"hashes":{"sha256"'
        rb':"#"},"length":20000}},"version":1}}'
    )
    .replace(b"#", SHORT)
    .replace(b"~", LONG)
)
"""See the module; ``#`` and ``~`` stand for the marks."""


def take_digests(text: bytes, digests: bytearray) -> bytes:
    """The text without its digests, which are appended to ``digests``.

    Raises:
        MalformedError: it holds the marks already.
    """
    if _MARKS.search(text):
        raise MalformedError("pack: a part of text holds control characters")

    def taken(match: re.Match[bytes]) -> bytes:
        digests.extend(bytes.fromhex(match[0].decode()))
        return SHORT if len(match[0]) == 64 else LONG

    return _DIGITS.sub(taken, text)


def put_digests(text: bytes, digests: Reader) -> bytes:
    """The text with its digests again.

    Raises:
        MalformedError: there are too few.
    """
    return _MARKS.sub(lambda match: digests.take(32 if match[0] == SHORT else 64).hex().encode(), text)
