"""Canonical JSON: one value has one spelling, and nothing else is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from coldchain.canonical import JSON, MAX_INTEGER, Fields, encode, is_sha256, read, read_canonical
from coldchain.errors import ColdchainError, MalformedError
from coldchain.limits import LIMITS

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
plain = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]))


def values(strings: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | strings,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(strings, inner, max_size=5),
        max_leaves=25,
    )


def nested(depth: int, *, objects: bool = False) -> JSON:
    value: JSON = 1
    for _ in range(depth - 1):
        value = {"a": value} if objects else [value]
    return value


def test_worked_example() -> None:
    assert encode({"b": 1, "a": [True, None, 'x"y']}) == b'{"a":[true,null,"x\\"y"],"b":1}'


@given(values(texts))
def test_encode_agrees_with_what_other_tuf_writers_sign(value: Any) -> None:
    assert encode(value) == encode_canonical(value).encode()  # type: ignore[union-attr]


@given(values(plain))
def test_reading_gives_back_what_was_written_in_any_spacing(value: Any) -> None:
    assert read(encode(value), "x") == value
    for indent in (None, 1):
        assert read(json.dumps(value, indent=indent).encode(), "x") == value
        assert read(json.dumps(value, indent=indent, ensure_ascii=False).encode(), "x") == value


@given(st.dictionaries(plain, values(plain), max_size=5))
def test_only_the_canonical_spelling_is_canonical(value: Any) -> None:
    data = encode(value)
    bad = any(byte < 0x20 or byte == 0x7F for byte in data)
    if bad:
        with pytest.raises(MalformedError):
            read_canonical(data, "x")
        return
    assert read_canonical(data, "x") == value
    for other in (json.dumps(value, indent=1).encode() + b" ", data + b"\n", b" " + data):
        with pytest.raises(MalformedError):
            read_canonical(other, "x")


SPELLINGS = (
    "a",
    "Z",
    "é",
    "\U0001f600",
    '\\"',
    "\\\\",
    "\\n",
    "\\u0041",
    "\\u0001",
    "\\u007f",
    "\\ud83d\\ude00",
    "\\/",
    " ",
    "\x7f",
)


@given(
    st.lists(st.tuples(st.lists(st.sampled_from(SPELLINGS), max_size=3).map("".join), st.integers(-9, 9)), max_size=4)
)
def test_every_way_to_spell_a_string_is_judged_by_what_would_be_written(members: list[tuple[str, int]]) -> None:
    """Two encoders are asked, for speed; what one would let through and the other not must not depend on which."""
    data = "{" + ",".join(f'"{key}":{value}' for key, value in members) + "}"
    try:
        value = read(data.encode(), "x")
    except MalformedError:
        return
    canonical_ = encode(value) == data.encode() and not any(ord(char) < 0x20 or ord(char) == 0x7F for char in data)
    with nullcontext() if canonical_ else pytest.raises(MalformedError):
        assert read_canonical(data.encode(), "x") == value


def test_keys_are_sorted_by_code_point_and_numbers_have_one_form() -> None:
    assert encode({"é": 1, "z": 2, "Z": 3, "": 4, "\U0001f600": 5, "\uffff": 6}) == (
        '{"":4,"Z":3,"z":2,"é":1,"\uffff":6,"\U0001f600":5}'.encode()
    )
    assert encode([0, -1, MAX_INTEGER, -MAX_INTEGER]) == b"[0,-1,9007199254740991,-9007199254740991]"
    assert encode([True, False, None, [1, 2]]) == b"[true,false,null,[1,2]]"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}{}",
        b"nul",
        b"'a'",
        b"{a:1}",
        b"[1,]",
        b"[01]",
        b"[+1]",
        b"[1.0]",
        b"[1e3]",
        b"[1E400]",
        b"[-0.0]",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[9007199254740992]",
        b"[-9007199254740992]",
        b"[" + b"9" * 17 + b"]",
        b"[" + b"9" * 5000 + b"]",
        b'{"a":1,"a":1}',
        b'{"b":{"a":1,"\\u0061":2}}',
        b'["\xff"]',
        b'["\xc0\xaf"]',
        b'["\xed\xa0\x80"]',
        b'["\\ud800"]',
        b'{"\\udfff":1}',
        b'["\\x41"]',
        b'["a\nb"]',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"[" + b"{}," * 1_000_001 + b"1]",
    ],
)
def test_what_is_not_read(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data, "x")
    with pytest.raises(MalformedError):
        read_canonical(data, "x")


def test_integers_at_the_bound_are_read() -> None:
    assert read(b"[9007199254740991,-9007199254740991]", "x") == [MAX_INTEGER, -MAX_INTEGER]


@pytest.mark.parametrize(
    "data", [b"[]", b"1", b"null", b'"a"', b'{"a":-0}', b'{"a":"\\u0041"}', b'{"a":"\\/"}', b'{"a":"\\n"}']
)
def test_what_is_json_but_not_canonical(data: bytes) -> None:
    read(data, "x")
    with pytest.raises(MalformedError):
        read_canonical(data, "x")


@pytest.mark.parametrize("text", ["\x00", "\x1f", "\n", "\t", "\x7f"])
def test_control_characters_are_not_canonical(text: str) -> None:
    with pytest.raises(MalformedError):
        read_canonical(encode({"a": text}), "x")
    with pytest.raises(MalformedError):
        read_canonical(encode({text: "a"}), "x")


@pytest.mark.parametrize("objects", [False, True])
def test_depth_is_the_same_for_reading_and_writing(objects: bool) -> None:
    allowed = nested(LIMITS.json_depth, objects=objects)
    assert read(encode(allowed), "x") == allowed
    deeper = nested(LIMITS.json_depth + 1, objects=objects)
    with pytest.raises(MalformedError, match="nested"):
        encode(deeper)
    with pytest.raises(MalformedError, match="nested"):
        read(json.dumps(deeper).encode(), "x")


@pytest.mark.parametrize("value", [1.0, b"x", {1}, {1: 2}, object(), 2**53, -(2**53), "\ud800", {"\udc00": 1}])
def test_what_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(MalformedError):
        encode(value)
    with pytest.raises(MalformedError):
        encode([value])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes) -> None:
    for reader in (read, read_canonical):
        with suppress(ColdchainError):
            assert encode(reader(data, "x"))


@given(st.text(alphabet='{}[]",:0123456789eE.+-\\utrfalsn \ud800é', max_size=60))
def test_nearly_json_raises_only_our_errors(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    try:
        value = read_canonical(data, "x")
    except ColdchainError:
        return
    assert encode(value) == data


def test_fields_check_presence_type_and_bounds() -> None:
    value: JSON = {"t": "text", "i": 5, "b": False, "s": "a" * 64, "l": [1, 2], "o": {"k": 1}, "c": "word"}
    fields = Fields(value, "file")
    assert fields.text("t") == "text"
    assert fields.text("t", most=4) == "text"
    for count, allowed in ((4096, True), (4097, False)):
        bounded = Fields({"t": "x" * count, "o": {str(i): i for i in range(count)}}, "file")
        with nullcontext() if allowed else pytest.raises(MalformedError):
            bounded.text("t")
        with nullcontext() if allowed else pytest.raises(MalformedError):
            bounded.object("o")
    assert fields.integer("i", least=5, most=5) == 5
    assert fields.boolean("b") is False
    assert fields.sha256("s") == "a" * 64
    assert fields.items("l", 2) == [1, 2]
    assert fields.object("o", 1) == {"k": 1}
    fields.constant("c", "word")
    fields.done()
    wrong: list[Callable[[], object]] = [
        lambda: fields.text("i"),
        lambda: fields.text("gone"),
        lambda: fields.text("t", most=3),
        lambda: fields.integer("t"),
        lambda: fields.integer("b"),
        lambda: fields.integer("i", least=6),
        lambda: fields.integer("i", most=4),
        lambda: fields.integer("gone"),
        lambda: fields.boolean("i"),
        lambda: fields.boolean("gone"),
        lambda: fields.sha256("t"),
        lambda: fields.items("o", 5),
        lambda: fields.items("l", 1),
        lambda: fields.object("l", 5),
        lambda: fields.object("o", 0),
        lambda: fields.constant("c", "other"),
        lambda: fields.constant("gone", "word"),
    ]
    for ask in wrong:
        with pytest.raises(MalformedError, match="file"):
            ask()
    others: list[JSON] = [None, [], "a", 1, True]
    for other in others:
        with pytest.raises(MalformedError):
            Fields(other, "file")


def test_a_time_is_a_real_one_in_one_spelling() -> None:
    assert Fields({"at": "2024-02-29T23:59:59Z"}, "x").time("at").isoformat() == "2024-02-29T23:59:59+00:00"
    for bad in (
        "2026-02-29T00:00:00Z",
        "2026-11-26T02:00:00",
        "2026-11-26 02:00:00Z",
        "2026-11-26T02:00:00+00:00",
        "",
        7,
        None,
    ):
        with pytest.raises(MalformedError):
            Fields({"at": bad}, "x").time("at")


def test_an_integer_or_null() -> None:
    fields = Fields({"i": 5, "n": None}, "file")
    assert fields.integer_or_null("i") == 5
    assert fields.integer_or_null("n") is None
    fields.done()
    for value in (True, "5", -1, 5.0):
        with pytest.raises(MalformedError):
            Fields({"i": value}, "file").integer_or_null("i")  # type: ignore[dict-item]
    with pytest.raises(MalformedError):
        Fields({}, "file").integer_or_null("i")


def test_negative_integers_must_be_asked_for() -> None:
    with pytest.raises(MalformedError):
        Fields({"i": -1}, "file").integer("i")
    assert Fields({"i": -1}, "file").integer("i", least=-1) == -1


def test_fields_refuse_members_that_nobody_read() -> None:
    fields = Fields({"a": 1, "b": 2}, "file")
    assert fields.has("b")
    assert not fields.has("c")
    fields.integer("a")
    with pytest.raises(MalformedError, match="unknown member 'b'"):
        fields.done()
    fields.integer("b")
    fields.done()


def test_is_sha256() -> None:
    assert is_sha256("0123456789abcdef" * 4)
    for bad in ("", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", None, 1, ["a"] * 64, b"a" * 64):
        assert not is_sha256(bad)
