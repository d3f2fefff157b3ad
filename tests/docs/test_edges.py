"""What docs/edges.md shows is what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from coldchain.cli import command_line
from coldchain.install.source_health import DOUBT_AFTER, DOUBT_EVERY
from coldchain_server.commands.edge import edge
from coldchain_server.web.waiting import MOST_SECONDS, parse_wait

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "edges.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:sh)?\n(.*?)```", PAGE, re.DOTALL)


def test_every_command_shown_is_one() -> None:
    lines = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
    client = [match[1] for line in lines if (match := re.search(r"(?:^|-u [a-z-]+ )coldchain ([a-z].*)", line))]
    server = [match[1] for line in lines if (match := re.match(r"coldchain-server edge (.*)", line))]
    assert len(client) >= 2
    assert len(server) >= 3
    for line in client:
        assert command_line().parse_args(shlex.split(line)).command
    for line in server:
        assert edge.make_context("edge", shlex.split(line)).params["directory"] == Path("/var/lib/coldchain-edge")


def test_every_option_is_in_its_table_and_no_other() -> None:
    named = set(re.findall(r"(?:^\| |, )`(--[a-z-]+)", PAGE, re.MULTILINE))
    there = {one.opts[0] for one in edge.params if one.opts[0].startswith("--") and not getattr(one, "hidden", False)}
    assert named == there - {"--json"}


def test_figures_that_the_code_holds_are_the_same() -> None:
    hours = (DOUBT_AFTER + DOUBT_EVERY).total_seconds() / 3600
    assert f"within {hours:g} hours and one poll" in PAGE
    (target,) = re.findall(r"GET (/v1/wait\?\S+)", PAGE)
    assert parse_wait(target) is not None
    assert MOST_SECONDS == 600


def test_what_is_named_is_there() -> None:
    for link in re.findall(r"\]\(([a-z-]+\.md)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    for name in re.findall(r"deploy/[A-Za-z0-9_./-]+", PAGE):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"python -m ([a-z_.]+)", PAGE):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
