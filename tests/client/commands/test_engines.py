"""``coldchain update`` and ``status`` with an engine configured in the endpoint's policy.toml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coldchain import cli
from tests.client.engines.daemon import EICAR, daemon, needs_clamd
from tests.client.engines.endpoints import BETTER, GOOD, RULE, make_endpoint

BAD = GOOD | {"bad.ndb": b"Acme.Test.Elf:6:0:7f454c46\n", "rules.yar": RULE + b"rule Everything { condition: true }\n"}


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.run(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_engine_of_the_policy_file_is_led_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = make_endpoint(tmp_path)
    directory, mirror = str(endpoint.directory.path), str(endpoint.mirror)
    (endpoint.directory.path / "policy.toml").write_text('[[engine]]\nkind = "yara"\n', encoding="utf-8")
    code, out, _ = run("update", directory, "--url", mirror, capsys=capsys)
    assert code == 0
    assert "engine yara: runs release 1, as its canary shows" in out

    code, out, _ = run("status", directory, capsys=capsys)
    assert code == 0
    assert "engine       yara: release 1, proved 20" in out

    endpoint.publish(2, BAD)
    code, out, err = run("update", directory, "--url", mirror, capsys=capsys)
    assert code == 30
    assert "updated: release 2" in out
    assert "engine refused: engine yara refuses release 2: " in err
    assert "kept: engine yara keeps release 1" in err

    code, out, err = run("status", directory, capsys=capsys)
    assert code == 30
    assert "engine       yara: release 1, proved 20" in out
    assert "refused release 2: " in out
    assert "kept: engine yara runs release 1" in err

    code, out, _ = run("status", directory, "--json", capsys=capsys)
    found = json.loads(out)
    assert (code, found["release"], found["engines"]["yara"]["release"]) == (30, 2, 1)
    assert found["engines"]["yara"]["refused"][0]["set"].startswith("2-")

    code, out, _ = run("update", directory, "--url", mirror, "--json", capsys=capsys)
    found = json.loads(out)
    assert (code, found["action"], found["exit_code"]) == (30, "current", 30)
    assert found["engines"][0]["name"] == "yara"

    endpoint.publish(3, BETTER)
    code, out, _ = run("update", directory, "--url", mirror, "--json", capsys=capsys)
    found = json.loads(out)
    assert (code, found["engines"][0]["release"], found["engines"][0]["problem"]) == (0, 3, "")
    assert found["engines"][0]["load_test"]["loaded"] == 2

    # an engine that is taken out of the policy is forgotten
    (endpoint.directory.path / "policy.toml").unlink()
    code, out, _ = run("update", directory, "--url", mirror, capsys=capsys)
    assert "yara" not in out
    code, out, _ = run("status", directory, capsys=capsys)
    assert (code, "yara" in out) == (0, False)


def test_a_policy_file_that_says_nonsense_is_a_mistake_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = make_endpoint(tmp_path)
    (endpoint.directory.path / "policy.toml").write_text('[[engine]]\nkind = "mcafee"\n', encoding="utf-8")
    code, _, err = run("update", str(endpoint.directory.path), "--url", str(endpoint.mirror), capsys=capsys)
    assert code == 2
    assert "[[engine]] number 1: 'kind'" in err
    assert not endpoint.directory.current.is_symlink()


@needs_clamd
def test_an_engine_that_is_down_has_its_own_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with daemon() as clamd:
        endpoint = make_endpoint(tmp_path)
        directory, mirror = str(endpoint.directory.path), str(endpoint.mirror)
        text = f'[[engine]]\nkind = "clamav"\nsocket = "{clamd.socket}"\nproof_seconds = 20\n'
        (endpoint.directory.path / "policy.toml").write_text(text, encoding="utf-8")
        code, out, err = run("update", directory, "--url", mirror, capsys=capsys)
        assert code == 31
        assert "engine clamav: was not seen to run any release yet" in out
        assert "for it to start with" in err
        assert run("status", directory, capsys=capsys)[0] == 31
        clamd.start(endpoint.view())
        code, out, _ = run("update", directory, "--url", mirror, capsys=capsys)
        assert code == 0
        assert clamd.client.scan(EICAR)
        assert run("status", directory, capsys=capsys)[0] == 0
        # what cannot be fetched is the error, and the engine's trouble stands beside it
        clamd.stop()
        code, _, err = run("update", directory, "--url", str(tmp_path / "nowhere"), capsys=capsys)
        assert code == 20
        assert "clamd does not answer" in err
