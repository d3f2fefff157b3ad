"""``coldchain-server reports``: what it shows of real stores, and how an edge gets its token."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coldchain_server.cli import main
from coldchain_server.home import Home
from coldchain_server.reports.edges import FILE, EdgeList
from coldchain_server.reports.spool import edge_reports
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.release.test_halt import judge, say
from tests.server.release.test_rollout import scheduled


@pytest.fixture
async def rolling(approved_home: Home) -> Home:
    await origins.publish_release(scheduled(approved_home), 2)
    return approved_home


def run(home: Home, *words: str) -> Result:
    environment = {"COLDCHAIN_HOME": str(home.directory), "COLDCHAIN_PASSPHRASE": origins.PASSPHRASE}
    return CliRunner().invoke(main, words, env=environment)


def told(home: Home, *words: str) -> dict[str, Any]:
    result = run(home, *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_counts_by_region_channel_release_and_outcome_with_each_sender_s_rate(rolling: Home) -> None:
    assert run(rolling, "reports", "show").stdout == "nothing was reported yet\n"
    say(rolling, 1_159, 33, sender="virginia-1")
    say(rolling, 12, 0)
    say(rolling, 7, 0, release=1)
    say(rolling, 5, 1, region="jp", sender="tokyo-1")
    text = run(rolling, "reports", "show").stdout
    assert text == (
        "us     stable release 2: 1,204 reports (1,171 applied, 33 engine-failed), 2.741 % failures\n"
        "         direct: 12 reports (12 applied), 0 % failures\n"
        "         virginia-1: 1,192 reports (1,159 applied, 33 engine-failed), 2.768 % failures\n"
        "us     stable release 1: 7 reports (7 applied), 0 % failures\n"
        "         direct: 7 reports (7 applied), 0 % failures\n"
        "jp     stable release 2: 6 reports (5 applied, 1 engine-failed), 16.667 % failures\n"
        "         tokyo-1: 6 reports (5 applied, 1 engine-failed), 16.667 % failures\n"
    )
    page = (Path(__file__).parents[3] / "docs" / "reports.md").read_text()
    assert "\n".join(text.splitlines()[:3]).replace("release 2", "release 42") in page
    (one,) = told(rolling, "reports", "show", "--region", "jp", "--release", "2")["reports"]
    assert (one["reports"], one["failures"], one["percent"]) == (6, 1, 16.667)
    assert one["outcomes"] == {"applied": 5, "refused": 0, "engine-failed": 1}
    assert [(row["sender"], row["reports"], row["ignored"]) for row in one["senders"]] == [("tokyo-1", 6, False)]
    assert run(rolling, "reports", "show", "--region", "xx").exit_code == 2


def test_a_sender_that_alone_is_past_the_limit_is_named(rolling: Home) -> None:
    for number in range(4):
        say(rolling, 100, 0, sender=f"good-{number}")
    say(rolling, 0, 1_000, sender="odd")
    assert told(rolling, "reports", "show")["alone"] == [{"channel": "stable", "region": "us", "sender": "odd"}]
    assert "look at odd: in us it alone is past the limit" in run(rolling, "reports", "show").stdout


def test_why_it_halted_is_shown_and_a_person_goes_on_without_a_sender(rolling: Home) -> None:
    say(rolling, 47, 3, sender="virginia-1")
    why = asyncio.run(judge(rolling))
    text = run(rolling, "rollout", "show").stdout
    assert f"HALTED ITSELF at {NOW:%Y-%m-%d} " in text
    assert why in text
    assert told(rolling, "rollout", "show")["schedule"]["halted"]["why"] == why
    refused = run(rolling, "rollout", "resume", "--ignore-reports-of", "nobody")
    assert (refused.exit_code, "nobody named 'nobody' has reported of release 2" in refused.output) == (2, True)
    assert "HALTED" in run(rolling, "rollout", "show").stdout
    result = run(rolling, "rollout", "resume", "--ignore-reports-of", "virginia-1")
    assert result.exit_code == 0, result.output
    assert "HALTED" not in run(rolling, "rollout", "show").stdout
    assert "ignored for this release" in run(rolling, "reports", "show").stdout


def test_an_edge_gets_its_token_once(rolling: Home, tmp_path: Path) -> None:
    token = run(rolling, "reports", "add-edge", "tokyo-1", "--region", "jp").stdout.strip()
    edge = EdgeList(rolling.directory / FILE).of(token)
    assert edge is not None
    assert (edge.name, edge.regions) == ("tokyo-1", ("jp",))
    assert run(rolling, "reports", "add-edge", "tokyo-1", "--region", "jp").exit_code == 2
    assert run(rolling, "reports", "add-edge", "b", "--region", "xx").exit_code == 2
    assert run(rolling, "reports", "add-edge", "osaka-1", "--region", "jp", "--edge", str(tmp_path)).exit_code == 2
    (tmp_path / ".mirror").mkdir()
    found = told(rolling, "reports", "add-edge", "osaka-1", "--region", "jp", "--edge", str(tmp_path))
    assert EdgeList(edge_reports(tmp_path) / FILE).of(found["token"]) is not None
    assert EdgeList(rolling.directory / FILE).of(found["token"]) is None


@pytest.mark.parametrize("data", [None, b"", b"two words", "ü".encode(), b"x" * 2000])
def test_an_edge_that_is_to_report_has_a_token(rolling: Home, tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "token").write_bytes(data)
    root = str(rolling.directory / "root.json")
    words = ("--region", "jp", "--upstream", "http://127.0.0.1:9", "--root", root)
    result = run(rolling, "edge", str(tmp_path / "edge"), *words, "--report-token", str(tmp_path / "token"))
    assert (result.exit_code, "holds no token of an edge" in result.output) == (2, True)
    assert not (tmp_path / "edge").exists()
