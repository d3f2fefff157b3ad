"""``coldchain-server witness`` as a person types it: exit codes, words, ``--json``, and a process that ends on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coldchain.tlog.vkey import parse_vkey
from coldchain_server.cli import main
from coldchain_server.witness.home import WitnessHome
from tests.client.tlog.logs import LOG, Signer
from tests.client.tlog.logs import witness as some_witness
from tests.server.witness.asking import PASSPHRASE, Client, ask, make_witness
from tests.server.witness.test_crash import process

NAME = "witness.example.com/fleet"
OTHER = Signer("log.example/other", LOG.kind, 7)


def run(*words: str, passphrase: str | None = PASSPHRASE) -> Result:
    return CliRunner(env={"COLDCHAIN_PASSPHRASE": passphrase}).invoke(main, ["witness", *words])


def told(*words: str) -> dict[str, Any]:
    result = run(*words, "--no-serve", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_witness_is_made_and_follows_logs(tmp_path: Path) -> None:
    directory = str(tmp_path / "w")
    made = told(directory, "--name", NAME, "--demo-keys")
    key = parse_vkey(made["vkey"])
    assert key is not None
    assert (key.name, made["name"], made["logs"]) == (NAME, NAME, [])
    assert (tmp_path / "w" / "vkey").read_text() == made["vkey"] + "\n"
    logs = [{"origin": OTHER.name, "vkey": OTHER.vkey, "size": 0}, {"origin": LOG.name, "vkey": LOG.vkey, "size": 0}]
    assert told(directory, "--log", LOG.vkey, "--log", f"{OTHER.vkey}\n")["logs"] == logs
    assert told(directory, "--log", LOG.vkey)["logs"] == logs
    assert told(directory, "--name", NAME)["vkey"] == made["vkey"]
    assert told(directory, "--unfollow", OTHER.vkey)["logs"] == logs[1:]
    assert run(directory, "--no-serve", passphrase=None).exit_code == 0, "no passphrase where nothing is signed"


def test_what_a_person_reads(tmp_path: Path) -> None:
    directory = str(tmp_path / "w")
    made = run(directory, "--name", NAME, "--demo-keys", "--no-serve")
    vkey, hint = made.stdout.splitlines()
    assert vkey == (tmp_path / "w" / "vkey").read_text().strip()
    assert "--log VKEY" in hint
    assert run(directory, "--log", LOG.vkey, "--no-serve").stdout.splitlines() == [
        vkey,
        f"follows {LOG.name}, 0 entries cosigned",
    ]


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        ([], 62, "not a witness's directory"),
        (["--name", "two words"], 2, "key name 'two words'"),
        (["--name", NAME, "--log", "nonsense"], 2, "vkey 'nonsense'"),
        (["--name", NAME, "--log", some_witness(1).vkey], 2, "no Ed25519 key of a log"),
        (["--name", NAME, "--log", "log.example/x+00000000+BgAA"], 2, "no Ed25519 key of a log"),
        (["--name", NAME, "--log", LOG.vkey.replace("+a", "+b")], 2, "vkey 'log.example/test'"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_refusals(tmp_path: Path, words: list[str], code: int, what: str, as_json: bool) -> None:
    result = run(str(tmp_path / "w"), *words, "--no-serve", "--demo-keys", *(["--json"] if as_json else []))
    assert result.exit_code == code, result.output
    assert what in result.stderr
    assert "next: " in result.stderr
    if as_json:
        assert json.loads(result.stdout)["exit_code"] == code
    assert not (tmp_path / "w").exists(), "nothing is made by a wrong command"


def test_a_passphrase_is_needed_to_make_and_to_serve(tmp_path: Path) -> None:
    made = run(str(tmp_path / "new"), "--name", NAME, passphrase=None)
    assert made.exit_code == 64
    home = make_witness(tmp_path / "w")
    for passphrase in (None, "another"):
        served = run(str(home.directory), "--port", "0", passphrase=passphrase)
        assert served.exit_code == 64, served.output
        assert served.stdout == "", "nothing is announced"


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """A command that serves sends the log's records to its standard error for good."""
    loggers = [logging.getLogger(name) for name in ("coldchain", "asyncio")]
    before = [(one, one.handlers[:], one.propagate, one.level) for one in loggers]
    yield
    for one, handlers, propagate, level in before:
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.mark.usefixtures("logging_as_before")
def test_a_port_that_is_taken(tmp_path: Path) -> None:
    home = make_witness(tmp_path / "w")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run(str(home.directory), "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 43
    assert "take another --port" in result.stderr


async def test_it_serves_keeps_its_word_over_a_restart_and_ends_on_sigterm(tmp_path: Path) -> None:
    home: WitnessHome = make_witness(tmp_path / "w")
    for old, new in ((0, 5), (5, 9)):
        async with process(home.directory) as (program, client):
            assert (await client.post(ask(old, new))).status == 200
            assert (await client.post(ask(0, 20))).short == (409, b"%d\n" % new)
            silent = await asyncio.open_connection("127.0.0.1", client.port)  # does not keep it from ending
            program.terminate()
            assert await program.wait() == 0
            silent[1].transport.abort()
        with pytest.raises(ConnectionRefusedError):
            await Client(client.port).get("/healthz")
    assert told(str(home.directory))["logs"][0]["size"] == 9
