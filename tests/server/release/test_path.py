"""Build, approve, publish, roll out, discard: what each step does, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta

import pytest

from coldchain.errors import ApprovalError, BusyError, KeyringError, LintError, StateError, UsageError
from coldchain.verify import RolloutState, decide
from coldchain_server.home import Home
from coldchain_server.release.build import build, discard
from coldchain_server.release.preview import preview
from coldchain_server.release.rollout import change_rollout
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.roles import load_state
from coldchain_server.signing.rotation import rotate
from tests.client.tuf.repository import NOW
from tests.server import origins

HOUR = timedelta(hours=1)


async def rolled(home: Home, *regions: str, **change: object) -> dict[str, dict[str, object]]:
    async with home.catalogue() as catalogue:
        return await change_rollout(home, catalogue, origins.keyring(home), "stable", regions, now=NOW, **change)  # type: ignore[arg-type]


async def discarded(home: Home, number: int) -> None:
    async with home.catalogue() as catalogue:
        await discard(home, catalogue, "stable", number, now=NOW)


async def test_a_release_goes_the_whole_way(new_home: Home) -> None:
    home = new_home
    built = await origins.only_build(home, origins.FIRST)
    assert (built.number, built.manifest.previous, built.unchanged) == (1, None, False)
    assert await origins.states(home) == {1: "built"}
    assert not (home.public / "targets").exists(), "building publishes nothing"
    with pytest.raises(ApprovalError, match="not logged"):
        await origins.publish_release(home, 1)
    with pytest.raises(StateError, match="not in the public log yet"):
        await origins.approve_release(home, 1)
    await origins.log_built(home, 1)
    assert await origins.states(home) == {1: "logged"}
    logged = {path.name for path in (home.public / "targets").rglob("*") if path.is_file()}
    assert logged == {f"{facts.full.sha256}.full.ccd" for facts in built.manifest.regions.values() if facts.full}
    with pytest.raises(ApprovalError, match="not approved"):
        await origins.publish_release(home, 1)
    assert await origins.approve_release(home, 1) == ("approver-1", True)
    assert await origins.states(home) == {1: "approved"}
    assert {path.name for path in (home.public / "targets").rglob("*") if path.is_file()} == logged, "nothing more"
    manifest = await origins.publish_release(home, 1, share=10)
    assert await origins.states(home) == {1: "published"}
    assert not list(home.drafts.glob("*"))
    for region in ("us", "jp"):
        read = origins.read(home, region)
        assert (read.release.release, read.share, read.held, read.manifest) == (1, 10, False, manifest)
    with pytest.raises(StateError, match="release 1 of stable is published"):
        await origins.publish_release(home, 1)


async def test_the_second_release_comes_with_deltas_and_a_chain_of_manifests(published_home: Home) -> None:
    first = origins.read(published_home, "us").manifest
    assert await origins.release(published_home, origins.SECOND) == 2
    read = origins.read(published_home, "us")
    assert set(read.release.deltas) == {1}
    assert read.release.deltas[1].length < read.release.full.length / 4
    assert read.manifest.previous == first.digest
    assert read.manifest.changes["global"]["acme-daily.hsb"] == (4, 2)
    assert await origins.release(published_home, origins.THIRD) == 3
    assert set(origins.read(published_home, "us").release.deltas) == {1, 2}
    assert (published_home.changes / "stable" / "us" / "1-2.cch").is_file()


async def test_policies_of_regions_stand_in_the_manifest_with_their_reasons(published_home: Home) -> None:
    us, jp = origins.read(published_home, "us"), origins.read(published_home, "jp")
    assert us.manifest == jp.manifest, "one statement for all regions"
    assert us.manifest.regions["us"].policy == ()
    (policy,) = us.manifest.regions["jp"].policy
    assert (policy.action, policy.kind, policy.name, policy.records) == (
        "leave-out",
        "signature",
        "Win.Trojan.Agent-3-0",
        1,
    )
    assert policy.reason == "matches a printer driver sold only there"
    left_out = set(us.sections["acme-daily.hsb"].splitlines()) - set(jp.sections["acme-daily.hsb"].splitlines())
    assert [line.rsplit(b":", 1)[1] for line in left_out] == [b"Win.Trojan.Agent-3-0"]
    assert {name: data for name, data in us.sections.items() if name == "acme-main.hsb"} == {
        name: data for name, data in jp.sections.items() if name == "acme-main.hsb"
    }


async def test_a_change_of_policy_alone_is_a_release(published_home: Home) -> None:
    home = published_home
    regions = home.directory / "regions.toml"
    regions.write_text(regions.read_text().replace("Agent-3-0", "Agent-4-0"))
    assert await origins.release(home, None) == 2
    read = origins.read(home, "jp")
    assert b"Agent-3-0" in read.sections["acme-daily.hsb"]
    assert b"Agent-4-0" not in read.sections["acme-daily.hsb"]
    assert read.manifest.changes == {"global": {}, "jp": {"acme-daily.hsb": (1, 1)}}


async def test_one_release_of_a_channel_waits_at_a_time(published_home: Home) -> None:
    await origins.build_release(published_home, origins.SECOND)
    with pytest.raises(StateError, match="release 2 of stable is logged and not published"):
        await origins.build_release(published_home, None)
    await origins.approve_release(published_home, 2)
    with pytest.raises(StateError, match="release 2 of stable is approved and not published"):
        await origins.build_release(published_home, None)


@pytest.mark.parametrize("approved", [False, True])
async def test_a_discarded_release_is_gone_and_its_number_with_it(published_home: Home, approved: bool) -> None:
    home = published_home
    await origins.build_release(home, origins.SECOND)
    if approved:
        await origins.approve_release(home, 2)
    await discarded(home, 2)
    assert not home.draft("stable", 2).exists()
    for attempt in (origins.approve_release(home, 2), origins.publish_release(home, 2), discarded(home, 2)):
        with pytest.raises(StateError, match="release 2 of stable is discarded"):
            await attempt
    assert origins.read_all(home) == 1
    assert await origins.release(home, None) == 3
    assert origins.read_all(home) == 3
    assert set(origins.read(home, "us").release.deltas) == {1}


async def test_a_published_release_cannot_be_discarded(published_home: Home) -> None:
    with pytest.raises(StateError, match="is published: it cannot become discarded"):
        await discarded(published_home, 1)
    assert origins.read_all(published_home) == 1


async def test_unknown_releases_and_channels_are_named(published_home: Home) -> None:
    for attempt in (origins.approve_release(published_home, 9), origins.publish_release(published_home, 9)):
        with pytest.raises(StateError):
            await attempt
    with pytest.raises(StateError, match="no channel 'nightly'"):
        await origins.build_release(published_home, None, channel="nightly")


async def test_without_a_feed_nothing_is_built(new_home: Home) -> None:
    with pytest.raises(StateError, match="no feed yet"):
        await origins.build_release(new_home, None)


async def test_a_broken_feed_stops_the_build_and_keeps_the_last_snapshot(published_home: Home) -> None:
    home = published_home
    (home.directory.parent / "origin-feed").mkdir(exist_ok=True)
    with pytest.raises(LintError):
        await origins.build_release(home, {"daily.hsb": b"this is no hash\n"})
    assert await origins.states(home) == {1: "published"}
    async with home.catalogue() as catalogue:
        assert (await preview(home, catalogue, "stable", "us")).after[0] == 120


async def test_channels_have_their_own_numbers_and_do_not_touch_each_other(published_home: Home) -> None:
    home = published_home
    assert await origins.release(home, origins.SECOND, channel="early") == 1
    assert origins.read_all(home, channel="early") == 1
    stable = origins.read(home, "us")
    assert (stable.release.release, stable.manifest.channel) == (1, "stable")
    assert stable.sections["acme-daily.hsb"] != origins.read(home, "us", "early").sections["acme-daily.hsb"]


async def test_a_release_overtaken_by_the_other_channel_is_built_again(published_home: Home) -> None:
    """Both channels stand in one role: a draft that was made before the other was published would take it back."""
    home = published_home
    await origins.build_release(home, origins.SECOND)
    await origins.approve_release(home, 2)
    await origins.build_release(home, None, channel="early")
    await origins.approve_release(home, 1, channel="early")
    await origins.publish_release(home, 1, channel="early")
    with pytest.raises(StateError, match="moved on since release 2 was built") as caught:
        await origins.publish_release(home, 2)
    assert "discard 2" in caught.value.todo
    await discarded(home, 2)
    assert await origins.release(home, None) == 3
    assert origins.read_all(home, channel="early") == 1


async def test_an_old_catalogue_does_not_lead_to_an_old_number(published_home: Home) -> None:
    """The origin's database comes from a backup made before release 2: what clients have seen is not taken back."""
    home = published_home
    backup = home.directory.parent / "backup"
    backup.mkdir()
    for file in home.directory.glob("catalogue.*"):
        shutil.copy(file, backup)
    assert await origins.release(home, origins.SECOND) == 2
    for file in home.directory.glob("catalogue.*"):
        file.unlink()
    for file in backup.iterdir():
        shutil.copy(file, home.directory)
    assert await origins.states(home) == {1: "published"}
    assert await origins.release(home, origins.THIRD) == 3
    assert origins.read_all(home) == 3


