r"""Where rules begin and end in YARA source, without compiling it: for leaving one rule out, and for explaining one.

::

    import "pe"
    private rule First { condition: true }      <- span of First, from "private" to "}"
    rule Second : tag { strings: $a = "}" condition: $a }

A scanner over bytes that knows what can hide a brace: comments (``//``, ``/* */``), strings with escapes, regular expressions. Hex
patterns nest braces and need nothing more. Source: YARA's documentation, "Writing YARA rules"; its lexer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""
      //[^\n]*                        # comments
    | /\*.*?(?:\*/|\Z)
    | "(?:\\.|[^"\\\n])*"?            # strings
    | /(?:\\.|[^/\\\n])+/             # regular expressions
    | [A-Za-z_][A-Za-z0-9_]*          # words
    | [{}]
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class RuleSpan:
    """One rule: its name, and the range of bytes from its first modifier to its closing brace."""

    name: str
    start: int
    end: int


def rule_spans(source: bytes) -> Iterator[RuleSpan]:
    """The rules of a source in order; an unfinished last rule ends with the source."""
    name = ""
    start = depth = 0
    modifiers: int | None = None
    expecting = False
    for token in _TOKEN.finditer(source):
        text = token.group()
        if depth == 0 and text in (b"private", b"global"):
            modifiers = token.start() if modifiers is None else modifiers
        elif depth == 0 and text == b"rule":
            start, expecting, modifiers = token.start() if modifiers is None else modifiers, True, None
        elif expecting and (text[:1].isalpha() or text[:1] == b"_"):
            name, expecting = text.decode("ascii"), False
        elif text == b"{":
            depth += 1
        elif text == b"}" and depth:
            depth -= 1
            if depth == 0 and name:
                yield RuleSpan(name, start, token.end())
                name = ""
        elif depth == 0 and not text.startswith(b"/") and not name:
            modifiers = None
    if name:
        yield RuleSpan(name, start, len(source))


def without_rules(source: bytes, names: frozenset[str]) -> bytes:
    """The source without the rules of these names; all other bytes stay as they are."""
    kept = bytearray()
    at = 0
    for span in rule_spans(source):
        if span.name in names:
            kept += source[at : span.start]
            at = span.end
    kept += source[at:]
    return bytes(kept)


def rule_at(source: bytes, offset: int) -> RuleSpan | None:
    """The rule that contains the byte at ``offset``, or None."""
    return next((span for span in rule_spans(source) if span.start <= offset < span.end), None)
