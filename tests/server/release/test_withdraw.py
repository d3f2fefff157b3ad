"""Withdrawing a release and suppressing a signature: higher releases, whole, public, by the same threshold; and content promoted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coldchain.bundle.manifest import MOST_WITHDRAWN, Manifest, Withdrawal
from coldchain.errors import ApprovalError, LintError, StateError, StorageError, UsageError
from coldchain.tuf.metadata import parse_metadata
from coldchain.verify import decide, rollout_state
from coldchain_server.home import Home
from coldchain_server.release import withdraw as withdraw_room
from coldchain_server.release.build import build
from coldchain_server.release.earlier import newest_manifest, published_manifests
from coldchain_server.release.suppress import lift, suppress
from coldchain_server.release.withdraw import Prepared, choose, withdraw
from coldchain_server.signing.roles import encode, load_state
from tests.client.agent.publisher import hashes
from tests.client.bundle.test_manifest import MANIFEST
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.release.test_rollout import scheduled, stands

NAME = "Win.Trojan.Agent-5-0"
WHY = "matches a printer driver"


async def withdrawing(home: Home, number: int, **more: Any) -> Prepared:
    async with home.catalogue() as catalogue:
        return await withdraw(home, catalogue, "stable", number, reason=WHY, now=NOW, **more)


async def suppressing(home: Home, name: str = NAME) -> Prepared:
    async with home.catalogue() as catalogue:
        return await suppress(home, catalogue, "stable", name, reason=WHY, now=NOW)


async def out(home: Home, found: Prepared) -> Prepared:
    """The rest of the way, by the same threshold as ever."""
    if found.state == "built":
        await origins.log_built(home, found.number)
    await origins.approve_release(home, found.number)
    await origins.publish_release(home, found.number, emergency=True)
    return found


def own(sections: Any) -> dict[str, bytes]:
    return {name: data for name, data in sections.items() if not name.startswith("coldchain-canary")}


async def action(home: Home, region: str, installed: int | None, bucket: int = 9999) -> str:
    """What an endpoint with that release decides."""
    state = await load_state(home.storage)
    facts: Any = state.rollout()[region]
    read = origins.read(home, region)
    role = parse_metadata(encode(state.delegated["rollout"]), "targets", name="rollout")
    assert facts["stable"]["release"] == read.release.release
    return decide(read.release, rollout_state(role, region, "stable"), installed, bucket).action


# -- withdraw ----------------------------------------------------------------------------------------------------------


async def test_a_withdrawal_is_a_higher_release_with_the_old_content(published_home: Home) -> None:
    home = published_home
    good = {region: own(origins.read(home, region).sections) for region in ("us", "jp")}
    await origins.release(home, origins.SECOND)
    assert own(origins.read(home, "us").sections) != good["us"]
    found = await out(home, await withdrawing(home, 2))
    assert (found.number, found.gave_up, found.manifest.withdraws) == (3, (), Withdrawal((2,), 1, WHY))
    for region, content in good.items():
        read = origins.read(home, region)
        assert (read.release.release, own(read.sections)) == (3, content)
        assert read.manifest.withdraws == Withdrawal((2,), 1, WHY), "the log does not say why"
        assert {1, 2} <= set(read.release.deltas), "no delta for those who run the bad one, or still the good one"


async def test_endpoints_on_a_withdrawn_release_do_not_wait_and_others_begin_with_the_first_stage(
    approved_home: Home,
) -> None:
    home = scheduled(approved_home)
    await origins.publish_release(home, 2)
    found = await withdrawing(home, 2)
    await origins.log_built(home, found.number)
    await origins.approve_release(home, found.number)
    await origins.publish_release(home, found.number)
    standing = (await stands(home)).standing
    assert standing is not None
    assert standing.emergency, "a withdrawal hurries, whether or not somebody says so"
    said = {
        (region, installed, bucket): await action(home, region, installed, bucket)
        for region in ("us", "jp")
        for installed in (None, 1, 2, 3)
        for bucket in (0, 499, 500, 9999)
    }
    for (region, installed, bucket), what in said.items():
        stage = (region == "us" and bucket < 500) or installed is None
        wanted = "current" if installed == 3 else "apply" if installed == 2 or stage else "wait"
        assert what == wanted, (region, installed, bucket)


async def test_releases_after_the_bad_one_go_with_it_and_stay_withdrawn(published_home: Home) -> None:
    home = published_home
    await origins.release(home, origins.SECOND)
    await origins.release(home, origins.THIRD)
    assert (await out(home, await withdrawing(home, 2))).manifest.withdraws == Withdrawal((2, 3), 1, WHY)
    for again in (2, 3):
        with pytest.raises(StateError, match=f"release {again} was withdrawn already"):
            await withdrawing(home, again)
    with pytest.raises(StateError, match="feeds hold what release 3 held, which was withdrawn"):
        await origins.build_release(home, None)
    assert await origins.release(home, origins.FIRST | {"more.hsb": hashes(7000)}) == 5
    assert [await action(home, "us", installed) for installed in (2, 3)] == ["apply", "apply"]
    found = await withdrawing(home, 5)
    assert found.manifest.withdraws == Withdrawal((5,), 4, WHY)


async def test_what_cannot_be_withdrawn_is_told(published_home: Home) -> None:
    home = published_home
    with pytest.raises(StateError, match="before release 1 there is no good one"):
        await withdrawing(home, 1)
    with pytest.raises(StateError, match="release 7 is not published"):
        await withdrawing(home, 7)
    await origins.release(home, origins.SECOND)
    regions = home.directory / "regions.toml"
    text = regions.read_text()
    regions.write_text(text.replace("Agent-3-0", "Agent-4-0"))
    with pytest.raises(StateError, match="the policy of jp changed since release 1"):
        await withdrawing(home, 2)
    found = await withdrawing(home, 2, policies_now=True)
    assert [one.name for one in found.manifest.regions["jp"].policy] == ["Win.Trojan.Agent-4-0"]
    regions.write_text(text)
    again = await withdrawing(home, 2)
    assert (again.gave_up, again.number) == ((found.number,), found.number), "another policy is another draft"


def published(*withdrawals: tuple[int, Withdrawal | None]) -> list[Manifest]:
    return [replace(MANIFEST, release=number, withdraws=said) for number, said in withdrawals]


def test_the_last_good_release_is_chosen_over_withdrawn_ones() -> None:
    """Every history of up to seven releases, each ordinary or withdrawing one that is chosen by these rules."""
    tried = 0
    for plan in range(3**6):
        history = published((1, None))
        bad: set[int] = set()
        content = {1: 1}
        for number in range(2, 8):
            back = plan // 3 ** (number - 2) % 3
            target = number - back
            try:
                good, said = choose(history, target, WHY) if back else (None, None)
            except StateError:
                assert target in bad or target == 1 or not set(range(1, target)) - bad
                good, said = None, None
            if good is not None and said is not None:
                assert said.releases == tuple(sorted(set(range(target, number)) - bad))
                assert good.release == max(set(range(1, target)) - bad)
                bad |= set(said.releases)
                tried += 1
            content[number] = content[good.release] if good else number
            assert content[number] not in bad, "a withdrawn content came back"
            history += published((number, said))
    assert tried > 500


def test_a_withdrawal_has_a_bound() -> None:
    history = published(*((number, None) for number in range(1, MOST_WITHDRAWN + 3)))
    assert len(choose(history, 3, WHY)[1].releases) == MOST_WITHDRAWN
    with pytest.raises(StateError, match=f"one withdraws at most {MOST_WITHDRAWN}"):
        choose(history, 2, WHY)


async def test_a_waiting_release_gives_way_and_a_second_try_goes_on(built_home: Home) -> None:
    home = built_home
    await origins.approve_release(home, 2)
    await origins.publish_release(home, 2)
    await origins.build_release(home, origins.THIRD)
    first = await withdrawing(home, 2)
    assert (first.number, first.gave_up, first.state) == (4, (3,), "built")
    again = await withdrawing(home, 2)
    assert (again.number, again.gave_up, again.state) == (4, (), "built")
    await origins.log_built(home, 4)
    assert (await withdrawing(home, 2)).state == "logged"
    await origins.approve_release(home, 4)
    assert (await withdrawing(home, 2)).state == "approved"
    await origins.publish_release(home, 4)
    assert await origins.states(home) == {1: "published", 2: "published", 3: "discarded", 4: "published"}


@pytest.mark.parametrize("what", ["other content", "fewer releases", "another origin of it"])
async def test_an_approver_signs_no_withdrawal_that_is_not_so(published_home: Home, what: str) -> None:
    home = published_home
    await origins.release(home, origins.SECOND)
    await origins.release(home, origins.THIRD)
    async with home.catalogue() as catalogue:
        one, two, _ = await published_manifests(home, catalogue, "stable")
        said = {
            "other content": (two, Withdrawal((2, 3), 1, WHY), "snapshots are not those of release 1"),
            "fewer releases": (one, Withdrawal((2,), 1, WHY), "it should withdraw"),
            "another origin of it": (two, Withdrawal((3,), 1, WHY), "restore 2"),
        }[what]
        await build(home, catalogue, channel="stable", now=NOW, content_of=said[0], withdraws=said[1])
    await origins.log_built(home, 4)
    with pytest.raises(ApprovalError, match=said[2]):
        await origins.approve_release(home, 4)
    assert origins.read_all(home) == 3


# -- suppress ----------------------------------------------------------------------------------------------------------


async def test_a_suppression_takes_one_signature_out_of_every_region_and_says_why(published_home: Home) -> None:
    home = published_home
    before = {region: own(origins.read(home, region).sections) for region in ("us", "jp")}
    origins.write_feed(home, origins.SECOND)  # what the feed holds now is not part of it
    found = await out(home, await suppressing(home))
    assert found.number == 2
    for region, sections in before.items():
        read = origins.read(home, region)
        for name, data in own(read.sections).items():
            lines, kept = sections[name].splitlines(), data.splitlines()
            assert [line for line in lines if line not in kept] == [
                line for line in lines if line.endswith(f":{NAME}".encode())
            ]
            assert set(kept) <= set(lines)
        policy = {one.name: one for one in read.manifest.regions[region].policy}
        assert (policy[NAME].action, policy[NAME].reason, policy[NAME].records) == ("leave-out", WHY, 1)
    await origins.release(home, origins.SECOND)
    assert NAME.encode() not in b"".join(origins.read(home, "us").sections.values()), "a later release brought it back"
    lift(home, NAME)
    await origins.release(home, origins.THIRD)
    assert NAME.encode() in b"".join(origins.read(home, "us").sections.values())
    with pytest.raises(UsageError, match="is not suppressed"):
        lift(home, NAME)


async def test_a_suppression_that_cannot_be_is_told_and_leaves_nothing(
    published_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = published_home
    for name, words in (("Nobody.Knows-1", "has no signature named"), ("", "name is missing"), ("a\nb", "one line")):
        with pytest.raises(UsageError, match=words):
            await suppressing(home, name)

    async def refuses(*_: object, **__: object) -> None:
        raise LintError("another signature needs it")

    with monkeypatch.context() as patch:
        patch.setattr(withdraw_room, "build", refuses)
        with pytest.raises(LintError):
            await suppressing(home)
    assert home.suppressed() == ()
    assert await origins.states(home) == {1: "published"}


async def test_a_suppression_goes_on_after_a_crash(published_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies after the suppression is written, then after the draft is there; the next try ends it under one number."""
    home = published_home

    async def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(withdraw_room, "build", dies)
        with pytest.raises(KeyboardInterrupt):
            await suppressing(home)
    assert [one.name for one in home.suppressed()] == [NAME]
    first, again = await suppressing(home), await suppressing(home)
    assert (first.number, again.number, again.state) == (2, 2, "built")
    await out(home, again)
    assert origins.read_all(home) == 2


