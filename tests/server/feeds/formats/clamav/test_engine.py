"""The installed ClamAV is the judge: what it loads passes, what it refuses, drops or misreads is refused.

Accepting a line that the engine does not load is never right. Refusing one that it loads is right only for the reasons in
``EVERYWHERE`` and ``STRICTER``: the line loads and does something nobody can mean.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from coldchain_server.feeds.formats.clamav import TYPES, lint_lines
from tests.server.feeds.engine import load, needs_clamscan
from tests.server.feeds.lines import BAD, GOOD

pytestmark = needs_clamscan

LINE_TYPES = [name for name, one in TYPES.items() if one.grammar is not None]

EVERYWHERE = {
    "magic-only": "every file of the format would be reported",
    "matches-without": "nearly every file would be reported",
    "empty-name": "the engine would report a name that nobody can look up or switch off",
    "bad-name": "a control character would reach logs and terminals",
    "carriage-return": "no set of canonical lines can hold it",
}
PATTERNS = {
    "odd-hex": "half a byte before or after alternatives within alternatives",
    "bad-offset": "the engine takes no offset for 0, and no shift for none",
    "bad-target": "the engine takes no target for 0",
    "bad-jump": "a distance without a number: the engine takes {} for {0}",
    "bad-macro": "distances that fall can never match",
    "bad-bracket": "a distance without its end: the engine takes [1-] for [1]",
    "bad-reference": "the engine looks at a subsignature that is not there, or at the comparison itself",
}
NOT_COUNTED = {
    "no-engine": "no engine loads it",
    "bad-levels": "no engine loads it",
    "unknown-attribute": "the engine drops the line without a word",
    "unknown-type": "the engine drops the line without a word",
    "bad-kind": "the engine drops the line without a word",
    "unknown-part": "the engine passes over the line without a word",
    "switches-nothing-off": "no signature has this name",
}
HASHES = {"bad-number": "the engine takes a level that is no number for 0"}
ARCHIVES = {
    "bad-regex": "an empty expression matches every name",
    "bad-range": "the engine stops reading at the first letter",
    "bad-number": "the engine stops reading at the first letter",
    "bad-encrypted": "any other number can match no file",
}
PHISHING = {
    "not-ascii": "host names have no such bytes; only at the end of a pattern does the engine refuse them",
    **NOT_COUNTED,
    "bad-hash": "the engine reads beyond the end of a short hash, and not to the end of a long one",
    "bad-host": "no host has this name",
    "field-count": "one host and not two",
    "bad-regex": "a second reader stops at a parenthesis, or takes a count for characters, and nothing matches",
}
CERTIFICATES = {
    **NOT_COUNTED,
    "bad-flag": "the engine looks at the first letter alone",
    "bad-key": "the engine stops reading at the first letter",
    "bad-number": "the engine stops reading at the first letter",
}
IGNORES = {**NOT_COUNTED, "bad-number": "the engine does not read the number"}
STRICTER: dict[str, dict[str, str]] = {
    **dict.fromkeys(("hdb", "hsb", "hdu", "hsu", "mdb", "msb", "mdu", "msu", "fp", "sfp", "imp"), HASHES),
    **dict.fromkeys(("ndb", "ndu", "sdb", "db", "ldb", "ldu"), PATTERNS),
    **dict.fromkeys(("ign", "ign2"), IGNORES),
    **dict.fromkeys(("cdb", "zmd", "rmd"), ARCHIVES),
    **dict.fromkeys(("pdb", "gdb", "wdb"), PHISHING),
    "crb": CERTIFICATES,
    "ftm": {**NOT_COUNTED, "bad-hex": "no bytes to look for", "bad-number": "the engine takes no offset for 0"},
    "cfg": {**NOT_COUNTED, "bad-number": "the engine stops reading at the first letter", "field-count": "not read"},
    "pwdb": {
        **NOT_COUNTED,
        "bad-password": "no archive has an empty password",
        "bad-hex": "no bytes",
        "field-count": "the engine cuts the password off",
        "bad-target": "an empty number",
    },
    "idb": {"empty-group-name": "no logical signature can name the group"},
}
"""By type, codes of findings about lines that the engine may load, and why they are refused all the same."""


def _loads(extension: str, lines: list[bytes]) -> bool:
    """Whether the engine takes all the lines: refuses nothing and counts as many as there are (where it counts)."""
    # A type that replaces what is built in (ftm, cfg) is judged by its load alone; a good hash shows that the set lives.
    loaded = load({f"a.{extension}": b"".join(line + b"\n" for line in lines)})
    return not loaded.failed and (not TYPES[extension].counted or loaded.known == len(lines))


def _disagreement(extension: str, lines: list[bytes]) -> Iterator[tuple[bytes, str]]:
    """The lines about which the engine disagrees with the lint, and how."""
    accepted: list[bytes] = []
    for line in lines:
        report, good = lint_lines("a", extension, line + b"\n")
        if report.errors:
            code = report.errors[0].code
            if code not in {**EVERYWHERE, **STRICTER.get(extension, {})} and _loads(extension, [line]):
                yield line, f"refused ({code}: {report.errors[0].message}), and the engine loads it"
        else:
            accepted += good
    accepted = list(dict.fromkeys(accepted))
    if accepted and not _loads(extension, accepted):
        for line in accepted:
            if not _loads(extension, [line]):
                yield line, "accepted, and the engine does not load it"


@pytest.mark.parametrize("extension", LINE_TYPES)
def test_good_lines_load(extension: str) -> None:
    assert _loads(extension, GOOD[extension])


@pytest.mark.parametrize("extension", LINE_TYPES)
def test_bad_lines_do_not_load_or_are_refused_for_a_reason_of_ours(extension: str) -> None:
    assert list(_disagreement(extension, list(BAD[extension]))) == []


_ALPHABETS = {
    "digits": b"0123456789",
    "letters": b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "marks": b":;,*-+?()[]{}|!/\\#$=<>&.^ _~\"'%@",
    "bytes": bytes(byte for byte in range(1, 256) if byte not in b"\r\n"),
}


def mutants(extension: str, seed: int, count: int) -> list[bytes]:
    """Good lines with one or two small changes: a character changed, added, taken away, a field doubled, moved or dropped."""
    dice = random.Random(f"{extension} {seed}")
    made: list[bytes] = []
    while len(made) < count:
        line = bytearray(dice.choice(GOOD[extension]))
        for _ in range(dice.choice((1, 1, 1, 2))):
            at = dice.randrange(len(line))
            letter = dice.choice(_ALPHABETS[dice.choice(("digits", "letters", "marks", "marks", "bytes"))])
            kind = dice.randrange(6)
            if kind == 0:
                line[at] = letter
            elif kind == 1:
                line[at:at] = bytes([letter])
            elif kind == 2:
                del line[at]
            elif kind == 3:
                line[at:at] = line[at : at + dice.randrange(1, 9)]
            else:
                separator = b";" if b";" in line else b":"
                parts = bytes(line).split(separator)
                chosen = dice.randrange(len(parts))
                moved = parts.pop(chosen)
                if kind == 5:
                    parts.insert(dice.randrange(len(parts) + 1), moved)
                line[:] = separator.join(parts)
            if not line:
                line[:] = b"x"
        if not line.startswith(b"#") and line != b"":
            made.append(bytes(line))
    return made


@pytest.mark.parametrize("extension", LINE_TYPES)
def test_small_changes_get_the_engines_verdict(extension: str) -> None:
    found = list(_disagreement(extension, mutants(extension, 1, 12)))
    assert found == [], found


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("extension", LINE_TYPES)
def test_many_small_changes_get_the_engines_verdict(extension: str) -> None:
    found = list(_disagreement(extension, mutants(extension, 2, 800)))
    assert found == [], found
