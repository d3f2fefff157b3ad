"""Updates under the customer's own policy: what is kept back and why, what is not, and that repairs go on."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coldchain.approval import approve, file_name
from coldchain.errors import ColdchainError, EvidenceError, OwnPolicyError, UsageError
from coldchain.install import trusted
from coldchain.install.audit import audit
from coldchain.install.decided import read_decided
from coldchain.install.directory import ClientDirectory
from coldchain.install.status import status
from coldchain.verify import region_release
from tests.client.agent.publisher import FIRST, SECOND, Edge, Publisher, installed, run, serving
from tests.client.agent.world import contents
from tests.client.install.endpoint import Endpoint
from tests.client.tlog.memory_log import MemoryLog, Signing

TEAM, OTHER = Signing.make("security.example.com/fleet"), Signing.make("security.example.com/other")
HOUR = timedelta(hours=1)


def at(path: Path, **options: Any) -> Endpoint:
    return Endpoint.at(path, log=MemoryLog(**options))


def rules(directory: ClientDirectory, text: str | None) -> None:
    """Another policy.toml."""
    path = directory.path / "policy.toml"
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)


def kept_back(endpoint: Endpoint, words: str, **options: object) -> str:
    """The reason; what runs stays, and status repeats the reason."""
    before = installed(endpoint.directory)
    with pytest.raises(OwnPolicyError, match=words) as found:
        endpoint.update(**options)
    assert found.value.exit_code == 15
    assert found.value.kept
    assert found.value.todo
    assert installed(endpoint.directory) == before
    decided = read_decided(endpoint.directory)
    assert decided is not None
    assert decided.reason in found.value.what
    assert decided.kept_back
    lines = status(endpoint.directory, datetime.now(UTC)).decision_lines()
    assert any(decided.reason in line for line in lines)
    return decided.action


def approval(endpoint: Endpoint, release: int, signer: Signing = TEAM) -> bytes:
    """Of what is offered now."""
    config = endpoint.directory.config()
    kept = trusted.recall(trusted.stored(endpoint.directory, config), config)
    found = region_release(kept.role("us"), "us", "stable")
    assert found.release == release
    return approve(found, datetime.now(UTC)).sign(signer.public, lambda data: signer.private.sign(data).signature)


def test_hold_and_pin_keep_a_release_back_until_the_file_says_otherwise(tmp_path: Path) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    rules(endpoint.directory, "[release]\nhold = true")
    assert kept_back(endpoint, "holds") == "hold"
    assert installed(endpoint.directory) == {}
    rules(endpoint.directory, "[release]\npin = 1")
    assert endpoint.update().action == "installed"
    assert endpoint.update().action == "current"
    endpoint.publish(2, SECOND)
    assert kept_back(endpoint, "pins release 1") == "pin"
    rules(endpoint.directory, "[release]\npin = 2\nhold = true")
    assert kept_back(endpoint, "holds") == "hold"
    rules(endpoint.directory, None)
    assert endpoint.update().release == 2
    decided = read_decided(endpoint.directory)
    assert decided is not None
    assert (decided.action, decided.kept_back) == ("applied", False)
    rules(endpoint.directory, "[release]\npin = 1")  # below what runs: it stays, and goes on being checked
    assert endpoint.update().action == "current"
    assert contents(endpoint.directory) == SECOND


def test_every_combination_against_a_real_endpoint(tmp_path: Path) -> None:
    """Hold, pin, age and approval in all ways: the first that keeps back is the reason, and only with none it is applied."""
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    endpoint.update()
    endpoint.publish(2, SECOND)
    rules(endpoint.directory, "[release]\nhold = true")
    with pytest.raises(OwnPolicyError):
        endpoint.update()
    signed, template = approval(endpoint, 2), endpoint.directory.path
    for hold, pin, old, approved in itertools.product((True, False), (True, False), (False, True), (None, False, True)):
        endpoint.directory = ClientDirectory(tmp_path / f"{hold}-{pin}-{old}-{approved}")
        shutil.copytree(template, endpoint.directory.path, symlinks=True)
        lines = ["[release]", f"hold = {str(hold).lower()}", "minimum_age = '6h'", "pin = 1" if pin else ""]
        lines += ["[approval]", f"key = '{TEAM.public.vkey}'"] if approved is not None else []
        rules(endpoint.directory, "\n".join(lines))
        if approved:
            (endpoint.directory.path / "approvals").mkdir()
            (endpoint.directory.path / "approvals" / file_name("us", "stable", 2)).write_bytes(signed)
        now = endpoint.publisher.now + 6 * HOUR - timedelta(seconds=not old)
        expected = (
            "hold"
            if hold
            else "pin"
            if pin
            else "minimum-age"
            if not old
            else "approval"
            if approved is False
            else None
        )
        if expected is None:
            assert endpoint.update(now=lambda now=now: now).release == 2
            continue
        with pytest.raises(OwnPolicyError):
            endpoint.update(now=lambda now=now: now)
        decided = read_decided(endpoint.directory)
        assert decided is not None
        assert (decided.action, decided.release) == (expected, 2)
        assert contents(endpoint.directory) == FIRST


def test_the_age_counts_from_the_witnesses_whatever_the_manifest_says(tmp_path: Path) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    rules(endpoint.directory, "[release]\nminimum_age = '6h'")
    assert kept_back(endpoint, "in public since .*: not before") == "minimum-age"
    # six hours later, by this endpoint's clock, it comes by itself
    later = endpoint.publisher.now + timedelta(hours=6)
    with pytest.raises(OwnPolicyError):
        endpoint.update(now=lambda: later - timedelta(seconds=1))
    assert endpoint.update(now=lambda: later).action == "installed"


def test_without_witnesses_nobody_vouches_for_an_age(tmp_path: Path) -> None:
    endpoint = at(tmp_path, witnesses=(), need=0)
    endpoint.publish(1, FIRST)
    rules(endpoint.directory, "[release]\nminimum_age = '1s'")
    assert kept_back(endpoint, "no witness vouches") == "minimum-age"
    rules(endpoint.directory, "[release]\nminimum_age = '0s'")
    assert endpoint.update().action == "installed"


def test_demands_on_the_log_come_on_top_and_reach_back_to_what_is_installed(tmp_path: Path) -> None:
    endpoint = at(tmp_path, need=1)
    endpoint.publish(1, FIRST)
    for text, words in (
        ("[log]\nwitnesses = 3", "2 of 3 witnesses that your own policy asks for"),
        ("[log]\njurisdictions = 1", "0 of 1 jurisdictions that your own policy asks for"),
        ("[log]\nrebuilders = 1", "rebuilt by 0 of 1"),
        (f"[log]\nrebuilders = 1\n[log.rebuilder]\nalice = '{TEAM.public.key.raw.hex()}'", "alice: no attestation"),
    ):
        rules(endpoint.directory, text)
        with pytest.raises(EvidenceError, match=words):
            endpoint.update()
        rules(endpoint.directory, None if installed(endpoint.directory) else "[log]\nwitnesses = 2")
        endpoint.update()
        assert audit(endpoint.directory, datetime.now(UTC)).error is None
        rules(endpoint.directory, text)
        assert audit(endpoint.directory, datetime.now(UTC)).error is not None
        assert status(endpoint.directory, datetime.now(UTC)).log.problem
        with pytest.raises(EvidenceError):
            endpoint.update()
        assert contents(endpoint.directory) == FIRST


def test_an_endpoint_without_a_log_policy_cannot_be_asked_for_more_of_it(tmp_path: Path) -> None:
    endpoint = Endpoint.at(tmp_path)
    endpoint.publish(1, FIRST)
    rules(endpoint.directory, "[log]\nwitnesses = 1")
    with pytest.raises(UsageError, match="asks for more than"):
        endpoint.update()


@pytest.mark.parametrize("text", ["", "[release", "[release]\nhodl = true"])
def test_a_file_that_is_no_policy_stops_everything_and_is_said_everywhere(tmp_path: Path, text: str) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    endpoint.update()
    endpoint.publish(2, SECOND)
    rules(endpoint.directory, text)
    for repair in (False, True):
        with pytest.raises(UsageError, match=r"policy\.toml"):
            endpoint.update(repair=repair)
    assert contents(endpoint.directory) == FIRST
    found = status(endpoint.directory, datetime.now(UTC))
    assert found.own_problem is not None
    assert "NOT IN ORDER" in found.decision_lines()[0]
    audited = audit(endpoint.directory, datetime.now(UTC))
    assert isinstance(audited.error, UsageError)
    assert [check.name for check in audited.checks if not check.ok] == ["own policy"]


def test_what_is_there_and_no_file_is_not_taken_for_no_policy(tmp_path: Path) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    path = endpoint.directory.path / "policy.toml"
    path.mkdir()
    with pytest.raises(UsageError, match="no file of its own"):
        endpoint.update()
    path.rmdir()
    path.symlink_to("nowhere")
    with pytest.raises(UsageError, match="no file of its own"):
        endpoint.update()
    path.unlink()
    path.write_text("#" * 300_000)
    with pytest.raises(UsageError, match="longer than"):
        endpoint.update()
    path.unlink()
    assert endpoint.update().action == "installed"


@pytest.mark.parametrize("how", ["hold = true", "pin = 1", "minimum_age = '9w'"])
def test_a_repair_is_no_new_release(tmp_path: Path, how: str) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    endpoint.update()
    rules(endpoint.directory, f"[release]\n{how}")
    assert endpoint.update(repair=True).action == "repaired"
    endpoint.replace("daily.hsb", b"")
    assert endpoint.update().action == "repaired"
    # and what runs is repaired from its own evidence while a newer one is kept back
    endpoint.publish(2, SECOND)
    endpoint.replace("daily.hsb", b"")
    with pytest.raises(OwnPolicyError, match=r"was damaged .* and is repaired"):
        endpoint.update()
    assert contents(endpoint.directory) == FIRST


def asking(url: object = None) -> str:
    return f"[approval]\nkey = '{TEAM.public.vkey}'" + (f"\nurl = '{url}'" if url else "")


def test_only_the_teams_own_approval_of_exactly_this_release_lets_it_in(tmp_path: Path) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    rules(endpoint.directory, asking())
    assert (
        kept_back(endpoint, "not approved by security.example.com/fleet: there is no us-stable-1.approval")
        == "approval"
    )
    good, name = approval(endpoint, 1), file_name("us", "stable", 1)
    folder = endpoint.directory.path / "approvals"
    folder.mkdir()
    for bad, words in (
        (approval(endpoint, 1, OTHER), "no signature of a known key"),
        (good.replace(b"release 1", b"release 2"), "bad"),
        (b"", "no empty line"),
    ):
        (folder / name).write_bytes(bad)
        assert kept_back(endpoint, words) == "approval"
    (folder / name).write_bytes(good)
    assert endpoint.update().action == "installed"
    found = audit(endpoint.directory, datetime.now(UTC))
    assert found.error is None
    assert any(check.name == "approval" and "by security.example.com/fleet" in check.detail for check in found.checks)
    (folder / name).unlink()  # it is kept with the release's evidence
    assert endpoint.update().action == "current"
    assert audit(endpoint.directory, datetime.now(UTC)).error is None
    assert endpoint.update(repair=True).action == "repaired"
    assert audit(endpoint.directory, datetime.now(UTC)).error is None
    endpoint.publish(2, SECOND)
    (folder / file_name("us", "stable", 2)).write_bytes(good)
    assert kept_back(endpoint, "the approval is of release 1") == "approval"


async def test_an_approval_comes_from_the_customers_own_server_and_nobody_else_is_asked(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher", regions=("us",), log=MemoryLog())
    publisher.publish(1, FIRST)
    origin, team = Edge(publisher.files), Edge({})
    async with serving(origin) as url, serving(team) as own:
        directory = publisher.client(tmp_path / "endpoint", url)
        rules(directory, asking(own))
        with pytest.raises(OwnPolicyError, match=r"there is no us-stable-1\.approval"):
            await run(directory)
        data = await asyncio.to_thread(approval, Endpoint(publisher, tmp_path / "mirror", directory), 1)
        team.files = {"us-stable-1.approval": data}
        assert (await run(directory)).action == "installed"
        assert not [path for path in origin.paths if "approval" in path]
        assert team.paths == ["us-stable-1.approval"] * 2
        assert (await run(directory)).action == "current"
        assert len(team.paths) == 2, "what is kept is enough"
        publisher.publish(2, SECOND)
        origin.files = publisher.files
    rules(directory, asking(own))
    async with serving(origin) as url:
        with pytest.raises(OwnPolicyError, match=r"not approved by .*127\.0\.0\.1"):
            await run(directory, url)  # the team's server is away


def test_who_begins_to_ask_for_approvals_is_told_until_what_runs_has_one(tmp_path: Path) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    endpoint.update()
    rules(endpoint.directory, asking())
    with pytest.raises(OwnPolicyError, match="is installed, and your own policy asks for an approval"):
        endpoint.update()
    assert contents(endpoint.directory) == FIRST
    assert isinstance(audit(endpoint.directory, datetime.now(UTC)).error, OwnPolicyError)
    assert status(endpoint.directory, datetime.now(UTC)).unapproved
    assert endpoint.update(repair=True).action == "repaired", "a repair goes on"
    folder = endpoint.directory.path / "approvals"
    folder.mkdir()
    (folder / file_name("us", "stable", 1)).write_bytes(approval(endpoint, 1))
    assert endpoint.update().action == "current"
    assert audit(endpoint.directory, datetime.now(UTC)).error is None
    assert not status(endpoint.directory, datetime.now(UTC)).unapproved


def test_a_decision_that_stands_is_written_once_and_damage_of_it_is_no_matter(tmp_path: Path) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    endpoint.update()
    endpoint.update()
    path = endpoint.directory.path / "decided.json"
    before = path.read_bytes(), path.stat().st_ino
    endpoint.update()
    assert (path.read_bytes(), path.stat().st_ino) == before
    for cut in range(len(before[0])):
        path.write_bytes(before[0][:cut])
        assert read_decided(endpoint.directory) is None
    rules(endpoint.directory, "# changed\n")
    endpoint.update()
    found = read_decided(endpoint.directory)
    assert found is not None
    assert found.action == "current"
    rules(endpoint.directory, "# changed again\n")
    assert "before policy.toml was changed" in status(endpoint.directory, datetime.now(UTC)).decision_lines()[-1]


def test_the_publishers_own_rollout_is_told_as_such(tmp_path: Path) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    endpoint.update()
    for held, action in ((False, "wait"), (True, "held")):
        endpoint.publish(3 if held else 2, SECOND, share=0, held=held)
        with pytest.raises(ColdchainError):
            endpoint.update()
        found = read_decided(endpoint.directory)
        assert found is not None
        assert (found.action, found.kept_back) == (action, True)


@pytest.mark.parametrize("text", ["[release]\nhold = true", "[release]\npin = 1"])
async def test_nothing_of_a_release_that_waits_is_fetched(tmp_path: Path, text: str) -> None:
    publisher = Publisher(tmp_path / "publisher", regions=("us",), log=MemoryLog())
    publisher.publish(1, FIRST)
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        publisher.publish(2, SECOND)
        rules(directory, text)
        edge.log.clear()
        with pytest.raises(OwnPolicyError):
            await run(directory)
        assert any(path.startswith("metadata/") for path in edge.paths)
        assert not [path for path in edge.paths if not path.startswith("metadata/")]


def test_a_path_that_cannot_be_written_down_is_no_matter(tmp_path: Path) -> None:
    endpoint = at(tmp_path)
    endpoint.publish(1, FIRST)
    endpoint.directory = ClientDirectory(endpoint.directory.path.rename(tmp_path / "end\npo\x1bint\udcff"))
    rules(endpoint.directory, asking())
    with pytest.raises(OwnPolicyError, match="not approved"):
        endpoint.update()
    decided = read_decided(endpoint.directory)
    assert decided is not None
    assert "end?po?int?" in decided.reason
