"""Subsignatures of ldb: body patterns with offset and modifiers, regular expressions, comparisons, macros, image hashes.

::

    [OFFSET:]PATTERN[::MODIFIERS]                 MODIFIERS of i (case), w (16 bits), a (8 bits), f (whole word)
    [OFFSET:]TRIGGER/REGEX/[FLAGS]                TRIGGER is an expression over earlier subsignatures; FLAGS of gresimxAEU
    INDEX(OFFSET#OPTIONSn#COMPARISON[,COMPARISON])  byte comparison:  0(>>4#he2#=0x10)
    ${MIN-MAX}GROUP$                              macro: a match of ndb patterns of the group (offset $GROUP$) near
    fuzzy_img#HASH[#0]                            image hash, 16 hex digits

Which kind it is follows from single characters in the engine's order: ``$`` first, then ``/``, then ``(`` with two ``#``,
then ``fuzzy_img#``. Sources: libclamav/readdb.c readdb_parse_ldb_subsignature and cli_sigopts_handler, matcher-pcre.c,
matcher-byte-comp.c; libclamav_rust fuzzy_hash.rs; manual, LogicalSignatures.
"""

from __future__ import annotations

import re

from coldchain_server.feeds.formats.clamav.body import parse_body
from coldchain_server.feeds.formats.clamav.grammar import Field, LineError, Remark, show
from coldchain_server.feeds.formats.clamav.logic import parse_logic
from coldchain_server.feeds.formats.clamav.offsets import MACRO_GROUPS, MOST, binds, check_offset
from coldchain_server.feeds.formats.clamav.regexes import check_regex
from coldchain_server.feeds.formats.clamav.risks import Pattern

ALWAYS_TRIGGER = b"7374756c747a676574737265676578"
_MACRO = re.compile(rb"\$\{([0-9]{1,10})-([0-9]{1,10})\}([0-9]{1,10})\$\Z")
_FUZZY = re.compile(rb"fuzzy_img#[0-9a-fA-F]{16}(?:#0+)?\Z")
_NUMBER = rb"(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,19})"
_COMPARE = re.compile(
    rb"([0-9]{1,3})\((?:(?:<<|>>)" + _NUMBER + rb"|0*)#([hdialbe]*)(" + _NUMBER + rb")"
    rb"#[<>=]-?" + _NUMBER + rb"(?:,[<>=]-?" + _NUMBER + rb")?\)\Z"
)
_FLAGS = re.compile(rb"[gresimxAEU]*\Z")
_MODIFIERS = re.compile(rb"[iwaf]*\Z")
_BOUNDARY = re.compile(rb"!?\([BLW]\)")


def parse_subsignature(part: Field, index: int, count: int, target: int, remarks: list[Remark]) -> Pattern | None:
    """Parses one subsignature; the pattern of a body, None for other kinds.

    Args:
        part: the field.
        index: its number, from 0.
        count: subsignatures of the signature.
        target: the target type.
        remarks: receives warnings.

    Raises:
        LineError: what the engine would refuse.
    """
    text = part.data
    if text.startswith(b"$"):
        _macro(part)
        return None
    if b"/" in text:
        _regex(part, index, target)
        return None
    if b"(" in text and text.count(b"#") >= 2:
        _compare(part, index, count)
        return None
    if text.startswith(b"fuzzy_img#"):
        if not _FUZZY.match(text):
            raise LineError(
                part.column,
                "bad-image-hash",
                "an image hash is fuzzy_img# and 16 hex digits; distances other than 0 are not supported",
                "write fuzzy_img#0123456789abcdef",
            )
        return None
    return _body(part, target, remarks)


def _macro(part: Field) -> None:
    found = _MACRO.match(part.data)
    if not found:
        raise LineError(part.column, "bad-macro", f"{show(part.data)} is not a macro", "write ${min-max}group$")
    low, high, group = map(int, found.groups())
    if group >= MACRO_GROUPS or low > high or high > MOST:
        raise LineError(
            part.column, "bad-macro", "a macro's group is 0 to 31 and its distances rise", "correct the numbers"
        )


def _split(text: bytes) -> list[bytes]:
    """The fields between colons outside of a regular expression, as cli_ldbtokenize finds them."""
    found = [b""]
    within = False
    for place in range(len(text)):
        here = text[place : place + 1]
        if here == b":" and not within:
            found.append(b"")
            continue
        if here == b"/" and place and text[place - 1 : place] != b"\\":
            within = not within
        found[-1] += here
    return found


