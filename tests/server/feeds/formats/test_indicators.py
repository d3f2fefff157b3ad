"""Plain lists: one spelling for one thing, and no line that would match everything."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.sections import check_set
from coldchain_server.assembly.canonical_sections import canonical_set
from coldchain_server.feeds.formats.indicators import TYPES, declared_type, lint_indicators

MD5 = "44d88612fea8a8f36de82e1278abb02f"
GOOD: dict[str, dict[str, str]] = {
    "addresses": {
        "77.90.185.20": "77.90.185.20",
        "77.90.185.20:8080": "77.90.185.20:8080",
        "77.90.185.0/24": "77.90.185.0/24",
        "2A00:1450::1": "2a00:1450::1",
        "[2a00:1450::1]:443": "[2a00:1450::1]:443",
        "2a00:1450::/32": "2a00:1450::/32",
        "77.90.185.20\t7": "77.90.185.20\t7",
        "  77.90.185.20  ": "77.90.185.20",
        "77.90.185.20,Emotet": "77.90.185.20,Emotet",
        "77.90.185.20 # seen": "77.90.185.20",
        "77.90.185.20\tвирус": "77.90.185.20\tвирус",
    },
    "domains": {
        "evil.example": "evil.example",
        "EVIL.Example": "evil.example",
        "*.evil.example": "*.evil.example",
        "evil.example.": "evil.example",
        "a_b.evil.example": "a_b.evil.example",
        "xn--e1aybc.example,x": "xn--e1aybc.example,x",
    },
    "urls": {
        "http://evil.example/a": "http://evil.example/a",
        "HTTP://Evil.Example/A": "http://evil.example/A",
        "http://77.90.185.20:8080/A?b#c": "http://77.90.185.20:8080/A?b#c",
        "evil.example/x": "evil.example/x",
        "https://user:Pass@evil.example/": "https://user:Pass@evil.example/",
    },
    "hashes": {MD5: MD5, MD5.upper(): MD5, MD5 * 2: MD5 * 2, MD5 + "," + "Emotet": MD5 + ",Emotet"},
}
BAD: dict[str, dict[str, str]] = {
    "addresses": {
        "77.90.185": "not-an-address",
        "77.90.185.256": "not-an-address",
        "077.90.185.20": "not-an-address",
        "evil.example": "not-an-address",
        "0.0.0.0/0": "too-wide",
        "::/0": "too-wide",
        "10.0.0.0/7": "too-wide",
        "8.0.0.0/7": "too-wide",
        "77.90.185.20/24": "not-an-address",
        "77.90.185.20:0": "bad-port",
        "77.90.185.20:99999": "bad-port",
        "77.90.185.20:": "bad-port",
        "[2a00::1": "not-an-address",
        "]77.90.185.20": "not-an-address",
        "77.90.185.20]": "not-an-address",
        "[[::1]]": "not-an-address",
        "77.90.185.0/255.255.255.0": "not-an-address",
        "77.90.185.20\x00": "control-character",
        "77.90.185.20\t\x1b": "control-character",
        "fe80::1%eth0": "not-an-address",
    },
    "domains": {
        "com": "not-a-domain",
        "*": "not-a-domain",
        "*.com": "not-a-domain",
        "evil..example": "not-a-domain",
        "-evil.example": "not-a-domain",
        "http://evil.example": "not-a-domain",
        "evil.example/x": "not-a-domain",
        "77.90.185.20": "not-a-domain",
        "вирус.example": "not-ascii",
        "a" * 64 + ".example": "not-a-domain",
        ("a" * 60 + ".") * 5 + "example": "not-a-domain",
        "evil\x7f.example": "control-character",
    },
    "urls": {
        "evil.example": "not-a-url",
        "http://": "not-a-url",
        "http:///x": "not-a-url",
        "http://com/": "not-a-url",
        "http://-/": "not-a-url",
        "http://evil.example/é": "not-ascii",
        "http://0.0.0.0/0": "",
    },
    "hashes": {
        MD5[:-1]: "not-a-hash",
        MD5[:-1] + "g": "not-a-hash",
        MD5 + "00": "not-a-hash",
        "d41d8cd98f00b204e9800998ecf8427e": "empty-file",
        "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709": "empty-file",
        "": "no-records",
    },
}


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_good_lines_come_out_in_one_spelling(kind: str) -> None:
    for line, wanted in GOOD[kind].items():
        for end in ("\n", "\r\n", ""):
            report, lines = lint_indicators("a.txt", kind, (line + end).encode())
            assert (lines, report.errors) == ([wanted.encode()], []), (line, report.findings)
        report, lines = lint_indicators("a.txt", "indicators", line.encode())
        assert lines == [wanted.encode()]


@pytest.mark.parametrize("kind", sorted(BAD))
def test_bad_lines_are_named_with_place_reason_and_fix(kind: str) -> None:
    for line, code in BAD[kind].items():
        report, lines = lint_indicators("a.txt", kind, b"# words\n  " + line.encode() + b"\n")
        if not code:
            assert lines, line
            continue
        assert lines == [], line
        assert report.errors[0].code == code, (line, report.errors)
        if code != "no-records":
            assert (report.errors[0].line, report.errors[0].column, report.skipped) == (2, 3, 1)
        assert all(finding.fix for finding in report.errors)


def test_nothing_is_left_out_without_a_word() -> None:
    data = b"\xef\xbb\xbf# words\n10.1.2.3\n8.8.8.8\n8.8.8.8\n\n// more\nx\n"
    report, lines = lint_indicators("a.txt", "addresses", data)
    assert lines == [b"10.1.2.3", b"8.8.8.8"]
    assert (report.records, report.skipped) == (2, 1)
    assert report.counts == {"comments": 1, "duplicates": 1, "not-an-address": 1, "not-public": 1}


def test_what_a_file_is_by_its_name() -> None:
    cases = {
        "domains.txt": "domains",
        "c2-domain.csv": "domains",
        "a/ips.txt": "addresses",
        "ip_list.lst": "addresses",
        "addresses": "addresses",
        "bad-urls.txt": "urls",
        "hash.txt": "hashes",
        "samples.md5": "hashes",
        "samples.sha256": "hashes",
        "sha-1.txt": "hashes",
        "indicators.txt": "indicators",
        "domains-and-urls.txt": None,
        "README.md": None,
        "xmd5x.txt": None,
        "zip.txt": None,
    }
    for path, kind in cases.items():
        assert declared_type(path) == kind, path


_WORDS = st.sampled_from([line for lines in (*GOOD.values(), *BAD.values()) for line in lines])


@given(
    st.sampled_from(TYPES),
    st.lists(st.binary(max_size=12) | _WORDS.map(str.encode) | st.just(b"\n"), max_size=10).map(b"".join),
)
def test_any_bytes_give_findings_and_a_section_that_clients_take(kind: str, data: bytes) -> None:
    report, lines = lint_indicators("a.txt", kind, data)
    assert report.records == len(lines) == len(set(lines))
    if lines:
        section, records = canonical_set(lines)
        assert check_set(io.BytesIO(section), "a")[0] == records == len(lines)
        again, same = lint_indicators("a.txt", kind, section)
        assert (again.errors, sorted(same)) == ([], sorted(lines))
    else:
        assert report.errors
