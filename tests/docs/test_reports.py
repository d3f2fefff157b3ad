"""docs/reports.md says what is so: commands, files and figures. Its bytes and its floods have tests where they are made."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from coldchain.agent.reporting import LATER_SECONDS
from coldchain.customer_policy import parse_customer_policy
from coldchain.install.report_memory import MOST_TRIES, MOST_WAITING
from coldchain.limits import LIMITS
from coldchain.outcome_report import FORMAT, OUTCOMES, OutcomeReport
from coldchain_server.cli import main
from coldchain_server.edge.forward import EVERY_SECONDS, KEPT
from coldchain_server.home import Settings
from coldchain_server.release.schedule import load_schedules
from coldchain_server.reports.edges import MOST_PER_HOUR
from coldchain_server.reports.judgement import HEAVIEST, HaltRule
from coldchain_server.reports.ledger import MOST_KEYS, PAUSE_SECONDS
from coldchain_server.reports.reception import DIRECT_PER_HOUR, MOST_BEHIND, PER_NETWORK

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(
    r"coldchain-server (?:reports|edge|rollout|withdraw)[^`\n]* [^`\n]*|coldchain-server reports show", PAGE
)


def test_the_policy_and_the_stages_shown_are_read() -> None:
    policy, stages = (block for kind, block in BLOCKS if kind == "toml")
    assert parse_customer_policy(policy.encode()).reports
    assert load_schedules(stages, ("stable",))["stable"].halt == HaltRule() == HaltRule(200, 50, 3)


def test_the_report_shown_is_one_and_every_member_is_in_the_table() -> None:
    example = OutcomeReport("us", "stable", 41, 42, "applied", 0, "0.1.0").encode().decode()
    assert PAGE.count(example) == 2
    assert f"{len(example)} bytes" in PAGE
    members = re.findall(r"^\| (`.*?) \| ", PAGE, re.MULTILINE)
    named = {name for cell in members for name in re.findall(r"`([a-z]+)`", cell)}
    assert set(re.findall(r'"([a-z]+)":', example)) <= named
    assert FORMAT in PAGE
    for outcome in OUTCOMES:
        assert f"`{outcome}`" in PAGE


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_shown_is_one(line: str, tmp_path: Path) -> None:
    edge = str(tmp_path)
    words = shlex.split(line.replace("/var/lib/coldchain-edge", edge))[1:]
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    if command.name != "withdraw":  # which asks for a reason, on its own page
        command.make_context(command.name, words)


def test_figures_that_the_code_holds_are_the_same() -> None:
    assert len(COMMANDS) >= 7
    for said in (
        f"within {LATER_SECONDS / 60:.0f} minutes".replace("5", "five"),
        f"the newest {MOST_WAITING}".replace("4", "four") + f", each for {MOST_TRIES} runs".replace("10", "ten"),
        f"Each has {LIMITS.report_seconds:.0f} seconds".replace("10", "ten"),
        f"{PER_NETWORK} reports an hour",
        f"{DIRECT_PER_HOUR:,} an hour",
        f"{MOST_PER_HOUR:,} an hour",
        f"more than {MOST_BEHIND} releases old",
        f"{MOST_KEYS} different ones",
        f"for {Settings().reports_days} days",
    ):
        assert said in PAGE, said
    assert (EVERY_SECONDS, KEPT.days, PAUSE_SECONDS, HEAVIEST) == (60.0, 30, 0.05, 4)
    assert (Settings().reports_per_network, Settings().reports_direct_per_hour) == (PER_NETWORK, DIRECT_PER_HOUR)


def test_what_is_named_is_there() -> None:
    for link in re.findall(r"\]\(([a-z-]+\.md)[)#]", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    for link in re.findall(r"\]\(#([a-z-]+)\)", PAGE):
        assert f"## {link.replace('-', ' ')}" in PAGE.lower(), link
    for name in re.findall(r"`((?:tests|client|server)/[A-Za-z0-9_./-]+)`", PAGE):
        assert (ROOT / name).exists(), name
