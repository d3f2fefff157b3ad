"""The canary: unique to a release, harmless, and in a form that each engine loads."""

from __future__ import annotations

import itertools

import pytest
import yara_x

from coldchain.bundle.canary import CLAMAV_SECTION, YARA_SECTION, canary_name, canary_section, canary_string
from coldchain.bundle.description import check_section_name
from coldchain.bundle.sections import check_set

RELEASES = list(itertools.product(("coldchain", "other"), ("us", "eu"), ("stable", "early"), (1, 41, 42, 2**53 - 1)))


def test_the_worked_example() -> None:
    assert canary_name("us", "stable", 42) == "Coldchain.Canary.us-stable-42"
    string = canary_string("coldchain", "us", "stable", 42)
    assert string == b"COLDCHAIN-CANARY:coldchain:us:stable:42:5445d4ad2844226b79ea5f38a6245f16:END"
    section = canary_section("clamav", "coldchain", "us", "stable", 42)
    assert section == (CLAMAV_SECTION, b"Coldchain.Canary.us-stable-42:0:*:" + string.hex().encode() + b"\n")


def test_no_two_releases_share_a_string_and_none_contains_another() -> None:
    strings = [canary_string(*release) for release in RELEASES]
    for a, b in itertools.permutations(strings, 2):
        assert a not in b


@pytest.mark.parametrize("engine", ["clamav", "yara"])
def test_a_section_is_a_canonical_one_line_set_with_a_lawful_name(
    engine: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for release in RELEASES:
        section = canary_section(engine, *release)  # type: ignore[arg-type]
        assert section is not None
        name, data = section
        assert check_section_name(name) == {"clamav": CLAMAV_SECTION, "yara": YARA_SECTION}[engine]
        path = tmp_path_factory.mktemp("canary") / name
        path.write_bytes(data)
        with path.open("rb") as file:
            records, length, _ = check_set(file, name)
        assert (records, length) == (1, len(data))


def test_lists_have_no_canary() -> None:
    assert canary_section("list", "coldchain", "us", "stable", 42) is None


def test_yara_finds_exactly_its_own_canary() -> None:
    for release in RELEASES:
        section = canary_section("yara", *release)
        assert section is not None
        rules = yara_x.compile(section[1].decode())
        found = {other for other in RELEASES if rules.scan(b"<<" + canary_string(*other) + b">>").matching_rules}
        assert found == {release}


@pytest.mark.parametrize("engine", ["clamav", "yara"])
def test_no_canary_is_found_in_a_canary_section(engine: str) -> None:
    """An engine that scans the directory of its own database must not find it."""
    for release in RELEASES:
        section = canary_section(engine, *release)  # type: ignore[arg-type]
        assert section is not None
        assert canary_string(*release) not in section[1]
        yara = canary_section("yara", *release)
        assert yara is not None
        assert not yara_x.compile(yara[1].decode()).scan(section[1]).matching_rules
