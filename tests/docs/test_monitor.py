"""What docs/monitor.md says is so: its table of alerts, its options, its commands; and the units that it installs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from coldchain.cli import _parser
from coldchain.monitor.findings import KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "monitor.md").read_text(encoding="utf-8")
UNITS = [ROOT / "deploy" / f"coldchain-monitor.{kind}" for kind in ("service", "timer")]


def test_the_table_has_every_kind_of_alert_and_says_whether_it_lasts() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (yes|no) \|", PAGE, re.MULTILINE))
    assert rows == {name: "yes" if kind.lasting else "no" for name, kind in KINDS.items()}


def test_every_command_shown_is_one() -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith("coldchain ")]
    (start,) = re.findall(r"^ExecStart=(.*)$", UNITS[0].read_text(), re.MULTILINE)
    shown.append(start.replace("${COLDCHAIN_URL}", "https://coldchain.example").removeprefix("/opt/coldchain/bin/"))
    assert len(shown) == 3
    for line in shown:
        words = shlex.split(line)[1:]
        options = _parser(words).parse_args(words)
        assert options.url == "https://coldchain.example"


def test_the_options_and_metrics_named_in_the_text_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser(["monitor"]).parse_args(["monitor", "--help"])
    known = set(re.findall(r"--[a-z]+", capsys.readouterr().out))
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        assert option in known
    source = (ROOT / "client" / "coldchain" / "monitor" / "report.py").read_text()
    for metric in re.findall(r"coldchain_monitor_([a-z_]+)", PAGE):
        assert f'"{metric}"' in source


def test_the_units_are_sound_and_tight() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    answer = subprocess.run(
        [program, "security", "--offline=true", "--threshold=15", str(UNITS[0])],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for words in ("Unknown", "Failed to parse"):
        assert words not in answer.stderr, answer.stderr
    calendar = UNITS[1].read_text()
    assert "RandomizedDelaySec" in calendar
