"""Trying regions.toml before anything is published; regions that come later, and regions under another name."""

from __future__ import annotations

import pytest

from coldchain.errors import LintError, StateError, UsageError
from coldchain_server.assembly.regions import load_regions
from coldchain_server.home import Home
from coldchain_server.release.preview import Preview, preview
from coldchain_server.signing.roles import load_state
from coldchain_server.signing.rotation import add_regions
from tests.client.tuf.repository import NOW
from tests.server import origins

SWAPPED = origins.REGIONS.replace("Agent-3-0", "Agent-4-0")


async def tried(home: Home, region: str, text: str | None = None, channel: str = "stable") -> Preview:
    async with home.catalogue() as catalogue:
        return await preview(home, catalogue, channel, region, home.regions(text) if text else None)


def files(home: Home) -> dict[str, bytes]:
    """Everything of an origin but the cache of checks and the database's own bookkeeping."""
    skipped = ("lint", "catalogue.sqlite")
    found = (path for path in home.directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(home.directory)): path.read_bytes()
        for path in found
        if not path.relative_to(home.directory).parts[0].startswith(skipped)
    }


async def test_what_is_published_already_changes_nothing(published_home: Home) -> None:
    for region, records in (("us", 120), ("jp", 119)):
        found = await tried(published_home, region)
        assert (found.published, found.unchanged, found.sections) == (1, True, ())
        assert found.before is not None
        assert (found.before, found.after[0]) == (found.after, records)
        assert all(state == "as published" for state, _ in found.policy)


async def test_a_changed_policy_is_told_to_the_record_and_becomes_exactly_that(published_home: Home) -> None:
    home = published_home
    before = files(home)
    found = await tried(home, "jp", SWAPPED)
    assert files(home) == before, "a preview changed the origin"
    assert [(state, one.name, one.records) for state, one in found.policy] == [
        ("new", "Win.Trojan.Agent-4-0", 1),
        ("gone", "Win.Trojan.Agent-3-0", 1),
    ]
    assert [(one.name, one.before, one.after, one.added, one.removed) for one in found.sections] == [
        ("acme-daily.hsb", 59, 59, 1, 1)
    ]
    assert not found.unchanged
    assert (await tried(home, "us", SWAPPED)).unchanged
    (home.directory / "regions.toml").write_text(SWAPPED)
    await origins.release(home, None)
    assert (await tried(home, "jp")).after == found.after
    assert b"Agent-4-0" not in origins.read(home, "jp").sections["acme-daily.hsb"]


async def test_sections_and_feeds_that_come_and_go(published_home: Home) -> None:
    home = published_home
    policy = '\n[[regions.us.policy]]\naction = "leave-out"\nkind = "feed"\nname = "acme"\nreason = "why"\n'
    with pytest.raises(LintError, match="nothing is left"):
        await tried(home, "us", origins.REGIONS + policy)
    names = "".join(
        f'\n[[regions.us.policy]]\naction = "leave-out"\nkind = "signature"\nname = "Win.Trojan.Agent-{n}-0"\nreason = "w"\n'
        for n in range(60)
    )
    found = await tried(home, "us", origins.REGIONS + names)
    assert [(one.name, one.after, one.removed) for one in found.sections] == [("acme-daily.hsb", None, 60)]
    nothing = origins.REGIONS.replace("Agent-3-0", "Nobody-1")
    assert [(state, one.records) for state, one in (await tried(home, "jp", nothing)).policy] == [
        ("new", 0),
        ("gone", 1),
    ]


async def test_without_a_feed_there_is_nothing_to_try(new_home: Home) -> None:
    with pytest.raises(LintError, match="nothing to assemble"):
        await tried(new_home, "us")


async def test_before_a_first_release_there_is_nothing_to_compare_with(published_home: Home) -> None:
    home = published_home
    found = await tried(home, "us", channel="early")
    assert (found.published, found.before, found.after[0], found.unchanged) == (None, None, 120, False)
    with pytest.raises(StateError, match="no region 'mars'"):
        await tried(home, "mars")
    with pytest.raises(UsageError, match=r"regions\.toml"):
        await tried(home, "us", "neutral = 1")


# -- regions that come later ------------------------------------------------------------------------------------------


async def sworn_in(home: Home, text: str) -> list[str]:
    (home.directory / "regions.toml").write_text(text)
    async with home.catalogue() as catalogue, catalogue.publisher():
        state, names = await load_state(home.storage), list(home.regions().regions)
        return await add_regions(state, origins.keyring(home), home.storage, names, product="coldchain", now=NOW)


async def test_a_region_comes_later_and_clients_of_the_others_go_on(published_home: Home) -> None:
    home = published_home
    text = origins.REGIONS + '\n[regions.nz]\njurisdiction = "New Zealand"\nwave = 2\n'
    found = await tried(home, "nz", text)
    assert (found.published, found.before, found.after[0]) == (None, None, 120)
    (home.directory / "regions.toml").write_text(text)
    with pytest.raises(StateError, match="no role 'nz'"):
        await origins.release(home, None)
    assert await sworn_in(home, text) == ["nz"]
    assert origins.read_all(home) == 1, "endpoints of the other regions see what they saw"
    await origins.release(home, origins.SECOND)
    assert origins.read_all(home, ("us", "jp", "nz")) == 2
    assert origins.read(home, "us").release.deltas.keys() == {1}
    assert origins.read(home, "nz").release.deltas == {}


async def test_a_region_gets_another_name_and_clients_of_the_old_one_notice_nothing(published_home: Home) -> None:
    home = published_home
    old = origins.read(home, "jp").release
    text = origins.REGIONS.replace("regions.jp", "regions.apac") + '\n[regions.jp]\nalias = "apac"\n'
    assert await sworn_in(home, text) == ["apac"]
    await origins.release(home, origins.SECOND)
    jp, apac = origins.read(home, "jp"), origins.read(home, "apac")
    assert jp.release.release == apac.release.release == 2
    assert jp.release.role_version == old.role_version + 1
    assert jp.release.deltas.keys() == {1}, "those who follow the old name get deltas as ever"
    same = {name: data for name, data in jp.sections.items() if not name.startswith("coldchain-canary")}
    assert same == {name: data for name, data in apac.sections.items() if not name.startswith("coldchain-canary")}
    assert jp.manifest.regions["jp"].policy == jp.manifest.regions["apac"].policy != ()
    assert (await tried(home, "apac")).unchanged


@pytest.mark.parametrize(
    "table",
    [
        'alias = "jp"\nwave = 1',
        'alias = "nobody"',
        'alias = "old"',
        "alias = 1",
        'alias = ""',
        'alias = "older"',
    ],
)
def test_an_alias_is_of_a_region_and_says_nothing_else(table: str) -> None:
    older = '\n[regions.older]\nalias = "us"\n'
    assert load_regions(origins.REGIONS + older).regions["older"].alias == "us"
    with pytest.raises(UsageError, match=r"\[regions\.old\]"):
        load_regions(f"{origins.REGIONS}{older}\n[regions.old]\n{table}\n")


def test_an_alias_has_everything_of_its_region() -> None:
    regions = load_regions(f'[regions.old]\nalias = "jp"\n{origins.REGIONS}').regions
    assert list(regions) == ["old", "us", "jp"]
    old, jp = regions["old"], regions["jp"]
    assert (old.jurisdiction, old.wave, old.edges, old.policy) == (jp.jurisdiction, jp.wave, jp.edges, jp.policy)
    assert (old.residency, jp.residency) == ("ch", "ch")
