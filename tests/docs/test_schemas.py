"""Every command's real ``--json``, good and refused, is what its schema in docs/schemas/ says, and says nothing else."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from coldchain import cli
from coldchain.install.agent_state import AgentState, Moment, write_agent_state
from coldchain.install.directory import ClientDirectory
from coldchain.install.report_memory import Sent, change_report_memory
from docs.make_schemas import FOLDER, SHAPES, page
from tests.client.monitor.conftest import template, ways, world
from tests.client.monitor.watched import Watched
from tests.client.test_cli import FIRST, SECOND, Endpoint

__all__ = ["template", "ways", "world"]

Run = Callable[..., dict[str, Any]]
_used: dict[str, set[int]] = {}


def commands() -> list[str]:
    parser = cli._parser(["--help"])
    (choices,) = [one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return list(choices)


def test_the_files_are_what_the_script_makes_and_there_is_one_for_each_command() -> None:
    assert sorted(SHAPES) == sorted(commands())
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(f"{name}.json" for name in SHAPES)
    for name in SHAPES:
        assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == page(name), "run: python docs/make_schemas.py"


def objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from objects(one)


def test_they_are_schemas_and_every_object_in_them_is_closed() -> None:
    for name in SHAPES:
        schema = json.loads(page(name))
        Draft202012Validator.check_schema(schema)
        for one in objects(schema):
            if "properties" in one:
                assert one["additionalProperties"] is False
                assert set(one["required"]) <= set(one["properties"])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, code: int = 0) -> dict[str, Any]:
        """Runs a command with --json; its answer, which is as the schema says."""
        capsys.readouterr()
        found = cli.run([*words, "--json"])
        out, err = capsys.readouterr()
        assert found == code, out + err
        answer: dict[str, Any] = json.loads(out)
        check(words[0], answer)
        return answer

    return run


def check(command: str, answer: dict[str, Any]) -> None:
    schema = json.loads((FOLDER / f"{command}.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(answer)
    fitting = [number for number, shape in enumerate(schema["anyOf"]) if Draft202012Validator(shape).is_valid(answer)]
    _used.setdefault(command, set()).update(fitting)
    # closed: whatever is added to any object of the answer is not described
    for one in _inside(answer):
        if not one or schema["title"] == "coldchain monitor --json":
            continue
        one["no such member"] = 1
        assert not Draft202012Validator(schema).is_valid(answer), one
        del one["no such member"]


def _inside(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _inside(one)


def test_what_an_endpoint_answers(tmp_path: Path, run: Run) -> None:
    endpoint = Endpoint(tmp_path)
    endpoint.publish(1, FIRST)
    place, root, tree = str(endpoint.directory), str(endpoint.root), str(endpoint.tree)
    for command in ("update", "status", "verify", "receipt"):
        run(command, place, code=41)
    run("explain", place, "Acme.Body-1", code=41)
    run("diff", place, "1", "2", code=41)
    run("init", place, "--root", str(tmp_path / "no"), "--region", "us", "--url", tree, code=2)
    run("init", place, "--root", root, "--region", "us", "--url", tree)
    run("status", place, code=41)
    assert run("update", place)["action"] == "installed"
    beside = str(tmp_path / "mirror")
    run("mirror", beside, code=2)
    for action in ("mirrored", "current"):
        words = ("--root", root, "--region", "us", "--url", tree, "--packs") if action == "mirrored" else ()
        assert run("mirror", beside, *words)["action"] == action
    policy = endpoint.directory / "policy.toml"
    policy.write_text('[[engine]]\nkind = "yara"\n[reports]\nsend = true\n')
    (engine,) = run("update", place, code=30)["engines"]  # its rule matches everything
    assert (engine["action"], engine["release"]) == ("kept", None)
    said = run("status", place, code=30)
    assert said["engines"]["yara"]["refused"]
    (waiting,) = said["reports"]["waiting"]  # a directory takes no reports
    sent = Sent(waiting.encode(), datetime.now(UTC), "https://edge.example")
    change_report_memory(ClientDirectory(endpoint.directory), lambda memory: memory.sent(sent))
    assert run("status", place, code=30)["reports"]["last"]["bytes"] == waiting
    endpoint.publish(2, SECOND | {"rules.yar": b"rule Acme_Rule { condition: false }\n"})
    done = run("update", place)
    assert (done["way"], done["engines"][0]["action"], done["engines"][0]["release"]) == ("delta", "activated", 2)
    assert run("status", place)["engines"]["yara"]["release"] == 2
    policy.write_text('[[engine]]\nkind = "clamav"\nsocket = "/nowhere"\n')
    assert run("update", place, code=31)["engines"]
    run("status", place, code=31)
    policy.unlink()
    assert run("update", place)["action"] == "current"
    assert run("update", place, "--repair")["action"] == "repaired"
    assert run("status", place)["decided"]["action"] == "current"
    assert run("verify", place)["ok"]
    assert run("diff", place, "1", "2")["sections"]
    assert run("diff", place, "2", "2")["sections"] == []
    for name in ("Acme.Test.Hash-4", "Acme.Body-1", "YARA.Acme_Rule", "two.example", "Acme.Left-1"):
        run("explain", place, name)
    run("explain", place, "Acme.Body-1", "--history")
    run("explain", place, "nothing", code=41)
    pack, receipt, key = (str(tmp_path / name) for name in ("us.pack", "receipt.json", "key.pem"))
    run("pack", tree, "--root", root, "--region", "us", "-o", pack)
    run("pack", tree, "--root", root, "--region", "us", "--from", "1", "-o", pack)
    run("pack", tree, "--root", root, "--region", "xx", "-o", pack, code=12)
    assert run("verify", pack, "--root", root)["genuine"]
    run("verify", pack, "--root", root, "--region", "jp", code=12)
    run("verify", pack, code=2)
    run("receipt", place)
    run("receipt", place, "--new-key", key)
    run("receipt", place, "--sign", key, "-o", receipt)
    assert run("receipt", "--check", receipt, "--root", root)["ok"]
    assert run("verify", receipt)["ok"]
    (tmp_path / "bad.json").write_bytes(Path(receipt).read_bytes().replace(b'"client"', b'"cleint"'))
    run("receipt", "--check", str(tmp_path / "bad.json"), code=16)
    team = str(tmp_path / "team.pem")
    vkey = run("approve", "--new-key", team, "--name", "team.example/a")["key"]
    run("approve", "--new-key", team, "--name", "team.example/a", code=2)
    approval = run("approve", place, "2", "--key", team, "--name", "team.example/a", "-o", str(tmp_path))
    run("approve", place, "1", "--key", team, "--name", "team.example/a", "-o", str(tmp_path), code=2)
    policy.write_text(f'[release]\npin = 2\nminimum_age = "1d"\n[approval]\nkey = "{vkey}"\n')
    run("update", place, code=15)
    assert run("status", place, code=15)["policy"]["unapproved"]
    run("verify", place, code=15)
    (endpoint.directory / "approvals").mkdir()
    Path(approval["file"]).rename(endpoint.directory / "approvals" / approval["name"])
    run("update", place)
    run("verify", place)
    endpoint.publish(3, FIRST)
    run("update", place, code=15)
    assert run("status", place)["decided"]["action"] == "pin"
    policy.write_text("[release]\npinn = 2\n")
    for command in ("update", "status", "verify"):
        run(command, place, code=2)
    policy.unlink()
    endpoint.publish(4, SECOND, share=0)
    run("update", place, code=11)
    section = endpoint.directory / "current" / "acme.hdb"
    section.chmod(0o644)
    section.write_bytes(b"short")
    for command in ("status", "verify"):
        run(command, place, code=40)


async def test_what_watchers_answer(world: Watched, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDCHAIN_PASSPHRASE", "of the rebuilder's key")
    root = world.folder / "root.json"
    root.write_bytes(world.home.pinned_root())

    async def later(*words: str, code: int = 0) -> dict[str, Any]:
        return await asyncio.to_thread(run, *words, code=code)

    state = ("--state", str(world.directory.path), "--root", str(root), "--pause", "0", "--once")
    await later("monitor", world.url, *state)
    await later("compare", world.url, "us", "jp", "--root", str(root))
    await later("compare", world.url, "us", "us", "--root", str(root), code=2)
    tree = str(world.home.public)
    signed = ("--sign", str(world.folder / "key.json"), "--new-key", "-o", str(world.folder / "out.json"))
    await later("rebuild", tree, "1", "--root", str(root))
    await later("rebuild", tree, "1", "--root", str(root), *signed)
    await later("rebuild", tree, "99", "--root", str(root), code=18)
    await world.append(b"no manifest")
    assert (await later("monitor", world.url, *state, code=50))["alerts"]


def test_what_an_agent_answers(tmp_path: Path, run: Run) -> None:
    endpoint = Endpoint(tmp_path)
    endpoint.publish(1, FIRST)
    assert endpoint.init() == 0
    words = [sys.executable, "-m", "coldchain.cli", "agent", str(endpoint.directory), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as agent:
        assert agent.stderr is not None
        agent.stderr.readline()  # it has begun, and hears signals
        agent.terminate()
        out, err = agent.communicate()
    assert agent.returncode == 0, err
    check("agent", json.loads(out))
    now = datetime.now(UTC).replace(microsecond=0)
    for state in (
        AgentState("boot", next=Moment(1, now, 1)),
        AgentState("boot", 3, last_poll=now, last_good=now, next=Moment(1, now, 1), error=(20, "no route")),
    ):
        write_agent_state(ClientDirectory(endpoint.directory), state)
        assert run("status", str(endpoint.directory), code=41)["agent"]


def test_every_shape_was_seen() -> None:
    """Runs last in this file, in the same process as the others (``--dist loadfile``)."""
    if "update" not in _used or "rebuild" not in _used:
        pytest.skip("the tests before this one did not run here")
    for command in SHAPES:
        unseen = set(range(len(SHAPES[command]))) - _used.get(command, set())
        assert not unseen, command
