r"""Where the rules of a YARA source begin and end, so that a rule can be taken out and the rest compared byte for byte.

::

    import "pe"
    private rule First { condition: true }           cut out: from "private" to "}"
    rule Second { strings: $a = "}" condition: $a }  a brace in a string is none

Comments, strings with escapes and regular expressions hide braces and words. A slash begins an expression only after ``=``, ``(``,
``,`` or ``matches``; elsewhere it divides. Whatever does not come out even is refused: then nothing about the file is explained.

Source: YARA's documentation, "Writing YARA rules".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from coldchain.errors import MalformedError

_SKIP: Final = re.compile(rb"(?:[ \t\r\n\f\v]+|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)+")
_STRING: Final = re.compile(rb'"(?:[^"\\\n]|\\[^\n])*"')
_EXPRESSION: Final = re.compile(rb"/(?:[^/\\\n]|\\[^\n])+/")
_WORD: Final = re.compile(rb"[$#@!]?[A-Za-z0-9_]+\*?")
_NAME: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_OPENS_EXPRESSION: Final = frozenset({b"=", b"(", b",", b"matches"})


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule's name and the bytes from its first modifier to its closing brace."""

    name: str
    start: int
    end: int


def _tokens(source: bytes, what: str) -> Iterator[tuple[bytes, int, int]]:
    """Words and signs; strings and expressions come as an empty word."""
    at, last = 0, b""
    while at < len(source):
        skipped = _SKIP.match(source, at)
        if skipped:
            at = skipped.end()
            continue
        char = source[at : at + 1]
        hides = _STRING if char == b'"' else _EXPRESSION if char == b"/" and last in _OPENS_EXPRESSION else None
        if hides or source.startswith(b"/*", at):
            hidden = hides.match(source, at) if hides else None
            if hidden is None:
                raise MalformedError(f"{what}: a string, an expression or a comment does not end")
            last, end = b"", hidden.end()
        else:
            word = _WORD.match(source, at)
            last, end = (word.group(), word.end()) if word else (char, at + 1)
        yield last, at, end
        at = end


def rules_of(source: bytes, what: str) -> list[Rule]:
    """The rules in their order.

    Raises:
        MalformedError: it does not come out even.
    """
    rules: list[Rule] = []
    start: int | None = None
    name: bytes | None = None
    in_rule, depth = False, 0
    for word, at, end in _tokens(source, what):
        if not in_rule:
            if word in (b"private", b"global"):
                start = at if start is None else start
            elif word == b"rule":
                start, in_rule, name = at if start is None else start, True, None
            else:
                start = None
        elif name is None:
            if not _NAME.match(word):
                raise MalformedError(f"{what}: a rule without a name")
            name = word
        elif word == b"{":
            depth += 1
        elif word == b"}":
            depth -= 1
            if depth < 0:
                raise MalformedError(f"{what}: a brace too many")
            if depth == 0:
                assert start is not None
                rules.append(Rule(name.decode("ascii"), start, end))
                start, in_rule = None, False
    if in_rule:
        raise MalformedError(f"{what}: the last rule does not end")
    return rules


def without(source: bytes, rules: Collection[Rule], names: Collection[str]) -> bytes:
    """The source without the rules of these names; every other byte stays."""
    kept, at = bytearray(), 0
    for rule in rules:
        if rule.name in names:
            kept += source[at : rule.start]
            at = rule.end
    return bytes(kept + source[at:])
