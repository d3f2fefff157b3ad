"""One line of regions.toml changes, and nothing else of it, however it is written; or it is left alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.errors import StateError, UsageError
from coldchain_server.assembly.regions import DEFAULT, load_regions
from coldchain_server.assembly.residency_line import set_residency, with_residency

HEADINGS = ("[regions.us]", "  [ regions . us ]  # here", '[regions."us"]', "['regions'.us]")
LINES = ('residency = "jp"', "\tresidency='jp'# why", '"residency" = "jp"   # "residency" = "eu"')
REST = """
[regions.jp]
jurisdiction = "Japan, é"
residency = "jp"

[[regions.jp.policy]]
action = "leave-out"
kind = "signature"
name = "A-1"
reason = 'residency = "us"'
# [regions.us]
# residency = "us"
"""


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    one, other = before.split("\n"), after.split("\n")
    if len(one) == len(other):
        return [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
    (new,) = [at for at in range(len(other)) if other[:at] + other[at + 1 :] == one][:1]
    return [("", other[new])]


@pytest.mark.parametrize(("heading", "line", "end"), list(itertools.product(HEADINGS, LINES, ("\n", "\r\n"))))
def test_the_line_changes_and_its_comment_stays(heading: str, line: str, end: str) -> None:
    section = end.join([heading, 'jurisdiction = "United States"', line, "wave = 2", ""])
    for before, rest in (("", REST.replace("\n", end)), (REST, "")):
        for store in ("ch", "us", "jp"):
            text = before + section + rest
            after = set_residency(text, "us", store)
            assert load_regions(after) == with_residency(load_regions(text), "us", store)
            changed = line.replace('"jp"', f'"{store}"', 1).replace("'jp'", f'"{store}"')
            assert after == before + section.replace(line, changed) + rest
            assert set_residency(after, "us", "ch") == set_residency(text, "us", "ch")


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_line_that_is_not_there_is_put_under_the_heading(heading: str) -> None:
    for text in (f'{REST}{heading}\njurisdiction = "x"', f'{heading}\r\njurisdiction = "x"\r\n{REST}'):
        after = set_residency(text, "us", "jp")
        assert load_regions(after).regions["us"].residency == "jp"
        assert [new.strip() for _, new in changed_lines(text, after)] == ['residency = "jp"']


def test_every_region_of_the_shipped_file() -> None:
    for region in load_regions(DEFAULT).regions:
        after = set_residency(DEFAULT, region, "us")
        assert [new for _, new in changed_lines(DEFAULT, after)] == ['residency = "us"']
        assert load_regions(after).regions[region].residency == "us"


def test_old_names_have_no_line_and_follow() -> None:
    text = '[regions.apac]\njurisdiction = "x"\n[regions.jp]\nalias = "apac"\n'
    after = load_regions(set_residency(text, "apac", "jp"))
    assert {one.residency for one in after.regions.values()} == {"jp"}
    with pytest.raises(UsageError):
        set_residency(text, "us", "jp")
    with pytest.raises(StateError):
        set_residency(text, "jp", "jp")


@pytest.mark.parametrize(
    "text",
    [
        'regions.us.jurisdiction = "x"\nregions.us.residency = "us"\n',
        'regions = { us = { jurisdiction = "x", residency = "us" } }\n',
        '[regions]\nus = { jurisdiction = "x" }\n',
        '[regions.us]\njurisdiction = "x"\nresidency = """us"""\n',
    ],
)
def test_other_spellings_are_left_to_their_author(text: str) -> None:
    load_regions(text)
    with pytest.raises(StateError, match="cannot be changed by one line") as refused:
        set_residency(text, "us", "ch")
    assert "table of its own" in refused.value.todo


def test_text_that_only_looks_like_the_table_is_passed_over() -> None:
    fake = """[regions.jp]
jurisdiction = "x"
[[regions.jp.policy]]
action = "add"
kind = "feed"
name = "y"
# [regions.us]
reason = "x [regions.us] y"
"""
    text = f"{fake}[regions.us]\njurisdiction = 'y'\nresidency = 'jp'\n"
    assert set_residency(text, "us", "ch") == text.replace("= 'jp'", '= "ch"')


def test_a_line_within_a_string_is_not_taken_for_it() -> None:
    text = '[regions.us]\njurisdiction = """\\\nresidency = "jp" """\nresidency = "us"\n'
    assert load_regions(text).regions["us"].jurisdiction == 'residency = "jp" '
    assert set_residency(text, "us", "ch") == text.replace('"us"', '"ch"')


@settings(max_examples=10)
@given(st.permutations(["us", "eu", "jp", "kr", "sg", "au", "row"]), st.integers(0, 6))
def test_one_after_the_other_in_any_order(order: list[str], stores: int) -> None:
    text = DEFAULT
    for region in order:
        text = set_residency(text, region, order[stores])
    assert {one.residency for one in load_regions(text).regions.values()} == {order[stores]}
    assert [line for line in text.split("\n") if line != f'residency = "{order[stores]}"'] == DEFAULT.split("\n")
