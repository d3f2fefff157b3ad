"""Two regions' bundles: whatever the assembler makes of policies is explained, and nothing else is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.bundle.description import Section
from coldchain.bundle.manifest import Policy
from coldchain.errors import LintError, MalformedError
from coldchain.monitor.declared import check_counts
from coldchain.monitor.differences import check_region, compare_bundles
from coldchain.monitor.names import policy_name
from coldchain.monitor.rule_spans import rules_of, without
from coldchain_server.assembly.regions import PolicyEntry
from coldchain_server.feeds.formats.clamav import TYPES, signature_name
from coldchain_server.feeds.formats.yara_source import rule_spans, without_rules
from tests.client.agent.publisher import hashes
from tests.client.monitor.assembled import World, canary, entry, make
from tests.server.feeds.lines import GOOD

RULES = b"""import "pe"
// rule Hidden { condition: true }
private rule One { strings: $a = "}" $b = /a}b/ condition: $a and 4 / 2 > 1 }
rule Two : tag {
  /* } */
  condition: true
}

rule Three { condition: false }
"""
FEEDS = {
    "acme": {"daily.hsb": hashes(*range(20)), "body.ndb": b"B-1:0:*:dead0001\nB-2:0:*:dead0002\nB-3:0:*:dead0003\n"},
    "lists": {"bad.list": b"1.example\n2.example,x\n3.example\n"},
    "rules": {"main.yar": RULES},
    "words": {"some.pwdb": b"P-1;Engine:81-255;0;b\nP-2;Engine:81-255;0;a\n"},
}
ENTRIES = [
    *(("feed", name) for name in FEEDS),
    ("signature", "Win.Trojan.Agent-3-0"),
    ("signature", "Win.Trojan.Agent-5-0"),
    ("signature", "B-2"),
    ("signature", "2.example"),
    ("signature", "Two"),
    ("signature", "One"),
    ("signature", "P-1"),
    ("signature", "nobody"),
]


def problems(world: World) -> list[str]:
    """Everything that is not explained, over all regions and pairs."""
    found = list(check_counts(world.manifest))
    for region, bundle in world.bundles.items():
        found += check_region(bundle, world.manifest, region).shown
    for one, other in itertools.permutations(world.bundles, 2):
        found += compare_bundles(world.bundles[one], world.bundles[other], world.manifest, (one, other)).problems.shown
    return found


def policies(chosen: dict[str, dict[tuple[str, str], str]]) -> dict[str, tuple[PolicyEntry, ...]]:
    return {region: tuple(entry(action, *key) for key, action in some.items()) for region, some in chosen.items()}


SOME = st.dictionaries(st.sampled_from(ENTRIES), st.sampled_from(["leave-out", "add"]), max_size=4)


@settings(max_examples=80)
@given(st.fixed_dictionaries({"us": SOME, "jp": SOME, "kr": SOME}))
def test_whatever_the_assembler_makes_of_policies_is_explained(
    chosen: dict[str, dict[tuple[str, str], str]],
) -> None:
    try:
        world = make(FEEDS, policies(chosen))
    except LintError:  # nothing left for a region
        return
    assert problems(world) == []


@pytest.mark.parametrize("kind", ["feed", "signature"])
@pytest.mark.parametrize("action", ["leave-out", "add"])
def test_one_policy_explains_as_many_records_as_it_declares(action: str, kind: str) -> None:
    for name in [name for what, name in ENTRIES if what == kind and name != "nobody"]:
        world = make(FEEDS, {"us": (), "jp": (entry(action, kind, name),)})
        found = compare_bundles(world.bundles["us"], world.bundles["jp"], world.manifest, ("us", "jp"))
        (declared,) = world.manifest.regions["jp"].policy
        assert [(one.policy, count) for one, count in found.explained.items()] == [(declared, declared.records)]
        assert declared.records > 0


JP = (
    entry("leave-out", "signature", "B-2"),
    entry("leave-out", "signature", "Two"),
    entry("leave-out", "signature", "P-1"),
)


def tampered() -> Iterator[tuple[str, World]]:
    """Every way to give one region something of its own, with the manifest made to agree."""
    world = make(FEEDS, {"us": (), "jp": JP})
    for region in ("us", "jp"):
        bundle = world.bundles[region]
        for section in bundle.description.sections:
            data = bundle.contents[section.name]
            lines = data.splitlines(keepends=True)
            if section.name.startswith("coldchain-canary"):
                if section.name.endswith(".ndb"):
                    yield (
                        f"{region}: another canary",
                        world.with_bundle(region, bundle.altered(section.name, canary(region, 8)[1])),
                    )
                yield f"{region}: no {section.name}", world.with_bundle(region, bundle.altered(section.name, None))
                continue
            for at in range(len(lines)):
                if section.kind == "file" and not lines[at].strip():
                    continue
                if region == "us" and any(name in lines[at] for name in (b"B-2", b"P-1")):
                    continue
                if region == "us" and section.engine == "yara" and b"rule Two" in b"".join(lines[at - 3 : at + 1]):
                    continue  # what jp leaves out: that it is there, and what is in it, is the business of us alone
                less = b"".join([*lines[:at], *lines[at + 1 :]])
                change = lines[at].replace(b"0", b"1", 1).replace(b"e", b"f", 1)
                new = [*lines[:at], change, *lines[at + 1 :]]
                if section.kind == "set":
                    new.sort()
                yield (
                    f"{region}: {section.name} without line {at}",
                    world.with_bundle(region, bundle.altered(section.name, less)),
                )
                yield (
                    f"{region}: {section.name} with line {at} changed",
                    world.with_bundle(region, bundle.altered(section.name, b"".join(new))),
                )
            yield f"{region}: no {section.name}", world.with_bundle(region, bundle.altered(section.name, None))
        yield (
            f"{region}: a record more",
            world.with_bundle(
                region, bundle.altered("acme-body.ndb", bundle.contents["acme-body.ndb"] + b"Special-1:0:*:dead0004\n")
            ),
        )
        yield (
            f"{region}: a section more",
            world.with_bundle(region, bundle.altered("acme-x.ndb", b"S-1:0:*:dead0004\n")),
        )
        yield f"{region}: of no feed", world.with_bundle(region, bundle.altered("other.ndb", b"S-1:0:*:dead0004\n"))
        yield (
            f"{region}: rule more",
            world.with_bundle(
                region,
                bundle.altered("rules-main.yar", bundle.contents["rules-main.yar"] + b"rule S { condition: true }\n"),
            ),
        )
    # what jp leaves out is there after all, in whole or twice
    us, jp = world.bundles["us"], world.bundles["jp"]
    for name in ("acme-body.ndb", "rules-main.yar", "words-some.pwdb"):
        yield f"jp holds all of {name}", world.with_bundle("jp", jp.altered(name, us.contents[name]))


def test_nothing_else_is_explained_even_when_the_manifest_agrees_with_the_bundle() -> None:
    assert problems(make(FEEDS, {"us": (), "jp": JP})) == []
    missed = [what for what, world in tampered() if not _found(world)]
    assert missed == []


def _found(world: World) -> bool:
    found = []
    for region, bundle in world.bundles.items():
        found += check_region(bundle, world.manifest, region).shown
    us, jp = world.bundles["us"], world.bundles["jp"]
    found += compare_bundles(us, jp, world.manifest, ("us", "jp")).problems.shown
    return bool(found)


def test_a_declared_count_that_is_wrong_is_a_problem() -> None:
    for action in ("leave-out", "add"):
        for kind, name in ENTRIES:
            world = make(FEEDS, {"us": (), "jp": (entry(action, kind, name),)})
            facts = world.manifest.regions["jp"]
            (old,) = facts.policy
            for wrong in {0, old.records + 1, old.records - 1} - {old.records, -1}:
                policy = (replace(old, records=wrong),)
                regions = {**world.manifest.regions, "jp": replace(facts, policy=policy)}
                manifest = replace(world.manifest, regions=regions)
                a, b = world.bundles["us"], world.bundles["jp"]
                assert compare_bundles(a, b, manifest, ("us", "jp")).problems.count, (action, kind, name, wrong)


def test_a_feed_left_out_hides_no_section_of_another_feed_with_a_longer_name() -> None:
    feeds = {"acme": {"x-one.hsb": hashes(1, 2), "two.hsb": hashes(3)}, "acme-x": {"one.hdb": hashes(4, 5, 6)}}
    world = make(feeds, {"us": (), "jp": (entry("leave-out", "feed", "acme-x"),)})
    assert problems(world) == []
    stolen = world.bundles["jp"].altered("acme-x-one.hsb", None)
    assert problems(world.with_bundle("jp", stolen))


def test_counts_of_regions_against_the_global_bundle() -> None:
    world = make(FEEDS, {"us": (), "jp": JP})
    assert check_counts(world.manifest) == []
    for region in ("us", "jp"):
        for less in (-1, 1, 3):
            facts = world.manifest.regions[region]
            changed = replace(facts, facts=replace(facts.facts, records=facts.facts.records - less))
            manifest = replace(world.manifest, regions={**world.manifest.regions, region: changed})
            # one or two records less may be the canaries of engines whose last section is left out
            assert bool(check_counts(manifest)) == (less in (-1, 3))


def test_names_are_those_of_the_assembler_for_every_type_of_line() -> None:
    for extension, known in TYPES.items():
        section = Section(f"a.{extension}", "set", "clamav", 1, 1, "0" * 64)
        for line in GOOD.get(extension, []):
            expected = None if known.switches_off else signature_name(extension, line)
            assert policy_name(section, line) == expected, (extension, line)


def test_rules_are_cut_where_the_assembler_cuts_them() -> None:
    spans = list(rule_spans(RULES))
    rules = rules_of(RULES, "x")
    assert [(one.name, one.start, one.end) for one in rules] == [(one.name, one.start, one.end) for one in spans]
    for count in range(len(spans) + 1):
        for chosen in itertools.combinations(spans, count):
            names = {one.name for one in chosen}
            assert without(RULES, rules, names) == without_rules(RULES, chosen)


@pytest.mark.parametrize(
    "source",
    [
        b"rule A { condition: true",
        b'rule A { strings: $a = "x condition: $a }',
        b"rule A { strings: $a = /x condition: $a }",
        b"rule A /* { condition: true }",
        b"rule { condition: true }",
        b"rule A } { condition: true }",
    ],
)
def test_what_does_not_come_out_even_is_refused(source: bytes) -> None:
    with pytest.raises(MalformedError):
        rules_of(source, "x")


def test_a_source_that_cannot_be_taken_apart_explains_nothing() -> None:
    broken: Callable[[bytes], bytes] = lambda data: data + b"rule Open {"  # noqa: E731
    world = make(FEEDS, {"us": (), "jp": JP})
    jp = world.bundles["jp"]
    changed = world.with_bundle("jp", jp.altered("rules-main.yar", broken(jp.contents["rules-main.yar"])))
    assert any("cannot be taken apart" in text or "does not end" in text for text in problems(changed))


def test_a_policy_that_nobody_declares_explains_nothing() -> None:
    world = make(FEEDS, {"us": (), "jp": JP})
    for without_entry in range(len(JP)):
        facts = world.manifest.regions["jp"]
        kept: tuple[Policy, ...] = tuple(one for at, one in enumerate(facts.policy) if at != without_entry)
        manifest = replace(world.manifest, regions={**world.manifest.regions, "jp": replace(facts, policy=kept)})
        found = compare_bundles(world.bundles["us"], world.bundles["jp"], manifest, ("us", "jp"))
        assert found.problems.count


PARTS = st.sampled_from(b'rule |A|B| {|}| condition: true |"|\\|/|*|//|/*|*/|\n|=|private |(|$a'.split(b"|"))


@given(st.lists(PARTS, max_size=40).map(b"".join))
def test_rules_of_anything_are_cut_out_cleanly_or_refused(source: bytes) -> None:
    try:
        rules = rules_of(source, "x")
    except MalformedError:
        return
    spans = [(rule.start, rule.end) for rule in rules]
    assert spans == sorted(spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    for rule in rules:
        assert source[rule.start : rule.end].endswith(b"}")
        assert source[rule.start : rule.end].startswith((b"rule", b"private", b"global"))
    assert without(source, rules, set()) == source
    rest = without(source, rules, {rule.name for rule in rules})
    assert len(rest) == len(source) - sum(end - start for start, end in spans)
