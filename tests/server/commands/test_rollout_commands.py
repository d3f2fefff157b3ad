"""``rollout``, ``withdraw``, ``suppress`` and ``region`` as they are typed: words for a person, one object for a program."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coldchain.errors import HeldError
from coldchain_server.home import Home
from tests.server import origins
from tests.server.commands.test_cli import run, told
from tests.server.release.test_rollout import scheduled

WHY = "matches a printer driver"


def good(home: Home, *words: str) -> tuple[str, dict[str, Any]]:
    """The command twice: for a person, and as JSON."""
    text = run(*words, home=home)
    assert text.exit_code == 0, text.output
    assert text.stderr == ""
    found = run(*words, "--json", home=home)
    assert found.exit_code == 0, found.output
    return text.stdout, told(found)


def once(home: Home, *words: str) -> dict[str, Any]:
    result = run(*words, "--json", home=home)
    assert result.exit_code == 0, result.output
    return told(result)


def test_a_rollout_by_schedule_from_its_begin_to_a_hold(approved_home: Home) -> None:
    home = scheduled(approved_home)
    text, found = good(home, "rollout", "show")
    assert "no schedule: shares change by rollout set alone" in text
    assert "schedule" not in found
    assert found["regions"]["us"] == {"release": 1, "share": 100, "held": False}
    told_of = once(home, "release", "publish", "2")
    assert (told_of["shares"], told_of["share"]) == ({"us": 5, "jp": 0}, None)
    text, found = good(home, "rollout", "show")
    assert "jp     release 2: 0 %\nus     release 2: 5 %\nstage 1 of 4 since " in text
    assert "the next stage comes at " in text
    assert {key: found["schedule"][key] for key in ("stage", "stages", "emergency", "release")} == {
        "stage": 1,
        "stages": 4,
        "emergency": False,
        "release": 2,
    }
    text, found = good(home, "rollout", "advance")
    assert found["moved"] is False
    result = run("rollout", "advance", "--early", home=home)
    assert (result.exit_code, "none skips it" in result.stderr) == (62, True)
    result = run("rollout", "set", home=home)
    assert (result.exit_code, "nothing to set" in result.stderr) == (2, True)
    good(home, "rollout", "set", "--emergency")
    text, _ = good(home, "rollout", "show")
    assert ", in an emergency" in text
    good(home, "rollout", "hold", "--region", "jp")
    text, found = good(home, "rollout", "show")
    assert "held in jp: it advances nowhere until coldchain-server rollout resume" in text
    assert found["schedule"]["due"] is None
    result = run("rollout", "advance", "--json", home=home)
    assert result.exit_code == told(result)["exit_code"] == HeldError.exit_code
    result = run("rollout", "show", "--channel", "nightly", home=home)
    assert (result.exit_code, "there is no channel" in result.stderr) == (62, True)
    result = run("rollout", "show", "--channel", "early", home=home)
    assert result.stdout == "no release of early is published yet\n"


def test_a_withdrawal_in_one_breath_and_step_by_step(published_home: Home) -> None:
    home = published_home
    for words in (("withdraw", "1"), ("suppress", "A-1")):
        result = run(*words, home=home)
        assert (result.exit_code, "--reason is missing" in result.stderr) == (2, True)
    origins.write_feed(home, origins.SECOND)
    path = str(home.directory.parent / "origin-feed")
    assert run("feed", "add", "acme", path, home=home).exit_code == 0
    for step in (("release", "build"), ("release", "approve", "2"), ("release", "publish", "2")):
        assert run(*step, home=home).exit_code == 0
    text = run("withdraw", "2", "--reason", WHY, home=home)
    assert text.exit_code == 0
    assert text.stdout == (
        "release 3 of stable withdraws 2 and restores the content of 1\n"
        "it is logged; next: coldchain-server release approve 3, then release publish 3 --emergency\n"
    )
    found = once(home, "withdraw", "2", "--reason", WHY, "--publish")
    assert found == {
        "channel": "stable",
        "release": 3,
        "state": "published",
        "gave_up": [],
        "withdraws": [2],
        "restores": 1,
    }
    assert origins.read(home, "us").sections["acme-daily.hsb"] == origins.FIRST["daily.hsb"]
    words_shown, shown = good(home, "rollout", "show")
    assert "and endpoints on withdrawn 2 at once" in words_shown
    assert shown["regions"]["jp"]["withdrawn"] == [2]
    result = run("release", "build", home=home)
    assert (result.exit_code, "which was withdrawn" in result.stderr) == (62, True)

    name = "Win.Trojan.Agent-5-0"
    found = once(home, "suppress", name, "--reason", WHY, "--publish")
    assert (found["state"], found["suppresses"], found["records"]) == ("published", name, 1)
    result = run("suppress", name, "--lift", "--reason", WHY, home=home)
    assert (result.exit_code, "later releases only" in result.stderr) == (2, True)
    assert once(home, "suppress", name, "--lift") == {"lifted": name}
    result = run("suppress", name, "--lift", home=home)
    assert (result.exit_code, "is not suppressed" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("named", "code", "words"),
    [
        ("early:1", 62, "release 1 of early is not published"),
        ("nightly:1", 62, "there is no channel 'nightly'"),
        ("stable", 2, "names no release"),
        ("stable:x", 2, "names no release"),
        ("stable:-1", 2, "names no release"),
    ],
)
def test_content_of_a_release_that_is_none(published_home: Home, named: str, code: int, words: str) -> None:
    result = run("release", "build", "--content-of", named, home=published_home)
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr


def test_content_of_an_earlier_release_is_built_again(published_home: Home) -> None:
    found = once(published_home, "release", "build", "--channel", "early", "--content-of", "stable:1")
    shown = once(published_home, "release", "show", "1")
    assert found["manifest"]["feeds"] == shown["manifest"]["feeds"]
    assert (found["channel"], found["release"]) == ("early", 1)


def test_regions_are_listed_and_tried(published_home: Home) -> None:
    home = published_home
    text, found = good(home, "region", "list")
    assert text.splitlines()[0] == "us     wave 1  United States; 0 policies; stable 1"
    assert found["regions"][1] == {
        "region": "jp",
        "jurisdiction": "Japan",
        "wave": 1,
        "alias": None,
        "edges": [],
        "residency": "ch",
        "policies": 1,
        "role": True,
        "releases": {"stable": 1},
    }
    text, found = good(home, "region", "preview", "jp")
    assert found["unchanged"] is True
    assert text.endswith("  the bundle is what is published\n")
    more = home.directory.parent / "regions-new.toml"
    added = '[regions.apac]\njurisdiction = "Asia"\n[regions.old]\nalias = "apac"\n'
    more.write_text(origins.REGIONS.replace("Agent-3-0", "Agent-4-0") + added)
    text, found = good(home, "region", "preview", "jp", "--regions", str(more))
    assert text.splitlines() == [
        "region jp, channel stable, from the snapshots of release 1: 119 records, "
        f"{found['after']['bytes']:,} bytes (published: 119 records, {found['before']['bytes']:,} bytes)",
        "  new          leave-out signature Win.Trojan.Agent-4-0 (1 records): matches a printer driver sold only there",
        "  gone         leave-out signature Win.Trojan.Agent-3-0 (1 records): matches a printer driver sold only there",
        "  acme-daily.hsb: 1 records more, 1 less",
    ]
    (home.directory / "regions.toml").write_text(more.read_text().replace("[regions.us]", "[regions.uz]"))
    text, found = good(home, "region", "list")
    assert found["gone"] == ["us"]
    assert "us     is not in regions.toml any more: its endpoints get no release" in text
    assert "old    wave 1  Asia, an old name of apac; 0 policies; no release yet; no role yet" in text
    more.write_bytes(b"\xff")
    result = run("region", "preview", "jp", "--regions", str(more), "--json", home=home)
    assert (result.exit_code, json.loads(result.stdout)["exit_code"]) == (2, 2)
