"""POSIX extended regular expressions as ClamAV's own library compiles them: cdb, zmd, rmd, pdb, wdb.

::

    expression = branch { "|" branch }              no branch may be empty, but () may
    branch     = piece { piece }
    piece      = atom [ "*" | "+" | "?" | "{n}" | "{n,}" | "{n,m}" ]      n, m up to 255; not after ^, and only one
    atom       = "(" expression ")" | "[" class "]" | "." | "^" | "$" | "\\" any | any other character

``{`` is ordinary unless a digit follows; ``)`` without its ``(`` too. In a class ``\\`` is ordinary, ``[:name:]``, ``[=x=]`` and
``[.x.]`` are not. A leading ``(?i)`` is ClamAV's own: ignore case. Worked example: ``a{2,1}`` and ``a**`` are refused, ``a{x`` is not.
Counts multiply when the library compiles them, ``((a{255}){255}){255}`` to 16 million states: bounded here.

Lists of hosts (``hosts``) are read a second time, by a simpler reader that looks for texts every match must end in, and a slash after
them. It takes no ``)`` alone, no ``()``, no ``$`` with nothing before it and no counts, and the shortest such text has two bytes with
its slash: ``.+\\.example`` passes, ``.+\\.example.*`` fails the whole set. The end ``([/?].*)?`` is taken off before.
Source: libclamav/regex/regcomp.c, p_ere, p_ere_exp, p_bracket; regex_suffix.c; regex_list.c.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from coldchain_server.feeds.formats.clamav.grammar import LineError

MOST_COUNT = 255
MOST_STATES = 100_000
MOST_NESTED = 100
IGNORE_CASE = b"(?i)"
_NEVER = 1 << 20
_FEW = 16
"""A class of more characters than this is to the simpler reader as good as any character."""
_TAKEN_OFF = (b"([/?].*)?", b"([/?].*)")
_CLASSES = frozenset(b"alnum alpha blank cntrl digit graph lower print punct space upper xdigit".split())
_COUNT = re.compile(rb"\{([0-9]+)(,([0-9]*))?\}")
_REPEATS = re.compile(rb"[*+?]|\{[0-9]")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a part compiles to, about, and how short a text can be that every match of it ends in.

    Attributes:
        states: of the compiled expression.
        inside: where that text begins inside of the part.
        whole: where it is the whole part and goes on before it.
    """

    states: int
    inside: int = _NEVER
    whole: int = 0

    def then(self, other: _Shape) -> _Shape:
        inside = min(other.inside, other.whole + self.inside)
        return _Shape(self.states + other.states, min(inside, _NEVER), min(self.whole + other.whole, _NEVER))

    def either(self, other: _Shape) -> _Shape:
        return _Shape(self.states + other.states, min(self.inside, other.inside), min(self.whole, other.whole))


_LETTER, _MANY = _Shape(1, whole=1), _Shape(1, 0, _NEVER)


