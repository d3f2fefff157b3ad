"""Every file of a feed gets a section of its own, whatever file systems think of the case of letters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.description import check_section_name
from coldchain_server.assembly.canonical_sections import LONGEST, section_name, section_names

PATHS = st.lists(
    st.text("aAbB/ -_é.x", min_size=1, max_size=12).map(lambda text: f"d/{text}.yar"), unique=True, max_size=12
)


def test_the_first_of_two_that_differ_in_case_alone_keeps_its_name() -> None:
    upper, lower = section_names("f", [("rule_X.yar", "yara"), ("rule_x.yar", "yara")])
    assert upper == "f-rule_X.yar"
    assert lower == section_name("f", "rule_x.yar", "yara", marked=True)
    assert lower.endswith("-rule_x.yar")
    assert upper.lower() != lower.lower()


def test_a_marked_name_keeps_within_the_longest() -> None:
    for length in range(1, 2 * LONGEST):
        for marked in (False, True):
            name = section_name("feed", "x" * length + ".yar", "yara", marked=marked)
            assert len(name) <= LONGEST
            assert name.endswith(".yar")
            check_section_name(name)


@given(PATHS)
def test_names_differ_whatever_the_case_and_are_those_of_the_paths_alone(paths: list[str]) -> None:
    ordered = sorted(paths, key=str.encode)
    names = section_names("f", [(path, "yara") for path in ordered])
    assert len({name.lower() for name in names}) == len(ordered)
    for name, path in zip(names, ordered, strict=True):
        check_section_name(name)
        assert name in (section_name("f", path, "yara"), section_name("f", path, "yara", marked=True))
