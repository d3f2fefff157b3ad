r"""Records in words: the name of a signature line, and what the line looks for, as far as that can be said simply.

Worked examples::

    d41d8cd98f00b204e9800998ecf8427e:0:Empty.File    Empty.File: a file of exactly 0 bytes with this MD5
    Trojan.X-1:1:EP+0:4d5a??90                       Trojan.X-1: Windows programs; at the entry point; 4 bytes: "MZ" any "\x90"
    Trojan.Y-2;Engine:81-255,Target:0;0&1;61;62      Trojan.Y-2: any file; subsignatures 0 and 1 must match: …

Nothing here decides anything: a line that is not understood has no name (None) and is shown as it is.

Source: the ClamAV manual, "Creating signatures for ClamAV".
"""

from __future__ import annotations

import re
from typing import Final

_HASH: Final = {"hdb", "hdu", "hsb", "hsu", "mdb", "mdu", "msb", "msu", "imp", "fp", "sfp"}
_COLON_FIRST: Final = {"ndb", "ndu", "cdb", "idb", "ign2", "db"}
_SEMICOLON_FIRST: Final = {"ldb", "ldu", "crb"}
_RULE: Final = re.compile(
    rb"^[ \t]*(?:(?:private|global)[ \t]+)*rule[ \t]+([A-Za-z_][A-Za-z0-9_]{0,127})", re.MULTILINE
)
_ALGORITHMS: Final = {32: "MD5", 40: "SHA-1", 64: "SHA-256"}
_TARGETS: Final = {
    "0": "any file",
    "1": "Windows programs (PE)",
    "2": "Office documents (OLE2)",
    "3": "HTML",
    "4": "mail",
    "5": "pictures",
    "6": "Unix programs (ELF)",
    "7": "text (ASCII, normalised)",
    "9": "Mac programs (Mach-O)",
    "10": "PDF",
    "11": "Flash",
    "12": "Java classes",
}
_PIECE: Final = re.compile(
    r"(?P<hex>(?:[0-9a-fA-F]{2})+)|(?P<any>(?:\?\?)+)|(?P<star>\*)|(?P<jump>\{[0-9-]{1,20}\})|(?P<range>\[[0-9-]{1,20}\])"
    r"|(?P<group>!?\([^()]{0,2000}\)(?:\[[^\]]{0,40}\])?)|(?P<nibble>[0-9a-fA-F]\?|\?[0-9a-fA-F])"
)


def extension(section: str) -> str:
    """The database type: what stands behind the last dot, in lower case."""
    return section.rpartition(".")[2].lower()


def record_name(section: str, line: bytes) -> str | None:
    """The name that an engine reports for this line of a ClamAV set section; None when the type has none."""
    kind = extension(section)
    if kind in _SEMICOLON_FIRST:
        name = line.split(b";", 1)[0]
    elif kind in _COLON_FIRST:
        name = line.split(b":", 1)[0].split(b"=", 1)[0] if kind == "db" else line.split(b":", 1)[0]
    elif kind in _HASH:
        parts = line.split(b":", 3)
        if len(parts) < 3:
            return None
        name = parts[2]
    else:
        return None
    return name.decode("utf-8", "replace") or None


def rule_names(source: bytes) -> list[str]:
    """The names of the rules in YARA source, in their order (comments are not understood: one may name a rule too)."""
    return [name.decode() for name in _RULE.findall(source)]


def rule_text(source: bytes, name: str) -> bytes | None:
    """A rule's lines: from its head to the line before the next rule's head."""
    heads = list(_RULE.finditer(source))
    for at, head in enumerate(heads):
        if head[1].decode() == name:
            end = heads[at + 1].start() if at + 1 < len(heads) else len(source)
            return source[head.start() : end].strip()
    return None


def in_words(section: str, line: bytes) -> list[str]:
    """What a line looks for, one thought per entry; empty when it is not understood."""
    kind = extension(section)
    text = line.decode("utf-8", "replace")
    if kind in _HASH:
        return _hash_words(kind, text.split(":"))
    if kind in ("ndb", "ndu"):
        return _body_words(text.split(":"))
    if kind in ("ldb", "ldu"):
        return _logical_words(text.split(";"))
    if kind in ("ign", "ign2"):
        return ["switches the signature of this name off"]
    if kind == "cdb":
        return _container_words(text.split(":"))
    if kind == "idb":
        return _icon_words(text.split(":"))
    return []


