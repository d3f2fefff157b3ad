"""Signatures that load well and still must not go out unseen: magic alone, short patterns, and hunts for documents.

*magic-only*: every literal run of the pattern is the beginning of a file format's header, so each ELF, PE or ZIP file
would be reported. Worked example: ``7f454c46`` makes ``/bin/ls`` a virus. An error; a warning where further attributes
(file size, container, icons) narrow the signature. In a logical signature the expression decides: it is enough that the
header patterns alone make it true. *matches-without*: the expression is even true when no pattern is found, as ``0=0``.

*short-pattern*: fewer than four literal bytes in all; such a pattern meets harmless files by chance. A warning.

*document-hunt*: a signature for office files, PDF, mail or text that looks for plain language, such as a classification
mark, or whose name says so. In 2017 an anti-virus product was accused of having searched its users' disks for documents
through such signatures. A flag: a person must decide, and the decision is public.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from coldchain_server.feeds.formats.clamav.body import Body
from coldchain_server.feeds.formats.clamav.grammar import Remark
from coldchain_server.feeds.formats.clamav.headers import HEADERS

SHORT = 4
DOCUMENT_TARGETS = frozenset({2, 4, 7, 10})
PROGRAM_TARGETS = frozenset({1, 6, 9, 11, 12})
DOCUMENT_CONTAINERS = frozenset(
    {
        b"CL_TYPE_MSOLE2",
        b"CL_TYPE_PDF",
        b"CL_TYPE_RTF",
        b"CL_TYPE_MAIL",
        b"CL_TYPE_OOXML_WORD",
        b"CL_TYPE_OOXML_PPT",
        b"CL_TYPE_OOXML_XL",
        b"CL_TYPE_XML_WORD",
        b"CL_TYPE_XML_XL",
        b"CL_TYPE_HWP3",
        b"CL_TYPE_HWPOLE2",
        b"CL_TYPE_OOXML_HWP",
        b"CL_TYPE_XML_HWP",
        b"CL_TYPE_ONENOTE",
        b"CL_TYPE_TEXT_ASCII",
        b"CL_TYPE_TEXT_UTF8",
    }
)

_EMPTY = re.compile(rb"(?:\x00*|\xff*|\x20*)\Z")

_MARKS = (
    rb"top[ _-]?secret|\bsecret ?// ?[a-z]|\bconfidential\b|\bclassified\b|\bnoforn\b|\borcon\b|official use only"
    rb"|\beyes only\b|internal use only|not for (?:public )?(?:release|distribution)|trade secrets?\b|restricted data"
    rb"|streng geheim|verschlusssache|vertraulich|dienstgebrauch|confidentiel|secret d.{1,2}fense|alto secreto"
    rb"|\bconfidencial\b|\briservat[oi]\b|strettamente|cisle tajne|\bpoufne\b"
)
_FOREIGN_MARKS = (
    "совершенно секретно",
    "секретно",
    "для служебного пользования",
    "конфиденциально",
    "绝密",
    "机密",
    "機密",
    "極秘",
    "ściśle tajne",
    "سري للغاية",
    "סודי ביותר",
)
_MARK = re.compile(
    b"|".join(
        [
            _MARKS,
            *(
                re.escape(form.encode(code))
                for mark in _FOREIGN_MARKS
                for form in {mark, mark.upper()}
                for code in ("utf-8", "utf-16-le")
            ),
            *(re.escape(mark.encode("cp1251")) for mark in _FOREIGN_MARKS[:4]),
            *(re.escape(mark.encode("gb18030")) for mark in _FOREIGN_MARKS[4:6]),
        ]
    ),
    re.IGNORECASE | re.DOTALL,
)
_HUNTING_NAME = re.compile(
    rb"keywords?(?![a-z])|watchword|doc(?:ument)?[._-]?(?:hunt|search)|(?:^|[._-])dlp(?:[._-]|\Z)", re.I
)
_LURE_NAME = re.compile(rb"phish|spam|scam|fraud|hoax|spoof|heuristics", re.I)
_PROSE = re.compile(rb"[A-Za-z ,.'\-!?\x0d\x0a]+\Z")
_WORDS = re.compile(rb"(?<![A-Za-z])[A-Za-z]{4,} +[A-Za-z]{4,}(?![A-Za-z])")
_CODE = re.compile(rb"[a-z][A-Z]")
_WIDE = re.compile(rb"(?:[\x09\x0a\x0d\x20-\x7e]\x00){3,}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A body pattern and whether its offset puts it somewhere else than at a file's start or anywhere."""

    body: Body
    bound: bool = False


