"""POSIX expressions: what the engine's library compiles, and no more."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.feeds.formats.clamav.grammar import LineError
from coldchain_server.feeds.formats.clamav.posix_regexes import check_posix_regex

GOOD = (
    b"a", b"(?i)a", b"a*b+c?", b"a{2}b{2,}c{2,255}", b"()", b"a{x", b"a)b", b"[]a]", b"[^]a]", b"[a-]", b"[-a]", b"[\\]",
    b"[[:alpha:]_]", b"[[=a=]]", b"[[.a.]]", b"[[:<:]]a[[:>:]]", b"\\*", b"^a$", b"(a|b)", b"a|b|c", b"[a-z]",
)  # fmt: skip
BAD = {
    b"": 0, b"*a": 0, b"a**": 2, b"^*": 1, b"a|": 2, b"|a": 0, b"(|a)": 1, b"(a": 0, b"a\\": 1, b"[a": 0, b"[]": 0,
    b"a{2,1}": 1, b"a{256}": 1, b"a{1": 1, b"a{1x}": 1, b"{1}": 0, b"[z-a]": 1, b"[[:none:]]": 1, b"[[.ab.]]": 1, b"[a-\xff]": 1,
    b"a{1}{2}": 4, b"((a{255}){255}){255}": None, b"(" * 200 + b")" * 200: None, b"[a--z]": None, b"(?i)": 4,
}  # fmt: skip
BAD_OF_HOSTS = {b"a)b": 1, b"()": 0, b"$a": 0, b"(a|$b)": 3, b"ab{2}": 2, b"abc.*": 4, b"abc.": 3, b"a(b|c.)": 6, b"abc(x)?": 6,
                b"[a-z]": 4, b"a|b?": 3}  # fmt: skip
GOOD_OF_HOSTS = (b"abc", b".+\\.abc([/?].*)?", b".+\\.abc([/?].*)", b"a(b|c)", b"[ab]", b"ab+", b"ab?c", b".*(a|b.*c)")


def test_good_expressions_pass() -> None:
    for hosts, cases in ((False, GOOD + GOOD_OF_HOSTS), (True, GOOD_OF_HOSTS)):
        for text in cases:
            check_posix_regex(text, 1, hosts=hosts)


def test_bad_expressions_are_refused_at_their_place() -> None:
    for hosts, cases in ((False, BAD), (True, {**BAD, **BAD_OF_HOSTS})):
        for text, at in cases.items():
            with pytest.raises(LineError) as caught:
                check_posix_regex(text, 10, hosts=hosts)
            assert caught.value.code == "bad-regex"
            assert at is None or hosts or caught.value.column == 10 + at, (text, caught.value)


@given(st.binary(max_size=40) | st.text("ab()[]{}|*+?^$\\-:.=,12", max_size=30).map(str.encode), st.booleans())
def test_any_bytes_pass_or_are_refused(text: bytes, hosts: bool) -> None:
    with contextlib.suppress(LineError):
        check_posix_regex(text, 1, hosts=hosts)