class _Reader:
    def __init__(self, text: bytes, column: int, hosts: bool) -> None:
        self.text = text
        self.column = column
        self.hosts = hosts
        self.at = 0

    def fail(self, at: int, message: str, fix: str) -> LineError:
        return LineError(self.column + at, "bad-regex", f"the regular expression: {message}", fix)

    def peek(self, count: int = 1) -> bytes:
        return self.text[self.at : self.at + count]

    def expression(self, depth: int) -> _Shape:
        """Reads up to the end or a closing parenthesis."""
        if depth > MOST_NESTED:
            raise self.fail(self.at, f"parentheses nested deeper than {MOST_NESTED}", "simplify it")
        found: _Shape | None = None
        while True:
            branch = self.branch(depth)
            found = branch if found is None else found.either(branch)
            if self.peek() != b"|":
                return found
            self.at += 1

    def branch(self, depth: int) -> _Shape:
        start = self.at
        shape = _Shape(0)
        if self.hosts and self.peek() == b"$":
            raise self.fail(start, "nothing stands before $", "remove it, or escape it")
        while self.at < len(self.text) and self.peek() != b"|" and not (depth and self.peek() == b")"):
            at = self.at
            shape = self.piece(depth, shape)
            if shape.states > MOST_STATES:
                raise self.fail(at, "its counts multiply to more than an engine can hold", "use smaller counts")
        if self.at == start:
            raise self.fail(start, "nothing stands on one side of |, or in it at all", "write something there")
        return shape

    def piece(self, depth: int, before: _Shape) -> _Shape:
        """What stands before, with one more piece."""
        anchored = self.peek() == b"^"
        atom = self.atom(depth)
        if not _REPEATS.match(self.text, self.at):
            return before.then(atom)
        if anchored:
            raise self.fail(self.at, "^ cannot be repeated", "remove the repetition, or escape it")
        sign = self.peek()
        times = self.repetition()
        if _REPEATS.match(self.text, self.at):
            raise self.fail(self.at, "a repetition is repeated", "put the first one into parentheses")
        shape = before.then(atom)
        states = before.states + atom.states * times
        # The simpler reader repeats all that stands before, back to the parenthesis.
        return _Shape(states, min(shape.inside, shape.whole) if sign == b"+" else 0, _NEVER)

    def repetition(self) -> int:
        if self.peek() != b"{":
            self.at += 1
            return 2
        if self.hosts:
            raise self.fail(self.at, "a list of hosts cannot count: the engine looks for the braces", "write * or +")
        found = _COUNT.match(self.text, self.at)
        if not found:
            raise self.fail(self.at, "a count is not closed, or holds more than numbers", "write {n}, {n,} or {n,m}")
        low = int(found[1][:9])
        high = int(found[3][:9]) if found[3] else low
        if low > high or high > MOST_COUNT:
            raise self.fail(
                self.at, f"a count must rise, to {MOST_COUNT} at most", "use smaller counts, or more of them"
            )
        self.at = found.end()
        return max(high, 1)

    def atom(self, depth: int) -> _Shape:
        start, here = self.at, self.peek()
        self.at += 1
        if here == b"(":
            return self.group(start, depth)
        if here == b"[":
            self.at = start
            return _LETTER if self.bracket() <= _FEW else _MANY
        if here in (b"*", b"+", b"?") or (here == b"{" and self.peek().isdigit()):
            raise self.fail(
                start, f"nothing stands before {here.decode()} to repeat", "escape it, or put something before"
            )
        if here == b")" and self.hosts:
            raise self.fail(start, "a parenthesis ) has no (", "remove it, or escape it")
        if here == b"\\":
            if self.at == len(self.text):
                raise self.fail(start, "it ends with a backslash", "complete the escape")
            self.at += 1
        return _MANY if here == b"." else _LETTER

    def group(self, start: int, depth: int) -> _Shape:
        shape = _Shape(0)
        if self.peek() != b")":
            shape = self.expression(depth + 1)
        elif self.hosts:
            raise self.fail(start, "a group is empty", "remove it")
        if self.peek() != b")":
            raise self.fail(start, "a parenthesis ( is not closed", "add ), or escape it")
        self.at += 1
        return _Shape(shape.states + 2, shape.inside, shape.whole)

    def bracket(self) -> int:
        """Reads a class; returns how many characters it holds (a name counts as many)."""
        start = self.at
        if self.peek(7) in (b"[[:<:]]", b"[[:>:]]"):
            self.at += 7
            return 256
        self.at += 1
        inverted = self.peek() == b"^"
        self.at += inverted
        held: set[int] = set()
        if self.peek() in (b"]", b"-"):
            held.add(self.text[self.at])
            self.at += 1
        while self.at < len(self.text) and self.peek() != b"]" and self.peek(2) != b"-]":
            held.update(self.member(start))
        if self.peek() == b"-":
            held.add(self.text[self.at])
            self.at += 1
        if self.peek() != b"]":
            raise self.fail(start, "a class [ is not closed", "add ], or escape the bracket")
        self.at += 1
        return 256 - len(held) if inverted else len(held)

    def member(self, start: int) -> Collection[int]:
        at = self.at
        if self.peek() == b"-":
            raise self.fail(at, "- stands where a range cannot begin", "put - first or last in the class")
        if self.peek(2) == b"[:":
            end = self.text.find(b":]", at + 2)
            if end < 0 or self.text[at + 2 : end] not in _CLASSES:
                raise self.fail(at, "there is no such class of characters", "use a name such as [:alpha:]")
            self.at = end + 2
            return range(256)
        if self.peek(2) == b"[=":
            self.named(b"=")
            return range(256)
        low = self.symbol(start)
        if self.peek() == b"-" and self.text[self.at + 1 : self.at + 2] not in (b"]", b""):
            self.at += 1
            high = self.symbol(start)
            if low > high or high > 0x7F:
                message = "a range falls, or leaves ASCII, where its meaning depends on the machine"
                raise self.fail(at, message, "write the lower end first")
            return range(low, high + 1)
        return (low,)

    def symbol(self, start: int) -> int:
        if self.peek(2) == b"[.":
            return self.named(b".")
        if self.at >= len(self.text):
            raise self.fail(start, "a class [ is not closed", "add ], or escape the bracket")
        self.at += 1
        return self.text[self.at - 1]

    def named(self, mark: bytes) -> int:
        """``[.x.]`` or ``[=x=]``: one character; names of characters are for those who cannot write them."""
        found = self.text[self.at + 2 : self.at + 5]
        if len(found) != 3 or found[1:] != mark + b"]":
            raise self.fail(self.at, "more than one character in [. .] or [= =]", "write the character alone")
        self.at += 5
        return found[0]


def check_posix_regex(text: bytes, column: int, *, hosts: bool = False) -> None:
    """Checks an expression whole.

    Args:
        text: the expression.
        column: column of its first byte.
        hosts: it belongs to a list of hosts or URLs.

    Raises:
        LineError: ``bad-regex``.
    """
    if hosts:
        shape = _Reader(text, column, hosts).expression(0)
        for end in _TAKEN_OFF:
            if text.endswith(end) and len(text) > len(end):
                shape = _Reader(text.removesuffix(end), column, hosts).expression(0)
                break
        if min(shape.inside, shape.whole) < 1:
            raise LineError(
                column + len(text) - 1,
                "bad-regex",
                "the regular expression: a match may end in anything, and the engine needs a character it must end in",
                "end it with a part of the host's name, and with ([/?].*)? where paths may follow",
            )
        return
    skipped = len(IGNORE_CASE) if text.startswith(IGNORE_CASE) else 0
    _Reader(text[skipped:], column + skipped, hosts).expression(0)
