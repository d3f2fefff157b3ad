"""What docs/agent.md says is so: its options, its keys, its metrics, its unit."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

from coldchain.agent.agent_metrics import agent_metrics
from coldchain.agent.network import NetworkSettings, network_settings
from coldchain.cli import _parser
from coldchain.install.agent_state import AgentState

PAGE = (Path(__file__).parents[2] / "docs" / "agent.md").read_text(encoding="utf-8")


def test_every_command_shown_is_one() -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith("coldchain ")]
    (start,) = re.findall(r"^ExecStart=/opt/coldchain/bin/(.*)$", PAGE, re.MULTILINE)
    for line in (*shown, start):
        words = shlex.split(line)[1:]
        assert _parser(words).parse_args(words).directory == "/var/lib/coldchain"
    assert len(shown) == 2


def test_the_section_shown_has_every_key_with_its_default(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    table = tomllib.loads(text)["network"]
    assert set(table) == {one for one in NetworkSettings.__dataclass_fields__ if one != "direct"} | {"proxy_login"}
    login = tmp_path / "login"
    login.write_text("fleet:secret")
    assert network_settings({**table, "proxy_login": str(login)}).proxy is not None
    for name in ("mirrors", "proxy", "proxy_login", "no_proxy", "ca", "client_certificate", "client_key"):
        del table[name]
    assert table.pop("poll_seconds") == 3600
    assert network_settings(table) == NetworkSettings()


def test_the_metrics_named_exist() -> None:
    known = agent_metrics(AgentState(), None, None, stale=True, next_poll=0.0).decode()
    named = re.findall(r"coldchain_agent_[a-z_]+", PAGE)
    assert len(named) == 3
    for metric in named:
        assert f"\n{metric} " in known
