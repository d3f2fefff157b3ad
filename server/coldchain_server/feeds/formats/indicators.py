r"""Plain lists of indicators: addresses, domains, urls, hashes, one to a line.

::

    # a comment, dropped and counted         77.90.185.20          192.0.2.0/24        [2001:db8::1]:443
    evil.example                             *.evil.example        http://evil.example/a.bin
    d41d8cd98f00b204e9800998ecf8427e,Emotet  77.90.185.20:8080<TAB>a family or a count

A line is a *value*, alone or before one of TAB, comma, semicolon or blank and a *tail*, which is kept as it is. Values are made
canonical where two spellings mean one thing: host names and hexadecimal digits in lower case. Of an URL only scheme and host are.
What the file holds is declared by the feed's kind, or for a ``list`` feed by the file's name (:func:`declared_type`).

Refused besides what does not parse: what would match everything (``0.0.0.0/0``, ``com``). Warned of: addresses that no public
network routes (once per file with their count).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from coldchain_server.feeds.archives import FEED_LIMITS, FeedLimits
from coldchain_server.feeds.findings import FileReport, Findings

TYPES: Final = ("addresses", "domains", "urls", "hashes", "indicators")
WIDEST: Final = {4: 8, 6: 16}
"""The shortest network prefix of a list, by version of the protocol: anything wider is a typing error, or an attack."""

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?:\*?\.)?{_LABEL}(?:\.{_LABEL})+\Z")
_HASH = re.compile(r"[0-9a-f]+\Z")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,15}://", re.IGNORECASE)
_ALGORITHM = re.compile(r"(?<![a-z0-9])(?:md5|sha-?1|sha-?224|sha-?256|sha-?384|sha-?512)s?(?![a-z0-9])")
_BRACKETED = re.compile(r"\[([^\[\]]+)\](?:(:)(.*))?\Z")
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")
_NETWORK = re.compile(r"[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?\Z")
_TAIL = re.compile(rb"[\t,; ]")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f]")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"({_OCTET})(?:\.{_OCTET}){{3}}\Z")
_WITH_SPECIAL_NETWORKS: Final = frozenset(map(str, (0, 10, 100, 127, 169, 172, 192, 198, 203, *range(224, 256))))
"""First numbers of the IPv4 addresses that registries reserve in parts; of all others every address is public."""
_HASH_DIGITS: Final = {32: "MD5", 40: "SHA-1", 56: "SHA-224", 64: "SHA-256", 96: "SHA-384", 128: "SHA-512"}


class _Refused(Exception):  # noqa: N818  a refusal of one line, caught in this module
    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.code = code
        self.fix = fix


def declared_type(path: str) -> str | None:
    """What a file of a ``list`` feed says it is by its name, as ``domains.txt``, ``c2-urls.csv``, ``all.md5``; None if it does not."""
    name = PurePosixPath(path).name.lower()
    words = re.split(r"[^a-z]+", name)
    found = {
        kind for kind in TYPES for word in words if word in (kind, kind.removesuffix("es"), kind.removesuffix("s"))
    }
    found |= {"addresses"} if {"ip", "ips"} & set(words) else set()
    found |= {"hashes"} if _ALGORITHM.search(name) else set()
    return found.pop() if len(found) == 1 else None


def lint_indicators(
    file: str, kind: str, data: bytes, limits: FeedLimits = FEED_LIMITS
) -> tuple[FileReport, list[bytes]]:
    """Checks every line of a list.

    Args:
        file: its path, for the report.
        kind: one of :data:`TYPES`.
        data: the whole file.
        limits: bounds of lines.

    Returns:
        The report, and the good lines in canonical spelling, in file order.
    """
    parse = _PARSERS[kind]
    report = FileReport(file=file, type=kind, kind="set", engine="none")
    found = Findings(file)
    good: dict[bytes, None] = {}
    comments = private = repeated = 0
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = raw.strip(b" \t\r")
        if not line or line.startswith((b"#", b"//")):
            comments += bool(line)
            continue
        try:
            if len(line) > limits.line_bytes:
                raise _Refused("line-too-long", "the line is longer than allowed", "split or remove it")
            text, public = _line(line, parse)
        except _Refused as refused:
            column = len(raw) - len(raw.lstrip(b" \t\r")) + 1
            found.add(number, column, "error", refused.code, str(refused), refused.fix)
            report.skipped += 1
            continue
        repeated += text in good
        private += not public and text not in good
        good[text] = None
    report.records = len(good)
    if comments:
        found.add(0, 0, "warning", "comments", f"{comments} comment lines are left out", "nothing to do")
    if repeated:
        found.add(
            0, 0, "warning", "duplicates", f"{repeated} lines stand further up; they are left out", "nothing to do"
        )
    if private:
        message = f"{private} addresses are of networks that are not public"
        found.add(0, 0, "warning", "not-public", message, "see whether the source means them")
    if not good:
        found.add(0, 0, "error", "no-records", "the file holds no record", "remove the file from the feed")
    found.into(report)
    return report, list(good)


def _line(line: bytes, parse: Callable[[str], tuple[str, bool]]) -> tuple[bytes, bool]:
    comment = line.find(b" #")
    if comment > 0:
        line = line[:comment].rstrip(b" \t")
    found = _TAIL.search(line)
    cut = found.start() if found else len(line)
    try:
        value = line[:cut].decode("ascii")
    except UnicodeDecodeError:
        raise _Refused(
            "not-ascii", "the value has characters beyond ASCII", "write host names in their xn-- form"
        ) from None
    if not value.isprintable() or _CONTROL.search(line, cut):
        raise _Refused("control-character", "the line holds a control character", "remove it")
    text, public = parse(value)
    return text.encode("ascii") + line[cut:], public


def _address(value: str) -> tuple[str, bool]:
    plain = _IPV4.match(value)
    if plain and plain[1] not in _WITH_SPECIAL_NETWORKS:
        return value, True  # nearly every line of a list: ten times as fast as to make a network of it
    host, colon, port = value, "", ""
    if bracketed := _BRACKETED.match(value):
        host, colon, port = bracketed.groups(default="")
    elif value.count(":") == 1:
        host, colon, port = value.partition(":")
    if colon and not (_PORT.match(port) and int(port) <= 65535):
        raise _Refused("bad-port", f"{port[:12]!r} is not a port", "ports are 1 to 65535")
    try:
        if not _NETWORK.match(host):
            raise ValueError
        network = ipaddress.ip_network(host, strict=True)
    except ValueError:
        raise _Refused(
            "not-an-address", f"{value[:60]!r} is not an address or network", "write 192.0.2.1 or 192.0.2.0/24"
        ) from None
    if network.prefixlen < WIDEST[network.version]:
        raise _Refused("too-wide", f"{value[:60]!r} covers a great part of the Internet", "name smaller networks")
    return value.lower(), network.is_global


def _domain(value: str) -> tuple[str, bool]:
    name = value.lower().removesuffix(".")
    if not _HOST.match(name) or len(name) > 255:
        fix = "write evil.example, without scheme or path"
        raise _Refused("not-a-domain", f"{value[:60]!r} is not a host name below a top-level domain", fix)
    if re.fullmatch(r"[0-9.]+", name):
        raise _Refused("not-a-domain", f"{value[:60]!r} is an address", "move it to a list of addresses")
    return name, True


def _url(value: str) -> tuple[str, bool]:
    scheme = _SCHEME.match(value)
    start = scheme.end() if scheme else 0
    end = min((at for at in (value.find(mark, start) for mark in "/?#") if at >= 0), default=len(value))
    host = value[start:end].rpartition("@")[2]
    if not scheme and end == len(value):
        raise _Refused(
            "not-a-url", f"{value[:60]!r} has neither scheme nor path", "move it to a list of domains or addresses"
        )
    if host:
        bare = host.rpartition(":")[0] if re.search(r":[0-9]+\Z", host) else host
        _either(bare, (_address, _domain), "not-a-url", "write http://evil.example/path")
    elif scheme:
        raise _Refused("not-a-url", f"{value[:60]!r} names no host", "write http://evil.example/path")
    return value[:end].lower() + value[end:] if "@" not in value[start:end] else value, True


def _hash(value: str) -> tuple[str, bool]:
    digits = value.lower()
    if len(digits) not in _HASH_DIGITS or not _HASH.match(digits):
        lengths = ", ".join(f"{count} ({name})" for count, name in _HASH_DIGITS.items())
        raise _Refused("not-a-hash", f"{value[:60]!r} is not a hash", f"hexadecimal digits: {lengths}")
    if digits in _EMPTY_FILES:
        raise _Refused("empty-file", "this is the hash of the empty file", "remove it: it matches harmless files")
    return digits, True


def _either(
    value: str, parsers: tuple[Callable[[str], tuple[str, bool]], ...], code: str, fix: str
) -> tuple[str, bool]:
    for parse in parsers:
        try:
            return parse(value)
        except _Refused as refused:
            if refused.code in ("too-wide", "empty-file"):
                raise
    raise _Refused(code, f"{value[:60]!r} is not what this list may hold", fix)


def _indicator(value: str) -> tuple[str, bool]:
    fix = "an address, a domain, a URL or a hash"
    return _either(value, (_address, _hash, _domain, _url), "not-an-indicator", fix)


_EMPTY_FILES: Final = {
    "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}
_PARSERS: Final[dict[str, Callable[[str], tuple[str, bool]]]] = {
    "addresses": _address,
    "domains": _domain,
    "urls": _url,
    "hashes": _hash,
    "indicators": _indicator,
}