def _regex(part: Field, index: int, target: int) -> None:
    column = part.column
    pieces = _split(part.data)
    if len(pieces) > 2:
        raise LineError(
            column, "bad-subsignature", "more than one colon outside of the expression", "write OFFSET:TRIGGER/REGEX/"
        )
    if len(pieces) == 2:
        check_offset(Field(pieces[0], column), target)
        column += len(pieces[0]) + 1
    trigger, slash, rest = pieces[-1].partition(b"/")
    expression, closing, flags = rest.rpartition(b"/")
    if not slash or not closing:
        raise LineError(column, "bad-regex", "the regular expression is not closed with /", "write TRIGGER/REGEX/FLAGS")
    if not trigger:
        raise LineError(
            column, "bad-regex", "a regular expression needs a trigger before it", "write for example 0/REGEX/"
        )
    at = column + len(trigger) + 1
    if not expression:
        raise LineError(at, "bad-regex", "the regular expression is empty", "write one, or remove the subsignature")
    if not _FLAGS.match(flags):
        raise LineError(
            at + len(expression) + 1,
            "bad-regex",
            f"the flags {show(flags)} are not all known",
            "use only g r e s i m x A E U",
        )
    if trigger != ALWAYS_TRIGGER:
        named = parse_logic(trigger, column).indexes
        if max(named) >= index:
            raise LineError(
                column,
                "bad-reference",
                f"the trigger names subsignature {max(named)}; subsignature {index} may only use earlier ones",
                "put the trigger before the regular expression",
            )
    if b"x" not in flags:
        check_regex(expression, at)


def _compare(part: Field, index: int, count: int) -> None:
    found = _COMPARE.match(part.data)
    fix = "write INDEX(>>n#OPTIONSn#=value), e.g. 0(>>4#he2#=16)"
    if not found:
        raise LineError(part.column, "bad-comparison", f"{show(part.data)} is not a byte comparison", fix)
    reference, options, length = int(found.group(1)), found.group(2), int(found.group(3), 0)
    if len(set(options) & set(b"hdia")) > 1 or {*b"lb"} <= set(options) or (b"d" in options and b"l" in options):
        raise LineError(part.column, "bad-comparison", f"the options {show(options)} exclude each other", fix)
    if not length or (b"i" in options and length not in (1, 2, 4, 8)) or (b"h" in options and length > 18):
        raise LineError(part.column, "bad-comparison", f"a comparison of {length} bytes is not possible", fix)
    if reference >= count or reference == index:
        raise LineError(
            part.column,
            "bad-reference",
            f"the comparison starts from subsignature {reference}, which is not another one of this signature",
            "name one of the other subsignatures",
        )


def _body(part: Field, target: int, remarks: list[Remark]) -> Pattern:
    pieces = part.data.split(b":")
    column = part.column
    if len(pieces) > 4 or (len(pieces) > 2 and pieces[-2]):
        raise LineError(column, "bad-subsignature", "too many colons", "write [OFFSET:]PATTERN[::MODIFIERS]")
    modifiers = pieces[-1] if len(pieces) > 2 else b""
    pattern = pieces[1] if len(pieces) in (2, 4) else pieces[0]
    offset = b"*"
    if len(pieces) in (2, 4):
        offset = pieces[0]
        check_offset(Field(offset, column), target)
        column += len(offset) + 1
    if not _MODIFIERS.match(modifiers):
        raise LineError(
            column + len(pattern) + 2,
            "bad-modifier",
            f"{show(modifiers)} are not all modifiers",
            "use only i, w, a and f",
        )
    bodies = []
    for form in _forms(pattern, modifiers):
        try:
            bodies.append(parse_body(form, column, remarks, target=target, modified=bool(modifiers)))
        except LineError as error:
            if form == pattern:
                raise
            parse_body(pattern, column, [], target=target, modified=True)  # its own mistakes have exact columns
            raise LineError(column, error.code, f"with its modifiers, {error.what}", error.fix) from error
    return Pattern(bodies[0], binds(offset))


def _forms(pattern: bytes, modifiers: bytes) -> list[bytes]:
    """The patterns the engine makes of one: f adds boundaries, w puts a zero after each byte, a keeps the narrow form too."""
    form = pattern
    if b"f" in modifiers:
        form = b"(W)" + pattern.replace(b"[", b"{").replace(b"]", b"}") + b"(W)"
    if b"w" not in modifiers:
        return [form]
    return [_wide(form), form] if b"a" in modifiers else [_wide(form)]


def _wide(pattern: bytes) -> bytes:
    made, at = b"", 0
    while at < len(pattern):
        here = pattern[at : at + 1]
        if kept := _BOUNDARY.match(pattern, at):
            made += kept.group()
            at = kept.end()
        elif here in (b"[", b"{"):
            end = pattern.find(b"]" if here == b"[" else b"}", at)
            made += b"{" + pattern[at + 1 : end] + b"}"
            at = end + 1
        elif here in (b"*", b"|", b"(", b")", b"!"):
            made += here
            at += 1
        else:
            made += pattern[at : at + 2] + b"00"
            at += 2
    return made