async def test_the_next_release_after_a_withdrawal_of_a_suppression_keeps_the_suppression_in_force(
    published_home: Home,
) -> None:
    home = published_home
    await out(home, await suppressing(home))
    with pytest.raises(StateError, match="the policy of us, jp changed since release 1"):
        await withdrawing(home, 2)
    lift(home, NAME)
    await out(home, await withdrawing(home, 2))
    assert NAME.encode() in b"".join(origins.read(home, "us").sections.values())


# -- channels ----------------------------------------------------------------------------------------------------------


async def test_what_was_tried_on_early_becomes_the_stable_release(published_home: Home) -> None:
    home = published_home
    assert await origins.release(home, origins.SECOND, channel="early") == 1
    tried = own(origins.read(home, "us", "early").sections)
    origins.write_feed(home, origins.THIRD)
    async with home.catalogue() as catalogue:
        content = await newest_manifest(home, catalogue, "early")
        await build(home, catalogue, channel="stable", now=NOW, content_of=content)
    await origins.log_built(home, 2)
    await origins.approve_release(home, 2)
    await origins.publish_release(home, 2)
    assert own(origins.read(home, "us").sections) == tried


async def test_a_missing_snapshot_stops_a_withdrawal(published_home: Home) -> None:
    home = published_home
    await origins.release(home, origins.SECOND)
    async with home.catalogue() as catalogue:
        good = (await published_manifests(home, catalogue, "stable"))[0]
    home.content(good.feeds[0].snapshot).unlink()
    with pytest.raises(StorageError):
        await withdrawing(home, 2)
    assert await origins.states(home) == {1: "published", 2: "published"}
