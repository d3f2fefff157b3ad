"""``residency`` as it is typed: words for a person, one object for a program, one exit code per cause."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from coldchain_server.home import Home
from coldchain_server.reports.move import begin, mover
from coldchain_server.reports.moving import all_moving
from coldchain_server.reports.stores import open_store
from tests.server import origins
from tests.server.commands.test_cli import run, told
from tests.server.memory import memory_folder
from tests.server.reports import residents
from tests.server.reports.residents import ONE, arrive, counted, everything
from tests.server.witnesses import Team, set_policy


@pytest.fixture(scope="module")
def made() -> Iterator[Home]:
    with memory_folder() as folder:
        yield asyncio.run(residents.make(folder / "origin"))


@pytest.fixture
def home(made: Home) -> Iterator[Home]:
    with memory_folder() as folder:
        yield origins.copy(made, folder / "origin")


def test_one_region_and_then_all(home: Home) -> None:
    before = {region: counted(home, region) for region in residents.ALL}
    result = run("residency", "move", "--region", "us", "--to", "ch", home=home)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(
        "log entry 0: the outcome reports of region us moved from store us (United States) to ch ("
    )
    result = run("residency", "move", "--region", "us", "--to", "ch", home=home)
    assert (result.exit_code, result.stdout) == (0, "us is in store ch already\n")
    found = told(run("residency", "move", "--all", "--to", "ch", "--json", home=home))
    (one,) = found["moves"]
    assert (one["region"], one["old_names"], one["from"], one["to"], one["index"]) == ("jp", ["nippon"], "jp", "ch", 1)
    assert one["at_switch"] == {name: one[name] for name in ("reports", "rows", "sha256")}
    assert told(run("residency", "move", "--all", "--to", "ch", "--json", home=home)) == {"moves": []}
    assert run("residency", "move", "--resume", home=home).stdout == "no move is on its way\n"
    assert {region: counted(home, region) for region in residents.ALL} == before
    result = run("residency", "show", "--verify", home=home)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("every report is in its region's store and nowhere else\n")
    shown = told(run("residency", "show", "--json", home=home))
    assert shown["problems"] == shown["moving"] == []
    assert shown["regions"] == dict.fromkeys(("us", "jp", "nippon"), "ch")
    for store in ("us", "jp"):
        assert told(run("residency", "retire", store, "--json", home=home))["store"] == store
    assert sorted(everything(home)) == ["ch"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--region", "us"),
        ("--to", "ch"),
        ("--all",),
        ("--all", "--region", "us", "--to", "ch"),
        ("--resume", "--to", "ch"),
        ("--resume", "--region", "us"),
        ("--resume", "--all"),
        ("--abandon",),
        ("--abandon", "--all"),
        ("--abandon", "--region", "us", "--to", "ch"),
        ("--abandon", "--resume"),
        ("--region", "us", "--to", "sg"),
        ("--region", "eu", "--to", "ch"),
    ],
)
def test_what_is_no_move_changes_nothing(home: Home, words: tuple[str, ...]) -> None:
    result = run("residency", "move", *words, "--json", home=home)
    assert (result.exit_code, told(result)["exit_code"]) == (2, 2)
    assert told(result)["next"]
    assert sorted(everything(home)) == ["jp", "us"]


def test_what_lies_elsewhere_is_told_with_everything_that_was_seen(home: Home) -> None:
    with open_store(home, "jp") as store:
        store.add([ONE])
    result = run("residency", "show", home=home)
    assert result.exit_code == 53
    assert "PROBLEM store jp holds 1 reports of us, which belong in us" in result.stdout
    assert result.stderr.startswith(
        "coldchain-server: reports: store jp holds 1 reports of us, which belong in us\n  kept: "
    )
    result = run("residency", "show", "--json", home=home)
    found = told(result)
    assert (result.exit_code, found["exit_code"], found["error"]) == (53, 53, "ResidencyError")
    assert found["problems"] == ["store jp holds 1 reports of us, which belong in us"]
    assert {one["store"]: [kept["state"] for kept in one["regions"]] for one in found["stores"]}["jp"] == [
        *("counted", "counted", "stray")
    ]
    result = run("residency", "move", "--region", "us", "--to", "ch", "--json", home=home)
    assert (result.exit_code, told(result)["error"]) == (62, "StateError")


def test_a_second_mover_is_told_to_wait(home: Home) -> None:
    for words in (("move", "--region", "us", "--to", "ch"), ("move", "--resume"), ("retire", "us")):
        with mover(home):
            result = run("residency", *words, "--json", home=home)
        assert (result.exit_code, told(result)["error"]) == (65, "BusyError")
    assert run("residency", "show", home=home).exit_code == 0


def test_without_witnesses_it_waits_and_resumes(home: Home) -> None:
    with memory_folder() as folder:
        team = Team(folder, ("zurich",))
        asyncio.run(_once(team, home))
        result = run("residency", "move", "--region", "us", "--to", "ch", "--json", home=home)
        found = told(result)
        assert (result.exit_code, found["error"]) == (16, "EvidenceError")
        assert found["kept"] == "the reports of us stay in store us and count there, new ones too"
        assert found["next"] == "when the witnesses answer: coldchain-server residency move --resume"
        assert arrive(home, "us", 1)
        shown = run("residency", "show", home=home)
        assert shown.exit_code == 0
        assert "moving us: from us to ch, logging" in shown.stdout
        result = run("residency", "move", "--region", "us", "--abandon", home=home)
        assert (result.exit_code, "in the public log, or will be" in result.stderr) == (62, True)
        asyncio.run(set_policy(home, b"quorum none\n"))
        assert told(run("residency", "move", "--resume", "--json", home=home))["moves"][0]["region"] == "us"


async def _once(team: Team, home: Home) -> None:
    await team.start()
    await team.join(home, 1)
    await team.stop()


def test_a_move_can_be_given_up_before_it_is_public(home: Home) -> None:
    with mover(home):
        assert begin(home, "jp", "ch") is not None
    result = run("residency", "move", "--region", "nippon", "--abandon", home=home)
    assert result.stdout == "the move of jp is given up; its reports are in store jp, as they were\n"
    with mover(home):
        begin(home, "us", "ch")
    assert told(run("residency", "move", "--region", "us", "--abandon", "--json", home=home)) == {
        "abandoned": "us",
        "store": "us",
    }
    assert all_moving(home) == []


def test_the_key_of_the_log_is_asked_for_and_without_it_nothing_takes_effect(home: Home) -> None:
    result = run("residency", "move", "--region", "us", "--to", "ch", "--json", home=home, passphrase=None)
    assert (result.exit_code, told(result)["error"]) == (64, "KeyringError")
    assert arrive(home, "us", 1)
    assert run("residency", "move", "--resume", home=home).exit_code == 0