# -- approving --------------------------------------------------------------------------------------------------------


async def test_the_approver_is_another_than_the_assembler(published_home: Home) -> None:
    home = published_home
    await origins.build_release(home, origins.SECOND)
    assert await origins.approve_release(home, 2, key="assembler") == ("assembler", False), "twice the same is once"
    assert await origins.states(home) == {1: "published", 2: "logged"}
    with pytest.raises(ApprovalError, match="not approved"):
        await origins.publish_release(home, 2)
    assert await origins.approve_release(home, 2, key="approver-2") == ("approver-2", True)
    assert await origins.approve_release(home, 2) == ("approver-1", True), "a third may follow"
    with pytest.raises(KeyringError, match="no key is here that may still sign"):
        await origins.approve_release(home, 2)
    await origins.publish_release(home, 2)


@pytest.mark.parametrize("key", ["root-1", "targets-1", "timestamp", "rollout"])
async def test_a_key_of_another_role_approves_nothing(published_home: Home, key: str) -> None:
    await origins.build_release(published_home, origins.SECOND)
    with pytest.raises(KeyringError, match=f"key {key} may not sign"):
        await origins.approve_release(published_home, 2, key=key)
    with pytest.raises(KeyringError, match="no key 'nobody'"):
        await origins.approve_release(published_home, 2, key="nobody")


