"""regions.toml: strict, because an unknown key may be a misspelt one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import UsageError
from coldchain_server.assembly.regions import DEFAULT, RESERVED, load_regions
from tests.server.assembly.prepared import policy


def test_the_default_regions() -> None:
    regions = load_regions(DEFAULT)
    assert regions.neutral == "ch"
    assert {name: one.wave for name, one in regions.regions.items()} == {
        "us": 1, "eu": 1, "jp": 1, "kr": 1, "sg": 1, "au": 1, "row": 2,
    }  # fmt: skip
    assert all(one.residency == "ch" and one.policy == () for one in regions.regions.values())


US = '[regions.us]\njurisdiction = "x"\n'
STORE = '[stores.sg]\njurisdiction = "Singapore"\n'
BAD = {
    "not toml": "[",
    "deep": "a = " + "[" * 5000,
    "no regions": 'neutral = "ch"\n',
    "unknown key": "nuetral = 'ch'\n" + US,
    "unknown key of a region": US + "wavs = 1\n",
    "no jurisdiction": "[regions.us]\n",
    "two lines": '[regions.us]\njurisdiction = """x\ny"""\n',
    "wave": US + "wave = 0\n",
    "wave, true": US + "wave = true\n",
    "edges": US + 'edges = ["ftp://x"]\n',
    "edges, one": US + 'edges = "http://x"\n',
    "residency": US + 'residency = "xx"\n',
    "residency, number": US + "residency = 1\n",
    "residency of nothing": US + 'residency = ""\n[regions.jp]\njurisdiction = "x"\nresidency = "?"\n',
    "stores": "stores = 1\n" + US,
    "a store that is no table": US + "[stores]\nch = 1\n",
    "a store with an unknown key": US + STORE + "paht = 'x'\n",
    "a store without a jurisdiction": US + "[stores.sg]\n",
    "a store with a blank jurisdiction": US + "[stores.us]\njurisdiction = ' '\n",
    "a store that cannot be named so": US + "[stores.'a b']\njurisdiction = 'x'\n",
    **{
        f"a store at {path!r}": US + STORE + f"path = {path}\n"
        for path in (
            "''",
            "'.'",
            "'/'",
            "'../x'",
            "'/x/../y'",
            '"a\\u0000b"',
            "1",
            "'reports/us'",
            "'reports/us/sg'",
            "'reports'",
        )
    },
    "name": '[regions."../us"]\njurisdiction = "x"\n',
    "not a table": "[regions]\nus = 1\n",
    "policy": US + 'policy = "x"\n',
    "policy, word": US + 'policy = ["x"]\n',
    "action": US + policy("us", "remove", "feed", "x"),
    "kind": US + policy("us", "add", "file", "x"),
    "no reason": US + policy("us", "add", "feed", "x", ""),
    "blank reason": US + policy("us", "add", "feed", "x", "  "),
    "long reason": US + policy("us", "add", "feed", "x", "y" * 501),
    "twice": US + policy("us", "add", "feed", "x") + policy("us", "leave-out", "feed", "x"),
    "unknown key of a policy": US + policy("us", "add", "feed", "x") + "more = 1\n",
    **{f"reserved {name}": f'[regions.{name}]\njurisdiction = "x"\n' for name in RESERVED},
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        load_regions(BAD[name])


@given(st.text(max_size=80) | st.integers(0, 600).map(lambda end: DEFAULT[:end]))
def test_any_text_raises_our_error_or_gives_regions(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert load_regions(text).regions


def test_stores_have_a_place_and_a_jurisdiction_by_themselves_or_by_their_table() -> None:
    text = """
[regions.us]
jurisdiction = "United States"
residency = "us"
[regions.jp]
jurisdiction = "Japan"
residency = "fra"
[regions.apac]
jurisdiction = "Asia"
[regions.sg]
alias = "apac"
[stores.us]
path = "/mnt/us"
[stores.fra]
jurisdiction = "Germany"
path = "volumes/fra"
[stores.idle]
jurisdiction = "Norway"
"""
    regions = load_regions(text)
    assert regions.store_names() == ["ch", "us", "fra", "idle", "jp", "apac", "sg"]
    stores = map(regions.store, regions.store_names())
    found = {one.name: (one.jurisdiction, str(one.path)) for one in stores}
    assert found == {
        "ch": ("ch", "reports/ch"),
        "us": ("United States", "/mnt/us"),
        "fra": ("Germany", "volumes/fra"),
        "idle": ("Norway", "reports/idle"),
        "jp": ("Japan", "reports/jp"),
        "apac": ("Asia", "reports/apac"),
        "sg": ("Asia", "reports/sg"),
    }
    assert {name: sorted(kept) for name in found if (kept := regions.kept_in(name))} == {
        "ch": ["apac", "sg"],
        "us": ["us"],
        "fra": ["jp"],
    }
    assert regions.with_old_names("sg") == regions.with_old_names("apac") == ("apac", "sg")
    assert regions.with_old_names("us") == ("us",)
    with pytest.raises(UsageError, match="no region 'eu'"):
        regions.with_old_names("eu")
    assert load_regions(DEFAULT).store("ch").jurisdiction == "Switzerland"
