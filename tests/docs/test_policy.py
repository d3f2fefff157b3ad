"""docs/policy.md: the file it shows is one, its commands run as shown, and its words are those of the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from coldchain import cli
from coldchain.customer_policy import parse_customer_policy
from coldchain.own_decision import decide_number
from tests.client.test_cli import FIRST, SECOND, Endpoint

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


def test_the_file_shown_is_one_and_uses_every_key() -> None:
    (text,) = [block for kind, block in BLOCKS if kind == "toml"]
    found = parse_customer_policy(text.encode())
    assert len(found.words()) == 7
    assert found.approval is not None
    assert found.approval.url is not None


def test_what_status_is_shown_to_say_is_what_it_says() -> None:
    policy = parse_customer_policy(b"[release]\npin = 42\nminimum_age = '2d'\n")
    (shown,) = [block for kind, block in BLOCKS if not kind and "decided " in block]
    for words in policy.words():
        assert words in shown
    assert decide_number(policy, 43).reason in shown


def test_every_page_it_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / name).exists(), name


def test_the_commands_run_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The team's staging endpoint approves; an endpoint of the fleet takes nothing before that, and then it does."""
    endpoint = Endpoint(tmp_path)
    endpoint.directory = tmp_path / "staging"
    endpoint.publish(1, FIRST)
    assert endpoint.init() == 0
    assert (endpoint.directory / "policy.toml").read_text().startswith("# What this endpoint may apply")
    assert endpoint.run("update") == 0
    monkeypatch.chdir(tmp_path)
    (text,) = [block for kind, block in BLOCKS if kind == "sh"]
    new_key, approve = (shlex.split(line)[1:] for line in text.strip().split("\n"))
    capsys.readouterr()
    assert cli.run(new_key) == 0
    section = capsys.readouterr().out.partition("in policy.toml of the endpoints:\n")[2]
    assert cli.run(approve) == 2, "release 1 runs there, not 2"
    assert not (tmp_path / "us-stable-2.approval").exists()
    endpoint.publish(2, SECOND)
    assert endpoint.run("update") == 0

    endpoint.directory = tmp_path / "fleet"
    assert endpoint.init() == 0
    with (endpoint.directory / "policy.toml").open("a") as file:
        file.write(section)
    assert endpoint.run("update") == 15
    assert endpoint.init() == 0
    assert section in (endpoint.directory / "policy.toml").read_text(), "init again leaves it as it is"
    assert cli.run(approve) == 0
    (endpoint.directory / "approvals").mkdir()
    (tmp_path / "us-stable-2.approval").rename(endpoint.directory / "approvals" / "us-stable-2.approval")
    assert endpoint.run("update") == 0
    assert endpoint.run("verify") == 0
    assert "ok   approval: by security.example.com/fleet" in capsys.readouterr().out
    section_ = endpoint.directory / "current" / "acme.hdb"
    section_.chmod(0o644)
    section_.write_bytes(b"x")
    capsys.readouterr()
    assert cli.run(["approve", "fleet", *approve[2:]]) == 40
    assert "nothing is approved that is not in order" in capsys.readouterr().err