async def test_without_an_approvers_key_nothing_is_approved(published_home: Home) -> None:
    await origins.build_release(published_home, origins.SECOND)
    for name in ("approver-1", "approver-2"):
        (published_home.keys / f"{name}.json").unlink()
    with pytest.raises(KeyringError, match="no key is here"):
        await origins.approve_release(published_home, 2)
    assert await origins.states(published_home) == {1: "published", 2: "logged"}


async def test_keys_rotated_meanwhile_do_not_count(published_home: Home) -> None:
    home = published_home
    await origins.build_release(home, origins.SECOND)
    await origins.approve_release(home, 2)
    async with home.catalogue() as catalogue, catalogue.publisher():
        state = await load_state(home.storage)
        await rotate(state, origins.keyring(home), home.storage, "region", now=NOW, strength=DEMO)
    with pytest.raises(StateError, match="moved on"):
        await origins.publish_release(home, 2)
    assert origins.read_all(home) == 1


# -- rollout ----------------------------------------------------------------------------------------------------------


async def test_share_and_hold_by_region(published_home: Home) -> None:
    home = published_home
    assert (await rolled(home, "us", share=25))["us"] == {"release": 1, "share": 25, "held": False}
    assert (await rolled(home, "jp", held=True))["jp"] == {"release": 1, "share": 100, "held": True}
    us, jp = origins.read(home, "us"), origins.read(home, "jp")
    assert (us.share, us.held, jp.share, jp.held) == (25, False, 100, True)
    await rolled(home, held=True)
    assert [origins.read(home, region).held for region in ("us", "jp")] == [True, True]
    await rolled(home, held=False, share=50)
    assert [origins.read(home, region).share for region in ("us", "jp")] == [50, 50]


