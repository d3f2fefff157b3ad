"""YARA: what compiles and needs more than a magic passes; nothing else is published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.engines.yara_rules import EXTERNALS
from coldchain_server.feeds.findings import FileReport
from coldchain_server.feeds.formats.yara import MAGICS, compile_source, lint_yara

GOOD = b'rule Good { strings: $a = "e8000000005d81ed" condition: $a }\n'
BAD = {
    "syntax": (b"rule Bad { condition: }\n", "does-not-compile"),
    "unknown name": (b"rule Bad { condition: nothing }\n", "does-not-compile"),
    "unused string": (b'rule Bad { strings: $a = "x" condition: false }\n', "does-not-compile"),
    "bad regex": (b"rule Bad { strings: $a = /a(b/ condition: $a }\n", "does-not-compile"),
    "unknown module": (b'import "nothing"\nrule Bad { condition: nothing.x }\n', "does-not-compile"),
    "include": (b'include "other.yar"\n', "does-not-compile"),
    "twice": (GOOD, "does-not-compile"),
    "ELF": (b"rule Bad { condition: uint32(0) == 0x464c457f }\n", "magic-only"),
    "PE": (b"rule Bad { condition: uint16(0) == 0x5a4d }\n", "magic-only"),
    "ZIP": (b'rule Bad { strings: $a = "PK\\x03\\x04" condition: $a at 0 }\n', "magic-only"),
    "PDF": (b'rule Bad { strings: $a = "%PDF" condition: $a }\n', "magic-only"),
    "everything": (b"rule Bad { condition: true }\n", "magic-only"),
    "nothing": (b"rule Bad { condition: filesize == 0 }\n", "magic-only"),
}


def lint(data: bytes, *, skip_bad: bool = False) -> tuple[FileReport, bytes]:
    return lint_yara("a.yar", data, skip_bad=skip_bad)


def test_good_sources_pass_byte_for_byte() -> None:
    externals = " or ".join(f'{name} == "x"' for name in EXTERNALS)
    cases = {
        "one": (GOOD, 1),
        "externals": (f"rule A {{ condition: ({externals}) and filesize > 9 }}".encode(), 1),
        "relaxed": (b"rule A { strings: $a = /\\Rx{,3}end/ condition: $a }", 1),
        "crlf": (GOOD.replace(b"\n", b"\r\n") + b"// \xd1\x8f\r\n", 1),
        "private magic": (b"private rule P { condition: uint16(0) == 0x5a4d } " + GOOD.replace(b"condition:", b"condition: P and"), 2),
    }  # fmt: skip
    for name, (data, rules) in cases.items():
        report, kept = lint(data)
        assert (report.errors, report.records, kept) == ([], rules, data), name


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_rule_refuses_the_file_and_is_named(name: str) -> None:
    rule, code = BAD[name]
    head = b"" if name in ("include", "unknown module") else GOOD
    report, kept = lint(head + rule)
    assert kept == head + rule
    assert report.records == 0
    assert report.errors[0].code == code
    assert report.errors[0].line == (2 if head else 1)
    assert report.errors[0].fix


@pytest.mark.parametrize("name", sorted(set(BAD) - {"include"}))
def test_skipping_leaves_out_the_bad_rule_and_counts_it(name: str) -> None:
    rule, code = BAD[name]
    report, kept = lint(GOOD + rule, skip_bad=True)
    if name == "unknown module":  # the import stands outside of the rule
        assert (report.records, report.skipped) == (0, 2)
        return
    assert (report.records, report.skipped) == (1, 1), report.findings
    assert report.reasons[code] == 1
    assert [one.identifier for one in compile_source(kept.decode(), "a")] == ["Good"]


def test_rules_that_need_a_bad_one_go_with_it() -> None:
    data = GOOD + b"rule X { condition: nothing }\nrule Y { condition: X }\nrule Z { condition: Y and filesize > 5 }\n"
    report, kept = lint(data, skip_bad=True)
    assert (report.records, report.skipped) == (1, 3)
    assert [one.identifier for one in compile_source(kept.decode(), "a")] == ["Good"]


def test_files_without_rules_or_that_are_no_text_are_refused() -> None:
    for data, code in (
        (b"", "no-records"),
        (b"// words\n", "no-records"),
        (b"rule \xff", "not-utf-8"),
        (b'import "pe"\n', "no-records"),
    ):
        report, _ = lint(data)
        assert report.errors[0].code == code
        assert report.records == 0


def test_the_magics_are_those_of_harmless_files() -> None:
    for data in MAGICS.values():
        assert list(compile_source(GOOD.decode(), "a").scan(data).matching_rules) == []


def test_hunts_for_documents_are_flagged_and_not_refused() -> None:
    for text in ("TOP SECRET", "noforn", "совершенно секретно", "机密", "Confidential"):
        report, _ = lint(f'rule A {{ strings: $a = "{text}" wide ascii condition: $a }}'.encode())
        assert [flag.code for flag in report.flags] == ["document-hunt"], text
        assert report.records == 1
    report, _ = lint(b'rule keyword_search { strings: $a = "malware-x" condition: $a }')
    assert [flag.code for flag in report.flags] == ["document-hunt"]
    assert lint(GOOD)[0].flags == []


@given(
    st.binary(max_size=60) | st.text('rule A{}"/\\*()=$: condition strings\n', max_size=80).map(str.encode),
    st.booleans(),
)
def test_any_bytes_give_findings_and_no_exception(data: bytes, skip_bad: bool) -> None:
    report, kept = lint(data, skip_bad=skip_bad)
    if report.records:
        assert len(list(compile_source(kept.decode(), "a"))) == report.records
    else:
        assert report.errors
