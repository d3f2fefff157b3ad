"""Spans of rules: what hides a brace or a name hides it from us too; the compiler is the judge."""

from __future__ import annotations

import pytest
import yara_x
from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.feeds.formats.yara import compile_source
from coldchain_server.feeds.formats.yara_source import rule_spans, users, without_rules

RULES = {
    "Plain": b"rule Plain { condition: false }",
    "Tagged": b"rule Tagged : a b { condition: false }",
    "Quiet": b"private rule Quiet { condition: false }",
    "Broad": b"global private rule Broad\n{\n condition: true }",
    "Text": b'rule Text { strings: $a = "} rule No { \\"" condition: $a }',
    "Regex": b'rule Regex { strings: $a = /x}\\/{ab}"/i condition: $a }',
    "Hex": b"rule Hex { strings: $a = { 4D 5A [2-4] ( 61 | 62 ) ?? } condition: $a }",
    "Comment": b"rule /* rule No { */ Comment { // }\n condition: /* } */ false }",
    "Divides": b"rule Divides { condition: filesize/2 > 1 and filesize\\3 > 1 }".replace(b"\\3", b"\\ 3"),
    "Matches": b"rule Matches { condition: filename matches /}{/ }",
    "Argument": b"rule Argument { condition: pe.imports(/}ker{/i, /x/) > 0 }",
    "Meta": b'rule Meta { meta: rule_name = "rule" private_ = 1 condition: false }',
}
PRELUDE = b'import "pe"\n// rule No { condition: true }\n'


def source(names: list[str]) -> bytes:
    return PRELUDE + b"\n".join(RULES[name] for name in names) + b"\n"


def compiles(data: bytes) -> list[str] | None:
    try:
        return [rule.identifier for rule in compile_source(data.decode(), "a.yar")]
    except yara_x.CompileError:
        return None


def test_the_rules_of_all_kinds_are_found_whole() -> None:
    data = source(list(RULES)).replace(b"filesize/2 > 1 and filesize\\ 3 > 1", b"filesize\\2 > 1 and filesize \\ 3 > 1")
    spans = list(rule_spans(data))
    assert [span.name for span in spans] == list(RULES)
    assert [data[span.start : span.end] for span in spans if span.name != "Divides"] == [
        rule for name, rule in RULES.items() if name != "Divides"
    ]
    assert compiles(data) == list(RULES)


def test_a_division_is_no_regular_expression() -> None:
    data = b"rule A { condition: filesize / 2 > 1 } rule B { condition: filesize / 3 > 1 }"
    assert [data[span.start : span.end] for span in rule_spans(data)] == [data[:38], data[39:]]


@given(st.lists(st.sampled_from(sorted(set(RULES) - {"Divides"})), unique=True, min_size=1), st.data())
def test_what_is_left_after_a_rule_goes_compiles(names: list[str], data: st.DataObject) -> None:
    whole = source(names)
    spans = list(rule_spans(whole))
    gone = data.draw(st.sets(st.sampled_from(names)))
    left = without_rules(whole, [span for span in spans if span.name in gone])
    assert compiles(left) == [name for name in names if name not in gone]


def test_rules_that_need_others_are_named() -> None:
    data = (
        b'rule A { condition: false } rule B { strings: $A = "A" condition: $A } rule C { condition: A }'
        b" rule D { condition: any of (A*) } rule E { /* A */ condition: B and not C } rule Ab { condition: false }"
    )
    assert users(data, {"A"}) == ["C", "D"]
    assert users(data, {"A", "C"}) == ["D", "E"]
    assert users(data, {"E"}) == []
    assert users(data, {"Ab"}) == ["D"]


@given(st.binary(max_size=80) | st.text('rule A{}"/\\*()=, matches\n', max_size=60).map(str.encode))
def test_any_bytes_give_spans_in_order(data: bytes) -> None:
    spans = list(rule_spans(data))
    edges = [edge for span in spans for edge in (span.start, span.end)]
    assert edges == sorted(edges)
    assert all(0 <= span.start < span.end <= len(data) for span in spans)
    left = without_rules(data, spans)
    assert len(left) == len(data) - sum(span.end - span.start for span in spans)


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_truncation_gives_at_most_one_unfinished_rule(name: str) -> None:
    data = RULES[name]
    for end in range(len(data)):
        assert len(list(rule_spans(data[:end]))) <= 1
