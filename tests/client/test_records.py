"""Records in words: a help for people, which says nothing wrong and never fails on any line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.records import extension, in_words, pattern_words, record_name, rule_names, rule_text

MD5, SHA1, SHA256 = "d41d8cd98f00b204e9800998ecf8427e", "ab" * 20, "cd" * 32
TYPES = [
    *("hdb", "hdu", "hsb", "hsu", "mdb", "mdu", "msb", "msu", "imp", "fp", "sfp", "ndb", "ndu", "ldb", "ldu", "cdb"),
    *("crb", "idb", "ign", "ign2", "db", "pdb", "wdb", "yar", "list", "x"),
]
ALPHABET = "0123456789abcdef*?{}()[]|!,;:+-EPOFS²٣"
UNWANTED = "counts only where unwanted programs are reported too"


@pytest.mark.parametrize(
    ("section", "line", "name", "words"),
    [
        (
            "main.hdb",
            f"{MD5}:0:Empty.File",
            "Empty.File",
            ["a file of exactly 0 bytes with this MD5", f"MD5 {MD5}"],
        ),
        (
            "a.hsb",
            f"{SHA256}:1234567:X-1",
            "X-1",
            ["a file of exactly 1,234,567 bytes with this SHA-256", f"SHA-256 {SHA256}"],
        ),
        ("a.hsb", f"{SHA1}:*:X-1:73", "X-1", ["a file of any size with this SHA-1", f"SHA-1 {SHA1}"]),
        (
            "a.mdb",
            f"4096:{MD5}:X-1",
            "X-1",
            ["a section of a Windows program, of exactly 4,096 bytes, with this MD5", f"MD5 {MD5}"],
        ),
        (
            "a.msu",
            f"*:{SHA256}:X-1",
            "X-1",
            [
                "a section of a Windows program, of any size, with this SHA-256",
                f"SHA-256 {SHA256}",
                UNWANTED,
            ],
        ),
        (
            "a.hdu",
            f"{MD5}:5:P",
            "P",
            [
                "a file of exactly 5 bytes with this MD5",
                f"MD5 {MD5}",
                UNWANTED,
            ],
        ),
        (
            "a.imp",
            f"{MD5}:60:I",
            "I",
            ["a Windows program whose import table (60 bytes) has this MD5", f"MD5 {MD5}"],
        ),
        (
            "a.fp",
            f"{MD5}:5:Good",
            "Good",
            ["an exception: such a file is never reported", "a file of exactly 5 bytes with this MD5", f"MD5 {MD5}"],
        ),
        (
            "a.ndb",
            "Trojan.X-1:1:EP+0:4d5a??90",
            "Trojan.X-1",
            ["in Windows programs (PE)", "at the entry point", '3 fixed bytes: "MZ" (1 any) 90'],
        ),
        (
            "a.ndb",
            "X:0:*:6162{-5}63*!(64|65)[1-2]6?",
            "X",
            ["in any file", "anywhere", '3 fixed bytes: "ab" (-5 bytes) "c" (anything) !(64|65)[1-2] 6?'],
        ),
        (
            "a.ndb",
            "X:77:EOF-12,5:00",
            "X",
            ["in files of target type 77", "12 bytes before the end, up to 5 bytes further on", "1 fixed bytes: 00"],
        ),
        ("a.ndb", "X:0:100:zz", "X", ["in any file", "at byte 100", "pattern zz"]),
        ("a.ndb", "X:6:S0+4:00", "X", ["in Unix programs (ELF)", "at S0+4", "1 fixed bytes: 00"]),
        (
            "a.ldb",
            "Trojan.Y-2;Engine:81-255,Target:0,FileSize:1-2;0&1;61;EP+1:62::i",
            "Trojan.Y-2",
            [
                "for engines of functionality level 81-255",
                "in any file",
                "condition FileSize: 1-2",
                "matches when: 0 and 1  (numbers are the subsignatures below)",
                '0: 1 fixed bytes: "a"',
                '1: 1 bytes after the entry point; 1 fixed bytes: "b"',
            ],
        ),
        ("a.ign2", "Win.Trojan.Agent-1", "Win.Trojan.Agent-1", ["switches the signature of this name off"]),
        ("a.cdb", "Name:CL_TYPE_ZIP:*", "Name", []),
        (
            "a.cdb",
            "Name:CL_TYPE_ZIP:*:invoice.*\\.exe:1-9:*:1:2:*:*",
            "Name",
            [
                "a file in an archive or a mail",
                "in containers of type CL_TYPE_ZIP",
                "the file's name in it matches invoice.*\\.exe",
                "the file takes so many bytes in it: 1-9",
                "encrypted: 1",
                "it is in the place number 2",
            ],
        ),
        ("a.cdb", "Name:*:*:*:*:*:*:*:*:*", "Name", ["any file in any archive or mail"]),
        ("a.cdb", "Name:*:*:a:b:c:d:*:*:*:*:*:*", "Name", []),
        ("a.idb", "Icon:G1:G2:0abc", "Icon", ["an icon of groups G1 and G2, that looks like 0abc"]),
        ("a.idb", "Icon:G1", "Icon", []),
        ("a.db", "Old.Name=6162", "Old.Name", []),
        ("a.pdb", "R:example.com", None, []),
        ("a.hdb", "too:short", None, []),
        ("a.ndb", "X:0", "X", []),
        ("a.ldb", "X;Target:0", "X", []),
        ("a.ndb", "", None, []),
    ],
)
def test_lines_and_their_words(section: str, line: str, name: str | None, words: list[str]) -> None:
    assert record_name(section, line.encode()) == name
    assert in_words(section, line.encode()) == words


@given(st.sampled_from(TYPES), st.binary(max_size=200))
def test_any_line_has_words_or_none(kind: str, line: bytes) -> None:
    assert isinstance(record_name(f"a.{kind}", line), str | None)
    assert all(isinstance(word, str) for word in in_words(f"a.{kind}", line))


@given(
    st.sampled_from(TYPES),
    st.lists(st.text(ALPHABET, max_size=12), max_size=8),
    st.sampled_from(":;"),
)
def test_any_fields_have_words_or_none(kind: str, fields: list[str], separator: str) -> None:
    in_words(f"a.{kind}", separator.join(fields).encode())


@pytest.mark.parametrize("kind", TYPES)
def test_numbers_without_end_are_no_numbers(kind: str) -> None:
    many = "9" * 5000
    for line in (
        f"{MD5}:{many}:X",
        f"{many}:{MD5}:X",
        f"X:0:{many}:00",
        f"X:0:0,{many}:00",
        f"X:{many}:*:00",
        f"X;Target:{many};0;{many}:00",
    ):
        in_words(f"a.{kind}", line.encode())


def test_the_type_is_what_stands_behind_the_last_dot() -> None:
    assert [extension(name) for name in ("a.HDB", "a.b.ndb", "none")] == ["hdb", "ndb", "none"]


def test_long_patterns_are_cut() -> None:
    (words,) = pattern_words("61" * 1000)
    assert words.startswith("1000 fixed bytes: ")
    assert words.endswith("…")
    assert len(words) < 450


SOURCE = b"""import "pe"
rule First { condition: true }
private rule Second : tag
{
  strings: $a = "rule not_one"
  condition: $a
}
  global private rule Third { condition: false }
"""


def test_rules_by_name() -> None:
    assert rule_names(SOURCE) == ["First", "Second", "Third"]
    assert rule_text(SOURCE, "First") == b"rule First { condition: true }"
    second = rule_text(SOURCE, "Second")
    assert second is not None
    assert second.startswith(b"private rule Second : tag")
    assert second.endswith(b"}")
    assert rule_text(SOURCE, "Third") == b"global private rule Third { condition: false }"
    assert rule_text(SOURCE, "not_one") is None


@given(st.binary(max_size=300))
def test_any_source_has_names(source: bytes) -> None:
    for name in rule_names(source):
        assert rule_text(source, name)
