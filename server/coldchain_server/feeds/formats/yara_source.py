r"""Where rules begin and end in YARA source, without compiling it: for leaving one rule out, and for explaining one.

::

    import "pe"
    private rule First { condition: true }      <- span of First, from "private" to "}"
    rule Second : tag { strings: $a = "}" condition: $a }

A scanner over bytes that knows what can hide a brace or a name: comments (``//``, ``/* */``), strings with escapes, regular
expressions. A ``/`` begins one only after ``=``, ``(``, ``,`` or ``matches``; elsewhere it divides. Hex patterns nest braces and need
nothing more. Source: YARA's documentation, "Writing YARA rules"; its lexer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""
      //[^\n]*                        # comments
    | /\*.*?(?:\*/|\Z)
    | "(?:\\.|[^"\\\n])*"?            # strings
    | [$\#@!]?[A-Za-z_][A-Za-z0-9_]*\*? # words, with what makes them a pattern's or several rules' names
    | [^\s\w]                         # all else, one by one
    | [0-9]\w*
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*\Z")
_REGEX = re.compile(rb"/(?:\\.|[^/\\\n])+/", re.DOTALL)
_BEFORE_REGEX = frozenset({b"=", b"(", b",", b"matches"})


@dataclass(frozen=True, slots=True)
class RuleSpan:
    """One rule: its name, and the range of bytes from its first modifier to its closing brace."""

    name: str
    start: int
    end: int


def _tokens(source: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The tokens outside of comments, strings and regular expressions (which come as one empty token): text, start, end."""
    at, before = 0, b""
    while found := _TOKEN.search(source, at):
        text, start, at = found.group(), found.start(), found.end()
        if text.startswith((b"//", b"/*")):
            continue
        if text == b"/" and before in _BEFORE_REGEX and (regex := _REGEX.match(source, start)):
            text, at = b"", regex.end()
        elif text.startswith(b'"'):
            text = b""
        yield text, start, at
        before = text


def rule_spans(source: bytes) -> Iterator[RuleSpan]:
    """The rules of a source in order; an unfinished last rule ends with the source."""
    name = b""
    start = depth = 0
    modifiers: int | None = None
    expecting = False
    for text, place, end in _tokens(source):
        if depth == 0 and not name and text in (b"private", b"global"):
            modifiers = place if modifiers is None else modifiers
        elif depth == 0 and not name and text == b"rule":
            start, expecting, modifiers = place if modifiers is None else modifiers, True, None
        elif expecting:
            name, expecting = text if _NAME.match(text) else b"", False
        elif text == b"{":
            depth += 1
        elif text == b"}" and depth:
            depth -= 1
            if depth == 0 and name:
                yield RuleSpan(name.decode("ascii"), start, end)
                name = b""
        elif depth == 0 and not name:
            modifiers = None
    if name:
        yield RuleSpan(name.decode("ascii"), start, len(source))


def without_rules(source: bytes, spans: Collection[RuleSpan]) -> bytes:
    """The source without these rules; all other bytes stay as they are."""
    kept = bytearray()
    at = 0
    for span in sorted(spans, key=lambda one: one.start):
        kept += source[at : span.start]
        at = span.end
    kept += source[at:]
    return bytes(kept)


def users(source: bytes, names: Collection[str]) -> list[str]:
    """The rules that name one of these others in their conditions: they do not compile without it."""
    spans = list(rule_spans(source))
    found: dict[str, None] = {}
    for text, start, _ in _tokens(source):
        word = text.decode("latin-1")
        if not any(word == name or (word.endswith("*") and name.startswith(word[:-1])) for name in names):
            continue
        span = next((one for one in spans if one.start < start < one.end), None)
        if span is not None and span.name not in names:
            found[span.name] = None
    return list(found)