def _hash_words(kind: str, parts: list[str]) -> list[str]:
    if len(parts) < 3:
        return []
    by_section = kind in ("mdb", "mdu", "msb", "msu")
    size, digest = (parts[0], parts[1]) if by_section else (parts[1], parts[0])
    algorithm = _ALGORITHMS.get(len(digest), "hash")
    bytes_ = (
        "of any size" if size == "*" else f"of exactly {int(size):,} bytes" if _is_number(size) else f"of size {size}"
    )
    what = {"imp": f"a Windows program whose import table ({size} bytes) has this {algorithm}"}.get(
        kind, f"a section of a Windows program, {bytes_}, with this {algorithm}" if by_section else ""
    )
    out = [what or f"a file {bytes_} with this {algorithm}", f"{algorithm} {digest}"]
    if kind in ("fp", "sfp"):
        out.insert(0, "an exception: such a file is never reported")
    if kind.endswith("u"):
        out.append("counts only where unwanted programs are reported too")
    return out


def _body_words(parts: list[str]) -> list[str]:
    if len(parts) < 4:
        return []
    return [_target(parts[1]), _offset(parts[2]), *pattern_words(parts[3])]


def _logical_words(parts: list[str]) -> list[str]:
    if len(parts) < 4:
        return []
    out = []
    for entry in parts[1].split(","):
        key, _, value = entry.partition(":")
        if key == "Target":
            out.append(_target(value))
        elif key == "Engine":
            out.append(f"for engines of functionality level {value}")
        elif key:
            out.append(f"condition {key}: {value}")
    expression = parts[2].replace("&", " and ").replace("|", " or ")
    out.append(f"matches when: {expression}  (numbers are the subsignatures below)")
    for number, sub in enumerate(parts[3:]):
        offset, colon, body = sub.partition(":")
        if colon and _offset(offset) and not offset.startswith("("):
            words = [_offset(offset), *pattern_words(body.partition("::")[0])]
        else:
            words = pattern_words(sub.partition("::")[0])
        out.append(f"{number}: {'; '.join(words)}")
    return out


_CONTAINER: Final = (
    ("in containers of type", 1),
    ("the container has so many bytes:", 2),
    ("the file's name in it matches", 3),
    ("the file takes so many bytes in it:", 4),
    ("the file has so many bytes unpacked:", 5),
    ("encrypted:", 6),
    ("it is in the place number", 7),
    ("its checksum is", 8),
)


def _container_words(parts: list[str]) -> list[str]:
    """A name may hold colons in its regular expression; then the rest cannot be told apart, and the line stands for itself."""
    if not 10 <= len(parts) <= 12:
        return []
    said = [f"{words} {parts[at]}" for words, at in _CONTAINER if parts[at] != "*"]
    return ["a file in an archive or a mail", *said] if said else ["any file in any archive or mail"]


def _icon_words(parts: list[str]) -> list[str]:
    return [f"an icon of groups {parts[1]} and {parts[2]}, that looks like {parts[3][:80]}"] if len(parts) == 4 else []


def _is_number(text: str) -> bool:
    """Plain digits, and so few that they are a size or a place (Python refuses to read more than 4,300)."""
    return text.isascii() and text.isdecimal() and len(text) <= 20


def _target(number: str) -> str:
    return f"in {_TARGETS.get(number, f'files of target type {number}')}"


def _offset(text: str) -> str:
    place, _, shift = text.partition(",")
    near = f", up to {shift} bytes further on" if _is_number(shift) else ""
    if place == "*":
        return "anywhere"
    if _is_number(place):
        return f"at byte {int(place):,}{near}"
    if place == "EP+0":
        return f"at the entry point{near}"
    for prefix, words in (
        ("EP+", "after the entry point"),
        ("EP-", "before the entry point"),
        ("EOF-", "before the end"),
    ):
        if place.startswith(prefix):
            return f"{place[len(prefix) :]} bytes {words}{near}"
    return f"at {place}{near}"


def pattern_words(pattern: str) -> list[str]:
    """A hexadecimal pattern: how many bytes it fixes, and how it reads; what is not plain hexadecimal stays as written."""
    fixed, shown, at = 0, [], 0
    while at < len(pattern):
        match = _PIECE.match(pattern, at)
        if match is None:
            return [f"pattern {pattern[:200]}"]
        kind, piece = match.lastgroup, match[0]
        if kind == "hex":
            fixed += len(piece) // 2
            shown.append(_readable(bytes.fromhex(piece)))
        elif kind == "any":
            shown.append(f"({len(piece) // 2} any)")
        elif kind == "star":
            shown.append("(anything)")
        elif kind in ("jump", "range"):
            shown.append(f"({piece[1:-1]} bytes)")
        else:
            shown.append(piece)
        at = match.end()
    text = " ".join(shown)
    return [f"{fixed} fixed bytes: {text[:400]}{'…' if len(text) > 400 else ''}"]


def _readable(data: bytes) -> str:
    printable = sum(0x20 <= byte < 0x7F for byte in data)
    if printable * 4 < len(data) * 3:
        return data.hex()
    text = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'"\\' else f"\\x{b:02x}" for b in data)
    return f'"{text}"'
