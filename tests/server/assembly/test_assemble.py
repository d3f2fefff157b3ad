"""Bundles per region: what is left out and added is what was declared, and nothing else differs."""

from __future__ import annotations

import itertools

import pytest

from coldchain.bundle.canary import canary_name
from coldchain.bundle.description import parse_description
from coldchain.errors import LintError
from coldchain_server.assembly.regions import GLOBAL
from tests.server.assembly.prepared import Content, policy
from tests.server.feeds.lines import GOOD, MD5

A, B, C = MD5 + b":1:Acme.A-1", MD5 + b":2:Acme.B-2", MD5 + b":3:Acme.C-3"
RULES = b'rule R_one { condition: false }\nrule R_two { strings: $a = "x" condition: $a }\n'


def bundle(region: str, policies: str = "", release: int = 1) -> dict[str, bytes]:
    content = Content()
    sections = [
        content.section("acme", "a.hdb", [B, A, C]),
        content.section("acme", "b.ndb", [b"Acme.A-1:0:*:deadbeefcafe"]),
        content.section("acme", "c.ign2", [b"Acme.A-1"]),
        content.section("rules", "r.yar", RULES, engine="yara"),
        content.section("bad", "domains.txt", [b"evil.example", b"worse.example\tx"], engine="list"),
    ]
    made = content.assemble(sections, region, policies, release)
    assert parse_description(made.description.encode()) == made.description
    for section in made.description.sections:
        assert section.bytes == len(content.get(section.sha256))
    return {section.name: content.get(section.sha256) for section in made.description.sections}


def test_without_policies_regions_differ_in_their_canaries_alone() -> None:
    whole = bundle(GLOBAL)
    assert set(whole) == {
        "acme-a.hdb", "acme-b.ndb", "acme-c.ign2", "rules-r.yar", "bad-domains.list", "coldchain-canary.ndb", "coldchain-canary.yar",
    }  # fmt: skip
    for region in ("us", "eu", "jp", "kr", "sg", "au", "row"):
        other = bundle(region)
        assert {name for name in whole if whole[name] != other[name]} == {
            "coldchain-canary.ndb",
            "coldchain-canary.yar",
        }
        assert canary_name(region, "stable", 1).encode() in other["coldchain-canary.ndb"]


def test_the_order_of_feeds_has_no_say() -> None:
    digests = set()
    for order in itertools.permutations(range(4)):
        content = Content()
        made = [
            content.section("a", "a.hdb", [A, B]), content.section("b", "b.hdb", [C]),
            content.section("c", "c.yar", RULES, engine="yara"), content.section("d", "urls.txt", [b"http://a.b/c"], engine="list"),
        ]  # fmt: skip
        digests.add(content.assemble([made[place] for place in order], "us").description.digest)
    assert len(digests) == 1


def test_each_policy_does_what_it_says_and_counts_it() -> None:
    whole = bundle("us")
    cases: dict[tuple[str, str, str], tuple[dict[str, bytes | None], int]] = {
        ("leave-out", "signature", "Acme.A-1"): ({"acme-a.hdb": B + b"\n" + C + b"\n", "acme-b.ndb": None}, 2),
        ("leave-out", "signature", "R_one"): ({"rules-r.yar": RULES[31:]}, 1),
        ("leave-out", "signature", "worse.example"): ({"bad-domains.list": b"evil.example\n"}, 1),
        ("leave-out", "signature", "Acme.None"): ({}, 0),
        ("leave-out", "feed", "rules"): ({"rules-r.yar": None, "coldchain-canary.yar": None}, 2),
        ("leave-out", "feed", "bad"): ({"bad-domains.list": None}, 2),
    }
    for (action, kind, name), (changes, count) in cases.items():
        words = policy("jp", action, kind, name)
        assert bundle("us", words) == whole
        assert bundle(GLOBAL, words) == bundle(GLOBAL)
        wanted: dict[str, bytes | None] = {**bundle("jp"), **changes}
        assert bundle("jp", words) == {one: data for one, data in wanted.items() if data is not None}, name
        content = Content()
        sections = [
            content.section("acme", "a.hdb", [A, B, C]), content.section("acme", "b.ndb", [b"Acme.A-1:0:*:deadbeefcafe"]),
            content.section("acme", "c.ign2", [b"Acme.A-1"]), content.section("rules", "r.yar", RULES, engine="yara"),
            content.section("bad", "domains.txt", [b"evil.example", b"worse.example\tx"], engine="list"),
        ]  # fmt: skip
        (applied,) = content.assemble(sections, "jp", words).applied
        assert (applied.entry.name, applied.records) == (name, count)


def test_what_is_added_somewhere_is_nowhere_else() -> None:
    for kind, name, sections in (
        ("signature", "Acme.A-1", {"acme-a.hdb", "acme-b.ndb"}),
        ("feed", "bad", {"bad-domains.list"}),
    ):
        words = policy("jp", "add", kind, name)
        assert bundle("jp", words) == bundle("jp")
        for region in ("us", GLOBAL):
            plain, without = bundle(region), bundle(region, words)
            assert {one for one in plain if without.get(one) != plain[one]} == sections
        both = words + policy("kr", "add", kind, name)
        assert bundle("kr", both) == bundle("kr")


def test_a_rule_that_others_need_cannot_be_left_out_alone() -> None:
    content = Content()
    section = content.section("r", "r.yar", b"rule A { condition: false } rule B { condition: A }", engine="yara")
    with pytest.raises(LintError, match="rule B needs A"):
        content.assemble([section], "jp", policy("jp", "leave-out", "signature", "A"))
    both = policy("jp", "leave-out", "signature", "A") + policy("jp", "leave-out", "signature", "B")
    with pytest.raises(LintError, match="nothing is left"):
        content.assemble([section], "jp", both)


def test_bundles_that_no_client_or_engine_takes_whole_are_refused() -> None:
    content = Content()
    one = content.section("a", "b-c.hdb", [A])
    cases = {
        "two files would both be": [one, content.section("a-b", "c.hdb", [B])],
        "both be": [one, content.section("a", "B-C.HDB", [B])],
        "only one idb": [
            content.section("a", "a.idb", GOOD["idb"][:1]),
            content.section("b", "b.idb", GOOD["idb"][1:]),
        ],
        "nothing is left": [],
        "canary": [content.section("coldchain", "canary.ndb", [b"Acme.A-1:0:*:deadbeefcafe"])],
        "no client takes": [one.replaced(records=1, length=5 << 30, sha256=one.sha256)],
    }
    for words, sections in cases.items():
        with pytest.raises(LintError, match=words):
            content.assemble(sections, "us")


def test_every_release_has_its_own_canary() -> None:
    names = {bundle("us", release=number)["coldchain-canary.ndb"] for number in range(1, 20)}
    assert len(names) == 19