def hunting_name(name: bytes) -> bool:
    """Whether a signature's name says that it looks for documents or keywords."""
    return bool(_HUNTING_NAME.search(name))


def document_words(texts: Collection[bytes]) -> str | None:
    """A mark of classification or confidence in any of the texts (8 or 16 bits a character); the mark, or None."""
    for text in texts:
        narrow = _WIDE.sub(lambda wide: wide.group()[::2], text)
        if found := _MARK.search(text) or _MARK.search(narrow):
            return found.group().decode("utf-8", "replace").strip().replace("\x00", "")
    return None


def plain_language(texts: Collection[bytes]) -> bool:
    """Whether the texts are nothing but words of a language, with two of them side by side, and no code or address."""
    narrow = [_WIDE.sub(lambda wide: wide.group()[::2], text) for text in texts]
    return all(_PROSE.match(text) and not _CODE.search(text) for text in narrow) and any(
        _WORDS.search(text) for text in narrow
    )


def header_alone(body: Body) -> bool:
    """Whether every literal run is the beginning of a common header (or zeros), so that harmless files match."""
    if body.choices or not body.runs:
        return False
    return all(_EMPTY.match(run) or any(header.startswith(run) for header in HEADERS) for run in body.runs)


def judge(
    name: bytes,
    column: int,
    target: int,
    patterns: Sequence[Pattern | None],
    remarks: list[Remark],
    *,
    fires: Callable[[Collection[int]], bool] = lambda matched: 0 in matched,
    narrowed: bool = False,
    document: bool = False,
) -> None:
    """Appends what there is to say about a signature that loads.

    Args:
        name: its name.
        column: where its first pattern stands.
        target: its target type.
        patterns: its body patterns by index; None for subsignatures of other kinds.
        remarks: receives the findings.
        fires: whether the signature matches when the patterns of these indexes do.
        narrowed: whether attributes besides target and engine narrow it.
        document: whether its container or handler is a document.
    """
    if fires(()):
        message = "the expression is true when none of the patterns is found: it reports nearly every file"
        fix = "require at least one pattern"
        remarks.append(Remark(column, "warning" if narrowed else "error", "matches-without", message, fix))
        return
    bodies = [(index, pattern) for index, pattern in enumerate(patterns) if pattern is not None]
    headers = {index for index, pattern in bodies if not pattern.bound and header_alone(pattern.body)}
    short = {index for index, pattern in bodies if not pattern.bound and pattern.body.literal < SHORT}
    if headers and fires(headers):
        message = "the pattern is the header of a common file format: it reports every such file"
        fix = "add bytes that only the malware has"
        remarks.append(Remark(column, "warning" if narrowed else "error", "magic-only", message, fix))
    elif short and fires(short):
        message = f"fewer than {SHORT} literal bytes are enough for a match: harmless files will match by chance"
        remarks.append(Remark(column, "warning", "short-pattern", message, "use a longer pattern"))
    if target in PROGRAM_TARGETS:
        return
    texts = [text for _, pattern in bodies for text in (*pattern.body.runs, *pattern.body.choices)]
    mark = document_words(texts)
    prose = (document or target in DOCUMENT_TARGETS) and not _LURE_NAME.search(name) and plain_language(texts)
    if mark or prose:
        reason = f"the mark '{mark}'" if mark else "plain language alone"
        message = f"looks for {reason}, as a search for documents would, rather than for malware"
        remarks.append(Remark(column, "flag", "document-hunt", message, "have a person decide, or leave it out"))