async def test_endpoints_obey_the_rollout(published_home: Home) -> None:
    home = published_home
    await origins.release(home, origins.SECOND)
    for share, held in ((0, False), (30, False), (100, False), (100, True)):
        await rolled(home, share=share, held=held)
        read = origins.read(home, "us")
        rollout = RolloutState(2, read.share, read.held)
        applied = [b for b in range(0, 10_000, 500) if decide(read.release, rollout, 1, b).action == "apply"]
        assert len(applied) == (0 if held else share / 5)


async def test_a_new_release_starts_with_its_own_share(published_home: Home) -> None:
    home = published_home
    await rolled(home, held=True)
    await origins.build_release(home, origins.SECOND)
    await origins.approve_release(home, 2)
    await origins.publish_release(home, 2, share=5)
    read = origins.read(home, "us")
    assert (read.release.release, read.share, read.held) == (2, 5, False)


async def test_a_rollout_of_nothing_is_refused(new_home: Home, published_home: Home) -> None:
    with pytest.raises(UsageError, match="0 to 100"):
        await rolled(published_home, share=101)
    with pytest.raises(UsageError, match="no region 'atlantis'"):
        await rolled(published_home, "atlantis", share=1)


async def test_before_a_release_there_is_no_rollout(new_home: Home) -> None:
    with pytest.raises(StateError, match="no release of stable"):
        await rolled(new_home, share=1)
    with pytest.raises(StateError, match="region us has no release"):
        await rolled(new_home, "us", share=1)


# -- many at once -----------------------------------------------------------------------------------------------------


async def test_another_publisher_is_told_to_come_later(published_home: Home) -> None:
    home = published_home
    async with home.catalogue() as catalogue, catalogue.publisher():
        for attempt in (
            origins.build_release(home, None),
            origins.approve_release(home, 1),
            origins.publish_release(home, 1),
        ):
            with pytest.raises(BusyError, match="another publisher is at work"):
                await attempt
    await origins.build_release(home, None)


WORK = """
import asyncio, json, sys
from pathlib import Path
from coldchain.errors import ColdchainError
from coldchain_server.home import Home
from tests.server import origins
home = Home(Path(sys.argv[1]))
async def work(step):
    if step == "build":
        return (await origins.build_release(home, None)).number
    if step == "approve":
        return (await origins.approve_release(home, 2))[0]
    return (await origins.publish_release(home, 2)).release
print("ready", flush=True)
for step in sys.stdin:
    try:
        print(json.dumps(["done", asyncio.run(work(step.strip()))]), flush=True)
    except ColdchainError as error:
        print(json.dumps([type(error).__name__, str(error)]), flush=True)
"""


def test_publishers_at_once_cannot_clash(published_home: Home) -> None:
    """Three real processes, each of which tries each step at the same moment."""
    home = published_home
    origins.write_feed(home, origins.SECOND)
    words = [sys.executable, "-c", WORK, str(home.directory)]
    with ExitStack() as stack:
        publishers = [
            stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(3)
        ]
        assert [_line(one) for one in publishers] == ["ready"] * 3
        for step in ("build", "approve", "publish"):
            for one in publishers:
                assert one.stdin is not None
                one.stdin.write(f"{step}\n")
                one.stdin.flush()
            answers = [json.loads(_line(one)) for one in publishers]
            kinds = [kind for kind, _ in answers]
            assert set(kinds) <= {"done", "BusyError", "StateError", "KeyringError"}, answers
            assert "done" in kinds
            if step != "approve":  # two approvers may both sign, one after the other
                assert kinds.count("done") == 1, answers
            assert origins.read_all(home) == (2 if step == "publish" else 1)
        for one in publishers:
            assert one.stdin is not None
            one.stdin.close()
    assert asyncio.run(origins.states(home)) == {1: "published", 2: "published"}


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_building_at_once_in_one_process_cannot_clash(published_home: Home) -> None:
    home = published_home

    async def one() -> int:
        async with home.catalogue() as catalogue:
            built = await build(home, catalogue, channel="stable", now=NOW, pull_feeds=False)
            return built.number

    got = await asyncio.gather(*(one() for _ in range(4)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in got) == ["BusyError", "BusyError", "BusyError", "int"]
    assert await origins.states(home) == {1: "published", 2: "built"}
