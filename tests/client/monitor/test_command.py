"""``coldchain monitor`` through its one entry point: reports, codes, metrics, and following on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

from coldchain import cli
from tests.client.monitor.watched import Watched


def words(world: Watched, *more: str) -> list[str]:
    root = world.folder / "root.json"
    root.write_bytes(world.home.pinned_root())
    return ["monitor", world.url, "--state", str(world.directory.path), "--root", str(root), "--pause", "0", *more]


async def test_one_run_ends_with_a_code(world: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = world.folder / "coldchain.prom"
    assert await asyncio.to_thread(cli.run, words(world, "--once", "--metrics", str(metrics))) == 0
    shown = capsys.readouterr()
    assert "nothing is wrong" in shown.out
    assert shown.err == ""
    assert "coldchain_monitor_up 1\n" in metrics.read_text()
    await world.append(b"hello\x1b]0;owned\x07")
    assert await asyncio.to_thread(cli.run, words(world, "--once", "--json")) == 50
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["error"], found["exit_code"]) == ("AlertError", 50)
    assert [one["kind"] for one in found["alerts"]] == ["not-a-manifest"]
    assert json.loads((world.directory.path / "report.json").read_text()).items() <= found.items()
    assert await asyncio.to_thread(cli.run, words(world, "--once")) == 50
    assert "STANDING  not-a-manifest" in capsys.readouterr().out
    assert await asyncio.to_thread(cli.run, words(world, "--once", "--acknowledge")) == 0
    capsys.readouterr()


async def test_a_fork_is_printed_with_both_signed_checkpoints(
    world: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = world.folder / "policy"
    policy.write_bytes(await world.own_policy())
    true = world.public("log/checkpoint").read_text()
    for file in sorted(world.public("log").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    await world.append(b"other", b"history", ask=False)
    other = world.public("log/checkpoint").read_text()
    assert await asyncio.to_thread(cli.run, words(world, "--once", "--policy", str(policy))) == 50
    shown = capsys.readouterr()
    assert other in shown.out
    assert true.split("\n\n")[0] in shown.out
    assert "fork" in shown.err


async def test_a_first_run_needs_a_root_and_a_publisher(world: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    state = str(world.folder / "new")
    assert await asyncio.to_thread(cli.run, ["monitor", world.url, "--state", state, "--once"]) == 2
    root = str(world.folder / "root.json")
    given = [*words(world)[2:4], "--once", "--root", root]
    assert await asyncio.to_thread(cli.run, ["monitor", "http://127.0.0.1:1", *given]) == 20
    assert await asyncio.to_thread(cli.run, ["monitor", f"{world.url}/nothing", *given]) == 22
    assert await asyncio.to_thread(cli.run, ["monitor", world.url, "--state", state, "--once", "--root", state]) == 2
    capsys.readouterr()


async def test_without_once_it_follows_until_it_is_stopped(world: Watched) -> None:
    program = [sys.executable, "-m", "coldchain.cli", *words(world, "--json", "--interval", "0")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    child = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment, limit=1 << 22
    )
    assert child.stdout is not None
    try:
        first = json.loads(await child.stdout.readline())
        assert (first["alerts"], first["size"]) == ([], 2)
        await world.append(b"hello")
        while not (found := json.loads(await child.stdout.readline())).get("alerts"):
            pass
        assert (found["alerts"][0]["kind"], found["exit_code"]) == ("not-a-manifest", 50), found["alerts"]
    finally:
        child.send_signal(signal.SIGINT)
        await child.communicate()
    assert child.returncode == 130


@pytest.mark.parametrize("command", ["monitor", "compare"])
async def test_progress_is_for_terminals_only(world: Watched, command: str) -> None:
    given = words(world, "--once") if command == "monitor" else ["compare", world.url, "us", "jp"]
    shown = {}
    for terminal in (True, False):
        master, slave = os.openpty()
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "coldchain.cli", *given),
                stdout=asyncio.subprocess.PIPE,
                stderr=slave if terminal else asyncio.subprocess.PIPE,
            )
            out, errors = await child.communicate()
            assert child.returncode == 0
            assert out.count(b"\r") == 0
            shown[terminal] = os.read(master, 1 << 16) if terminal else errors
        finally:
            os.close(master)
            os.close(slave)
    assert b"of" in shown[True]
    assert shown[True].endswith(b"\r\x1b[K")
    assert shown[False] == b""
    if command == "monitor":
        assert b"signed metadata" in shown[True]
        assert b"release 2 of stable" in shown[True]
