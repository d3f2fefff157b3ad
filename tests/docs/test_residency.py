"""What docs/residency.md shows is so, and its example does what the page says: from seven stores into one, in the order of history."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from coldchain import errors
from coldchain.monitor.findings import KINDS
from coldchain.residency import parse_move
from coldchain_server.assembly.regions import load_regions
from coldchain_server.cli import main
from coldchain_server.home import Home
from coldchain_server.reports.origin import origin_reception
from coldchain_server.signing.roles import now_utc
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.reports import residents
from tests.server.reports.residents import counted, everything
from tests.server.reports.sending import report

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "residency.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "deploy" / "residency" / "regions.toml"
BLOCKS = re.findall(r"^```(toml|json)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SHOWN = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
ORDER = ["us", "eu", "jp", "kr", "sg", "au", "row"]


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_shown_is_one(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(line)
    assert program == "coldchain-server"
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(command.name, words, resilient_parsing=False)


def test_the_tables_shown_are_read_and_the_entry_is_one() -> None:
    (text,) = (block for kind, block in BLOCKS if kind == "toml")
    regions = load_regions(text)
    assert regions.kept_in("us") == {"us"}
    assert str(regions.store("us").path) == "/mnt/ashburn/reports"
    (text,) = (block for kind, block in BLOCKS if kind == "json")
    move = parse_move(json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode())
    assert (move.region, move.source.store, move.target.store) == ("us", "us", "ch")


def test_what_is_named_is_there() -> None:
    for kind in re.findall(r"alert `([a-z-]+)`|as `([a-z-]+)`;|reports `([a-z-]+)`", PAGE):
        assert "".join(kind) in KINDS
    codes = {one.exit_code for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "exit_code")}
    assert {int(code) for code in re.findall(r"ends? with (\d+)", PAGE)} | {17} <= codes
    for link in re.findall(r"\]\(([a-z-]+\.md)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    for name in re.findall(r"(?:deploy|coldchain_server)/[A-Za-z0-9_./-]+", PAGE):
        assert (ROOT / name).exists() or (ROOT / "server" / name).exists(), name


def test_the_example_s_regions_are_in_the_order_of_the_page() -> None:
    regions = load_regions(EXAMPLE.read_text())
    assert list(regions.regions) == ORDER
    assert {name: one.residency for name, one in regions.regions.items()} == {name: name for name in ORDER}
    countries = [regions.regions[name].jurisdiction for name in ORDER]
    assert countries == [
        *("United States", "European Union", "Japan", "South Korea", "Singapore", "Australia", "rest of the world")
    ]
    assert "the United States, Europe, Japan, South Korea,\nSingapore, Australia, then the others" in PAGE
    assert regions.store("ch").jurisdiction == "Switzerland"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with memory_folder() as place:
        (place / "deploy").symlink_to(ROOT / "deploy")
        monkeypatch.chdir(place)
        yield place


def typed(line: str, *more: str) -> dict[str, Any]:
    """A command of the page, as it stands there."""
    result = CliRunner(env={"COLDCHAIN_PASSPHRASE": origins.PASSPHRASE}).invoke(
        main, [*shlex.split(line)[1:], *more, "--json"]
    )
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_example_from_its_first_command_to_its_last(folder: Path) -> None:
    (block,) = (block for kind, block in BLOCKS if not kind and "init origin" in block)
    init, move, show = block.splitlines()
    typed(init, "--demo-keys")
    home = Home(folder / "origin")
    origins.without_engines(home.directory)
    asyncio.run(origins.release(home, origins.FIRST, now=now_utc()))
    asyncio.run(reports_come(home))
    before = {region: counted(home, region) for region in ORDER}
    assert [sum(one.values()) for one in before.values()] == [3 + 2 * number for number in range(len(ORDER))]
    assert {store: list(kept) for store, kept in everything(home).items()} == {name: [name] for name in ORDER}

    moved = typed(move)["moves"]
    assert [(one["region"], one["from"], one["to"]) for one in moved] == [(name, name, "ch") for name in ORDER]
    assert [(one.region, one.reports) for one in asyncio.run(residents.logged(home))] == [
        (name, sum(before[name].values())) for name in ORDER
    ]

    assert {region: counted(home, region) for region in ORDER} == before
    assert everything(home)["ch"].keys() == set(ORDER)
    assert not any(kept for store, kept in everything(home).items() if store != "ch")
    found = typed(show)
    assert (found["problems"], set(found["regions"].values())) == ([], {"ch"})
    assert [one["index"] for one in found["moves"]] == [one["index"] for one in moved] == list(range(1, 1 + len(ORDER)))
    assert home.regions_text() == re.sub(r'residency = "[a-z]+"', 'residency = "ch"', EXAMPLE.read_text())
    for name in ORDER:
        typed(f"coldchain-server residency retire {name} --home origin")
    assert typed(show)["problems"] == []
    asyncio.run(reports_come(home))
    assert sum(counted(home, "us").values()) == 2 * 3


async def reports_come(home: Home) -> None:
    """The bytes that endpoints send, through the origin's own rules: some of each region, more of each next one."""
    reception = origin_reception(home, lambda: None, lambda *_: None)
    for number, region in enumerate(ORDER):
        bodies = [report("applied", region)] * (2 + number) + [report("engine-failed", region)] * (1 + number)
        assert await asyncio.gather(*(reception.single(body, "198.51.100.7") for body in bodies)) == ["taken"] * len(
            bodies
        )
