"""Body patterns: the hexadecimal language of ndb, ldb and ftm, read as ``cli_add_content_match_pattern`` reads it.

::

    6865 6c6c 6f     bytes            ??  a?  ?a   any byte, any low or high half
    *                any distance     {n} {-n} {n-} {n-m}   a bounded distance
    (aa|bb|cc)       one of           !(aa|bb)     none of, all of the same length
    [n-m]            a distance up to 32 between one byte and the rest
    (B) (L) (W)      word boundary, line end, no letter or digit

Worked example: ``4d5a*{4}50450000(01|02)`` has the parts ``4d5a`` and ``????????50450000(01|02)``.

Bounds the engine checks when it loads (they were tried on ClamAV 1.4.6, tests/…/test_engine.py): every part between ``*``
and ``{}`` has two literal bytes side by side (AC matcher; three bytes where the whole pattern is literal and the BM matcher
takes it: target 0, and target 1 with an offset); alternatives hold no ``*`` and no ``{n-m}``; at most two ``[]`` in a
part, each one byte from its end; up to 15 inner parentheses. Sources: libclamav/readdb.c, matcher-ac.c cli_ac_addsig,
filtering.c filter_add_acpatt; manual, BodySignatureFormat.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from coldchain_server.feeds.formats.clamav.grammar import LineError, Remark, show

AC_LEAST = 2
BM_LEAST = 3
MOST_DISTANCE = 0x7FFF_FFFF
MOST_BRACKET = 32
MOST_NESTED = 15
EXPANDED_BELOW = 128
FILTER_ELEMENTS = 255
FILTERED_TARGETS = frozenset({0, 1, 4, 7})

_PLAIN = re.compile(rb"(?:[0-9a-fA-F]{2})+\Z")
_HEX = re.compile(rb"[0-9a-fA-F]+")
_PAIRS = re.compile(rb"(?:[0-9a-fA-F?]{2})+")
_LITERAL = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_JUMP = re.compile(rb"\{([0-9]{0,10})(-?)([0-9]{0,10})\}")
_BRACKET = re.compile(rb"\[([0-9]{1,10})(?:-([0-9]{1,10}))?\]")
_DIGITS = b"0123456789abcdefABCDEF?"
_CLASSES = frozenset({b"B", b"L", b"W"})

# What one element of a part is: a literal byte, a half byte, any byte, a choice of single bytes, anything else.
_BYTE, _HALF, _ANY, _BYTES, _OTHER = range(5)


@dataclass(frozen=True, slots=True)
class Body:
    """What the checks of meaning need of a pattern: its literal runs in order and the texts of its alternatives."""

    runs: tuple[bytes, ...]
    choices: tuple[bytes, ...] = ()

    @property
    def literal(self) -> int:
        """Literal bytes in all runs, alternatives not counted."""
        return sum(map(len, self.runs))


@dataclass(slots=True)
class _Part:
    start: int
    elements: list[int] = field(default_factory=list)
    brackets: list[tuple[int, int]] = field(default_factory=list)  # elements before it, column
    runs: list[bytes] = field(default_factory=list)
    text: int = 0  # characters in the engine's copy, which its first length check counts


class _Reader:
    """One pass over a pattern; columns are those of the line."""

    def __init__(self, data: bytes, column: int, modified: bool, target: int, remarks: list[Remark]) -> None:
        self.data = data
        self.column = column
        self.modified = modified
        self.target = target
        self.remarks = remarks
        self.at = 0
        self.ranged = False
        self.part = _Part(column)
        self.parts = [self.part]
        self.choices: list[bytes] = []

    def fail(self, code: str, message: str, fix: str, at: int | None = None) -> LineError:
        return LineError(self.column + (self.at if at is None else at), code, message, fix)

    def read(self) -> Body:
        data = self.data
        while self.at < len(data):
            here = data[self.at : self.at + 1]
            if pairs := _PAIRS.match(data, self.at):
                self.literal(pairs.group())
                self.at = pairs.end()
            elif here == b"*":
                self.at += 1
                self.next_part()
            elif here == b"{":
                self.jump()
            elif here == b"[":
                self.bracket()
            elif here == b"(" or data[self.at : self.at + 2] == b"!(":
                self.group()
            else:
                raise self.odd(self.at)
        for part in self.parts:
            self.check_part(part)
        return Body(tuple(run for part in self.parts for run in part.runs), tuple(self.choices))

    def odd(self, at: int) -> LineError:
        here, after = self.data[at : at + 1], self.data[at + 1 : at + 2]
        if here and here in _DIGITS:
            if after and after not in _DIGITS + b"*{}[]()|!":
                return self.odd(at + 1)
            return self.fail(
                "odd-hex", "an odd number of hex digits: a byte has two", "complete or remove the last digit", at
            )
        return self.fail("bad-hex", f"{show(here)} does not belong in a hex pattern", "write bytes in hexadecimal", at)

    def literal(self, text: bytes) -> None:
        part = self.part
        part.text += len(text)
        joins = bool(part.elements) and part.elements[-1] == _BYTE and not self.after_bracket()
        at = 0
        while at < len(text):
            if run := _LITERAL.match(text, at):
                value = bytes.fromhex(run.group().decode())
                part.elements.extend([_BYTE] * len(value))
                if joins and part.runs:
                    part.runs[-1] += value
                else:
                    part.runs.append(value)
                at = run.end()
            else:
                pair = text[at : at + 2]
                part.elements.append(_ANY if pair == b"??" else _HALF)
                at += 2
            joins = False

    def after_bracket(self) -> bool:
        part = self.part
        return bool(part.brackets) and part.brackets[-1][0] == len(part.elements)

    def next_part(self) -> None:
        self.part = _Part(self.column + self.at)
        self.parts.append(self.part)

    def jump(self) -> None:
        found = _JUMP.match(self.data, self.at)
        if not found:
            raise self.fail(
                "bad-jump", "a distance is written {n}, {-n}, {n-} or {n-m}", "close it and use digits only"
            )
        low, dash, high = found.groups()
        if not low and not high:
            raise self.fail("bad-jump", "a distance without a number", "write * for any distance, or a number")
        numbers = [int(text) for text in (low, high) if text]
        if max(numbers) > MOST_DISTANCE:
            raise self.fail("bad-jump", f"the distance {max(numbers)} is too large", f"use at most {MOST_DISTANCE}")
        if not dash and high:
            raise self.fail("bad-jump", "a distance is written {n}, {-n}, {n-} or {n-m}", "use digits only")
        if low and high and numbers[0] > numbers[1]:
            self.remarks.append(
                Remark(
                    self.column + self.at,
                    "warning",
                    "never-matches",
                    f"the distance is at least {numbers[0]} and at most {numbers[1]}: this can never match",
                    "swap the numbers",
                )
            )
        if not dash and not self.ranged and 0 < numbers[0] < EXPANDED_BELOW:
            self.part.elements.extend([_ANY] * numbers[0])
            self.part.text += 2 * numbers[0]
            self.at = found.end()
            return
        self.ranged = True
        self.at = found.end()
        self.next_part()

    def bracket(self) -> None:
        found = _BRACKET.match(self.data, self.at)
        if not found:
            raise self.fail("bad-bracket", "a short distance is written [n] or [n-m]", "close it and use digits only")
        low = int(found.group(1))
        high = int(found.group(2)) if found.group(2) else low
        if low > high or high > MOST_BRACKET:
            raise self.fail(
                "bad-bracket",
                f"the distance {low} to {high} in square brackets must rise and end at {MOST_BRACKET} at most",
                "use {n-m} for longer distances",
            )
        self.part.brackets.append((len(self.part.elements), self.column + self.at))
        self.at = found.end()

    def group(self) -> None:
        start = self.at
        negative = self.data[start : start + 1] == b"!"
        opening = start + negative
        end, inner = self.closing(opening)
        content = self.data[opening + 1 : end]
        if not content:
            raise self.fail("empty-group", "empty parentheses", "list the alternatives, or remove them", opening)
        if inner > MOST_NESTED:
            raise self.fail(
                "deep-group",
                f"{inner} parentheses inside one group; the engine takes {MOST_NESTED}",
                "split it",
                opening,
            )
        self.part.text += end + 1 - start
        self.at = end + 1
        if content in _CLASSES:
            first = start == self.part.start - self.column and not negative
            last = self.at == len(self.data) or self.data[self.at : self.at + 1] in (b"*", b"{")
            if not (first or last):
                self.part.elements.append(_OTHER)
            return
        self.part.elements.append(self.alternatives(content, opening + 1, negative))

    def closing(self, opening: int) -> tuple[int, int]:
        level = inner = 0
        for at in range(opening + 1, len(self.data)):
            byte = self.data[at]
            if byte == 0x28:
                level += 1
                inner += 1
            elif byte == 0x29:
                if not level:
                    return at, inner
                level -= 1
        raise self.fail("unclosed-group", "a parenthesis is not closed", "add )", opening)

    def alternatives(self, content: bytes, at: int, negative: bool) -> int:
        plain = content
        if b"{" in content:
            plain = self.expand_jumps(content, at)
        if bad := re.search(rb"[^0-9a-fA-F?()|]", plain):
            raise self.fail(
                "bad-alternative",
                f"{show(bad.group())} cannot stand inside alternatives",
                "write hex bytes separated by |",
                at + (bad.start() if plain is content else 0),
            )
        place = at
        for piece in re.split(rb"([|()])", content):
            if piece not in (b"|", b"(", b")"):
                bare = re.sub(rb"\{[0-9]+\}", b"", piece)
                if len(bare) % 2:
                    raise self.fail(
                        "odd-hex", f"the alternative {show(piece)} has an odd number of digits", "complete it", place
                    )
                if literal := b"".join(_LITERAL.findall(bare)):
                    self.choices.append(bytes.fromhex(literal.decode()))
            place += len(piece)
        pieces = plain.split(b"|")
        fixed = b"(" not in plain and b"?" not in plain and len({len(piece) for piece in pieces}) == 1
        if fixed and not plain.replace(b"|", b""):
            raise self.fail("empty-group", "every alternative is empty", "list the alternatives, or remove them", at)
        if negative and (not fixed or self.modified):
            why = "together with modifiers" if fixed else "of different lengths, with wildcards or nested"
            raise self.fail(
                "bad-negation",
                f"'none of' cannot be used for alternatives {why}",
                "make them literal and of one length",
                at,
            )
        if not fixed and b"!" in plain:
            raise self.fail("bad-negation", "a negation inside alternatives", "negate the whole group", at)
        return _BYTES if fixed and not self.modified and len(pieces[0]) == 2 else _OTHER

    def expand_jumps(self, content: bytes, at: int) -> bytes:
        def widen(found: re.Match[bytes]) -> bytes:
            low, dash, high = found.groups()
            if dash or high or not low or self.ranged or not 0 < int(low) < EXPANDED_BELOW:
                raise self.fail(
                    "bad-alternative",
                    "a ranged distance cannot stand inside alternatives",
                    "write ?? for each byte, or split the signature",
                    at + found.start(),
                )
            return b"??" * int(low)

        return _JUMP.sub(widen, content)

    def check_part(self, part: _Part) -> None:
        elements = self.inner_elements(part)
        if part.text // 2 < AC_LEAST or len(elements) < AC_LEAST:
            raise LineError(
                part.start,
                "too-short",
                f"a part of the pattern has {len(elements)} bytes; between * and {{}} the engine needs at least {AC_LEAST}",
                "make the part longer",
            )
        if not any(a == b == _BYTE for a, b in itertools.pairwise(elements)):
            raise LineError(
                part.start,
                "no-static-part",
                "a part of the pattern has no two literal bytes side by side, which the engine needs",
                "add literal bytes to the part",
            )
        if self.target in FILTERED_TARGETS and _filter_refuses(elements):
            raise LineError(
                part.start,
                "no-static-start",
                "the engine's filter finds no two bytes before the first group of longer alternatives or boundary",
                "start the part with two literal bytes",
            )

    def inner_elements(self, part: _Part) -> list[int]:
        elements = part.elements
        if not part.brackets:
            return elements
        before = [count for count, _ in part.brackets]
        column = part.brackets[-1][1]
        single = (_BYTE, _HALF, _ANY)
        if len(before) == 1 and before[0] == 1 and elements[0] in single:
            return elements[1:]
        if len(before) == 1 and before[0] == len(elements) - 1 and elements[-1] in single:
            return elements[:-1]
        if len(before) == 2 and before == [1, len(elements) - 1] and elements[0] in single and elements[-1] in single:
            return elements[1:-1]
        raise LineError(
            column,
            "bad-bracket",
            "a distance in square brackets must follow the first byte of its part or precede the last one",
            "use {n-m} instead",
        )


def _filter_refuses(elements: list[int]) -> bool:
    """Whether the prefilter of targets 0, 1, 4 and 7 has no pair of bytes to work with (filter_add_acpatt)."""
    window = elements[:FILTER_ELEMENTS]
    if all(element == _BYTE for element in window):
        return False
    first = 0
    while first < len(window) and window[first] == _OTHER:
        first += 1
    window = window[first:]
    if _OTHER in window:
        window = window[: window.index(_OTHER)]
    return not any(a != _ANY or b != _ANY for a, b in itertools.pairwise(window))


def parse_body(
    data: bytes,
    column: int,
    remarks: list[Remark],
    *,
    target: int = 0,
    modified: bool = False,
    literal_matcher: bool = False,
) -> Body:
    """Parses one body pattern.

    Args:
        data: the pattern's text.
        column: column of its first byte in the line.
        remarks: receives warnings.
        target: the target type, which decides whether the engine's prefilter looks at the pattern.
        modified: whether modifiers (``::i``) apply, which rule out negated alternatives.
        literal_matcher: whether a literal pattern goes to the BM matcher, which needs three bytes.

    Raises:
        LineError: the engine would refuse the pattern.
    """
    if not data:
        raise LineError(column, "too-short", "the pattern is empty", "write the bytes to look for in hexadecimal")
    if _PLAIN.match(data):
        value = bytes.fromhex(data.decode())
        least = BM_LEAST if literal_matcher else AC_LEAST
        if len(value) < least:
            raise LineError(
                column,
                "too-short",
                f"the pattern has {len(value)} bytes; the engine needs at least {least} here and refuses the whole file",
                "use a longer pattern",
            )
        return Body((value,))
    if _HEX.fullmatch(data):
        raise LineError(
            column + len(data) - 1,
            "odd-hex",
            "an odd number of hex digits: a byte has two",
            "complete or remove the last digit",
        )
    return _Reader(data, column, modified, target, remarks).read()
