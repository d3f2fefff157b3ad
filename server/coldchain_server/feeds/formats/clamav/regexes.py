"""A first check of regular expressions: what no engine could compile, without compiling it.

ClamAV compiles the regular expressions of ldb with PCRE2 and those of cdb, pdb and wdb with its own POSIX library; one that
does not compile refuses the whole set. Python's ``re`` speaks another dialect, so this looks at structure alone:
parentheses, classes, escapes, and quantifiers with nothing before them. Worked example: ``a(b`` is refused with the
column of its parenthesis. What passes here is compiled for certain only by the engine's own load test.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.grammar import LineError

_CLASS_WORD = re.compile(rb"\[[:.=][a-z^]+[:.=]\]")


def _class_end(text: bytes, start: int) -> int:
    """The place after the class that opens at ``start``; -1 when it is not closed."""
    at = start + 1
    if text[at : at + 1] == b"^":
        at += 1
    if text[at : at + 1] == b"]":
        at += 1
    while at < len(text):
        if word := _CLASS_WORD.match(text, at):
            at = word.end()
        elif text[at] == 0x5C:
            at += 2
        elif text[at] == 0x5D:
            return at + 1
        else:
            at += 1
    return -1


def _escape_end(text: bytes, at: int, perl: bool) -> int:
    """The place after the escape at ``at``; PCRE2's ``\\Q…\\E`` is one escape."""
    if perl and text[at + 1 : at + 2] == b"Q":
        end = text.find(b"\\E", at + 2)
        return len(text) if end < 0 else end + 2
    return at + 2


def _group_start(text: bytes, at: int, perl: bool) -> int:
    """The place after an opening parenthesis and what belongs to it: a comment whole, ``?`` or ``*`` alone."""
    if perl and text.startswith(b"?#", at + 1):
        end = text.find(b")", at)
        return len(text) if end < 0 else end
    if perl and text[at + 1 : at + 2] in (b"?", b"*"):
        return at + 2
    return at + 1


def check_regex(text: bytes, column: int, *, perl: bool) -> None:
    """Structure of a regular expression.

    Args:
        text: the expression.
        column: column of its first byte.
        perl: PCRE2 rather than POSIX extended syntax.

    Raises:
        LineError: ``bad-regex``.
    """

    def fail(at: int, message: str, fix: str) -> LineError:
        return LineError(column + at, "bad-regex", f"the regular expression: {message}", fix)

    opened: list[int] = []
    at = 4 if not perl and text.startswith(b"(?i)") else 0  # ClamAV's own mark on POSIX expressions: ignore case
    empty = True  # nothing stands before that a quantifier could repeat
    while at < len(text):
        here = text[at : at + 1]
        start, at = at, at + 1
        if here == b"\\":
            if at == len(text):
                raise fail(start, "it ends with a backslash", "complete the escape")
            at = _escape_end(text, start, perl)
        elif here == b"[":
            at = _class_end(text, start)
            if at < 0:
                raise fail(start, "a class [ is not closed", "add ], or escape the bracket")
        elif here == b"(":
            opened.append(start)
            at = _group_start(text, start, perl)
        elif here == b")" and opened:
            opened.pop()
        elif here == b")" and perl:
            raise fail(start, "a parenthesis ) has no (", "remove it, or escape it")
        elif here in (b"*", b"+", b"?") and empty:
            raise fail(
                start, f"nothing stands before {here.decode()} to repeat", "escape it, or put something before it"
            )
        empty = here in (b"|", b"(")
    if opened:
        raise fail(opened[-1], "a parenthesis ( is not closed", "add ), or escape it")
