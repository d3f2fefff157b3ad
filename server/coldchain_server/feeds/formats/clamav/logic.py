"""Logical expressions of ldb: which subsignatures must match, how often.

::

    expression = term { ("&" | "|") term }
    term       = number [ count ] | "(" expression ")" [ count ]
    count      = ( "=" | "==" | ">" | "<" ) number [ "," number ]

``(0|1)>2,2&3=0``: of subsignatures 0 and 1 more than two matches and both of them, and 3 not at all. Spaces may stand
between words where there are no parentheses; a group needs an operator of its own to take a count, and then no ``==``.
Without parentheses the engine splits at the *first* operator, so ``0&1|2`` means ``0&(1|2)``.
Source: libclamav/matcher-ac.c cli_ac_chklsig; manual, LogicalSignatures.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from coldchain_server.feeds.formats.clamav.grammar import LineError, show

MOST_SUBSIGNATURES = 64
MOST_NESTED = 64

_WORD = re.compile(rb" *(?:([0-9]{1,6})|([&|()]))")
_COUNT = re.compile(rb" *([=<>]|==) *([0-9]{1,9})(?: *, *([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Count:
    """A count after a subsignature or a group: ``sign`` is ``=``, ``<`` or ``>``."""

    sign: str
    number: int
    different: int | None


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression: a subsignature's index, or an operator over parts; ``count`` applies to the whole."""

    kind: Literal["index", "&", "|"]
    index: int = -1
    parts: tuple[Expression, ...] = ()
    count: Count | None = None

    @property
    def indexes(self) -> frozenset[int]:
        """All subsignatures the expression names."""
        if self.kind == "index":
            return frozenset({self.index})
        return frozenset().union(*(part.indexes for part in self.parts))

    def fires(self, matched: Collection[int]) -> bool:
        """Whether the expression can be true when exactly ``matched`` match, as often as it takes."""
        if self.kind == "index":
            inner = self.index in matched
        elif self.kind == "&":
            inner = all(part.fires(matched) for part in self.parts)
        else:
            inner = any(part.fires(matched) for part in self.parts)
        if self.count is None or self.count.sign == ">":
            return inner
        if self.count.different and not inner:
            return False
        if self.count.sign == "=":
            return inner == (self.count.number > 0)
        return self.count.number > 0 and (not inner or self.count.number > 1)


class _Parser:
    def __init__(self, text: bytes, column: int) -> None:
        self.text = text
        self.column = column
        self.at = 0

    def fail(self, message: str, fix: str, at: int | None = None) -> LineError:
        return LineError(self.column + (self.at if at is None else at), "bad-logic", message, fix)

    def expression(self, depth: int) -> tuple[Expression, bool]:
        """The expression from here, and whether it has an operator of its own."""
        if depth > MOST_NESTED:
            raise self.fail(f"parentheses nested deeper than {MOST_NESTED}", "simplify the expression")
        parts = [self.term(depth)]
        signs: list[bytes] = []
        while (found := _WORD.match(self.text, self.at)) and found.group(2) in (b"&", b"|"):
            self.at = found.end()
            signs.append(found.group(2))
            parts.append(self.term(depth))
        joined = bool(signs)
        result = parts.pop()
        while signs:
            kind: Literal["&", "|"] = "&" if signs.pop() == b"&" else "|"
            result = Expression(kind, parts=(parts.pop(), result))
        return result, joined

    def term(self, depth: int) -> Expression:
        found = _WORD.match(self.text, self.at)
        if not found or found.group(2) in (b"&", b"|", b")"):
            here = show(self.text[self.at : self.at + 8]) if self.at < len(self.text) else "the end"
            raise self.fail(f"a subsignature's number or ( should stand where {here} is", "name a subsignature")
        start = self.at
        self.at = found.end()
        if found.group(1):
            index = int(found.group(1))
            if index >= MOST_SUBSIGNATURES:
                raise self.fail(f"subsignature {index}: there can be at most 64, numbered 0 to 63", "split it", start)
            return Expression("index", index, count=self.count())
        inner, joined = self.expression(depth + 1)
        closing = _WORD.match(self.text, self.at)
        if not closing or closing.group(2) != b")":
            raise self.fail("a parenthesis is not closed", "add )", start)
        self.at = closing.end()
        count = self.count()
        if count is None:
            return inner
        if self.text[self.at - 1 : self.at] != b")" and b"==" in self.text[start : self.at].rpartition(b")")[2]:
            raise self.fail("== after a group; the engine reads it only after a single number", "write =", start)
        if not joined:
            raise self.fail("a count after parentheses without an operator inside", "put the count inside", start)
        return Expression(inner.kind, inner.index, inner.parts, count)

    def count(self) -> Count | None:
        found = _COUNT.match(self.text, self.at)
        if not found:
            if self.text[self.at : self.at + 1] in (b"=", b"<", b">"):
                raise self.fail("a number must follow the comparison", "write for example >2 or =0")
            return None
        self.at = found.end()
        sign, number, different = found.groups()
        return Count(sign.decode()[0], int(number), int(different) if different else None)


def parse_logic(text: bytes, column: int) -> Expression:
    """Parses an expression.

    Raises:
        LineError: ``bad-logic``.
    """
    parser = _Parser(text, column)
    if b" " in text and b"(" in text:
        raise parser.fail(
            "a space in an expression with parentheses, which the engine cannot read", "remove it", text.index(b" ")
        )
    result, _ = parser.expression(0)
    rest = text[parser.at :].strip(b" ")
    if rest:
        raise parser.fail(f"{show(rest)} cannot follow here", "join subsignatures with & or |")
    return result
